"""Methods that throw rows of train away until every group or class is as large as the smallest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Needs, method
from headwater.heads.specs.spec import Rows
from headwater.heads.tasks.task import Task

_PAPER = "Idrissi et al. 2022, Simple data balancing achieves competitive worst-group-accuracy"


def balanced_subset(rows: NDArray[np.int64], codes: NDArray[np.int64], random: np.random.Generator) -> Rows:
    """`rows` of which every code (one per row) keeps as many, drawn without replacement, as the rarest has.

    Codes that none of the rows has do not count. The rows come out in ascending order.
    """
    _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    shuffled = random.permutation(len(rows))
    by_code = shuffled[np.argsort(inverse[shuffled], kind="stable")]  # grouped by code, shuffled within
    place_in_code = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Rows(np.sort(rows[by_code[place_in_code < counts.min()]]))


@method(
    "SUBG",
    settings=TrainSettings,
    needs=Needs(groups_on=("train",)),
    paper=_PAPER,
    space={"l2": L2_SPACE},
)
def subg(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
    """Subsampling: every group keeps as many train rows as the smallest has."""
    train = task.rows("train").index
    (head,) = yield [train_spec(task, settings, balanced_subset(train, task.groups[train], random))]
    return Outcome(head)


@method(
    "SUBY",
    settings=TrainSettings,
    needs=Needs(classes_on=("train",)),
    paper=_PAPER,
    space={"l2": L2_SPACE},
)
def suby(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
    """Subsampling: every class keeps as many train rows as the smallest has."""
    train = task.rows("train").index
    (head,) = yield [train_spec(task, settings, balanced_subset(train, task.target[train], random))]
    return Outcome(head)
