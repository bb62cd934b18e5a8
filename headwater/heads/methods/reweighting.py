"""Methods that weight every train row by how rare its group or class is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.registry import Needs, method
from headwater.heads.recipes import Outcome, Recipe
from headwater.heads.spec import Weights
from headwater.heads.task import Task

_PAPER = "Idrissi et al. 2022, Simple data balancing achieves competitive worst-group-accuracy"


def inverse_counts(codes: NDArray[np.int64]) -> Weights:
    """Weights 1/n of each row's code, so that every code has the same total."""
    counts = np.bincount(codes)
    return Weights(1.0 / counts[codes])


@method(
    "RWY",
    settings=TrainSettings,
    needs=Needs(classes_on=("train",)),
    paper=_PAPER,
    space={"l2": L2_SPACE},
)
def rwy(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
    """Reweighting: every class has the same total weight, 1/n_class a row."""
    weights = inverse_counts(task.target[task.rows("train").index])
    (head,) = yield [train_spec(task, settings, weights=weights)]
    return Outcome(head)


@method(
    "RWG",
    settings=TrainSettings,
    needs=Needs(groups_on=("train",)),
    paper=_PAPER,
    space={"l2": L2_SPACE},
)
def rwg(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
    """Reweighting: every group has the same total weight, 1/n_group a row."""
    weights = inverse_counts(task.groups[task.rows("train").index])
    (head,) = yield [train_spec(task, settings, weights=weights)]
    return Outcome(head)
