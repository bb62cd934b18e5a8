"""How likely the truth is to a head in its worst group: finer than an accuracy where groups are small."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_LOWEST, _HIGHEST, _STEPS = math.log(1e-3), math.log(1e3), 15  # of the factor on the scores, by bisection


def worst_group_likelihood(
    logits: NDArray[np.float32], target: NDArray[np.int64], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """exp(-log-loss) of the group where it is lowest, per head: a geometric mean probability, in [0, 1].

    `logits` (heads, rows, classes); `target` (rows,); `groups` (rows,), -1 where unknown: such rows do not
    count; NaN where no group is known. Each head's scores are first multiplied by the one factor that suits
    its own groups best, the same for all rows (temperature scaling, Guo et al. 2017), so that heads trained
    with different penalties are compared by what they know and not by how sure they are.
    """
    known = np.flatnonzero(groups >= 0)
    if not len(known):
        return np.full(len(logits), np.nan)
    _, group = np.unique(groups[known], return_inverse=True)
    count = np.bincount(group)
    z = logits[:, known].astype(np.float64)
    # Against the true class's score; its own difference is zero.
    z -= np.take_along_axis(z, np.broadcast_to(target[known][None, :, None], (*z.shape[:2], 1)), axis=2)
    weight = 1.0 / (count[group] * len(count))
    low, high = np.full(len(z), _LOWEST), np.full(len(z), _HIGHEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        rising = (_softmax(z, middle) * z).sum(axis=2) @ weight > 0  # the log-loss, with the factor
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    scaled = z * np.exp((low + high) / 2)[:, None, None]
    highest = scaled.max(axis=2)
    loss = highest + np.log(np.exp(scaled - highest[:, :, None]).sum(axis=2))
    order = np.argsort(group, kind="stable")
    by_group = np.add.reduceat(loss[:, order], np.cumsum(count) - count, axis=1) / count
    found: NDArray[np.float64] = np.exp(-by_group.max(axis=1))
    return found


def _softmax(z: NDArray[np.float64], log_factor: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = z * np.exp(log_factor)[:, None, None]
    scaled -= scaled.max(axis=2, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=2, keepdims=True)
    return scaled
