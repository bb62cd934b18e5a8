"""One writer at a time: a lock on a folder, or a file in it, that the system releases when its holder dies.

Knows nothing of what is written.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from headwater.errors import HeadwaterError
from headwater.store.files import explained


@contextmanager
def holding(folder: Path, name: str, wait: float = 0.0, *, of: Path | None = None) -> Iterator[None]:
    """Hold the lock `name` of a folder, against threads as well as processes.

    HeadwaterError saying who holds it when `wait` seconds were not enough, and what it is `of` where that is
    not the whole folder.
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
                f"{of or folder} is in use by {_holder(holder_file)}; wait until it has ended, or stop it"
            ) from None
    try:
        with explained(holder_file):
            holder_file.write_text(
                json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}) + "\n"
            )
        yield
    finally:
        holder_file.unlink(missing_ok=True)
        lock.release()


def _holder(file: Path) -> str:
    try:
        holder = json.loads(file.read_text())
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
        return f"process {holder['pid']} on {holder['host']} since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
