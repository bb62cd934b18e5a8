"""Distributionally robust methods: the worst group, the worst share of rows, the worst weighting in a ball.

They are published as training loops for whole networks. Here they are their last-layer form, on fixed
features, and end at the minimum of their criterion, to a known gap, instead of where a loop stops.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, LogUniform, Needs, method
from headwater.heads.specs.criterion import ChiSquare, CVaR, GroupRisk, Risk
from headwater.heads.specs.spec import Codes, HeadSpec
from headwater.heads.tasks.task import Task

ADJUSTMENT_SPACE = Among((0.0, 1.0, 2.0, 3.0, 4.0, 5.0))
# A worst case is solved to this gap between primal and dual, relative. It is a bound, so that most heads are
# closer.
TOLERANCE = 1e-3


class GroupDROSettings(TrainSettings):
    """The penalty is the strong one with which the paper trains on Waterbirds; it tries C from 0 to 5."""

    l2: float = Field(1.0, ge=0, description="weight decay, beside the worst group's mean loss")
    adjustment: float = Field(0.0, ge=0, description="C: a group's loss is raised by C/√n")


class CVaRSettings(TrainSettings):
    """SubpopBench's default share and the space it draws from."""

    share: float = Field(0.1, gt=0, le=1, description="the share of rows, the worst, whose loss counts")


class ChiSquareSettings(TrainSettings):
    """The radius with which Levy et al. experiment."""

    radius: float = Field(1.0, gt=0, description="how far weights may be from equal, in χ² divergence")


def robust_spec(task: Task, settings: TrainSettings, risk: Risk) -> HeadSpec:
    """One head on all of train that minimises `risk`."""
    return dataclasses.replace(train_spec(task, settings), risk=risk, tolerance=TOLERANCE)


def group_risk(groups: NDArray[np.int64], adjustment: float) -> GroupRisk:
    """The worst group with `adjustment`/√n added to the losses; `groups` has a code per row, gaps allowed."""
    _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return GroupRisk(Codes(codes), tuple((adjustment / np.sqrt(counts)).tolist()))


@method(
    "GroupDRO",
    settings=GroupDROSettings,
    needs=Needs(groups_on=("train",)),
    paper="Sagawa et al. 2020, Distributionally robust neural networks for group shifts",
    space={"l2": L2_SPACE, "adjustment": ADJUSTMENT_SPACE},
)
def group_dro(task: Task, settings: GroupDROSettings, random: np.random.Generator) -> Recipe:
    """Minimises the loss of the worst group, with more weight on small groups by C/√n (last-layer form).

    It ends at the minimum of max_g (mean loss + C/√n_g) + penalty.
    """
    groups = task.groups[task.rows("train").index]
    adjustment = settings.adjustment * np.sqrt(task.views + 1)  # n counts images
    (head,) = yield [robust_spec(task, settings, group_risk(groups, adjustment))]
    return Outcome(head)


@method(
    "CVaR-DRO",
    settings=CVaRSettings,
    needs=Needs(classes_on=("train",)),
    paper="Duchi & Namkoong 2021, Learning models with uniform performance via distributionally robust "
    "optimization; Levy et al. 2020, Large-scale methods for distributionally robust optimization",
    space={"share": LogUniform(0.01, 1.0), "l2": L2_SPACE},
)
def cvar_dro(task: Task, settings: CVaRSettings, random: np.random.Generator) -> Recipe:
    """Minimises the mean loss of the worst share of rows, the last in part (last-layer form).

    It ends at the minimum over all of train instead of the worst of each batch.
    """
    (head,) = yield [robust_spec(task, settings, CVaR(settings.share))]
    return Outcome(head)


@method(
    "Chi2-DRO",
    settings=ChiSquareSettings,
    needs=Needs(classes_on=("train",)),
    paper="Levy et al. 2020, Large-scale methods for distributionally robust optimization",
    space={"radius": LogUniform(0.01, 10.0), "l2": L2_SPACE},
)
def chi_square_dro(task: Task, settings: ChiSquareSettings, random: np.random.Generator) -> Recipe:
    """Minimises the loss under the worst row weights within a χ² ball (last-layer form).

    It ends at the minimum over all of train instead of the worst of each batch.
    """
    (head,) = yield [robust_spec(task, settings, ChiSquare(settings.radius))]
    return Outcome(head)
