"""The accuracy of one group or class, and lists of them; how groups are made and compared is elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.heads.measures.intervals import Interval, check_level, wilson, wilson_ends


@dataclass(frozen=True)
class GroupAccuracy:
    """One group or class: rows counted and predicted rightly; `accuracy` is None where there are no rows."""

    name: str
    count: int
    correct: int

    @property
    def accuracy(self) -> float | None:
        """correct / count, or None: a group without rows has no accuracy, neither 0 nor 1."""
        return self.correct / self.count if self.count else None

    def interval(self, level: float = 0.95) -> Interval | None:
        """Wilson's interval, which keeps an honest width at 0 % and 100 %; None without rows."""
        return wilson(self.correct, self.count, level) if self.count else None


def tally(
    codes: NDArray[np.int64], count: NDArray[np.int64], correct: NDArray[np.int64], names: Sequence[str]
) -> tuple[GroupAccuracy, ...]:
    """One entry per name, summing the counts of its code; negative codes are unknown and not counted."""
    known = codes >= 0
    sums = (np.bincount(codes[known], each[known], len(names)).tolist() for each in (count, correct))
    return tuple(GroupAccuracy(name, int(n), int(c)) for name, n, c in zip(names, *sums, strict=True))


def plain(groups: Sequence[GroupAccuracy], level: float | None) -> list[dict[str, Any]]:
    """Plain data for JSON, with Wilson's intervals at `level` unless that is None."""
    found: list[dict[str, Any]] = [
        {"name": group.name, "count": group.count, "correct": group.correct, "accuracy": group.accuracy}
        for group in groups
    ]
    if level is not None:
        check_level(level)
        count = np.array([max(1, group.count) for group in groups])
        correct = np.array([group.correct for group in groups])
        ends = wilson_ends(correct, count, NormalDist().inv_cdf((1 + level) / 2))
        for group, each, low, high in zip(groups, found, *(end.tolist() for end in ends), strict=True):
            each["interval"] = [low, high] if group.count else None
    return found
