"""Learning from failure: a head that trusts the easy rows tells another one which rows are hard."""

from __future__ import annotations

import dataclasses

import numpy as np
from pydantic import Field

from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Needs, Uniform, method
from headwater.heads.methods.stages import IDENTIFICATION_L2_SPACE, early_spec, row_losses
from headwater.heads.specs.criterion import GeneralizedCrossEntropy
from headwater.heads.specs.spec import Weights
from headwater.heads.tasks.task import Task

_SETTLED = 1e-3  # change of the weights, on average, below which another round would change nothing
_TINY = 1e-12  # so that a row that both heads have learned to the last bit has a weight


class LfFSettings(TrainSettings):
    """Published: q 0.7; the two networks are trained side by side, step by step, with the same weight decay.

    A head that is solved for learns the hard rows too unless something holds it back, which early steps of
    training do for a network: hence `biased_l2` is the stronger.
    """

    q: float = Field(0.7, gt=0, le=1, description="of the biased head's loss (1-p^q)/q; to 0: cross-entropy")
    biased_l2: float = Field(
        0.1, ge=0, description="weight decay of the biased head; stands in for stopping it early"
    )
    rounds: int = Field(5, ge=1, description="times the weights are computed anew, unless they settle")


@method(
    "LfF",
    settings=LfFSettings,
    needs=Needs(classes_on=("train",)),
    paper="Nam et al. 2020, Learning from failure: training debiased classifier from biased classifier",
    space={"q": Uniform(0.05, 0.95), "biased_l2": IDENTIFICATION_L2_SPACE, "l2": L2_SPACE},
)
def lff(task: Task, settings: LfFSettings, random: np.random.Generator) -> Recipe:
    """Rows weighted by how much harder a biased head finds them: b/(b + d) (last-layer form).

    The biased head minimises the generalised cross-entropy, which hardly heeds rows it gets wrong. b is its
    cross-entropy of a row, d that of the head being trained, which starts as ERM; weights and head take turns
    until the weights settle.
    """
    train = task.rows("train").index
    plain = train_spec(task, settings)
    biased_spec = dataclasses.replace(
        early_spec(task, settings, settings.biased_l2), loss=GeneralizedCrossEntropy(settings.q)
    )
    biased, head = yield [biased_spec, plain]
    biased_losses = row_losses(task, biased, train)
    weights = np.ones(len(train))
    number, settled = 0, False
    while number < settings.rounds and not settled:
        losses = row_losses(task, head, train)
        before, weights = weights, (biased_losses + _TINY) / (biased_losses + losses + 2 * _TINY)
        (head,) = yield [dataclasses.replace(plain, weights=Weights(weights), start=head)]
        number, settled = number + 1, bool(np.abs(weights - before).mean() < _SETTLED)
    return Outcome(head, {"rounds": number, "settled": settled})
