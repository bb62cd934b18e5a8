"""Just train twice: a second head for which the first one's errors on train count many times."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import LogUniform, Needs, method
from headwater.heads.methods.stages import IDENTIFICATION_L2_SPACE, early_spec
from headwater.heads.specs.spec import Weights
from headwater.heads.tasks.task import Task


class JTTSettings(TrainSettings):
    """Published: errors count 100 times on Waterbirds, 50 on CelebA, out of 20, 50, 100.

    `identification_l2`: the published weight decay for Waterbirds, in whose 60 epochs of rate 1e-5 the first
    network hardly leaves its start; the heads here are solved, and the penalty alone holds them back.
    """

    upweight: float = Field(100.0, gt=0, description="how many times an error of the first head counts")
    identification_l2: float = Field(
        1.0, ge=0, description="weight decay of the first head; stands in for stopping it early"
    )


@method(
    "JTT",
    settings=JTTSettings,
    needs=Needs(classes_on=("train",)),
    paper="Liu et al. 2021, Just train twice: improving group robustness without training group information",
    space={
        "upweight": LogUniform(1.0, 300.0),
        "identification_l2": IDENTIFICATION_L2_SPACE,
        "l2": L2_SPACE,
    },
)
def jtt(task: Task, settings: JTTSettings, random: np.random.Generator) -> Recipe:
    """Two heads on train: for the second, the errors of the first count many times (last-layer form)."""
    train = task.rows("train").index
    (first,) = yield [early_spec(task, settings, settings.identification_l2)]
    wrong = task.predict([first], train)[0] != task.target[train]
    weights = Weights(np.where(wrong, settings.upweight, 1.0))
    (head,) = yield [train_spec(task, settings, weights=weights)]
    return Outcome(head, {"errors": int(wrong.sum())})
