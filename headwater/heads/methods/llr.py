"""Last-layer retraining: a plain head on val, which the backbone was not trained on, balanced by weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.erm import L2_SPACE, TrainSettings
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, Needs, Space, method
from headwater.heads.methods.reweighting import inverse_counts
from headwater.heads.methods.stages import split_off
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows
from headwater.heads.tasks.task import Task

_PAPER = "LaBonte et al. 2023, Towards last-layer retraining for group robustness with fewer annotations"
_SPACE: dict[str, Space] = {"l2": L2_SPACE, "share": Among((0.5, 1.0))}


class LLRSettings(TrainSettings):
    """The authors retrain on half of val because the other half chooses; 1 uses all of it."""

    share: float = Field(1.0, gt=0, le=1, description="the part of val that the head is trained on")


@method(
    "LLR-class", settings=LLRSettings, needs=Needs(classes_on=("train", "val")), paper=_PAPER, space=_SPACE
)
def llr_class(task: Task, settings: LLRSettings, random: np.random.Generator) -> Recipe:
    """A head retrained on val, every class with the same total weight."""
    (head,) = yield [_spec(task, settings, task.target, random)]
    return Outcome(head)


@method(
    "LLR-group",
    settings=LLRSettings,
    needs=Needs(splits=("train",), groups_on=("val",)),
    paper=_PAPER,
    space=_SPACE,
)
def llr_group(task: Task, settings: LLRSettings, random: np.random.Generator) -> Recipe:
    """A head retrained on val, every group with the same total weight."""
    (head,) = yield [_spec(task, settings, task.groups, random)]
    return Outcome(head)


def _spec(
    task: Task, settings: LLRSettings, codes: NDArray[np.int64], random: np.random.Generator
) -> HeadSpec:
    val = task.rows("val").index
    _, held_out = split_off(val, codes[val], settings.share, random)
    return HeadSpec(
        rows=Rows(held_out),
        penalty=Penalty(l2=settings.l2),
        weights=inverse_counts(codes[held_out]),
        scaler_rows=task.rows("train") if settings.standardise else None,
        max_iterations=settings.max_iterations,
    )
