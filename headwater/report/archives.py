"""The few pictures that a page shows, out of the zip or tar that a store was made of.

Which members of an archive become rows is extraction's business; here a member is found by its key alone.
"""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
MOST_GZIPPED = 1 << 30
"""Bytes of a gzipped tar, all of which has to be unpacked to find a few members, that a page is worth."""

_LARGEST = 1 << 28  # bytes of a picture
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError),
    RuntimeError,  # of zips that are encrypted, or packed in a way unknown to Python
)


def is_archive(place: Path) -> bool:
    """Whether a file of this name is an archive that members are read from."""
    return place.name.lower().endswith(ARCHIVES)


def members(place: Path, keys: Collection[str]) -> dict[str, bytes]:
    """The contents of the members of these keys, as far as the archive has them and they can be read.

    Links are not followed. What is damaged is left out.
    """
    found: dict[str, bytes] = {}
    try:
        if place.suffix.lower() == ".zip":
            _from_zip(place, keys, found)
        else:
            _from_tar(place, keys, found)
    except _DAMAGED:
        pass  # what was read before is shown
    return found


def _from_zip(place: Path, keys: Collection[str], found: dict[str, bytes]) -> None:
    with zipfile.ZipFile(place) as archive:
        wanted = {_key(info.filename): info for info in archive.infolist() if _key(info.filename) in keys}
        for key, info in wanted.items():
            if info.file_size <= _LARGEST:
                try:
                    found[key] = archive.read(info)
                except _DAMAGED:
                    continue


def _from_tar(place: Path, keys: Collection[str], found: dict[str, bytes]) -> None:
    with tarfile.open(place, "r:" if place.suffix.lower() == ".tar" else "r:gz") as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
            if info.isreg() and info.size <= _LARGEST and (key := _key(info.name)) in keys:
                file = archive.extractfile(info)
                if file is not None:
                    found[key] = file.read()


def _key(name: str) -> str:
    """The key of a member's name, as extraction makes it."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))
