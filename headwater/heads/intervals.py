"""Intervals around accuracies: a closed form for one group, a stratified bootstrap for numbers made of many.

The plain bootstrap gives a group that is all right (or all wrong) the width zero, as if ten rows proved
perfection. Here a single group gets Wilson's interval, and the bootstrap's noise is smoothed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError

_BLOCK = 4_000_000  # resampled accuracies held at once


@dataclass(frozen=True)
class Interval:
    """`low` ≤ `estimate` ≤ `high` at a confidence `level`; `method` says how it was drawn."""

    estimate: float
    low: float
    high: float
    level: float
    method: str


def wilson(correct: int, count: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for `correct` out of `count` (Wilson 1927; Brown, Cai, DasGupta 2001)."""
    _check_level(level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = correct / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    # At 0 and count the formula's own ends are exact but for rounding.
    low = 0.0 if correct == 0 else max(0.0, middle - half)
    high = 1.0 if correct == count else min(1.0, middle + half)
    return Interval(share, low, high, level, "wilson")


def resampled(
    statistics: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    correct: NDArray[np.int64],
    count: NDArray[np.int64],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Interval]:
    """A stratified percentile bootstrap of numbers made of the strata's accuracies.

    `statistics` takes accuracies (draws, strata) to numbers (draws, numbers); one interval for each comes
    back.

    Resampling n rows of which c are right, with replacement, is a binomial draw, so no row is touched. Each
    stratum's noise is drawn at the smoothed rate (c + ½)/(n + 1) and centred on the observed rate c/n: the
    bootstrap's interval in large strata, a width that does not vanish in strata that are all right or wrong,
    and no pull towards the middle in sums over thousands of tiny strata.
    """
    _check_level(level)
    if resamples < 1:
        raise RequestError(f"resamples must be at least 1, not {resamples}")
    random = np.random.default_rng(seed)
    observed = correct / count
    smoothed = (correct + 0.5) / (count + 1)
    block = max(1, _BLOCK // len(count))
    estimates = statistics(observed[None, :])[0]
    drawn = np.empty((resamples, len(estimates)))
    for first in range(0, resamples, block):
        here = min(block, resamples - first)
        noise = random.binomial(count, smoothed, size=(here, len(count))) / count - smoothed
        drawn[first : first + here] = statistics(observed + noise)
    ends = np.quantile(np.clip(drawn, 0.0, 1.0), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        Interval(estimate, min(low, estimate), max(high, estimate), level, "stratified bootstrap, smoothed")
        for estimate, low, high in zip(estimates.tolist(), *ends.tolist(), strict=True)
    ]


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise RequestError(f"an interval's level must lie between 0 and 1, not {level}")
