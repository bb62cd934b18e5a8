"""The members of a zip, and the content of each."""

from __future__ import annotations

import stat
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from headwater.errors import RequestError
from headwater.extract.archives.names import Kind, Member
from headwater.extract.rows import ReadError
from headwater.store import show_key

DAMAGED_MEMBER = "damaged within the archive"

_LONGEST_TARGET = 4096  # bytes of a link's target, as on Linux
_ENCRYPTED = 1
_FROM_DOS, _FROM_UNIX = 0, 3
_SPECIAL = {
    stat.S_IFIFO: "not a regular file (a named pipe)",
    stat.S_IFCHR: "not a regular file (a device)",
    stat.S_IFBLK: "not a regular file (a device)",
    stat.S_IFSOCK: "not a regular file (a socket)",
}


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
        name, mode = _name(info), info.external_attr >> 16 if info.create_system == _FROM_UNIX else 0
        if info.is_dir() or stat.S_ISDIR(mode):
            return Member(name, "folder")
        if stat.S_ISLNK(mode):
            kind: Kind = "symbolic link"
            try:
                target = self.read(place, min(info.file_size, _LONGEST_TARGET))
            except ReadError as error:
                return Member(name, "special", problem=error.reason)
            return Member(name, kind, target=target.decode("utf-8", "surrogateescape"))
        if (problem := _SPECIAL.get(stat.S_IFMT(mode))) is not None:
            return Member(name, "special", problem=problem)
        return Member(name, "file", place, info.file_size)

    def read(self, place: int, size: int) -> bytes:
        """The content of a member; ReadError where it is damaged or compressed in an unknown way."""
        try:
            with self._lock:  # which zipfile counts its open members without
                file = self._zip.open(self._infos[place])
            try:
                content = file.read(size)  # whose checksum is compared at its end
            finally:
                with self._lock:
                    file.close()
        except (NotImplementedError, RuntimeError) as error:
            raise ReadError("compressed in a way that cannot be read; pack the archive anew") from error
        except (zipfile.BadZipFile, EOFError, zlib.error, ValueError) as error:
            raise ReadError(DAMAGED_MEMBER) from error
        if len(content) < size:
            raise ReadError(DAMAGED_MEMBER)
        return content


def _name(info: zipfile.ZipInfo) -> str:
    """The name with `/` between folders, which some programs of DOS and Windows write as backslashes."""
    if info.create_system == _FROM_DOS and "/" not in info.filename:
        return info.filename.replace("\\", "/")
    return info.filename
