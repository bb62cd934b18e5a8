"""Reads rows of a feature matrix into a standardised working copy, in blocks, and finds their mean and scale.

Features may be an array, a memory map or a store's `Features`: whatever has a shape, a dtype and rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.errors import RequestError
from headwater.heads.spec import Rows

_BLOCK = 4096


@dataclass(frozen=True)
class Moments:
    """Every feature's mean and population deviation, (dim,) float64; a constant feature has scale 1."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]


class FeatureReader:
    """Blocks, moments and working copies of a feature matrix; remembers what it has read and checked."""

    def __init__(self, features: Any, device: torch.device) -> None:
        self._features = features
        self._device = device
        self._moments: dict[Rows, Moments] = {}
        self._finite = np.zeros(features.shape[0], dtype=bool)

    def _blocks(self, index: NDArray[np.int64]) -> Iterator[tuple[slice, Tensor]]:
        run = len(index) > 0 and index[-1] - index[0] == len(index) - 1 and bool((np.diff(index) == 1).all())
        for first in range(0, len(index), _BLOCK):
            part = slice(first, min(first + _BLOCK, len(index)))
            rows = index[part]
            block = self._features[int(rows[0]) : int(rows[-1]) + 1] if run else self._features[rows]
            yield part, torch.tensor(np.asarray(block))  # a copy: mapped features are read-only

    def check_finite(self, index: NDArray[np.int64]) -> None:
        """Raises RequestError naming the first of these rows that holds NaN or an infinite value."""
        fresh = np.unique(index)
        fresh = fresh[~self._finite[fresh]]
        for part, block in self._blocks(fresh):
            good = torch.isfinite(block).all(1)
            if not bool(good.all()):
                row = int(fresh[part][int((~good).int().argmax())])
                raise RequestError(
                    f"the features of row {row} hold NaN or infinite values; leave it out or extract it again"
                )
        self._finite[fresh] = True

    def moments(self, rows: Rows) -> Moments:
        """Mean and scale over `rows`, repeats counted, remembered for the next time."""
        if rows not in self._moments:
            self._moments[rows] = self._measure(rows.index)
        return self._moments[rows]

    def _measure(self, index: NDArray[np.int64]) -> Moments:
        dim = self._features.shape[1]
        mean = torch.zeros(dim, dtype=torch.float64)
        spread = torch.zeros(dim, dtype=torch.float64)
        seen = 0
        for _, block in self._blocks(index):
            # Chan, Golub & LeVeque's update: sums of squares around each block's own mean lose no digits.
            values = block.double()
            count = len(values)
            own = values.mean(0)
            shift = own - mean
            spread += (values - own).square().sum(0) + shift.square() * (seen * count / (seen + count))
            mean += shift * (count / (seen + count))
            seen += count
        scale = (spread / seen).sqrt()
        scale[scale <= 1e-7 * mean.abs()] = 1
        scale[scale == 0] = 1
        return Moments(mean.numpy(), scale.numpy())

    def load(
        self,
        index: NDArray[np.int64],
        centre: NDArray[np.float64],
        scale: NDArray[np.float64],
        dtype: torch.dtype,
    ) -> Tensor:
        """The rows `index`, minus `centre`, over `scale`: (n, dim) on the device."""
        out = torch.empty((len(index), self._features.shape[1]), dtype=dtype, device=self._device)
        middle = torch.tensor(centre, device=self._device).to(dtype)
        factor = torch.tensor(1 / scale, device=self._device).to(dtype)
        for part, block in self._blocks(index):
            out[part] = block.to(self._device)
            out[part] -= middle
            out[part] *= factor
        return out
