"""Accuracy by group: one result object for every table, plot and selection rule.

How an interval around one of its numbers is drawn lives in `intervals`, what is said of a
head's scores in `score_report`, the worst-K curve in `tail`, the figures of many heads at once in `many`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from numbers import Integral
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import RequestError
from headwater.heads.measures.accuracy import GroupAccuracy, plain, tally
from headwater.heads.measures.intervals import Interval, lowest, resampled_sum
from headwater.heads.measures.nodes import LevelAccuracy, by_levels
from headwater.heads.measures.score_report import ScoreReport, scored_rows
from headwater.heads.measures.scores import Floats
from headwater.heads.measures.tail import PERCENTS, WorstCurve, lowest_mean, worst_curve
from headwater.heads.measures.tail_intervals import WorstIntervals, worst_intervals, worst_k_interval
from headwater.heads.tasks.hierarchy import Hierarchy

Average = Literal["overall", "balanced", "train_weighted", "worst_group", "worst_k", "worst_area"]
AVERAGES: tuple[Average, ...] = ("overall", "balanced", "train_weighted", "worst_group")

MOST_LISTED = 200
"""So many groups at most, the worst, stand in a report's plain data where no other number is asked for."""


@dataclass(frozen=True, eq=False)
class Level:
    """A coarser level of a taxonomy: `codes` (classes,) into `names`, -1 for a class that no row is of."""

    codes: NDArray[np.int64]
    names: tuple[str, ...]


