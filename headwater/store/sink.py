"""A file for HDF5 to write to that never fails, and tells afterwards what went wrong.

When a disk fills up while HDF5 writes, the library cannot close its own file any more and takes the process
down at exit. So it is never told: failed writes are remembered here and raised once HDF5 is done.
"""

from __future__ import annotations

import os
from pathlib import Path


class Sink:
    """A new file at `path` for h5py's file-object driver; after the first failure it swallows all writes."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._position = 0
        self._size = 0
        self.failure: BaseException | None = None

    def write(self, data: memoryview) -> int:
        """Write all of `data` at the current position."""
        view = memoryview(data).cast("B")
        done = 0
        # Whatever is raised here, a stop by the user included, would break HDF5; `close` raises it again.
        try:
            while done < len(view) and self.failure is None:
                done += os.pwrite(self._descriptor, view[done:], self._position + done)
        except BaseException as failure:
            self.failure = failure
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def read(self, size: int) -> bytes:
        """The next `size` bytes."""
        content = bytearray(size)
        self.readinto(memoryview(content))
        return bytes(content)

    def readinto(self, buffer: memoryview) -> int:
        """Read into `buffer`; what was never written reads as zeros."""
        view = memoryview(buffer).cast("B")
        found = os.preadv(self._descriptor, [view], self._position)
        view[found:] = bytes(len(view) - found)
        self._position += len(view)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, counted from the start or, with SEEK_END, from the end."""
        self._position = offset + (self._size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def truncate(self, size: int) -> int:
        """Make the file `size` bytes long."""
        try:
            if self.failure is None:
                os.ftruncate(self._descriptor, size)
        except OSError as failure:
            self.failure = failure
        self._size = size
        return size

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """Close the file; raises the first failure of any write before."""
        os.close(self._descriptor)
        if self.failure is not None:
            raise self.failure
