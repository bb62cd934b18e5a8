"""One writer at a time: a lock on a folder, or on a file, that the system releases when its holder dies.

Knows nothing of what is written.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from headwater.errors import HeadwaterError
from headwater.store.files import explained

_PAUSE = 0.05  # seconds between tries


@contextmanager
def holding(folder: Path, name: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock `name` of a store's folder, against threads as well as processes.

    HeadwaterError saying who holds it when `wait` seconds were not enough.
    """
    lock_file = folder / f".{name}.lock"
    # Who holds it stands in a file of its own: some versions of filelock empty the lock on every attempt.
    holder_file = folder / f".{name}.holder"
    lock = FileLock(lock_file, timeout=wait, thread_local=False)
    with explained(lock_file):
        try:
            lock.acquire()
        except Timeout:
            raise HeadwaterError(
                f"{folder} is in use by {_holder(holder_file)}; wait until it has ended, or stop it"
            ) from None
    try:
        with _named_in(holder_file):
            yield
    finally:
        lock.release()


@contextmanager
def holding_itself(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the file `path` by a lock on itself, so that no other file stays beside it; made, if absent.

    For files that are written in place: one that is replaced would be another file to whoever comes next.
    HeadwaterError saying who holds it when `wait` seconds were not enough.
    """
    holder_file = path.with_name(f".{path.name}.holder")
    deadline = time.monotonic() + wait
    with ExitStack() as kept:
        while True:
            with explained(path):
                file = kept.enter_context(open(path, "ab", opener=_private))
                taken = _take(file.fileno())
                if taken and _is_at(path, file.fileno()):
                    break
            kept.close()
            if not taken and time.monotonic() >= deadline:
                raise HeadwaterError(
                    f"{path} is in use by {_holder(holder_file)}; wait until it has ended, or stop it"
                )
            time.sleep(_PAUSE)
        with _named_in(holder_file):
            yield


def _take(descriptor: int) -> bool:
    """Lock an open file, if nobody holds it; closing it, or dying, lets it go."""
    import fcntl  # noqa: PLC0415 - a system without it can still use stores

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether this is still the file of that name: one that was moved away meanwhile, nobody else sees."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _named_in(holder_file: Path) -> Iterator[None]:
    """Say in this file, within the block, who holds the lock."""
    try:
        with explained(holder_file):
            holder_file.write_text(
                json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}) + "\n"
            )
        yield
    finally:
        holder_file.unlink(missing_ok=True)


def _holder(file: Path) -> str:
    try:
        holder = json.loads(file.read_text())
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
        return f"process {holder['pid']} on {holder['host']} since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
