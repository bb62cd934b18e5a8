"""Features on disk as one (rows, dim) matrix, mapped lazily, one mapping per file, never copied without need.

Knows how rows lie over files and how to read them; what the rows mean is not its business.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterError
from headwater.store.files import explained_reading
from headwater.store.mapping import address_of, array_at, map_file, rows_at
from headwater.store.sealed import Kind, checked_seal


@dataclass(frozen=True)
class Part:
    """A file that holds the rows from `start` to `stop`; `path` is None when the shard is missing."""

    start: int
    stop: int
    path: Path | None
    kind: Kind
    way_out: str


class MappedPart:
    """One mapped file of rows and where its datasets lie in it."""

    def __init__(self, part: Part) -> None:
        if part.path is None:
            raise HeadwaterError(f"rows {part.start} to {part.stop - 1} are missing; {part.way_out}")
        self.path = part.path
        self._where = checked_seal(part.path, part.kind, part.way_out).datasets
        self._content = map_file(part.path)

    def array(self, name: str) -> NDArray[Any]:
        """A contiguous dataset as a read-only view of the mapping."""
        return array_at(self._content, *self._where[name])

    def where(self, name: str) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
        """Byte offset, shape and type of a contiguous dataset."""
        return self._where[name]


class Parts:
    """All files of a store in row order; each is opened and mapped when it is first needed. Thread-safe."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self.starts = np.array([part.start for part in parts], dtype=np.int64)
        self.rows = parts[-1].stop if parts else 0
        self._mapped: list[MappedPart | None] = [None] * len(parts)
        self._lock = threading.Lock()

    def mapped(self, number: int) -> MappedPart:
        """The mapped part of this number; HeadwaterError when it is missing or torn."""
        found = self._mapped[number]
        if found is None:
            with self._lock:
                found = self._mapped[number]
                if found is None:
                    found = self._mapped[number] = MappedPart(self.parts[number])
        return found


class Features:
    """A (rows, dim) matrix on disk. Rows of failed images are zero; `Store.ok` tells them.

    Index it with a row number, a slice, an array of row numbers (negative ones count from the end) or a
    boolean mask. A slice within one file is a read-only view of the mapping; everything else is a fresh
    array.
    """

    ndim = 2

    def __init__(self, parts: Parts, dim: int, dtype: np.dtype[Any], view: int = 0) -> None:
        self._parts = parts
        self._view = view
        self.shape = (parts.rows, dim)
        self.dtype = dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Features(rows={self.shape[0]}, dim={self.shape[1]}, dtype={self.dtype})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False and len(self._parts.parts) > 1:
            raise ValueError("features in several shards cannot become one array without copying")
        whole: NDArray[Any] = self[:] if copy is False else self._copy(0, len(self))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if isinstance(index, tuple):
            rows, *rest = index
            return self[rows][
                (slice(None), *rest) if np.ndim(rows) or isinstance(rows, slice) else tuple(rest)
            ]
        if isinstance(index, (int, np.integer)) and not isinstance(index, (bool, np.bool_)):
            return self._row(int(index))
        if isinstance(index, slice):
            return self._slice(index)
        rows = np.asarray(index)
        if rows.dtype == bool:
            if rows.shape != self.shape[:1]:
                raise IndexError(f"a mask of shape {rows.shape} does not fit {self.shape[0]} rows")
            rows = np.flatnonzero(rows)
        if rows.size and rows.dtype.kind not in "iu":
            raise IndexError(f"rows are chosen by whole numbers or a mask, not by {rows.dtype}")
        flat = self._checked(rows.reshape(-1).astype(np.int64, copy=False))
        return self._gather(flat).reshape(*rows.shape, self.shape[1])

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Every file's rows in order: the first row's number, and its rows as a read-only mapped array."""
        for number, part in enumerate(self._parts.parts):
            yield part.start, self._block(number)

    def _block(self, number: int) -> NDArray[Any]:
        mapped = self._parts.mapped(number)
        return mapped.array("features") if self._view == 0 else mapped.array("augmented")[self._view - 1]

    def _part_of(self, row: int) -> int:
        return int(np.searchsorted(self._parts.starts, row, side="right")) - 1

    def _row(self, row: int) -> NDArray[Any]:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} is not among {len(self)} rows")
        row %= len(self)
        number = self._part_of(row)
        view: NDArray[Any] = self._block(number)[row - self._parts.parts[number].start]
        return view

    def _slice(self, index: slice) -> NDArray[Any]:
        start, stop, step = index.indices(len(self))
        if step != 1:
            return self._gather(np.arange(start, stop, step, dtype=np.int64))
        if stop <= start:
            return np.empty((0, self.shape[1]), self.dtype)
        number = self._part_of(start)
        part = self._parts.parts[number]
        if stop <= part.stop:
            view: NDArray[Any] = self._block(number)[start - part.start : stop - part.start]
            return view
        return self._copy(start, stop)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` in a fresh array, without mapping them: no page of the file stays ours."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"rows {start} to {stop} are not among {len(self)} rows")
        return self._copy(start, stop)

    def _copy(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` in a fresh array, by plain reads: they beat faulting pages in."""
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        while start < stop:
            number = self._part_of(start)
            part = self._parts.parts[number]
            end = min(stop, part.stop)
            mapped = self._parts.mapped(number)
            offset, shape, _ = mapped.where("features" if self._view == 0 else "augmented")
            row_bytes = self.shape[1] * self.dtype.itemsize
            skipped = start - part.start + (max(0, self._view - 1) * shape[-2])
            _read_into(
                mapped.path, offset + skipped * row_bytes, out[len(out) - (stop - start) :][: end - start]
            )
            start = end
        return out

    def _checked(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if rows.size == 0:
            return rows
        low, high = int(rows.min()), int(rows.max())
        if low < -len(self) or high >= len(self):
            raise IndexError(f"row {low if low < -len(self) else high} is not among {len(self)} rows")
        return np.where(rows < 0, rows + len(self), rows) if low < 0 else rows

    def _gather(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Any rows in any order, each copied once, whichever files they lie in."""
        if len(rows) == 0:
            return np.empty((0, self.shape[1]), self.dtype)
        numbers = np.searchsorted(self._parts.starts, rows, side="right") - 1
        touched = np.flatnonzero(np.bincount(numbers)).tolist()
        row_bytes = self.shape[1] * self.dtype.itemsize
        bases = np.zeros(len(self._parts.starts), np.int64)
        for number in touched:
            bases[number] = address_of(self._block(number)) - self._parts.parts[number].start * row_bytes
        step = math.gcd(row_bytes, *(int(bases[number] - bases[touched[0]]) for number in touched))
        return rows_at(bases[numbers] + rows * row_bytes, step, self.shape[1], self.dtype)


def _read_into(path: Path, offset: int, out: NDArray[Any]) -> None:
    if out.size == 0:
        return
    view = memoryview(out.data).cast("B")
    with explained_reading(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            done = 0
            while done < len(view):
                got = os.preadv(descriptor, [view[done : done + (1 << 30)]], offset + done)
                if got == 0:
                    raise HeadwaterError(
                        f"{path} ended early while it was read; run `headwater store verify`"
                    )
                done += got
        finally:
            os.close(descriptor)
