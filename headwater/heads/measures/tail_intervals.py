"""How sure a worst-K curve, its area, and the difference of two heads' areas are, however small the groups.

Meant is what the same head would come to on other rows of the same groups, as many of each: drawing these
anew gives the curve's spread. Resampling the observed rows would not do. A species of two rows, both right,
is no species of accuracy 1, and picking the worst among resampled accuracies adds to the observed noise once
more, so that such an interval lies below what it is of. Here each group's rate is drawn from its posterior
(see `rates`), and two sets of rows are drawn from that rate: their difference has the spread of one
set about its mean, √2 times, and no bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.heads.measures.intervals import Interval, check_level
from headwater.heads.measures.rates import Rates
from headwater.heads.measures.tail import area_of, lowest_mean, worst_area, worst_shares

METHOD = "other rows of the same groups, rates from their posterior"
_DRAWN, _FEWEST, _MOST = 300_000, 60, 500  # groups drawn in all, and bounds on how often


@dataclass(frozen=True)
class WorstIntervals:
    """`area` of a worst-K curve with its interval; `low` and `high` (percents,) are the curve's, K by K."""

    area: Interval
    low: tuple[float, ...]
    high: tuple[float, ...]


def worst_intervals(
    correct: NDArray[np.int64], count: NDArray[np.int64], *, level: float = 0.95, seed: int = 0
) -> WorstIntervals:
    """Intervals of the curve of `PERCENTS` for groups with `correct` of `count` (groups,) rows right each."""
    z, drawn = _drawn_twice(correct, count, level, seed)
    one, other = (worst_shares(accuracies) for accuracies in drawn)
    curve = worst_shares(correct / count)
    half = z * _spread(one - other)
    area = float(area_of(curve))
    reach = z * float(_spread(area_of(one) - area_of(other)))
    return WorstIntervals(
        Interval(area, max(0.0, area - reach), min(1.0, area + reach), level, METHOD),
        tuple(np.clip(curve - half, 0, 1).tolist()),
        tuple(np.clip(curve + half, 0, 1).tolist()),
    )


def worst_k_interval(
    correct: NDArray[np.int64], count: NDArray[np.int64], k: int, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """The interval of the mean accuracy of the k worst of groups with `correct` of `count` (groups,) rows."""
    z, drawn = _drawn_twice(correct, count, level, seed)
    one, other = (lowest_mean(accuracies, k) for accuracies in drawn)
    estimate = float(lowest_mean(correct / count, k))
    reach = z * float(_spread(one - other))
    return Interval(estimate, max(0.0, estimate - reach), min(1.0, estimate + reach), level, METHOD)


def area_difference(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """How much larger the second head's worst-K area is than the first's, on the same rows, with an interval.

    `first`, `second` (rows,): where each head is right; `groups` (rows,) codes, negative where unknown. What
    both heads get right or wrong together does not widen the interval. RequestError where shapes differ or
    no group is known.
    """
    if not first.shape == second.shape == groups.shape or first.ndim != 1:
        raise RequestError(
            "two heads are compared on the same rows, and these have the shapes "
            f"{first.shape}, {second.shape} and {groups.shape}"
        )
    known = groups >= 0
    if not known.any():
        raise RequestError("no row has a known group, so there is no worst-K area to compare")
    _, group = np.unique(groups[known], return_inverse=True)
    outcome = 2 * ~first[known].astype(bool) + ~second[known].astype(bool)  # both, first, second, neither
    counts = np.bincount(4 * group + outcome, minlength=4 * (int(group.max()) + 1)).reshape(-1, 4)
    count = counts.sum(axis=1)
    z, random, draws = _prepared(level, seed, len(count))
    rates = Rates.fitted(counts).drawn(draws, random)

    def drawn() -> NDArray[np.float64]:
        return _gain(random.multinomial(count, rates))

    estimate = float(_gain(counts))
    reach = z * float(_spread(drawn() - drawn()))
    return Interval(estimate, estimate - reach, estimate + reach, level, METHOD)


def _drawn_twice(
    correct: NDArray[np.int64], count: NDArray[np.int64], level: float, seed: int
) -> tuple[float, Iterator[NDArray[np.float64]]]:
    """The normal quantile, and accuracies (draws, groups) on two sets of other rows of the same rates."""
    z, random, draws = _prepared(level, seed, len(count))
    rates = Rates.fitted(np.stack([correct, count - correct], axis=1)).drawn(draws, random)[..., 0]
    return z, (random.binomial(count, rates) / count for _ in range(2))


def _gain(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The second head's area less the first's, from rows (..., groups, outcomes)."""
    count = counts.sum(axis=-1)
    both, first, second = (counts[..., outcome] for outcome in range(3))
    return worst_area((both + second) / count) - worst_area((both + first) / count)


def _spread(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation of one of two independent numbers, from differences (draws, …) of both."""
    spread: NDArray[np.float64] = np.sqrt((differences**2).mean(axis=0) / 2)
    return spread


def _prepared(level: float, seed: int, groups: int) -> tuple[float, np.random.Generator, int]:
    check_level(level)
    draws = min(_MOST, max(_FEWEST, _DRAWN // groups))
    return NormalDist().inv_cdf((1 + level) / 2), np.random.default_rng(seed), draws
