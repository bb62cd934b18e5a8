"""Sealed HDF5 files: a user block at the front carries a checksum of every byte that follows it.

Shards, the index, annotations and packed stores are all written and checked through here; what is in them is
not this file's business.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from headwater.errors import HeadwaterError
from headwater.store.files import NotPermittedError, replacing
from headwater.store.sink import Sink

USER_BLOCK = 4096
"""Bytes before the HDF5 file proper. A whole page, so that features can begin on a page and a row of 2048
float16 values touches one page, not two.
"""

PAGE = 4096
SEAL_VERSION = 1
Kind = Literal["shard", "index", "annotations", "packed"]
_NOT_OURS = "its first bytes are damaged or not headwater's"


@contextmanager
def writing_sealed(path: Path, kind: Kind) -> Iterator[h5py.File]:
    """Give an HDF5 file to fill; when the block ends well it is sealed, synced and renamed to `path`.

    The same datasets written in the same order give the same bytes. HeadwaterError when the disk refuses.
    """
    with replacing(path) as temporary:
        with (
            closing(Sink(temporary)) as sink,
            h5py.File(
                sink,
                "w",
                libver=("earliest", "v110"),
                userblock_size=USER_BLOCK,
                alignment_threshold=PAGE,
                alignment_interval=PAGE,
            ) as file,
        ):
            yield file
            datasets = _datasets(file)
        size = temporary.stat().st_size - USER_BLOCK
        with temporary.open("r+b") as sealed:
            sealed.write(Seal(kind, _checksum(sealed.fileno()), size, datasets).render())


@dataclass(frozen=True)
class Seal:
    """What a user block says: kind of file, checksum and number of the bytes after it, where datasets lie.

    `datasets`: byte offset in the file, shape and type of every contiguous dataset at the top of the file.
    """

    kind: str
    checksum: str
    size: int
    datasets: Mapping[str, tuple[int, tuple[int, ...], np.dtype[Any]]]

    def render(self) -> bytes:
        """The user block's bytes; its last line is a checksum of the lines before."""
        lines = [f"headwater {self.kind} {SEAL_VERSION}", f"xxh3_128 {self.checksum}", f"bytes {self.size}"]
        lines += [
            " ".join(("dataset", name, str(offset), dtype.str, *map(str, shape)))
            for name, (offset, shape, dtype) in self.datasets.items()
        ]
        text = "".join(line + "\n" for line in lines).encode("ascii")
        text += f"seal {xxhash.xxh3_64_hexdigest(text)}\n".encode("ascii")
        return text.ljust(USER_BLOCK, b"\0")

    @classmethod
    def parse(cls, block: bytes) -> Seal | None:
        """The seal in a user block, or None when it is not ours or has changed since it was written."""
        text, found, last = block.rstrip(b"\0").rpartition(b"seal ")
        if (
            not found
            or last != f"{xxhash.xxh3_64_hexdigest(text)}\n".encode("ascii")
            or len(block) != USER_BLOCK
        ):
            return None
        lines = [line.split(" ") for line in text.decode("ascii").splitlines()]
        if int(lines[0][2]) > SEAL_VERSION:
            raise HeadwaterError(
                f"this file was sealed by a newer headwater (version {lines[0][2]}); upgrade headwater"
            )
        datasets = {
            name: (int(offset), tuple(map(int, shape)), np.dtype(dtype))
            for word, name, offset, dtype, *shape in lines[3:]
            if word == "dataset"
        }
        return cls(lines[0][1], lines[1][1], int(lines[2][1]), datasets)


def _datasets(file: h5py.File) -> dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]]:
    return {
        name: (item.id.get_offset() or 0, item.shape, np.dtype(item.dtype.str))
        for name, item in file.items()
        if isinstance(item, h5py.Dataset) and item.shape and item.chunks is None and not item.is_virtual
    }


def _checksum(descriptor: int) -> str:
    # Through one small buffer: mapping the file would cost a page fault for every 4 kB, more than hashing it.
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(1 << 20))
    position = USER_BLOCK
    while found := os.preadv(descriptor, [buffer], position):
        digest.update(buffer[:found])
        position += found
    return digest.hexdigest()


def read_seal(path: Path) -> Seal | None:
    """The seal of a file, or None when it has none of ours; OSError when it cannot be read."""
    with path.open("rb") as file:
        return Seal.parse(file.read(USER_BLOCK))


def broken_seal(path: Path, kind: Kind, *, deep: bool) -> str | None:
    """What is wrong with a sealed file, or None; unless `deep`, only its front and size are looked at.

    NotPermittedError when it may not be read.
    """
    try:
        seal = read_seal(path)
        return _NOT_OURS if seal is None else _broken(path, seal, kind, deep=deep)
    except PermissionError as error:
        raise NotPermittedError(path) from error
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"


def _broken(path: Path, seal: Seal, kind: Kind, *, deep: bool) -> str | None:
    actual = path.stat().st_size - USER_BLOCK
    if seal.kind != kind:
        return f"it is a headwater {seal.kind}, not a headwater {kind}"
    if actual != seal.size:
        return f"it has {actual + USER_BLOCK:,} bytes where {seal.size + USER_BLOCK:,} were written"
    if deep:
        with path.open("rb") as file:
            if _checksum(file.fileno()) != seal.checksum:
                return "its bytes have changed since they were written (the checksum differs)"
    return None


def checked_seal(path: Path, kind: Kind, way_out: str) -> Seal:
    """The seal of a file; HeadwaterError with `way_out` when it is torn, absent or of another kind."""
    try:
        seal = read_seal(path)
        problem = _NOT_OURS
        if seal is not None:
            problem = _broken(path, seal, kind, deep=False) or ""
    except PermissionError as error:
        raise NotPermittedError(path) from error
    except OSError as error:
        problem = error.strerror or str(error)
    if problem or seal is None:
        raise HeadwaterError(f"{path} cannot be read: {problem}; {way_out}")
    return seal


@contextmanager
def reading_sealed(path: Path, kind: Kind, way_out: str) -> Iterator[h5py.File]:
    """Open a sealed file for reading; HeadwaterError with `way_out` when it is torn or absent."""
    checked_seal(path, kind, way_out)
    try:
        # No HDF5 locks: files are never changed in place, and locks fail on many network file systems.
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise HeadwaterError(f"{path} cannot be read: HDF5 says {error}; {way_out}") from error
    with file:
        yield file


def new_dataset(file: h5py.Group, name: str, **settings: Any) -> h5py.Dataset:
    """Create a dataset without time stamps, so that the bytes depend on the content only."""
    return file.create_dataset(name, track_times=False, **settings)


def text_dtype(length: int) -> np.dtype[Any]:
    """Fixed-length text of `length` bytes: NUL-padded, tagged as UTF-8, raw bytes to numpy."""
    dtype: np.dtype[Any] = h5py.string_dtype("utf-8", length=max(1, length))
    return dtype


def tagged(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The values as `dtype`; text gets the UTF-8 tag without which HDF5 refuses to write it."""
    return values.astype(dtype, copy=dtype.kind == "S")
