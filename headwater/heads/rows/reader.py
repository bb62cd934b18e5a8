"""Reads rows of a feature matrix in blocks, standardises them, and finds their mean and scale.

Features may be an array, a memory map or a store's `Features`: whatever has a shape, a dtype and rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.errors import RequestError
from headwater.heads.specs.hashed import Rows

_BLOCK = 2048
_CACHED = 1 << 19  # numbers of a part that stays in the caches
# Rows that fill at least this share of the rows between first and last are read together with those between.
_DENSE = 0.5


@dataclass(frozen=True)
class Moments:
    """Every feature's mean and population deviation, (dim,) float64; a constant feature has scale 1."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]


class FeatureReader:
    """Blocks, moments and working copies of a feature matrix; remembers what it has read and checked.

    `unmapped`: read files by copying, so that pages of a mapped file never count as this process's memory.
    `rows_read` counts the rows of all readings.
    """

    def __init__(self, features: Any, device: torch.device, *, unmapped: bool = False) -> None:
        self._features = features
        self.device = device
        self.unmapped = unmapped
        self.rows_read = 0
        self._moments: dict[Rows, Moments] = {}
        self._finite = np.zeros(features.shape[0], dtype=bool)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return int(self._features.shape[0]), int(self._features.shape[1])

    def rows(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """The rows `index` as they are stored, (n, dim)."""
        first, last = (int(index[0]), int(index[-1])) if len(index) else (0, -1)
        span = last - first + 1
        ascending = span >= len(index) > 0 and bool((np.diff(index) > 0).all())
        if ascending and span == len(index):
            return self._run(first, last + 1)
        if ascending and self.unmapped and len(index) >= _DENSE * span:
            return self._run(first, last + 1)[index - first]
        if self.unmapped:
            return np.concatenate([self._run(int(row), int(row) + 1) for row in index])
        return np.asarray(self._features[index])

    def _run(self, start: int, stop: int) -> NDArray[Any]:
        source = self._features
        if self.unmapped and hasattr(source, "read"):
            return np.asarray(source.read(start, stop))
        if self.unmapped and isinstance(source, np.memmap) and source.flags.c_contiguous and source.filename:
            width = source.shape[1]
            offset = source.offset + start * width * source.dtype.itemsize
            flat = np.fromfile(source.filename, source.dtype, (stop - start) * width, offset=offset)
            return flat.reshape(stop - start, width)
        return np.asarray(source[start:stop])

    def _blocks(self, index: NDArray[np.int64], size: int = _BLOCK) -> Iterator[tuple[slice, Tensor]]:
        for first in range(0, len(index), size):
            part = slice(first, min(first + size, len(index)))
            block = self.rows(index[part])
            self.rows_read += len(block)
            # Mapped features are read-only, which torch takes only as a copy.
            yield part, torch.from_numpy(block) if block.flags.writeable else torch.tensor(block)

    def _small_blocks(self, index: NDArray[np.int64]) -> Iterator[tuple[slice, Tensor]]:
        """The blocks in parts that stay in the caches while they are passed over several times."""
        size = min(256, max(16, _CACHED // self.shape[1]))
        for whole, block in self._blocks(index):
            for first in range(0, len(block), size):
                start = whole.start + first
                small = block[first : first + size]
                yield slice(start, start + len(small)), small

    def check_finite(self, index: NDArray[np.int64]) -> None:
        """Raises RequestError naming the first of these rows that holds NaN or an infinite value.

        Rows that are read for it are measured in the same reading.
        """
        fresh = np.unique(index)
        fresh = fresh[~self._finite[fresh]]
        if len(fresh):
            rows = Rows(fresh)
            self._moments[rows] = self._measure(fresh)
            self._finite[fresh] = True

    def moments(self, rows: Rows) -> Moments:
        """Mean and scale over `rows`, repeats counted, remembered for the next time."""
        if rows not in self._moments:
            self._moments[rows] = self._measure(rows.index)
            self._finite[rows.index] = True
        return self._moments[rows]

    def _measure(self, index: NDArray[np.int64]) -> Moments:
        dim = self._features.shape[1]
        mean = torch.zeros(dim, dtype=torch.float64, device=self.device)
        spread = torch.zeros_like(mean)
        origin, scratch = None, torch.empty(0)
        seen = 0
        for part, block in self._small_blocks(index):
            if origin is None:
                dtype = torch.float64 if block.dtype == torch.float64 else torch.float32
                origin = block[0].to(self.device, dtype)
                scratch = torch.empty(block.shape, dtype=dtype, device=self.device)
            # Seen from the first row, a constant feature is exactly zero.
            values = scratch[: len(block)].copy_(block).sub_(origin)
            count = len(values)
            own = values.mean(0)
            # Chan, Golub & LeVeque's update: sums of squares around each block's mean lose no digits.
            squares = values.sub_(own).square_().sum(0).double()
            if not math.isfinite(float(squares.sum())):
                good = torch.isfinite(block).all(1)
                if not bool(good.all()):
                    row = int(index[part][int((~good).int().argmax())])
                    raise RequestError(
                        f"the features of row {row} hold NaN or infinite values; "
                        "leave it out or extract it again"
                    )
                values = block.to(self.device).double() - origin.double()  # too large to be squared
                own = values.mean(0)
                squares = (values - own).square().sum(0)
            shift = own.double() - mean
            spread += squares + shift.square() * (seen * count / (seen + count))
            mean += shift * (count / (seen + count))
            seen += count
        if origin is not None:
            mean += origin.double()
        scale = (spread / max(1, seen)).sqrt()
        scale[scale <= 1e-7 * mean.abs()] = 1
        scale[scale == 0] = 1
        return Moments(mean.cpu().numpy(), scale.cpu().numpy())

    def load(
        self,
        index: NDArray[np.int64],
        centre: NDArray[np.float64],
        scale: NDArray[np.float64],
        dtype: torch.dtype,
    ) -> Tensor:
        """The rows `index`, minus `centre`, over `scale`: (n, dim) on the device."""
        out = torch.empty((len(index), self._features.shape[1]), dtype=dtype, device=self.device)
        middle = torch.tensor(centre, device=self.device).to(dtype)
        factor = torch.tensor(1 / scale, device=self.device).to(dtype)
        for part, block in self._blocks(index):
            out[part] = block.to(self.device)
            out[part].sub_(middle).mul_(factor)
        return out

    def standardised(
        self, index: NDArray[np.int64], centre: NDArray[np.float64], scale: NDArray[np.float64], size: int
    ) -> Iterator[tuple[slice, Tensor]]:
        """The same in float32 blocks of `size` rows, each overwritten by the next."""
        scratch = torch.empty((min(size, len(index)), len(centre)), device=self.device)
        middle = torch.tensor(centre, device=self.device).float()
        factor = torch.tensor(1 / scale, device=self.device).float()
        for part, block in self._blocks(index, size):
            out = scratch[: len(block)]
            if block.dtype == torch.float32 and block.device == self.device:
                torch.sub(block, middle, out=out)
            else:
                out.copy_(block).sub_(middle)
            yield part, out.mul_(factor)