class GroupReport:
    """How a head did on one split, in the manner of fairlearn's MetricFrame.

    `y_true`, `y_pred` (rows,) class codes; `groups` (rows,) group codes, -1 where unknown (such a row counts
    in `overall` and `by_class` only), None: the groups are the classes. `classes`, `group_names`: names by
    code; a name without rows is a missing class or group and is shown as such. `train_counts`: rows per group
    in train, for `train_weighted`. `logits` (rows, classes), or blocks of its rows, are read for `scores` and
    not kept; they may stand in for `y_pred`. `levels`: coarser levels of the classes by name, for `by_level`;
    `hierarchy`: the tree that the groups are nodes of, for `by_node`.

    The three averages of the papers have three names here, and "average accuracy" is never used alone:
    `overall` (every row counts the same), `balanced` (every group counts the same), `train_weighted` (every
    group counts by its share of train; "adjusted" in the papers).
    """

    def __init__(
        self,
        *,
        y_true: ArrayLike,
        y_pred: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        classes: Sequence[str] | None = None,
        group_names: Sequence[str] | None = None,
        train_counts: ArrayLike | None = None,
        logits: Floats | Iterable[Floats] | None = None,
        levels: Mapping[str, Level] | None = None,
        hierarchy: Hierarchy | None = None,
    ) -> None:
        true = np.asarray(y_true, dtype=np.int64)
        if not true.size:
            raise RequestError("there are no rows to report on")
        if true.min() < 0:
            raise RequestError("y_true must be the known class code of every row")
        found = (
            None if logits is None else scored_rows(true, logits, None if classes is None else len(classes))
        )
        if y_pred is None and found is None:
            raise RequestError("a report needs y_pred or logits")
        predicted = np.asarray(found.predicted[0] if y_pred is None and found else y_pred, dtype=np.int64)
        group = true if groups is None else np.maximum(np.asarray(groups, dtype=np.int64), -1)
        if not true.shape == predicted.shape == group.shape or true.ndim != 1:
            raise RequestError(
                f"y_true, y_pred and groups must be one value per row, not {true.shape}, "
                f"{predicted.shape} and {group.shape}"
            )
        self.classes = _names(classes, true)
        self.group_names = self.classes if groups is None else _names(group_names, group)
        counts = None if train_counts is None else np.asarray(train_counts, dtype=np.int64)
        if counts is not None and counts.shape != (len(self.group_names),):
            raise RequestError(f"{len(counts)} train counts for {len(self.group_names)} groups")
        self._train_counts = counts
        self._hierarchy = hierarchy

        # Everything below depends on the rows only through how many of each (class, group) pair there are and
        # how many of those are right, so that is all that is kept.
        width = len(self.group_names) + 1
        strata, inverse = np.unique(true * width + group + 1, return_inverse=True)
        self._stratum_class, self._stratum_group = strata // width, strata % width - 1
        self._count = np.bincount(inverse, minlength=len(strata))
        self._correct = np.bincount(inverse[true == predicted], minlength=len(strata))
        self.scores = None if found is None else ScoreReport.of(true, found, inverse)
        self.by_level = {
            name: _at_level(name, level, true, predicted) for name, level in (levels or {}).items()
        }

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
        return tally(self._stratum_group, self._count, self._correct, self.group_names)

    @cached_property
    def by_class(self) -> tuple[GroupAccuracy, ...]:
        """Every class by code, those without rows included."""
        return tally(self._stratum_class, self._count, self._correct, self.classes)

    @cached_property
    def by_node(self) -> tuple[LevelAccuracy, ...]:
        """Accuracy by node at every level above the groups, from the root; none without `hierarchy`."""
        if self._hierarchy is None:
            return ()
        return by_levels(self._hierarchy, self._group_count, self._group_correct)

    @property
    def level_names(self) -> tuple[str, ...]:
        """The levels of the groups' tree, numbered from the root; () without `hierarchy`."""
        return () if self._hierarchy is None else self._hierarchy.tree.level_names

    @cached_property
    def _group_count(self) -> NDArray[np.float64]:
        return self._by_group(self._count)

    @cached_property
    def _group_correct(self) -> NDArray[np.float64]:
        return self._by_group(self._correct)

    def _by_group(self, values: NDArray[np.int64]) -> NDArray[np.float64]:
        known = self._stratum_group >= 0
        sums: NDArray[np.float64] = np.bincount(
            self._stratum_group[known], values[known].astype(np.float64), len(self.group_names)
        ).astype(np.float64)
        return sums

    @property
    def has_groups(self) -> bool:
        """Whether any row has a known group; without, what is said about groups raises RequestError."""
        return bool((self._stratum_group >= 0).any())

    @property
    def missing_groups(self) -> tuple[str, ...]:
        """The groups that have no rows here; the averages over groups leave them out."""
        return tuple(self.group_names[code] for code in np.flatnonzero(self._group_count == 0))

    @property
    def missing_classes(self) -> tuple[str, ...]:
        """The classes that have no rows here."""
        return tuple(each.name for each in self.by_class if not each.count)

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
        present, accuracies = self._present(k)
        codes = present[np.argsort(accuracies, kind="stable")[:k]].tolist()
        return tuple(self.by_group[code] for code in codes)

    def worst_k(self, k: int) -> float:
        """The mean accuracy of the k groups with the lowest accuracies."""
        _, accuracies = self._present(k)
        return float(lowest_mean(accuracies, k))

    def worst_curve(self, percents: Sequence[float] = PERCENTS) -> WorstCurve:
        """The mean accuracy of the worst K % of the groups that have rows, for K over a range, and its area.

        K % of G groups are ⌈K·G/100⌉ of them.
        """
        return worst_curve(self._present()[1], percents)

    @property
    def balanced(self) -> float:
        """The mean of the groups' accuracies."""
        return float(self._present()[1].mean())

    @property
    def train_weighted(self) -> float | None:
        """The mean of the groups' accuracies weighted by their shares of train ("adjusted").

        None without train counts, and None when a group that train holds has no rows here.
        """
        weights = self._train_weights()
        return None if weights is None else float(weights @ (self._correct / self._count))

    @property
    def why_no_train_weighted(self) -> str:
        """Why `train_weighted` is None, in words; empty where it is not."""
        if self._train_weights() is not None:
            return ""
        if not self.has_groups:
            return "no row has a known group"
        if self._train_counts is None or self._train_counts.sum() == 0:
            return "it is not known how many rows of each group train has"
        lost = int(((self._group_count == 0) & (self._train_counts > 0)).sum())
        return f"{lost:,} of the groups that train holds {'has' if lost == 1 else 'have'} no rows here"

    @property
    def log_loss(self) -> float | None:
        """The mean of -log of the true class's probability, in nats; None without logits."""
        return self.scores.log_loss if self.scores else None

    @property
    def ece(self) -> float | None:
        """Expected calibration error of the predicted class over 15 equal bins; None without logits."""
        return self.scores.ece if self.scores else None

    @property
    def auroc(self) -> float | None:
        """Area under the ROC curve, the mean of each class against the rest; None without logits.

        None, too, with one class only and with more than `scores.MOST_AREAS` classes.
        """
        return self.scores.auroc if self.scores else None

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

        `worst_group` gets `intervals.lowest`, `worst_area` (the area of `worst_curve`) and `worst_k` those of
        `tail_intervals`, which have draws of their own and no `resamples`, the others a bootstrap within
        every (class, group) pair, see `intervals.resampled_sum`. The intervals of `log_loss`, `ece`, `auroc`
        are those of `scores`.
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
        """Several of the intervals that `interval` gives.

        RequestError for a name that has none.
        """
        found: dict[Average, Interval | None] = dict.fromkeys(whats)
        sums = self._weights()
        for what in found:
            if what in sums:
                found[what] = resampled_sum(
                    sums[what], self._correct, self._count, level=level, resamples=resamples, seed=seed
                )
            elif what not in (*AVERAGES, "worst_k", "worst_area"):
                raise RequestError(f"no interval is known for {what!r}")
            elif self.has_groups and what == "worst_group":
                found[what] = lowest(*self._whole(), level)
            elif self.has_groups and what == "worst_area":
                found[what] = self.worst_intervals(level=level, seed=seed).area
            elif self.has_groups and what == "worst_k":
                found[what] = worst_k_interval(*self._whole(k), k, level=level, seed=seed)
        return found

    def worst_intervals(self, *, level: float = 0.95, seed: int = 0) -> WorstIntervals:
        """Intervals of `worst_curve`, K by K, and of its area; see `tail_intervals` for what they mean."""
        if (level, seed) not in self._drawn:
            self._drawn[level, seed] = worst_intervals(*self._whole(), level=level, seed=seed)
        return self._drawn[level, seed]

    @cached_property
    def _drawn(self) -> dict[tuple[float, int], WorstIntervals]:
        return {}

    def _weights(self) -> dict[Average, NDArray[np.float64]]:
        """The weights of the strata's accuracies in the numbers that are sums of them."""
        sums: dict[Average, NDArray[np.float64]] = {"overall": self._count / self._count.sum()}
        if self.has_groups:
            present, _ = self._present()
            sums["balanced"] = self._spread_over_groups(np.full(len(self.group_names), 1 / len(present)))
        weights = self._train_weights()
        return sums if weights is None else {**sums, "train_weighted": weights}

    def to_dict(
        self,
        *,
        intervals: float | None = 0.95,
        resamples: int = 1000,
        seed: int = 0,
        most: int = MOST_LISTED,
    ) -> dict[str, Any]:
        """The report as plain data for JSON; `intervals` is their level, None for none.

        Of more than `most` groups the worst are listed, worst first, and so many at most of those without
        rows; `groups` says how many there are.
        """
        listed = self.by_group
        if len(listed) > most:
            listed = self.worst(min(most, len(self._present()[0]))) if self.has_groups else listed[:most]
        found: dict[str, Any] = {
            "rows": self.rows,
            "overall": self.overall,
            "balanced": self.balanced if self.has_groups else None,
            "train_weighted": self.train_weighted,
            "why_no_train_weighted": self.why_no_train_weighted or None,
            "log_loss": self.log_loss,
            "ece": self.ece,
            "auroc": self.auroc,
            "worst_group": plain([self.worst_group], intervals)[0] if self.has_groups else None,
            "worst_class": plain([self.worst_class], intervals)[0],
            "worst_curve": self.worst_curve().plain() if self.has_groups else None,
            "groups": len(self.group_names),
            "groups_with_rows": int((self._group_count > 0).sum()),
            "by_group": plain(listed, intervals),
            "by_class": plain(self.by_class, intervals),
            "by_level": {
                name: {
                    "overall": level.overall,
                    "balanced": level.balanced,
                    "worst_class": plain([level.worst_class], intervals)[0],
                    "missing_classes": list(level.missing_classes),
                }
                for name, level in self.by_level.items()
            },
            "by_node": {each.level: each.plain(intervals) for each in self.by_node},
            "missing_groups": list(self.missing_groups[:most]),
            "missing_classes": list(self.missing_classes),
        }
        if intervals is not None:
            how: dict[str, Any] = {"level": intervals, "resamples": resamples, "seed": seed}
            drawn: dict[str, Interval | None] = dict(self.intervals(**how).items())
            drawn.update(self.scores.intervals(**how) if self.scores else {})
            if self.has_groups:
                worst = self.worst_intervals(level=intervals, seed=seed)
                drawn["worst_area"] = worst.area
                found["worst_curve"].update(low=list(worst.low), high=list(worst.high))
            found["intervals"] = {what: asdict(one) if one else None for what, one in drawn.items()}
        return found

    def _present(self, k: int = 1) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The codes of the groups that have rows, and their accuracies."""
        present = np.flatnonzero(self._group_count)
        if not len(present):
            raise RequestError("no row has a known group, so there is nothing to say about groups")
        if not isinstance(k, Integral) or isinstance(k, bool):
            raise RequestError(f"k is a whole number of groups, and not {k!r} of type {type(k).__name__}")
        if not 1 <= k <= len(present):
            raise RequestError(f"k must be between 1 and the {len(present)} groups that have rows, not {k}")
        return present, self._group_correct[present] / self._group_count[present]

    def _whole(self, k: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Right rows and all rows of the groups that have any."""
        present, _ = self._present(k)
        return self._group_correct[present].astype(np.int64), self._group_count[present].astype(np.int64)

    def _train_weights(self) -> NDArray[np.float64] | None:
        """The weight of each stratum in `train_weighted`."""
        if self._train_counts is None or self._train_counts.sum() == 0 or not self.has_groups:
            return None
        if ((self._group_count == 0) & (self._train_counts > 0)).any():
            return None
        return self._spread_over_groups(self._train_counts / self._train_counts.sum())

    def _spread_over_groups(self, of_group: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights of strata whose groups have these weights, shared by rows; unknown groups have none."""
        group = np.maximum(self._stratum_group, 0)
        weights = of_group[group] * self._count / np.maximum(self._group_count[group], 1)
        return np.where(self._stratum_group >= 0, weights, 0.0)


def _at_level(name: str, level: Level, true: NDArray[np.int64], predicted: NDArray[np.int64]) -> GroupReport:
    """Right is what lands in the true class's part of the level; the groups are the level's names."""
    known = level.codes[true]
    if (known < 0).any():
        raise RequestError(f"class code {true[known < 0][0]} has rows and no place at level {name!r}")
    return GroupReport(y_true=known, y_pred=level.codes[predicted], classes=level.names)


def _names(names: Sequence[str] | None, codes: NDArray[np.int64]) -> tuple[str, ...]:
    highest = int(codes.max()) if len(codes) else -1
    if names is None:
        return tuple(str(code) for code in range(highest + 1))
    if highest >= len(names):
        raise RequestError(f"code {highest} has no name; {len(names)} names were given")
    return tuple(names)
