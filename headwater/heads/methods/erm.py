"""Empirical risk minimisation: the plain head that every other method is compared with."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import LogUniform, Needs, Settings, method
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows, Weights
from headwater.heads.tasks.task import Task


class TrainSettings(Settings):
    """Settings of methods that train one head on the train split.

    `l2` is what weight decay is to SGD: l2/2·‖W‖² beside the mean loss, on standardised features. The default
    is the weight decay of the DFR and GroupDRO papers' Waterbirds runs; where a method is to be tuned, draw
    `l2` from its search space (BalancingGroups tunes 1e-4 to 1) and choose by the worst group on val.
    """

    l2: float = Field(1e-3, ge=0, description="weight decay, beside the mean loss")
    standardise: bool = Field(True, description="train on features of mean 0 and deviation 1 over train")


L2_SPACE = LogUniform(1e-5, 10.0)


def train_spec(
    task: Task, settings: TrainSettings, rows: Rows | None = None, weights: Weights | None = None
) -> HeadSpec:
    """One head on `rows` of train (default: all), standardised over all of train."""
    train = task.rows("train")
    return HeadSpec(
        rows=train if rows is None else rows,
        penalty=Penalty(l2=settings.l2),
        weights=weights,
        scaler_rows=train if settings.standardise else None,
        max_iterations=settings.max_iterations,
    )


@method(
    "ERM",
    settings=TrainSettings,
    needs=Needs(classes_on=("train",)),
    paper="Vapnik 1991, Principles of risk minimization for learning theory",
    space={"l2": L2_SPACE},
)
def erm(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
    """Logistic regression on train, every row the same."""
    (head,) = yield [train_spec(task, settings)]
    return Outcome(head)
