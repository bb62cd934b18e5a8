"""Every figure of every head of a sweep: on whole splits, and out of fold on val for methods that read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.heads.measures.many import ManyFigures, measure_many, worst_areas
from headwater.heads.specs.head import LinearHead
from headwater.heads.sweeps.calibrated import or_accuracy, worst_group_likelihood
from headwater.heads.sweeps.folds import Folds
from headwater.heads.tasks.task import SCORES_AT_ONCE, Task

FIGURES = (
    "worst_group",
    "worst_area",
    "overall",
    "balanced",
    "train_weighted",
    "worst_class",
    "log_loss",
    "ece",
    "auroc",
)
"""The names of the figures of a split, in the order of a sweep's table."""

LIKELIHOOD = "worst_group_likelihood"
"""One more figure of val, for selection where it is small: `calibrated.or_accuracy` of the likelihood."""

MEASURING = 4
"""Raised by whoever changes what a figure comes to or which columns there are, so that none are mixed."""


@dataclass(frozen=True)
class SplitFigures:
    """`figures` has one array (heads,) per name of `FIGURES`, on val `LIKELIHOOD` too.

    `by_group` (heads, groups) are accuracies.
    """

    figures: dict[str, NDArray[np.float64]]
    by_group: NDArray[np.float64]


def measure_split(task: Task, heads: Sequence[LinearHead], split: str) -> SplitFigures:
    """Figures of heads on a whole split; equal heads are measured once, and scores are held in blocks."""
    distinct = list(dict.fromkeys(heads))
    place = {head: number for number, head in enumerate(distinct)}
    rows = task.plain(split)
    step = max(1, SCORES_AT_ONCE // (len(rows) * len(task.classes)))
    scores = (task.logits(distinct[first : first + step], rows) for first in range(0, len(distinct), step))
    found = _measured(task, rows, scores, likelihood=split == "val")
    order = np.array([place[head] for head in heads])
    return SplitFigures(
        {name: values[order] for name, values in found.figures.items()}, found.by_group[order]
    )


def measure_out_of_fold(task: Task, folds: Folds, heads: Sequence[Sequence[LinearHead]]) -> SplitFigures:
    """Figures on val where every row is judged by the head whose training it was held out of.

    `heads[f]` are the heads trained without fold f, one per candidate and seed. Figures are means over the
    repeats, accuracies by group first: the worst group is the one whose mean is lowest.
    """
    val = task.rows("val").index
    count, classes = len(heads[0]), len(task.classes)
    step = max(1, SCORES_AT_ONCE // (len(val) * classes))

    def scores(repeat: int) -> Iterator[NDArray[np.float32]]:
        for first in range(0, count, step):
            joined = np.empty((min(step, count - first), len(val), classes), dtype=np.float32)
            for fold, mine in zip(folds.folds, heads, strict=True):
                if fold.repeat == repeat:
                    part = mine[first : first + step]
                    joined[:, fold.held_out] = task.logits(part, val[fold.held_out])
            yield joined

    repeats = [_measured(task, val, scores(repeat), likelihood=True) for repeat in range(folds.repeats)]
    figures = {name: np.mean([each.figures[name] for each in repeats], axis=0) for name in repeats[0].figures}
    by_group = np.mean([each.by_group for each in repeats], axis=0)
    by_class = np.mean([each.by_class for each in repeats], axis=0)
    figures["worst_group"], figures["worst_class"] = _lowest(by_group), _lowest(by_class)
    figures["worst_area"] = worst_areas(by_group)
    return SplitFigures(figures, by_group)


def _measured(
    task: Task, rows: NDArray[np.int64], scores: Iterable[NDArray[np.float32]], *, likelihood: bool
) -> ManyFigures:
    target, groups = task.target[rows], task.groups[rows]
    found: list[NDArray[np.float64]] = []
    step = max(1, SCORES_AT_ONCE // (8 * len(rows) * len(task.classes)))  # in float64, and several copies

    def passing() -> Iterator[NDArray[np.float32]]:
        for block in scores:
            if likelihood:
                parts = (block[first : first + step] for first in range(0, len(block), step))
                found.extend(worst_group_likelihood(part, target, groups) for part in parts)
            yield block

    measured = measure_many(
        target,
        passing(),
        groups=groups,
        n_groups=len(task.group_names),
        train_counts=task.group_counts("train") if "train" in task.splits else None,
    )
    if likelihood:
        accuracy = measured.figures["worst_group"]
        measured.figures[LIKELIHOOD] = or_accuracy(np.concatenate(found), accuracy, len(task.classes))
    return measured


def _lowest(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lowest over the groups that have rows."""
    return np.where(np.isnan(accuracies).all(axis=1), np.nan, np.nanmin(accuracies, axis=1, initial=np.inf))
