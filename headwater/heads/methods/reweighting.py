"""Methods that weight every train row by how rare its group or class is."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, Needs, method
from headwater.heads.specs.spec import Weights
from headwater.heads.tasks.task import Task

_PAPER = "Idrissi et al. 2022, Simple data balancing achieves competitive worst-group-accuracy"


class ByCountSettings(TrainSettings):
    """`by` group is what SubpopBench does where groups are known, and it falls back to classes."""

    by: Literal["class", "group"] = Field("class", description="whose rows are counted: class or group")


class CBLossSettings(ByCountSettings):
    """The paper searches β in 0.9, 0.99, 0.999, 0.9999."""

    beta: float = Field(0.9999, ge=0, lt=1, description="0: all rows weigh the same; to 1: as 1/n")


def inverse_counts(codes: NDArray[np.int64]) -> Weights:
    """Weights 1/n of each row's code, so that every code has the same total."""
    counts = np.bincount(codes)
    return Weights(1.0 / counts[codes])


def _counts(task: Task, settings: ByCountSettings) -> NDArray[np.int64]:
    """How many images of train each row's class or group has, shape (rows of train,)."""
    by_class = settings.by == "class"
    counts = task.class_counts("train") if by_class else task.group_counts("train")
    return counts[(task.target if by_class else task.groups)[task.rows("train").index]]


def _by_count_needs(settings: ByCountSettings) -> Needs:
    return Needs(classes_on=("train",)) if settings.by == "class" else Needs(groups_on=("train",))


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
    "SqrtReWeight",
    settings=ByCountSettings,
    needs=_by_count_needs,
    paper="Yang et al. 2023, Change is hard: a closer look at subpopulation shift",
    space={"l2": L2_SPACE},
)
def sqrt_reweight(task: Task, settings: ByCountSettings, random: np.random.Generator) -> Recipe:
    """Reweighting, half-way: 1/√n_class a row."""
    counts = _counts(task, settings)
    (head,) = yield [train_spec(task, settings, weights=Weights(1.0 / np.sqrt(counts)))]
    return Outcome(head)


@method(
    "CBLoss",
    settings=CBLossSettings,
    needs=_by_count_needs,
    paper="Cui et al. 2019, Class-balanced loss based on effective number of samples",
    space={"beta": Among((0.9, 0.99, 0.999, 0.9999)), "l2": L2_SPACE},
)
def cb_loss(task: Task, settings: CBLossSettings, random: np.random.Generator) -> Recipe:
    """Reweighting by the effective number of rows: (1-β)/(1-β^n_class) a row."""
    counts = _counts(task, settings)
    with np.errstate(divide="ignore"):  # β 0: log 0 is -∞, and the effective number 1, as it should be
        effective = -np.expm1(counts * np.log(settings.beta)) / (1 - settings.beta)
    (head,) = yield [train_spec(task, settings, weights=Weights(1.0 / effective))]
    return Outcome(head)
