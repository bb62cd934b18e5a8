"""A folder of images at any depth as a source: which files are rows, in which order.

What folder names mean is taxonomy.py's business, reading a file files.py's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from headwater.errors import RequestError
from headwater.extract.files import read_file
from headwater.extract.taxonomy import Columns, folder_columns
from headwater.store import show_key

SUFFIXES = ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff")
"""Endings, in any letter case, that make a file a row; what it really is, its content decides."""

_SUFFIXES = frozenset(suffix.encode() for suffix in SUFFIXES)


class FolderSource:
    """The images below a folder, keyed by their path relative to it and ordered by that path's raw bytes.

    Keys are never normalised: names that differ by letter case or Unicode form are different rows. Links to
    folders are followed unless they lead back into a folder they lie in. Hidden files and folders, `__MACOSX`
    and files of other kinds are left out and counted. Anything else that has an image's name is a row, also a
    folder or a named pipe, and will fail with its reason. `annotations` are what the folders' names tell, see
    `folder_columns`.
    """

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = os.fsencode(root.absolute())
        paths, self.skipped = list_images(self._root)
        if not paths:
            raise RequestError(
                f"no images below {show_key(str(root))} ({self.skipped} other files); names must end in"
                f" {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
            )
        self.keys: Sequence[str] = [path.decode("utf-8", "surrogateescape") for path in paths]
        self.annotations: Columns = folder_columns(self.keys)

    def load(self, row: int) -> bytes:
        """The bytes of a row's file; ReadError when they cannot be had."""
        return read_file(self._root + b"/" + self.keys[row].encode("utf-8", "surrogateescape"))


def has_image_name(name: bytes) -> bool:
    """Whether a file of this name, given without its folders, is a row."""
    return name.rpartition(b".")[2].lower() in _SUFFIXES and b"." in name


def is_hidden(name: bytes) -> bool:
    """Whether a file or folder of this name is left out with all that is in it."""
    return name.startswith(b".") or name == b"__MACOSX"


def list_images(root: bytes) -> tuple[list[bytes], int]:
    """List the image files below `root`.

    Returns:
        Their paths relative to `root`, `/`-separated, sorted as bytes; and how many entries were left out.

    Raises:
        RequestError: a folder cannot be listed. Leaving its images out in silence would make a wrong store.
    """
    found: list[bytes] = []
    skipped = 0
    # Folders to list: the path from the root, ending in "/", and (device, inode) of all folders it lies in.
    todo: list[tuple[bytes, frozenset[tuple[int, int]]]] = [(b"", frozenset())]
    while todo:
        inside, above = todo.pop()
        folder = root + b"/" + inside
        try:
            status = os.stat(folder)  # noqa: PTH116 - a Path cannot be bytes
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                continue
            ancestors = above | {identity}
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = entry.name
                    if is_hidden(name):
                        skipped += 1
                        continue
                    is_image = has_image_name(name)
                    if is_image:
                        found.append(inside + name)
                    if _is_folder(entry):
                        todo.append((inside + name + b"/", ancestors))
                    elif not is_image:
                        skipped += 1
        except OSError as error:
            shown = show_key(folder.rstrip(b"/").decode("utf-8", "surrogateescape"))
            raise RequestError(
                f"cannot list the folder {shown} ({error.strerror}); make it readable or move it away"
            ) from error
    found.sort()
    return found, skipped


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    # A link that leads back to itself, or into a place that may not be looked at: no folder to list.
    except OSError:
        return False
