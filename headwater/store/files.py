"""Writing files so that they are whole or absent, and turning the system's refusals into one sentence.

Knows nothing of what is in the files.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater.errors import HeadwaterError, RequestError
from headwater.store.keys import show_key

TEMPORARY = ".tmp"
"""Ending of the names of unfinished files; whoever holds the store's lock may remove them."""

CHANGE_PERMISSIONS = "change its permissions, or those of its folder"
"""The way out where the system refuses to read a file."""


class NotPermittedError(HeadwaterError):
    """A file is there and may not be read; that does not make it damaged."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{show_key(str(path))} may not be read; {CHANGE_PERMISSIONS}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; when the block ends well, that file is synced and becomes `path`.

    When the block fails, the temporary file is removed, `path` stays as it was, and the system's reasons
    (disk full, read-only, no permission) come out as a HeadwaterError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    with explained(path):
        try:
            yield temporary
            sync_file(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write `path` with this content, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def refuse_unwritable(path: Path) -> None:
    """Refuse a `path` that cannot be written, before the work whose result it shall hold; touches nothing.

    RequestError when a file is where its folder would be, HeadwaterError when the folder's rights or a
    read-only file system forbid it.
    """
    with explained(path):
        folder = next(each for each in path.absolute().parents if each.exists())
        if not folder.is_dir():
            raise RequestError(
                f"{show_key(str(folder))} is a file, so {show_key(str(path))} cannot be in it; "
                "choose another place"
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
            raise HeadwaterError(
                explain(OSError(errno.EROFS if read_only else errno.EACCES, ""), folder / path.name)
            )


def make_folder_of(path: Path) -> None:
    """Make the folder that `path` will be in, unless it is there."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def sync_file(path: Path) -> None:
    """Return when the file's bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Return when the folder's entries are on the disk."""
    sync_file(path)


def remove_leftovers(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Remove the temporary files that writers of files beginning with `names` left when they died.

    Call it only while holding the lock that guards those files.
    """
    prefixes = tuple(f".{name}" for name in names)
    found = [
        path for path in folder.iterdir() if path.name.startswith(prefixes) and path.name.endswith(TEMPORARY)
    ]
    for path in found:
        path.unlink(missing_ok=True)
    return found


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError of writing at `path` into a HeadwaterError that says what to do."""
    try:
        yield
    except OSError as error:
        raise HeadwaterError(explain(error, path)) from error


@contextmanager
def explained_reading(path: Path) -> Iterator[None]:
    """Turn an OSError of reading `path` into a HeadwaterError that says what to do."""
    try:
        yield
    except PermissionError as error:
        raise NotPermittedError(path) from error
    except OSError as error:
        why = error.strerror or error
        raise HeadwaterError(f"{path} cannot be read: {why}; check its permissions and the disk") from error


def explain(error: OSError, path: Path) -> str:
    """One sentence for a failed write at `path`: what happened and the way out."""
    code = error.errno
    where = str(path.parent)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: could not write {path.name} in {where}; free some space and run again"
    if code == errno.EFBIG:
        return f"the file size limit was reached: could not write {path.name} in {where}; raise `ulimit -f`"
    if code == errno.EROFS:
        return (
            f"{where} is on a read-only file system, so {path.name} cannot be written; choose another folder"
        )
    if code in (errno.EACCES, errno.EPERM):
        return f"no permission to write {path.name} in {where}; change its rights or choose another one"
    if code == errno.EIO:
        return f"the disk reports an error at {path.name} in {where}; check the disk, then run again"
    return f"could not write {path.name} in {where}: {error.strerror or error}"
