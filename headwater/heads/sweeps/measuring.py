"""Every figure of every head of a sweep: on whole splits, and out of fold where val is in sample or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.heads.measures.many import ManyFigures, measure_many, worst_areas
from headwater.heads.measures.shrunk import shrunk_areas
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

LIKELIHOOD, SHRUNK = "worst_group_likelihood", "worst_area_shrunk"
OF_VAL = (LIKELIHOOD, SHRUNK)
"""More figures of val, for selection where it is small: `calibrated.or_accuracy` of the likelihood, and the
worst-K area of accuracies drawn towards those of parents, see `measures.shrunk`."""

MOST_GROUPS = 200
"""Of more groups the single worst one's likelihood is not asked for, and their accuracies have a table of
their own."""

_AT_ONCE = 256  # heads whose accuracies are shrunk together

MEASURING = 4
"""Raised by whoever changes what a figure comes to or which columns there are, so that none are mixed."""


@dataclass(frozen=True)
class SplitFigures:
    """`figures` has one array (heads,) per name of `FIGURES`, on val `OF_VAL` too.

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
    found = _measured(task, rows, scores, of_val=split == "val")
    order = np.array([place[head] for head in heads])
    return SplitFigures(
        {name: values[order] for name, values in found.figures.items()}, found.by_group[order]
    )


def measure_out_of_fold(task: Task, folds: Folds, heads: Sequence[Sequence[LinearHead]]) -> SplitFigures:
    """Figures on val, or without it on train, of rows judged by the head whose training they were not in.

    `heads[f]` are the heads trained without fold f, one per candidate and seed. Figures are means over the
    repeats, accuracies by group first: the worst group is the one whose mean is lowest.
    """
    val = task.plain(folds.split)
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

    repeats = [_measured(task, val, scores(repeat), of_val=True) for repeat in range(folds.repeats)]
    figures = {name: np.mean([each.figures[name] for each in repeats], axis=0) for name in repeats[0].figures}
    by_group = np.mean([each.by_group for each in repeats], axis=0)
    by_class = np.mean([each.by_class for each in repeats], axis=0)
    figures["worst_group"], figures["worst_class"] = _lowest(by_group), _lowest(by_class)
    figures["worst_area"] = worst_areas(by_group)
    figures[SHRUNK] = _shrunk(task, val, by_group)
    return SplitFigures(figures, by_group)


def _measured(
    task: Task, rows: NDArray[np.int64], scores: Iterable[NDArray[np.float32]], *, of_val: bool
) -> ManyFigures:
    target, groups = task.target[rows], task.groups[rows]
    found: list[NDArray[np.float64]] = []
    step = max(1, SCORES_AT_ONCE // (8 * len(rows) * len(task.classes)))  # in float64, and several copies
    likely = of_val and len(task.group_names) <= MOST_GROUPS

    def passing() -> Iterator[NDArray[np.float32]]:
        for block in scores:
            if likely:
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
    if of_val:
        accuracy = measured.figures["worst_group"]
        measured.figures[LIKELIHOOD] = (
            or_accuracy(np.concatenate(found), accuracy, len(task.classes))
            if likely
            else np.full(len(accuracy), np.nan)
        )
        measured.figures[SHRUNK] = _shrunk(task, rows, measured.by_group)
    return measured


def _shrunk(task: Task, rows: NDArray[np.int64], by_group: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the groups that train or these rows have: of those of test alone nobody knows yet."""
    groups = task.groups[rows]
    count = np.bincount(groups[groups >= 0], minlength=len(task.group_names))
    known = count > 0
    if "train" in task.splits:
        known |= task.group_counts("train") > 0
    parts = (by_group[first : first + _AT_ONCE] for first in range(0, len(by_group), _AT_ONCE))
    return np.concatenate([shrunk_areas(task.tree, known, part, count) for part in parts])


def _lowest(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lowest over the groups that have rows."""
    return np.where(np.isnan(accuracies).all(axis=1), np.nan, np.nanmin(accuracies, axis=1, initial=np.inf))
