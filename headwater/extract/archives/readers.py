"""One reader for each way in which an archive gives its members' content."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from headwater.extract.archives.inflating import Inflater, PointsOnTheWay
from headwater.extract.archives.names import is_image
from headwater.extract.archives.spool import Spool
from headwater.extract.archives.streams import Forward, Limited, pieces
from headwater.extract.archives.tars import DAMAGED, damaged, list_tar
from headwater.extract.archives.zips import DAMAGED_MEMBER, Zip
from headwater.extract.files import LARGEST_FILE
from headwater.extract.rows import ReadError
from headwater.members import Member, form_of

MOST_UNPACKED = 4
"""Times the content of a gzip file that may be unpacked again for the order of the rows; above it, the images
are put in order in a temporary file once."""

_END = 1 << 62

Places = Sequence[tuple[int, int]]
"""(place, size) of contents, in bytes where a reader does not say otherwise."""


class Reader(Protocol):
    """Lists an archive once, then gives contents from many threads at once."""

    def members(self) -> Iterator[Member]:
        """Every member, in the archive's order."""

    def settle(self, places: Places) -> Places:
        """Prepare for reading these rows in this order; where their contents are from now on."""

    def read(self, place: int, size: int) -> bytes:
        """One content; raises ReadError when it cannot be had."""


def open_reader(path: Path, shown: str) -> Reader:
    """The reader that an archive needs, by its content.

    Args:
        path: the archive.
        shown: what to call it in errors.

    Raises:
        OSError: it cannot be opened.
        RequestError: it is no archive, or its list of members is damaged.
    """
    form = form_of(path)
    if form == "zip":
        return ZipReader(path, shown)
    if form == "tar":
        return TarReader(path, shown)
    return GzipReader(path, shown) if form == "gzip" else SpoolReader(path, shown, form)


class ZipReader:
    """A zip; a place is a member's number."""

    def __init__(self, path: Path, shown: str) -> None:
        self._zip = Zip(path, shown)
        self.members, self.read = self._zip.members, self._zip.read

    def settle(self, places: Places) -> Places:  # noqa: D102 - see Reader
        return places


class TarReader:
    """A tar without compression: any part of the file can be read."""

    def __init__(self, path: Path, shown: str) -> None:
        self._path, self._shown = path, shown
        self._file = _open(self, path)

    def members(self) -> Iterator[Member]:  # noqa: D102 - see Reader
        stream = Limited(self._path)
        try:
            yield from list_tar(stream, self._shown)
        finally:
            stream.close()

    def settle(self, places: Places) -> Places:  # noqa: D102 - see Reader
        return places

    def read(self, place: int, size: int) -> bytes:  # noqa: D102 - see Reader
        return read_part(self._file, place, size)


class GzipReader:
    """A gzipped tar: read from points on the way, or from a spool where the rows' order jumps about in it."""

    def __init__(self, path: Path, shown: str) -> None:
        self._path, self._shown = path, shown
        self._file = _open(self, path)
        self._points = PointsOnTheWay(self._file)
        self._spool: Spool | None = None

    def members(self) -> Iterator[Member]:  # noqa: D102 - see Reader
        stream = self._stream(self._points.read_on)
        yield from list_tar(stream, self._shown)
        try:
            stream.seek(_END)  # what follows the tar still counts for the checksum
        except DAMAGED as error:
            raise damaged(self._shown, error) from error

    def settle(self, places: Places) -> Places:  # noqa: D102 - see Reader
        if self._points.unpacked_for(place for place, _ in places) <= MOST_UNPACKED * self._points.length:
            return places
        self._spool, stream = Spool(self._shown), self._stream(Inflater(self._file).read)
        moved = {}
        for place, size in sorted({each for each in places if each[1] <= LARGEST_FILE}):
            stream.seek(place)
            moved[place, size] = self._spool.add(stream, size)
        self._spool.close()
        return [(moved.get(each, 0), each[1]) for each in places]

    def read(self, place: int, size: int) -> bytes:  # noqa: D102 - see Reader
        if self._spool is not None:
            return read_part(self._spool.file, place, size)
        try:
            content = self._points.part(place, size)
        except DAMAGED as error:
            raise ReadError(DAMAGED_MEMBER) from error
        if len(content) < size:
            raise ReadError(DAMAGED_MEMBER)
        return content

    def _stream(self, next_piece: Callable[[], bytes]) -> Forward:
        return Forward(next_piece, self._path.stat().st_size, self._shown)


class SpoolReader:
    """A tar in a compression that can only be read from its beginning: its images go to a temporary file."""

    def __init__(self, path: Path, shown: str, compression: str) -> None:
        self._path, self._shown, self._compression = path, shown, compression
        self._spool = Spool(shown)

    def members(self) -> Iterator[Member]:  # noqa: D102 - see Reader
        packed = pieces(self._path, self._compression)
        stream = Forward(lambda: next(packed, b""), self._path.stat().st_size, self._shown)
        for member in list_tar(stream, self._shown):
            if member.kind != "file" or not is_image(member.name) or member.size > LARGEST_FILE:
                yield member
                continue
            try:
                stream.seek(member.place)
                yield replace(member, place=self._spool.add(stream, member.size))
            except DAMAGED as error:
                raise damaged(self._shown, error) from error
        try:
            stream.seek(_END)
        except DAMAGED as error:
            raise damaged(self._shown, error) from error
        self._spool.close()

    def settle(self, places: Places) -> Places:  # noqa: D102 - see Reader
        return places

    def read(self, place: int, size: int) -> bytes:  # noqa: D102 - see Reader
        return read_part(self._spool.file, place, size)


def read_part(file: int, place: int, size: int) -> bytes:
    """A part of an open file; ReadError where the file ends before."""
    parts = []
    while size > 0 and (part := os.pread(file, size, place)):
        parts.append(part)
        place, size = place + len(part), size - len(part)
    if size:
        raise ReadError(DAMAGED_MEMBER)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _open(owner: object, path: Path) -> int:
    """A file's number that is closed when its owner is gone."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    weakref.finalize(owner, os.close, file)
    return file
