"""Classifier retraining: the second stage of decoupled training, a fresh head with classes balanced.

The first stage trains the backbone and is not offered here; on frozen features the second stage is all of it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Needs, method
from headwater.heads.methods.reweighting import inverse_counts
from headwater.heads.specs.spec import Weights
from headwater.heads.tasks.task import Task

_PAPER = "Kang et al. 2020, Decoupling representation and classifier for long-tailed recognition"


class CRTSettings(TrainSettings):
    """Published: 10 epochs."""

    epochs: int = Field(10, ge=1, description="how many times as many rows are sampled as train has")


@method(
    "CRT",
    settings=CRTSettings,
    needs=Needs(classes_on=("train",)),
    paper=_PAPER,
    space={"l2": L2_SPACE},
)
def crt(task: Task, settings: CRTSettings, random: np.random.Generator) -> Recipe:
    """Retraining on a class-balanced sample of train, drawn with replacement by the seed.

    All epochs' draws at once: a row weighs as often as it was drawn. The more epochs, the nearer to RWY,
    whose weights are what the draws are on average.
    """
    train = task.rows("train").index
    chance = inverse_counts(task.target[train]).values
    drawn = random.multinomial(settings.epochs * len(train), chance / chance.sum())
    (head,) = yield [train_spec(task, settings, weights=Weights(drawn))]
    return Outcome(head)


@method(
    "ReWeightCRT",
    settings=TrainSettings,
    needs=Needs(classes_on=("train",)),
    paper=_PAPER,
    space={"l2": L2_SPACE},
)
def reweight_crt(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
    """Retraining with weights 1/n_class; for a head on frozen features that is RWY, trained only once."""
    weights = inverse_counts(task.target[task.rows("train").index])
    (head,) = yield [train_spec(task, settings, weights=weights)]
    return Outcome(head)
