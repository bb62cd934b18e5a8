"""The few pictures that a page shows, out of the zip or tar that a store was made of.

Which members of an archive become rows is extraction's business; here a member is found by its key alone, in
an archive told by its content and with links followed, as `headwater.members` says for both.
"""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from headwater.errors import RequestError
from headwater.members import Member, end_of, form_of, inside, led_to, tar_member, zip_member

MOST_PACKED = 1 << 30
"""Bytes of a compressed tar, all of which has to be unpacked to find a few members, that a page is worth."""

_LARGEST, _LONGEST_TARGET = 1 << 28, 4096  # bytes of a picture, and of what a link leads to
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError),
    RuntimeError,  # of zips that are encrypted, or packed in a way unknown to Python
)


def is_slow(place: Path) -> bool:
    """Whether so much of an archive would have to be unpacked that it is not looked into."""
    with suppress(OSError):
        return form_of(place) not in ("zip", "tar") and place.stat().st_size > MOST_PACKED
    return False


def members(place: Path, keys: Collection[str]) -> dict[str, bytes | None]:
    """The contents of the members of these keys, as far as the archive has them.

    None stands for one that cannot be read: it is damaged, lies behind what is damaged, or links to nothing.
    """
    try:
        return _from_zip(place, keys) if form_of(place) == "zip" else _from_tar(place, keys)
    except _DAMAGED:
        return dict.fromkeys(keys)


def _from_zip(place: Path, keys: Collection[str]) -> dict[str, bytes | None]:
    files: dict[str, Member] = {}
    links: dict[str, str] = {}
    with zipfile.ZipFile(place) as archive:
        infos = archive.infolist()

        def content(member: Member, most: int) -> bytes | None:
            with suppress(*_DAMAGED):
                return archive.read(infos[member.place]) if member.size <= most else None
            return None

        for number, info in enumerate(infos):
            member = zip_member(number, info)
            if member.kind == "symbolic link":
                target = content(member, _LONGEST_TARGET) or b""
                member = replace(member, target=target.decode("utf-8", "surrogateescape"))
            key = _key(member, links)
            files[key] = member
        found: dict[str, bytes | None] = {}
        for key in keys:
            if key in files:
                file = files.get(end_of(key, links) or "")
                found[key] = content(file, _LARGEST) if file is not None and file.kind == "file" else None
        return found


def _from_tar(place: Path, keys: Collection[str]) -> dict[str, bytes | None]:
    links: dict[str, str] = {}
    found = _read_tar(place, keys, links)
    ends = {key: end_of(key, links) for key in keys if key in links}
    behind = {end for end in ends.values() if end is not None}
    if behind - set(found):  # it may lie before its link, so that it takes a second look
        found = _read_tar(place, behind, {}) | found
    found |= {key: None if end is None else found.get(end) for key, end in ends.items()}
    return {key: content for key, content in found.items() if key in keys}


def _read_tar(place: Path, keys: Collection[str], links: dict[str, str]) -> dict[str, bytes | None]:
    """The members of these keys that are no links; where any link leads is put into `links`."""
    found: dict[str, bytes | None] = {}
    try:
        with ExitStack() as opened:
            if (form := form_of(place)) == "zstd":  # which tarfile cannot unpack itself
                stream = opened.enter_context(pa.input_stream(str(place), compression="zstd"))
                archive = opened.enter_context(tarfile.open(fileobj=stream, mode="r|"))
            else:
                archive = opened.enter_context(tarfile.open(place, "r:*"))
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
                member = tar_member(info)
                key = _key(member, links)
                if key not in keys:
                    continue
                found.pop(key, None)
                if key not in links:
                    found[key] = None
                    file = archive.extractfile(info) if member.kind == "file" else None
                    if file is not None and member.size <= _LARGEST:
                        found[key] = file.read()
            if archive.fileobj is not None and form != "zstd":
                # tarfile takes it for the end where a tar is cut off, or a header makes no sense
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise EOFError
    except _DAMAGED:
        return {**dict.fromkeys(keys), **found}
    return found


def _key(member: Member, links: dict[str, str]) -> str:
    """The key of a member, which takes the place of an earlier of its name; where it leads is put down.

    "" where its name or what it links to is not within the archive, which extraction refuses.
    """
    try:
        key = inside(member.name, "")
        links.pop(key, None)
        if member.kind in ("symbolic link", "hard link"):
            links[key] = led_to(key, member, "")
    except RequestError:
        return ""
    return key
