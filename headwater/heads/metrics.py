"""Accuracy by group: one result object for every table, plot and selection rule.

How an interval around one of its numbers is drawn lives in `headwater.heads.intervals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import RequestError
from headwater.heads.intervals import Interval, lowest, resampled, wilson

Average = Literal["overall", "balanced", "train_weighted", "worst_group", "worst_k"]
AVERAGES: tuple[Average, ...] = ("overall", "balanced", "train_weighted", "worst_group")


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


class GroupReport:
    """How a head did on one split, in the manner of fairlearn's MetricFrame.

    `y_true`, `y_pred` (rows,) class codes; `groups` (rows,) group codes, -1 where unknown (such a row counts
    in `overall` and `by_class` only), None: the groups are the classes. `classes`, `group_names`: names by
    code; a name without rows is a missing class or group and is shown as such. `train_counts`: rows per group
    in train, for `train_weighted`.

    The three averages of the papers have three names here, and "average accuracy" is never used alone:
    `overall` (every row counts the same), `balanced` (every group counts the same), `train_weighted` (every
    group counts by its share of train; "adjusted" in the papers).
    """

    def __init__(
        self,
        *,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        groups: ArrayLike | None = None,
        classes: Sequence[str] | None = None,
        group_names: Sequence[str] | None = None,
        train_counts: ArrayLike | None = None,
    ) -> None:
        true = np.asarray(y_true, dtype=np.int64)
        predicted = np.asarray(y_pred, dtype=np.int64)
        group = true if groups is None else np.asarray(groups, dtype=np.int64)
        if not true.shape == predicted.shape == group.shape or true.ndim != 1:
            raise RequestError(
                f"y_true, y_pred and groups must be one value per row, not {true.shape}, "
                f"{predicted.shape} and {group.shape}"
            )
        if not len(true):
            raise RequestError("there are no rows to report on")
        self.classes = _names(classes, true)
        self.group_names = self.classes if groups is None else _names(group_names, group)
        counts = None if train_counts is None else np.asarray(train_counts, dtype=np.int64)
        if counts is not None and counts.shape != (len(self.group_names),):
            raise RequestError(f"{len(counts)} train counts for {len(self.group_names)} groups")
        self._train_counts = counts

        # Everything below depends on the rows only through how many of each (class, group) pair there are and
        # how many of those are right, so that is all that is kept.
        pairs = np.stack([true, group], axis=1)
        strata, inverse = np.unique(pairs, axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        self._stratum_class, self._stratum_group = strata[:, 0], strata[:, 1]
        self._count = np.bincount(inverse, minlength=len(strata)).astype(np.int64)
        self._correct = np.bincount(inverse[true == predicted], minlength=len(strata)).astype(np.int64)

    @property
    def rows(self) -> int:
        """How many rows the report is about."""
        return int(self._count.sum())

    @property
    def overall(self) -> float:
        """The share of all rows that are right."""
        return float(self._correct.sum() / self._count.sum())

    @cached_property
    def by_group(self) -> tuple[GroupAccuracy, ...]:
        """Every group by code, those without rows included."""
        return self._tally(self._stratum_group, self.group_names)

    @cached_property
    def by_class(self) -> tuple[GroupAccuracy, ...]:
        """Every class by code, those without rows included."""
        return self._tally(self._stratum_class, self.classes)

    @property
    def has_groups(self) -> bool:
        """Whether any row has a known group; without, what is said about groups raises RequestError."""
        return bool((self._stratum_group >= 0).any())

    @property
    def missing_groups(self) -> tuple[str, ...]:
        """The groups that have no rows here; the averages over groups leave them out."""
        return tuple(group.name for group in self.by_group if not group.count)

    @property
    def worst_group(self) -> GroupAccuracy:
        """The group with the lowest accuracy, the first of them when several share it."""
        return self.worst(1)[0]

    @property
    def worst_class(self) -> GroupAccuracy:
        """The class with the lowest accuracy, the first of them when several share it."""
        return min((c for c in self.by_class if c.count), key=lambda c: c.correct / c.count)

    def worst(self, k: int) -> tuple[GroupAccuracy, ...]:
        """The k groups with the lowest accuracies, lowest first."""
        present = self._present(k)
        return tuple(sorted(present, key=lambda group: group.correct / group.count)[:k])

    def worst_k(self, k: int) -> float:
        """The mean accuracy of the k groups with the lowest accuracies."""
        return float(np.mean([group.correct / group.count for group in self.worst(k)]))

    @property
    def balanced(self) -> float:
        """The mean of the groups' accuracies."""
        return float(np.mean([group.correct / group.count for group in self._present()]))

    @property
    def train_weighted(self) -> float | None:
        """The mean of the groups' accuracies weighted by their shares of train ("adjusted").

        None without train counts, and None when a group that train holds has no rows here.
        """
        weights = self._train_weights()
        return None if weights is None else float(weights @ (self._correct / self._count))

    def interval(
        self,
        what: Average = "overall",
        *,
        k: int = 1,
        level: float = 0.95,
        resamples: int = 1000,
        seed: int = 0,
    ) -> Interval | None:
        """An interval around one of the numbers; None where the number is None. `k` is for `worst_k`.

        `worst_group` gets `intervals.lowest`, the others a bootstrap within every (class, group) pair, see
        `intervals.resampled`. For `worst_k` the groups are picked anew in each resample; where k is a small
        share of many small groups, such an interval lies too low, as the estimate itself does.
        """
        return self.intervals([what], k=k, level=level, resamples=resamples, seed=seed)[what]

    def intervals(
        self,
        whats: Sequence[Average] = AVERAGES,
        *,
        k: int = 1,
        level: float = 0.95,
        resamples: int = 1000,
        seed: int = 0,
    ) -> dict[Average, Interval | None]:
        """Several of the intervals that `interval` gives, from one set of resamples."""
        for what in whats:
            if what not in (*AVERAGES, "worst_k"):
                raise RequestError(f"no interval is known for {what!r}")
        linear: dict[Average, NDArray[np.float64]] = {"overall": self._count / self._count.sum()}
        weights = self._train_weights()
        if weights is not None:
            linear["train_weighted"] = weights
        found: dict[Average, Interval | None] = dict.fromkeys(whats)
        if "worst_group" in found and self.has_groups:
            present = self._present()
            found["worst_group"] = lowest(
                np.array([group.correct for group in present]),
                np.array([group.count for group in present]),
                level,
            )
        wanted = [
            what for what in whats if what in linear or (self.has_groups and what in ("balanced", "worst_k"))
        ]
        if "worst_k" in wanted:
            self._present(k)
        order = np.argsort(self._stratum_group, kind="stable")
        order = order[self._stratum_group[order] >= 0]
        _, first = np.unique(self._stratum_group[order], return_index=True)
        count = self._count[order]

        def statistics(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
            if self.has_groups:
                right = np.add.reduceat(accuracies[:, order] * count, first, axis=1)
                by_group = right / np.add.reduceat(count, first)
            columns = []
            for what in wanted:
                if what in linear:
                    columns.append(accuracies @ linear[what])
                elif what == "balanced":
                    columns.append(by_group.mean(axis=1))
                else:
                    columns.append(np.partition(by_group, k - 1, axis=1)[:, :k].mean(axis=1))
            return np.stack(columns, axis=1)

        if wanted:
            drawn = resampled(
                statistics, self._correct, self._count, level=level, resamples=resamples, seed=seed
            )
            found.update(zip(wanted, drawn, strict=True))
        return found

    def to_dict(
        self, *, intervals: float | None = 0.95, resamples: int = 1000, seed: int = 0
    ) -> dict[str, Any]:
        """The report as plain data for JSON; `intervals` is their level, None for none."""
        found: dict[str, Any] = {
            "rows": self.rows,
            "overall": self.overall,
            "balanced": self.balanced if self.has_groups else None,
            "train_weighted": self.train_weighted,
            "worst_group": _plain(self.worst_group, intervals) if self.has_groups else None,
            "worst_class": _plain(self.worst_class, intervals),
            "by_group": [_plain(group, intervals) for group in self.by_group],
            "by_class": [_plain(each, intervals) for each in self.by_class],
            "missing_groups": list(self.missing_groups),
        }
        if intervals is not None:
            drawn = self.intervals(level=intervals, resamples=resamples, seed=seed)
            found["intervals"] = {what: asdict(one) if one else None for what, one in drawn.items()}
        return found

    def _tally(self, codes: NDArray[np.int64], names: Sequence[str]) -> tuple[GroupAccuracy, ...]:
        known = codes >= 0
        count = np.bincount(codes[known], weights=self._count[known], minlength=len(names))
        correct = np.bincount(codes[known], weights=self._correct[known], minlength=len(names))
        return tuple(
            GroupAccuracy(name, int(n), int(c))
            for name, n, c in zip(names, count.tolist(), correct.tolist(), strict=True)
        )

    def _present(self, k: int = 1) -> list[GroupAccuracy]:
        present = [group for group in self.by_group if group.count]
        if not present:
            raise RequestError("no row has a known group, so there is nothing to say about groups")
        if not 1 <= k <= len(present):
            raise RequestError(f"k must be between 1 and the {len(present)} groups that have rows, not {k}")
        return present

    def _train_weights(self) -> NDArray[np.float64] | None:
        """The weight of each stratum in `train_weighted`."""
        if self._train_counts is None or self._train_counts.sum() == 0 or not self.has_groups:
            return None
        here = np.array([group.count for group in self.by_group])
        if ((here == 0) & (self._train_counts > 0)).any():
            return None
        of_group = self._train_counts / self._train_counts.sum()
        group = np.maximum(self._stratum_group, 0)
        weights = of_group[group] * self._count / np.maximum(here[group], 1)
        return np.where(self._stratum_group >= 0, weights, 0.0)


def accuracies_by_group(
    y_true: NDArray[np.int64], predictions: NDArray[np.int64], groups: NDArray[np.int64], n_groups: int
) -> NDArray[np.float64]:
    """Accuracies of many heads: predictions (heads, rows) to (heads, groups), NaN where there is no row."""
    order = np.argsort(groups, kind="stable")
    order = order[np.searchsorted(groups[order], 0) :]
    count = np.bincount(groups[order], minlength=n_groups)
    present = np.flatnonzero(count)
    found = np.full((len(predictions), n_groups), np.nan)
    if len(present):
        right = (predictions == y_true)[:, order].view(np.int8)
        first = np.cumsum(count[present]) - count[present]
        found[:, present] = np.add.reduceat(right, first, axis=1, dtype=np.int64) / count[present]
    return found


def _names(names: Sequence[str] | None, codes: NDArray[np.int64]) -> tuple[str, ...]:
    highest = int(codes.max()) if len(codes) else -1
    if names is None:
        return tuple(str(code) for code in range(highest + 1))
    if highest >= len(names):
        raise RequestError(f"code {highest} has no name; {len(names)} names were given")
    return tuple(names)


def _plain(group: GroupAccuracy, level: float | None) -> dict[str, Any]:
    found = {"name": group.name, "count": group.count, "correct": group.correct, "accuracy": group.accuracy}
    if level is not None:
        interval = group.interval(level)
        found["interval"] = [interval.low, interval.high] if interval else None
    return found
