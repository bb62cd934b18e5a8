"""Cross-fitting: a task's val cut into folds, so that a method that reads val is judged by rows it never saw.

Where there is no val at all, train is cut instead, and every method is judged so.

What is done with the figures is `selection`'s business.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.heads.tasks.task import Task

# Where the smallest group of val has fewer rows, every row that is held out is missed in training, and an
# accuracy moves by more than a point a row: there are more folds then, drawn anew a few times over.
SMALL = 100
_FOLDS, _FOLDS_OF_SMALL, _MOST_REPEATS = 3, 5, 4


@dataclass(frozen=True)
class Fold:
    """`held_out` are places in the rows of the split that is cut; `task` has only the rest of it."""

    repeat: int
    held_out: NDArray[np.int64]
    task: Task


@dataclass(frozen=True)
class Folds:
    """Every repeat's folds; together the folds of a repeat hold out each row of `split` once."""

    folds: tuple[Fold, ...]
    per_repeat: int
    repeats: int
    obstacle: str = ""
    split: str = "val"

    @property
    def of_train(self) -> bool:
        """Whether train is cut, for want of a val, so that the folds judge all methods."""
        return self.split == "train" and bool(self.folds)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks to train on, one per fold."""
        return tuple(fold.task for fold in self.folds)

    def check(self, method: str) -> None:
        """RequestError when val cannot be cut, so that a method that reads it could not be judged."""
        if self.obstacle:
            raise RequestError(f"{method} reads val, and {self.obstacle}")


def cross_fits(task: Task, *, folds: int | None = None, seed: int = 0) -> Folds:
    """Cut val into `folds` parts, in each of which every group has its share.

    Never more folds than the smallest group has rows, so that the rest of val holds every group. None: 3, or
    5 where the smallest group has fewer than 100 rows. There val is cut anew, up to four times in all, until
    about 100 judgements stand behind every group's accuracy. Where val cannot be cut, there are no folds and
    the reason is said. Without a val train is cut, once, into 3 parts unless `folds` says otherwise: there a
    group of a single row is judged by heads that never saw it. RequestError for fewer than 2 folds.
    """
    if folds is not None and folds < 2:
        raise RequestError(f"val is cut into at least 2 folds, not {folds}")
    if "val" not in task.splits:
        return _of_train(task, folds or _FOLDS, seed)
    val = task.rows("val").index
    strata = _strata(task, val)
    smallest = int(np.bincount(strata).min())
    if smallest < 2:
        return Folds((), 0, 0, "a group has a single row there, which cannot be both trained on and held out")
    folds = min(folds or (_FOLDS if smallest >= SMALL else _FOLDS_OF_SMALL), smallest)
    repeats = min(_MOST_REPEATS, math.ceil(SMALL / smallest))
    random = np.random.default_rng(seed)
    made = []
    for repeat in range(repeats):
        part = _assigned(strata, folds, random)
        for number in range(folds):
            held_out = np.flatnonzero(part == number)
            splits = {**task.splits, "val": val[part != number]}
            made.append(Fold(repeat, held_out, dataclasses.replace(task, splits=splits)))
    return Folds(tuple(made), folds, repeats)


def _of_train(task: Task, folds: int, seed: int) -> Folds:
    without = "there are no rows in split 'val'"
    if "train" not in task.splits:
        return Folds((), 0, 0, without, "train")
    images = task.plain("train")
    if task.class_counts("train")[task.class_counts("train") > 0].min() < 2:
        return Folds((), 0, 0, f"{without}, and a class has a single row in train", "train")
    part = _assigned(_strata(task, images), folds, np.random.default_rng(seed))
    made = []
    for number in range(folds):
        splits = {**task.splits, "train": task.with_views(images[part != number])}
        rest = dataclasses.replace(task, splits=splits, groups_may_lack_rows=True)
        made.append(Fold(0, np.flatnonzero(part == number), rest))
    return Folds(tuple(made), folds, 1, without, "train")


def _strata(task: Task, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A code for each row's class and group; a group is a part of a class, but may be unknown."""
    pairs = np.stack([task.target[rows], task.groups[rows]])
    return np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1)


def _assigned(strata: NDArray[np.int64], folds: int, random: np.random.Generator) -> NDArray[np.int64]:
    """The fold of each row: every stratum dealt out in turns, each going on where the one before stopped."""
    order = random.permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    part = np.empty(len(strata), dtype=np.int64)
    part[order] = np.arange(len(strata)) % folds
    return part
