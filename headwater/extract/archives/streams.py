"""Content that can only be read forwards, from a compressed file, as the file object that tarfile wants."""

from __future__ import annotations

import bz2
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from headwater.errors import RequestError

MOST_TIMES = 200
FREE_BYTES = 1 << 30
"""An archive that unpacks to over FREE_BYTES and MOST_TIMES its size holds no pictures that anyone made."""

LZMA_MEMORY = 512 << 20
"""Bytes that unpacking LZMA may take; a head can ask for any number."""

_HISTORY = 1 << 10  # bytes behind the place of reading that tarfile may step back over: two blocks of a tar
_MOST_AT_ONCE = 64 << 20  # no header of a tar is longer, unless it lies about its length
_PIECE = 1 << 20


def pieces(path: Path, compression: str) -> Iterator[bytes]:
    """The content of a bzip2, xz or zstd file, a megabyte at a time.

    Raises EOFError where the file ends too early, OSError or lzma.LZMAError where it is damaged.
    """
    if compression == "zstd":
        with pa.input_stream(str(path), compression="zstd") as stream:
            while piece := stream.read(_PIECE):
                yield piece
        return
    with path.open("rb") as file:
        left = file.read(_PIECE)
        while left:
            state = bz2.BZ2Decompressor() if compression == "bzip2" else _lzma()
            while not state.eof:
                if state.needs_input and not left and not (left := file.read(_PIECE)):
                    raise EOFError("it ends in the middle")
                piece = state.decompress(left, _PIECE)
                left = b""
                if piece:
                    yield piece
            left = state.unused_data or file.read(_PIECE)
            left = left.lstrip(b"\0")


def _lzma() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=LZMA_MEMORY)


class Forward:
    """A file object over a function that returns the next piece, b"" at the end.

    It may be moved forwards at will and back by a few hundred bytes. RequestError where there comes more than
    an archive of `packed` bytes can mean.
    """

    def __init__(self, next_piece: Callable[[], bytes], packed: int, shown: str) -> None:
        self._next, self._packed, self._shown = next_piece, packed, shown
        self._piece = b""
        self._start = 0  # of the piece, in the content
        self._at = 0

    def tell(self) -> int:
        """Where it stands in the content."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move there; what is passed over is unpacked."""
        if whence != os.SEEK_SET or offset < self._start:
            raise OSError("content that is unpacked on the way cannot be read backwards")
        while offset > self._start + len(self._piece) and self._advance():
            pass
        self._at = min(offset, self._start + len(self._piece))
        return self._at

    def read(self, size: int) -> bytes:
        """As many bytes, fewer at the end."""
        check_length(size)
        parts = []
        while size > 0:
            first = self._at - self._start
            part = self._piece[first : first + size]
            if not part and not self._advance():
                break
            parts.append(part)
            self._at += len(part)
            size -= len(part)
        return b"".join(parts)

    def _advance(self) -> bool:
        piece = self._next()
        if not piece:
            return False
        kept = self._piece[-_HISTORY:]
        self._start += len(self._piece) - len(kept)
        self._piece = kept + piece
        if self._start > FREE_BYTES + MOST_TIMES * self._packed:
            raise RequestError(
                f"the archive {self._shown} unpacks to more than {MOST_TIMES} times its size, which pictures"
                " do not; it may be made to fill this machine, so check where it comes from"
            )
        return True


class Limited:
    """A file that does not read more at once than a header of a tar can mean."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.seek, self.tell, self.close = self._file.seek, self._file.tell, self._file.close

    def read(self, size: int) -> bytes:
        """As many bytes, fewer at the end."""
        check_length(size)
        return self._file.read(size)


def check_length(size: int) -> None:
    """Raise EOFError for a length that is none."""
    if size > _MOST_AT_ONCE:
        raise EOFError(f"a header says that it has {size:,} bytes")
