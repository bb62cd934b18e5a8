"""Intervals around accuracies: a closed form for one group, a stratified bootstrap for numbers made of many.

The plain bootstrap gives a group that is all right (or all wrong) the width zero, as if ten rows proved
perfection. Here one group gets Wilson's interval, the worst of several a wider one, and the bootstrap is
smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError

_DRAWN = 128  # strata of a sum that are drawn one by one


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
    check_level(level)
    low, high = wilson_ends(np.array([correct]), np.array([count]), NormalDist().inv_cdf((1 + level) / 2))
    return Interval(correct / count, float(low[0]), float(high[0]), level, "wilson")


def wilson_ends(
    correct: NDArray[Any], count: NDArray[Any], z: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ends of Wilson's intervals, `z` the normal quantile of (1 + level)/2; counts may be fractions."""
    share = correct / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # At 0 and count the ends are 0 and 1 but for rounding.
    return np.where(correct == 0, 0.0, middle - half), np.where(correct == count, 1.0, middle + half)


def lowest(correct: NDArray[Any], count: NDArray[Any], level: float = 0.95) -> Interval:
    """An interval for the lowest of several groups' accuracies, which need not be the group that looks worst.

    The lowest of observed accuracies is biased low, and resampling adds the same bias once more: among twenty
    equal groups the bootstrap's interval never holds the truth. Instead, from exact binomial ends (Clopper,
    Pearson 1934): the truth is below the lowest of the lower ends only if one group's end errs, and above the
    lowest of the upper ends only if any of them errs, so these are widened for the number of groups
    (Bonferroni). It holds the truth at least as often as `level` says.
    """
    from scipy.special import betaincinv  # noqa: PLC0415  (slow to import)

    check_level(level)
    tail = (1 - level) / 2
    wrong = count - correct
    lower = np.where(correct == 0, 0.0, betaincinv(np.maximum(correct, 1), wrong + 1, tail))
    upper = np.where(wrong == 0, 1.0, betaincinv(correct + 1, np.maximum(wrong, 1), 1 - tail / len(count)))
    method = "exact binomial, for the lowest of the groups"
    return Interval(float((correct / count).min()), float(lower.min()), float(upper.min()), level, method)


def resampled_sum(
    weights: NDArray[np.float64],
    correct: NDArray[np.int64],
    count: NDArray[np.int64],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """A stratified percentile bootstrap of Σ weights·accuracies, in a time that no number of strata raises.

    Resampling n rows of which c are right, with replacement, is a binomial draw, so no row is touched. Each
    stratum's noise is drawn at the smoothed rate (c + ½)/(n + 1) and centred on the observed rate c/n: the
    bootstrap's interval in large strata, a width that does not vanish in strata that are all right or wrong,
    and no pull towards the middle in sums over thousands of tiny strata.

    Only the strata with the largest part in the spread are drawn; the many small parts that remain add up to
    a normal number, whose variance is known.
    """
    random = _random(level, resamples, seed)
    smoothed = (correct + 0.5) / (count + 1)
    variance = weights**2 * smoothed * (1 - smoothed) / count
    order = np.argsort(-variance, kind="stable")
    large, small = order[:_DRAWN], order[_DRAWN:]
    estimate = float(weights @ (correct / count))
    drawn = estimate + _noise(correct[large], count[large], resamples, random) @ weights[large]
    drawn += random.normal(scale=np.sqrt(variance[small].sum()), size=resamples)
    return _percentile(estimate, drawn, level)


def _random(level: float, resamples: int, seed: int) -> np.random.Generator:
    check_level(level)
    if resamples < 1:
        raise RequestError(f"resamples must be at least 1, not {resamples}")
    return np.random.default_rng(seed)


def _noise(
    correct: NDArray[np.int64], count: NDArray[np.int64], draws: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """What resampling adds to the strata's accuracies, shape (draws, strata)."""
    smoothed = ((correct + 0.5) / (count + 1))[:, None]
    # Strata first: numpy prepares a binomial anew whenever its numbers change.
    drawn = random.binomial(count[:, None], smoothed, size=(len(count), draws))
    noise: NDArray[np.float64] = (drawn / count[:, None] - smoothed).T
    return noise


def _percentile(estimate: float, drawn: NDArray[np.float64], level: float) -> Interval:
    estimate = min(max(estimate, 0.0), 1.0)  # of accuracies; but for rounding it lies there
    low, high = np.quantile(np.clip(drawn, 0.0, 1.0), [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(
        estimate, min(low, estimate), max(high, estimate), level, "stratified bootstrap, smoothed"
    )


def check_level(level: float) -> None:
    """RequestError unless `level` lies between 0 and 1."""
    if not 0 < level < 1:
        raise RequestError(f"an interval's level must lie between 0 and 1, not {level}")
