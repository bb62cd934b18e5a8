"""What the members of a zip or tar are: how an archive is told, their names as keys, and where links lead.

Extraction and the report go by the same. Which members become rows, and reading any, is theirs.
"""

from __future__ import annotations

import re
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headwater.errors import RequestError
from headwater.store import show_key

Kind = Literal["file", "folder", "symbolic link", "hard link", "special"]
Form = Literal["zip", "tar", "gzip", "bzip2", "xz", "zstd"]

ARCHIVE_SUFFIXES = (
    ".zip",
    ".tar",
    *(f".tar.{kind}" for kind in ("gz", "bz2", "xz", "zst")),
    *(".tgz", ".tbz2", ".txz", ".tzst"),
)

_MAGIC: dict[bytes, Form] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # with its first member, or with an empty list
}
_MOST_HOPS = 40  # as many as Linux follows
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_FROM_DOS, _FROM_UNIX = 0, 3
_TAR_LINKS: dict[bytes, Kind] = {tarfile.SYMTYPE: "symbolic link", tarfile.LNKTYPE: "hard link"}
_TAR_SPECIAL = {
    tarfile.FIFOTYPE: "not a regular file (a named pipe)",
    tarfile.CHRTYPE: "not a regular file (a device)",
    tarfile.BLKTYPE: "not a regular file (a device)",
}
_ZIP_SPECIAL = {
    stat.S_IFIFO: "not a regular file (a named pipe)",
    stat.S_IFCHR: "not a regular file (a device)",
    stat.S_IFBLK: "not a regular file (a device)",
    stat.S_IFSOCK: "not a regular file (a socket)",
}


@dataclass(frozen=True)
class Member:
    """One member as its archive lists it; bytes that are not UTF-8 stand as surrogate escapes.

    `place` and `size` (bytes) say where a file's content is, in whatever way its archive counts. `target` is
    what a link leads to, as written; `problem` why a special member, or a file that cannot be had, is no
    picture.
    """

    name: str
    kind: Kind
    place: int = 0
    size: int = 0
    target: str = ""
    problem: str = ""


def is_archive_name(name: str) -> bool:
    """Whether a file of this name is taken for an archive."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def form_of(path: Path) -> Form:
    """A zip, a tar, or how a tar is compressed, by a file's first bytes; OSError where it cannot be read."""
    with path.open("rb") as file:
        start = file.read(6)
    return next((form for magic, form in _MAGIC.items() if start.startswith(magic)), "tar")


def tar_member(info: tarfile.TarInfo) -> Member:
    """A member of a tar; a file's place is the offset of its content within the tar."""
    if info.type in _TAR_LINKS:
        return Member(info.name, _TAR_LINKS[info.type], target=info.linkname)
    if info.isdir():
        return Member(info.name, "folder")
    if info.issparse():
        return Member(info.name, "special", problem="stored with holes, which are not read from archives")
    if not info.isreg():
        return Member(info.name, "special", problem=_TAR_SPECIAL.get(info.type, "not a regular file"))
    return Member(info.name, "file", info.offset_data, info.size)


def zip_member(place: int, info: zipfile.ZipInfo) -> Member:
    """A member of a zip, whose place is its number; what a link leads to is its content and left open."""
    name, mode = _zip_name(info), info.external_attr >> 16 if info.create_system == _FROM_UNIX else 0
    if info.is_dir() or stat.S_ISDIR(mode):
        return Member(name, "folder")
    if stat.S_ISLNK(mode):
        return Member(name, "symbolic link", place, info.file_size)
    if (problem := _ZIP_SPECIAL.get(stat.S_IFMT(mode))) is not None:
        return Member(name, "special", problem=problem)
    return Member(name, "file", place, info.file_size)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name with `/` between folders, which some programs of DOS and Windows write as backslashes."""
    if info.create_system == _FROM_DOS and "/" not in info.filename:
        return info.filename.replace("\\", "/")
    return info.filename


def inside(name: str, archive: str, *, link: str = "") -> str:
    """The key of a member's name: without empty parts and `.`; "" for the archive itself.

    RequestError where the name (or what `link` leads to) is absolute or holds `..`.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or _DRIVE.match(name) or ".." in parts:
        raise _leads_out(link or name, name if link else "", archive)
    return "/".join(parts)


def led_to(key: str, member: Member, archive: str) -> str:
    """The key that a link leads to; a symbolic one may go up as long as it stays within the archive.

    RequestError where it does not stay there.
    """
    if member.kind == "hard link":
        return inside(member.target, archive, link=key)
    parts = key.split("/")[:-1]
    if member.target.startswith("/") or _DRIVE.match(member.target):
        raise _leads_out(key, member.target, archive)
    for part in member.target.split("/"):
        if part == ".." and not parts:
            raise _leads_out(key, member.target, archive)
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def end_of(key: str, links: Mapping[str, str]) -> str | None:
    """Where a chain of links ends, None where it does not."""
    for _ in range(_MOST_HOPS):
        if key not in links:
            return key
        key = links[key]
    return None


def _leads_out(name: str, target: str, archive: str) -> RequestError:
    what = f"the link {show_key(name)} to {show_key(target)}" if target else f"the member {show_key(name)}"
    return RequestError(
        f"the archive {archive} holds {what}, which leads out of the archive and is not followed; if you"
        " trust it, unpack it yourself and give the folder"
    )
