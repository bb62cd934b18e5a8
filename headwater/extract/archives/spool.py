"""A temporary file for the images of an archive that cannot be read at any place: bzip2, xz, zstd, and gzip
whose order is too far from the rows'.

The file has no name and is gone when the process ends, however that happens.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError

_PIECE = 1 << 20


class Spool:
    """Contents one after the other in a temporary file; a place is where one begins."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._folder = _roomy_folder()
        self._file: Any = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - lives as long as this
        self._length = 0

    @property
    def file(self) -> int:
        """The file's number, for reading at any place."""
        number: int = self._file.fileno()
        return number

    def add(self, stream: Any, size: int) -> int:
        """Copy the next `size` bytes of a stream, and return their place."""
        place = self._length
        try:
            while size > 0:
                piece = stream.read(min(size, _PIECE))
                if not piece:
                    raise EOFError("a member's content is cut off")
                self._file.write(piece)
                self._length += len(piece)
                size -= len(piece)
        except OSError as error:
            raise self._no_room(error) from error
        return place

    def close(self) -> None:
        """Let what was added be read."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._no_room(error) from error

    def _no_room(self, error: OSError) -> HeadwaterError:
        return HeadwaterError(
            f"the images of {self._shown} find no room in {self._folder} ({error.strerror or error});"
            " set TMPDIR to a folder with more room, or pack them as .zip or .tar, which are read in place"
        )


def _roomy_folder() -> str:
    """Where large temporary files belong: what TMPDIR says, else not the folder that may be in memory."""
    if not os.environ.get("TMPDIR") and os.access("/var/tmp", os.W_OK):
        return "/var/tmp"
    return str(Path(tempfile.gettempdir()))
