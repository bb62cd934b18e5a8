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
    z = logits[:, known]
    # Against the true class's score, whose own difference is zero and left out.
    z = z - np.take_along_axis(z, np.broadcast_to(target[known][None, :, None], (*z.shape[:2], 1)), axis=2)
    wrong = np.arange(z.shape[2]) != target[known][:, None]
    z = z[:, wrong].reshape(len(z), len(known), -1)
    weight = (1.0 / (count[group] * len(count))).astype(z.dtype)
    low, high = np.full(len(z), _LOWEST), np.full(len(z), _HIGHEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        scaled, highest, total = _exponentials(z, middle)
        slope = (np.multiply(scaled, z, out=scaled).sum(axis=2) / total) @ weight  # of the log-loss
        low, high = np.where(slope > 0, low, middle), np.where(slope > 0, middle, high)
    _, highest, total = _exponentials(z, (low + high) / 2)
    loss = highest + np.log(total)
    order = np.argsort(group, kind="stable")
    by_group = np.add.reduceat(loss[:, order], np.cumsum(count) - count, axis=1, dtype=np.float64) / count
    found: NDArray[np.float64] = np.exp(-by_group.max(axis=1))
    return found


def or_accuracy(
    likelihood: NDArray[np.float64], accuracy: NDArray[np.float64], classes: int
) -> NDArray[np.float64]:
    """Each likelihood that is above chance, 1/`classes`; instead of others the accuracy, scaled to lie below.

    A head that is wrong about most of a group is the likelier the less it says: below chance the likelihood
    prefers whatever is the least sure, and only the accuracy of the worst group tells such heads apart.
    """
    return np.where(likelihood < 1 / classes, accuracy / classes, likelihood)


def _exponentials(
    z: NDArray[np.float32], log_factor: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """exp(factor·z - highest), the highest of the scaled scores and 0, and the sum with the true class's."""
    scaled = z * np.exp(log_factor).astype(z.dtype)[:, None, None]
    highest = np.maximum(scaled.max(axis=2), 0)
    scaled -= highest[:, :, None]
    np.exp(scaled, out=scaled)
    return scaled, highest, scaled.sum(axis=2) + np.exp(-highest)
