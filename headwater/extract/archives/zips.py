"""The members of a zip, and the content of each."""

from __future__ import annotations

import bz2
import lzma
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from headwater.errors import RequestError
from headwater.extract.archives.streams import LZMA_MEMORY
from headwater.extract.archives.tars import DAMAGED
from headwater.extract.rows import ReadError
from headwater.members import Member, zip_member
from headwater.store import show_key

DAMAGED_MEMBER = "damaged within the archive"

_READ_BY_ZIPFILE, _UNPACKED_HERE = (
    (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
    (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA),
)
_HEAD = 30  # bytes before a member's name
_PIECE = 1 << 16
_OTHER_METHOD = "compressed in a way that cannot be read; pack the archive anew"

_LONGEST_TARGET = 4096  # bytes of a link's target, as on Linux
_ENCRYPTED = 1


class Zip:
    """A zip that is open for reading; a member's place is its number in the list at the zip's end."""

    def __init__(self, path: Path, shown: str) -> None:
        self._shown = shown
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise RequestError(
                f"the archive {shown} is no zip, or it is damaged or incomplete ({error}); get it once more"
            ) from error
        self._infos = self._zip.infolist()
        self._lock = threading.Lock()

    def members(self) -> Iterator[Member]:
        """Every member, in the order of the list."""
        for place, info in enumerate(self._infos):
            if info.flag_bits & _ENCRYPTED:
                raise RequestError(
                    f"the archive {self._shown} is encrypted, first its member {show_key(info.filename)};"
                    " unpack it with its password and give the folder"
                )
            yield self._member(place, info)

    def _member(self, place: int, info: zipfile.ZipInfo) -> Member:
        member = zip_member(place, info)
        if member.kind != "symbolic link":
            return member
        try:
            target = self.read(place, min(member.size, _LONGEST_TARGET))
        except ReadError as error:
            return Member(member.name, "special", problem=error.reason)
        return replace(member, target=target.decode("utf-8", "surrogateescape"))

    def read(self, place: int, size: int) -> bytes:
        """The content of a member; ReadError where it is damaged or compressed in an unknown way."""
        info = self._infos[place]
        if info.compress_type not in (*_READ_BY_ZIPFILE, *_UNPACKED_HERE):
            raise ReadError(_OTHER_METHOD)
        try:
            content = (
                self._unpack(info, size) if info.compress_type in _UNPACKED_HERE else self._read(info, size)
            )
        except (NotImplementedError, RuntimeError) as error:
            raise ReadError(_OTHER_METHOD) from error
        except (zipfile.BadZipFile, *DAMAGED) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the member's
                raise
            raise ReadError(DAMAGED_MEMBER) from error
        if len(content) < size:
            raise ReadError(DAMAGED_MEMBER)
        return content

    def _read(self, info: zipfile.ZipInfo, size: int) -> bytes:
        with self._lock:  # which zipfile counts its open members without
            file = self._zip.open(info)
        try:
            return file.read(size)  # whose checksum is compared at its end
        finally:
            with self._lock:
                file.close()

    def _unpack(self, info: zipfile.ZipInfo, size: int) -> bytes:
        """The content of a bzip2 or LZMA member, of which zipfile would unpack all that comes at once."""
        assert self._zip.fp is not None  # it is open as long as this
        file = self._zip.fp.fileno()
        head = os.pread(file, _HEAD, info.header_offset)
        if len(head) < _HEAD or not head.startswith(b"PK\x03\x04"):
            raise EOFError("no head of a member")
        at = info.header_offset + _HEAD + sum(struct.unpack("<2H", head[26:]))  # two lengths end it
        end = at + info.compress_size
        state: bz2.BZ2Decompressor | lzma.LZMADecompressor
        if info.compress_type == zipfile.ZIP_BZIP2:
            state, piece = bz2.BZ2Decompressor(), b""
        else:
            state, piece = lzma.LZMADecompressor(lzma.FORMAT_ALONE), _lzma_head(os.pread(file, 9, at))
            at += 9
        content = bytearray()
        while len(content) < size and not state.eof:
            if state.needs_input and not piece:
                piece = os.pread(file, min(_PIECE, end - at), at)
                at += len(piece)
                if not piece:
                    raise EOFError("it ends in the middle")
            content += state.decompress(piece, size - len(content))
            piece = b""
        if size == info.file_size and zlib.crc32(content) != info.CRC:
            raise EOFError("another checksum")
        return bytes(content)


def _lzma_head(said: bytes) -> bytes:
    """How an LZMA file begins that goes on as a zip's member does after these bytes, its length left open."""
    if said[2:4] != b"\x05\x00" or len(said) < 9:
        raise EOFError("no settings of LZMA")
    if int.from_bytes(said[5:], "little") > LZMA_MEMORY:
        raise ReadError("made to be unpacked with more memory than any picture needs; pack the archive anew")
    return said[4:] + b"\xff" * 8
