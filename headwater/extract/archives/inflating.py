"""Any part of a gzip file without unpacking it: the state of the decompressor is kept at points on the way.

The file is read through once, which checks its checksums, and every few megabytes a copy of zlib's state
(some 50 kB) is put aside. A part is had by going on from the point before it; parts that lie close together
in the file cost one such step between them. This is the idea of zlib's own example zran.c, with the states
held in memory, so that nothing is left on the disk.
"""

from __future__ import annotations

import os
import threading
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable

FIRST_SPAN = 4 << 20
"""Bytes of content between two points, at first; doubled whenever there are MOST_POINTS of them."""

MOST_POINTS = 1024
KEPT_BYTES = 128 << 20
"""How much of what was unpacked between points is held in memory, but two stretches at least."""

_INPUT = 16 << 10  # a point keeps what is left of its input, so it is read in small pieces
_OUTPUT = 1 << 20
_WITH_GZIP_HEADER = 31  # zlib's wbits for a gzip header and checksum


class Inflater:
    """Goes through a gzip file, of one member or several; can be copied at any place of its content."""

    def __init__(self, file: int) -> None:
        self._file = file
        self.position = 0  # in the file: up to where it was read
        self._state = zlib.decompressobj(_WITH_GZIP_HEADER)
        self._left = b""

    def copy(self) -> Inflater:
        """Another one at the same place."""
        made = Inflater.__new__(Inflater)
        made._file, made.position, made._left = self._file, self.position, self._left
        made._state = self._state.copy()
        return made

    @property
    def between_members(self) -> bool:
        """Whether a member has just ended, where no copy can be made."""
        return self._state.eof

    def read(self) -> bytes:
        """The next piece of content, at most a megabyte; b"" at the end.

        Raises EOFError where the file ends too early and zlib.error where it is damaged.
        """
        while not self._state.eof or self._next_member():
            content = b""
            if self._left or self._more():
                content = self._state.decompress(self._left, _OUTPUT)
                self._left = self._state.unconsumed_tail
            elif not (content := self._state.flush()):
                raise EOFError("it ends in the middle")
            if content:
                return content
        return b""

    def _next_member(self) -> bool:
        """Begin the member after one that has ended, if there is one; zeros between them are padding."""
        self._left = self._state.unused_data.lstrip(b"\0")
        while not self._left:
            if not self._more():
                return False
            self._left = self._left.lstrip(b"\0")
        self._state = zlib.decompressobj(_WITH_GZIP_HEADER)
        return True

    def _more(self) -> bool:
        self._left = os.pread(self._file, _INPUT, self.position)
        self.position += len(self._left)
        return bool(self._left)


class PointsOnTheWay:
    """Reads through a gzip file, and any part of it afterwards, from many threads at once.

    `file` is an open file's number, which must stay open.
    """

    def __init__(self, file: int) -> None:
        self._through: Inflater | None = Inflater(file)
        self._offsets = [0]
        self._points = [Inflater(file)]
        self._span = FIRST_SPAN
        self.length = 0
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def read_on(self) -> bytes:
        """The next piece on the way through; b"" at the end, from when on `part` may be asked."""
        if self._through is None:
            return b""
        content = self._through.read()
        self.length += len(content)
        if not content:
            self._through = None
        elif self.length - self._offsets[-1] >= self._span and not self._through.between_members:
            self._offsets.append(self.length)
            self._points.append(self._through.copy())
            if len(self._points) > MOST_POINTS:
                self._offsets, self._points = self._offsets[::2], self._points[::2]
                self._span *= 2
        return content

    def part(self, offset: int, size: int) -> bytes:
        """`size` bytes of content from `offset` on; fewer where it ends before."""
        parts = []
        with self._lock:
            while size > 0 and offset < self.length:
                number = bisect_right(self._offsets, offset) - 1
                start = offset - self._offsets[number]
                parts.append(self._unpacked(number)[start : start + size])
                offset, size = offset + len(parts[-1]), size - len(parts[-1])
        return b"".join(parts)

    def unpacked_for(self, offsets: Iterable[int]) -> int:
        """How many bytes would be unpacked to read small parts at these offsets one after the other."""
        kept: OrderedDict[int, None] = OrderedDict()
        total = 0
        ends = [*self._offsets[1:], self.length]
        for offset in offsets:
            number = bisect_right(self._offsets, offset) - 1
            if number in kept:
                kept.move_to_end(number)
                continue
            kept[number] = None
            total += ends[number] - self._offsets[number]
            if len(kept) > self._most_kept():
                kept.popitem(last=False)
        return total

    def _most_kept(self) -> int:
        return max(2, KEPT_BYTES // self._span)

    def _unpacked(self, number: int) -> bytes:
        """The content from one point to the next."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        end = self._offsets[number + 1] if number + 1 < len(self._offsets) else self.length
        inflater = self._points[number].copy()
        pieces, left = [], end - self._offsets[number]
        while left > 0:
            piece = inflater.read()
            if not piece:
                raise EOFError("it ends before where it ended when it was listed")
            pieces.append(piece)
            left -= len(piece)
        self._kept[number] = b"".join(pieces)[: end - self._offsets[number]]
        if len(self._kept) > self._most_kept():
            self._kept.popitem(last=False)
        return self._kept[number]
