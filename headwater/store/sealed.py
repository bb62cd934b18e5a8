"""Sealed HDF5 files: a user block at the front carries a checksum of every byte that follows it.

Shards, the index, annotations and packed stores are all written and checked through here; what is in them is
not this file's business.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import xxhash

from headwater.errors import HeadwaterError
from headwater.store.files import replacing

USER_BLOCK = 4096
"""Bytes before the HDF5 file proper. A whole page, so that features can begin on a page and a row of 2048
float16 values touches one page, not two.
"""

PAGE = 4096
SEAL_VERSION = 1
Kind = Literal["shard", "index", "annotations", "packed"]


@contextmanager
def writing_sealed(path: Path, kind: Kind) -> Iterator[h5py.File]:
    """Give an HDF5 file to fill; when the block ends well it is sealed, synced and renamed to `path`.

    The same datasets written in the same order give the same bytes. HeadwaterError when the disk refuses.
    """
    with replacing(path) as temporary:
        with h5py.File(
            temporary,
            "w",
            libver=("earliest", "v110"),
            userblock_size=USER_BLOCK,
            alignment_threshold=PAGE,
            alignment_interval=PAGE,
            locking=False,
        ) as file:
            yield file
        _seal(temporary, kind)


def _render(kind: str, checksum: str, size: int) -> bytes:
    text = f"headwater {kind} {SEAL_VERSION}\nxxh3_128 {checksum}\nbytes {size}\n"
    return text.encode("ascii").ljust(USER_BLOCK, b"\0")


def _seal(path: Path, kind: Kind) -> None:
    size = path.stat().st_size - USER_BLOCK
    with path.open("r+b") as file:
        file.write(_render(kind, _checksum(file.fileno()), size))


def _checksum(descriptor: int) -> str:
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
        digest = xxhash.xxh3_128()
        for start in range(USER_BLOCK, len(view), 1 << 26):
            digest.update(view[start : start + (1 << 26)])
        return digest.hexdigest()


def seal_text(path: Path) -> tuple[str, str, int] | None:
    """Kind, checksum and sealed bytes as the user block says, or None when it is no user block of ours."""
    try:
        with path.open("rb") as file:
            head = file.read(USER_BLOCK)
        first, second, third, rest = head.split(b"\n", 3)
        name, kind, version = first.decode("ascii").split(" ")
        if name != "headwater" or int(version) > SEAL_VERSION or rest.strip(b"\0"):
            return None
        checksum, size = second.decode("ascii").split(" "), third.decode("ascii").split(" ")
        return (kind, checksum[1], int(size[1])) if (checksum[0], size[0]) == ("xxh3_128", "bytes") else None
    except (ValueError, IndexError):
        return None


def broken_seal(path: Path, kind: Kind, *, deep: bool) -> str | None:  # noqa: PLR0911 - one return, one fault
    """What is wrong with a sealed file, or None. `deep` reads every byte; otherwise only front and size
    count.
    """
    seal = seal_text(path)
    if seal is None:
        return "its first bytes are not those of a headwater file"
    found_kind, checksum, size = seal
    actual = path.stat().st_size - USER_BLOCK
    if found_kind != kind:
        return f"it is a headwater {found_kind}, not a headwater {kind}"
    if actual != size:
        return f"it has {actual + USER_BLOCK:,} bytes where {size + USER_BLOCK:,} were written"
    if not deep:
        return None
    with path.open("rb") as file:
        if file.read(USER_BLOCK) != _render(kind, checksum, size):
            return "its first bytes have changed since they were written"
        if _checksum(file.fileno()) != checksum:
            return "its bytes have changed since they were written (the checksum differs)"
    return None


@contextmanager
def reading_sealed(path: Path, kind: Kind, way_out: str) -> Iterator[h5py.File]:
    """Open a sealed file for reading; HeadwaterError with `way_out` when it is torn or absent."""
    try:
        problem = broken_seal(path, kind, deep=False)
        if problem is None:
            # No HDF5 locks: files are never changed in place, and locks fail on many network file systems.
            file = h5py.File(path, "r", locking=False)
    except OSError as error:
        problem = error.strerror or "HDF5 cannot open it"
    if problem is not None:
        raise HeadwaterError(f"{path} cannot be read: {problem}; {way_out}")
    with file:
        yield file


def new_dataset(file: h5py.Group, name: str, **settings: Any) -> h5py.Dataset:
    """Create a dataset without time stamps, so that the bytes depend on the content only."""
    return file.create_dataset(name, track_times=False, **settings)


def text_dtype(length: int) -> np.dtype[Any]:
    """Fixed-length text of `length` bytes: NUL-padded, tagged as UTF-8, raw bytes to numpy."""
    dtype: np.dtype[Any] = h5py.string_dtype("utf-8", length=max(1, length))
    return dtype
