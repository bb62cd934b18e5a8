"""Features of a problem's rows as the scan takes them, and plain ones of its own made from the rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from headwater.heads.ambiguity.problem import Problem
from headwater.heads.methods.clusters import principal

Floats = NDArray[np.float32]

_COMPONENTS = 40
# Images have the strength of their finest detail taken over a grid of this many cells along the shorter side.
_GRID = 4
_FAINTEST = 1e-6
_WIDE = 1024  # columns, beyond which a covariance is no longer the cheap way


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """One kind of features, `name`, of the labeled (n, d), unlabeled (m, d) and target (t, d) rows.

    `whole` are all of them, where they are one array that need not be copied.
    """

    name: str
    labeled: Floats
    unlabeled: Floats
    target: Floats
    whole: Floats | None = None

    @property
    def all(self) -> Floats:
        """All rows, (n + m + t, d), in this order."""
        if self.whole is not None:
            return self.whole
        return np.concatenate([self.labeled, self.unlabeled, self.target])

    @classmethod
    def split(cls, name: str, rows: Floats, problem: Problem) -> FeatureRows:
        """Rows (n + m + t, d) of a problem, taken apart."""
        first = len(problem.labeled)
        second = first + len(problem.unlabeled)
        return cls(name, rows[:first], rows[first:second], rows[second:], rows)


def plain_features(problem: Problem) -> tuple[FeatureRows, ...]:
    """The values themselves; of images also how strong their finest detail is from place to place.

    That is the mean square, over a cell of a coarse grid, of what a box of 3 by 3 pixels smooths away, in
    logarithms: a level of noise, which no weighted sum of pixels shows, is plain there.
    """
    whole = np.concatenate([problem.labeled, problem.unlabeled, problem.target])
    values = FeatureRows.split("values", whole.reshape(len(whole), -1), problem)
    if not problem.are_images:
        return (values,)
    return values, FeatureRows.split("fine detail", _detail(whole), problem)


def leading(x: Floats, count: int = 256) -> Floats:
    """The rows (n, d) in their first principal components, (n, at most `count`), of most variance first.

    Of many more columns than rows they are found by a random projection, from a sample of the rows.
    """
    if not (x != x[0]).any():
        return np.zeros((len(x), 1), dtype=np.float32)
    if x.shape[1] > _WIDE:
        return principal(np.asarray(x, dtype=np.float32), count, 0)
    centred = np.asarray(x - x.mean(axis=0), dtype=np.float32)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return np.ascontiguousarray(centred @ axes[:, ::-1][:, :count].astype(np.float32))


def joined(kinds: Sequence[Floats]) -> Floats:
    """The first 40 columns of each kind of features (n, d), their mean square 1, side by side."""
    return np.column_stack([_scaled(each[:, :_COMPONENTS]) for each in kinds])


def _scaled(rows: Floats) -> Floats:
    scale = float(np.sqrt(np.mean(rows.astype(np.float64) ** 2)))
    return np.asarray(rows / (scale or 1.0), dtype=np.float32)


def _detail(images: Floats) -> Floats:
    """Logarithms of the energy of fine detail, (n, channels x cells)."""
    rows, channels, height, width = images.shape
    side = max(1, min(height, width) // _GRID)
    high, wide = max(1, height // side), max(1, width // side)
    out = np.empty((rows, channels, high, wide), dtype=np.float32)
    for start in range(0, rows, 1000):
        block = images[start : start + 1000]
        rest = (block - uniform_filter(block, size=(1, 1, 3, 3))) ** 2
        rest = rest[:, :, : high * side, : wide * side]
        out[start : start + 1000] = rest.reshape(len(block), channels, high, side, wide, side).mean(
            axis=(3, 5)
        )
    return np.log(out + _FAINTEST).reshape(rows, -1)
