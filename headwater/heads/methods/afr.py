"""Automatic feature reweighting: a second head for the rows that the first one is unsure of.

Follows Qiu, Potapczynski, Izmailov, Wilson 2023, "Simple and fast group robustness by automatic feature
reweighting", and its authors' code, with the backbone frozen in both stages.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.dfr import worst_group_accuracies
from headwater.heads.methods.erm import TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, Linspace, Needs, method
from headwater.heads.methods.stages import (
    FIRST_L2_SPACE,
    NotNegatives,
    distance_penalty,
    row_losses,
    split_off,
)
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec, Rows, Weights
from headwater.heads.tasks.task import Task


class AFRSettings(TrainSettings):
    """`gamma` and `strength` (the paper's λ) of one value each are used without tuning.

    The default grids are the paper's for Waterbirds, with every eighth of its 33 gammas; for CelebA it has
    1 to 3 and 0.001, 0.01, 0.1. `l2` is stronger than ERM's: a first head that fits its rows to the last is
    sure of nearly every row, and tells little about which are hard. The authors stop after 500 steps of rate
    0.02; `stopping`, added to `strength`, stands in for that as 1/(rate·steps). `share`: the backbone has
    seen neither part of train when it is frozen, so that more of it can be kept than published.
    """

    l2: float = Field(0.1, ge=0, description="weight decay of the first head, beside the mean loss")
    gamma: NotNegatives = Field(
        (4.0, 8.0, 12.0, 16.0, 20.0),
        description="how much more rows weigh that the first head is unsure of: exp(-gamma·p_y)",
    )
    strength: NotNegatives = Field(
        (0.0, 0.1, 0.2, 0.3), description="penalty on the squared distance to the first head"
    )
    share: float = Field(0.2, gt=0, lt=1, description="the part of train kept for the second head")
    stopping: float = Field(0.1, ge=0, description="penalty that stands in for stopping early; 0: none")

    @property
    def is_tuned(self) -> bool:
        """Whether there is more than one candidate, so that val has to decide."""
        return len(self.gamma) * len(self.strength) > 1


def _needs(settings: AFRSettings) -> Needs:
    return Needs(classes_on=("train",), groups_on=("val",) if settings.is_tuned else (), rows_per_class=2)


def afr_weights(
    confidence: NDArray[np.float64], codes: NDArray[np.int64], gamma: float
) -> NDArray[np.float64]:
    """exp(-gamma·p_y)/n_y for each row: `confidence` p_y (rows,), class `codes` (rows,)."""
    return np.asarray(np.exp(-gamma * (confidence - confidence.min())) / np.bincount(codes)[codes])


@method(
    "AFR",
    settings=AFRSettings,
    needs=_needs,
    paper="Qiu et al. 2023, Simple and fast group robustness by automatic feature reweighting",
    space={
        "gamma": Linspace(4, 20, 33),
        "strength": Among((0.0, 0.1, 0.2, 0.3)),
        "share": Among((0.2, 0.5)),
        "l2": FIRST_L2_SPACE,
    },
)
def afr(task: Task, settings: AFRSettings, random: np.random.Generator) -> Recipe:
    """ERM on most of train, then a head near it on the rest, weighted to where the first is unsure.

    Weights exp(-gamma·p_y)·n_min/n_y, distance to the first head penalised; gamma and the strength are
    chosen by the worst group on val. Unlike the authors' the bias is free, and the second head is solved to
    its optimum.
    """
    train = task.plain("train")
    parts = split_off(train, task.target[train], settings.share, random)
    first, second = (task.with_views(part) for part in parts)
    (anchor,) = yield [train_spec(task, settings, Rows(first))]
    confidence = np.exp(-row_losses(task, anchor, second))
    codes, rows = task.target[second], Rows(second)
    candidates = [(gamma, strength) for gamma in settings.gamma for strength in settings.strength]
    weights = {gamma: Weights(afr_weights(confidence, codes, gamma)) for gamma in settings.gamma}
    heads = yield [
        _second_spec(task, settings, rows, weights[gamma], (anchor, strength))
        for gamma, strength in candidates
    ]
    place, choices = 0, {}
    if settings.is_tuned:
        worst = worst_group_accuracies(task, heads, task.rows("val").index)
        place = int(worst.argmax())
        choices = {"tuning_worst_group": float(worst[place])}
    gamma, strength = candidates[place]
    return Outcome(heads[place], {"gamma": gamma, "strength": strength, **choices})


def _second_spec(
    task: Task, settings: AFRSettings, rows: Rows, weights: Weights, tie: tuple[LinearHead, float]
) -> HeadSpec:
    anchor, strength = tie
    penalty = distance_penalty(2 * strength + settings.stopping, len(task.classes))
    return HeadSpec(
        rows=rows,
        penalty=penalty,
        weights=weights,
        anchor=anchor if penalty.l2 else None,
        scaler_rows=task.rows("train") if settings.standardise else None,
        start=anchor,
        max_iterations=settings.max_iterations,
    )
