"""The worst-K curve: how accurate the worst K % of the groups are, for K over a range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError

PERCENTS = tuple(range(10, 51))
"""The range of a curve where none is asked for: every whole percent from 10 to 50."""


@dataclass(frozen=True)
class WorstCurve:
    """`accuracies`: the mean accuracy of the worst `groups` groups, `percents` % of those with rows.

    `area`: the curve's mean height over its range, in [0, 1].
    """

    percents: tuple[float, ...]
    groups: tuple[int, ...]
    accuracies: tuple[float, ...]
    area: float

    def plain(self) -> dict[str, Any]:
        """The curve as JSON's own types."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()
        }


def groups_in(percent: float, groups: int) -> int:
    """How many groups K % of them are: rounded up, so that never fewer than K % are counted.

    RequestError for a K outside of 0 to 100, or 0 itself.
    """
    if not 0 < percent <= 100:
        raise RequestError(f"a share of groups must be above 0 and at most 100 %, not {percent:g}")
    # What is a whole number but for rounding, such as 7 % of 100, is that number.
    return max(1, math.ceil(percent * groups / 100 - 1e-9))


def worst_shares(
    accuracies: NDArray[np.float64], percents: Sequence[float] = PERCENTS
) -> NDArray[np.float64]:
    """Mean accuracy of the worst K % of groups: accuracies (..., groups) to (..., percents).

    Every group must have rows (no NaN). Whole groups count, see `groups_in`. RequestError for no K at all.
    """
    if not len(percents):
        raise RequestError("a worst-K curve needs at least one K")
    wanted = [groups_in(percent, accuracies.shape[-1]) for percent in percents]
    most = max(wanted)
    lowest = np.sort(np.partition(accuracies, most - 1, axis=-1)[..., :most], axis=-1)
    means = lowest.cumsum(axis=-1) / np.arange(1, most + 1)
    rising: NDArray[np.float64] = np.maximum.accumulate(means, axis=-1)  # as they do but for rounding
    return rising[..., [k - 1 for k in wanted]]


def area_of(shares: NDArray[np.float64], percents: Sequence[float] = PERCENTS) -> NDArray[np.float64]:
    """The mean height of curves (..., percents) over their range, by trapezes; one K alone is its mean.

    RequestError where `percents` do not ascend.
    """
    if len(percents) == 1:
        return shares[..., 0]
    width = np.diff(np.asarray(percents, dtype=np.float64))
    if (width <= 0).any():
        raise RequestError("the shares of a worst-K curve must ascend")
    middles = (shares[..., 1:] + shares[..., :-1]) / 2
    # A curve only rises; rounding must not carry its mean beyond its ends.
    mean = (middles * (width / width.sum())).sum(axis=-1)
    area: NDArray[np.float64] = np.clip(mean, shares[..., 0], shares[..., -1])
    return area


def worst_area(accuracies: NDArray[np.float64], percents: Sequence[float] = PERCENTS) -> NDArray[np.float64]:
    """The areas (...) of the worst-K curves of accuracies (..., groups)."""
    return area_of(worst_shares(accuracies, percents), percents)


def lowest_mean(accuracies: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """The means (...) of the k lowest of accuracies (..., groups)."""
    means: NDArray[np.float64] = np.partition(accuracies, k - 1, axis=-1)[..., :k].mean(axis=-1)
    return means


def worst_curve(accuracies: NDArray[np.float64], percents: Sequence[float] = PERCENTS) -> WorstCurve:
    """The curve of one head from the accuracies (groups,) of the groups that have rows."""
    shares = worst_shares(accuracies, percents)
    return WorstCurve(
        percents=tuple(percents),
        groups=tuple(groups_in(percent, len(accuracies)) for percent in percents),
        accuracies=tuple(shares.tolist()),
        area=float(area_of(shares, percents)),
    )
