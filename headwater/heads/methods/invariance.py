"""Methods that penalise how a head differs between domains; one head on train.

Published for whole networks, whose features the penalties shape; here they shape the logits of a last layer.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.distance import pdist

from headwater.heads.methods.domains import domains, invariant_spec
from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import LogUniform, Needs, method
from headwater.heads.specs.criterion import MOST_COMPARED, Invariance
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import Codes
from headwater.heads.tasks.task import Task

_SAMPLE = 512  # rows whose distances say what is near
_NEEDS = Needs(groups_on=("train",), domains=2)


class IRMSettings(TrainSettings):
    """`strength` as in DomainBed and SubpopBench, which draw it from 0.1 to 100,000."""

    strength: float = Field(100.0, ge=0, description="weight of the penalty, beside the mean loss")


class MatchingSettings(TrainSettings):
    """`strength` as in DomainBed and SubpopBench, which draw it from 0.1 to 10."""

    strength: float = Field(1.0, ge=0, description="weight of the penalty, beside the mean loss")


def _recipe(
    task: Task, settings: IRMSettings | MatchingSettings, kind: Literal["irm", "coral", "mmd"]
) -> Recipe:
    """A plain head, and from it the penalised one."""
    spec = train_spec(task, settings)
    groups = Codes(domains(task, spec.rows.index))
    (start,) = yield [spec]
    width = _near(task, start, spec.rows.index) if kind == "mmd" else 1.0
    penalty = Invariance(kind, groups, settings.strength, width)
    (head,) = yield [dataclasses.replace(invariant_spec(spec, penalty), start=start)]
    return Outcome(head)


def _near(task: Task, head: LinearHead, rows: NDArray[np.int64]) -> float:
    """The median squared distance between rows' logits, for the kernels' width (Gretton et al. 2012)."""
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(np.int64)]
    logits = task.logits([head], some)[0].astype(np.float64)
    return max(float(np.median(pdist(logits - logits.mean(1, keepdims=True), "sqeuclidean"))), 1e-12)


@method(
    "IRM",
    settings=IRMSettings,
    needs=_NEEDS,
    paper="Arjovsky et al. 2019, Invariant risk minimization",
    space={"strength": LogUniform(0.1, 1e5), "l2": L2_SPACE},
)
def irm(task: Task, settings: IRMSettings, random: np.random.Generator) -> Recipe:
    """No factor on the logits may improve the loss of any one domain (IRMv1, last-layer form).

    Not convex: the head is a local optimum, reached from ERM's head, which is what annealing the penalty
    comes to.
    """
    return (yield from _recipe(task, settings, "irm"))


@method(
    "CORAL",
    settings=MatchingSettings,
    needs=_NEEDS,
    paper="Sun & Saenko 2016, Deep CORAL: Correlation alignment for deep domain adaptation",
    space={"strength": LogUniform(0.1, 10.0), "l2": L2_SPACE},
)
def coral(task: Task, settings: MatchingSettings, random: np.random.Generator) -> Recipe:
    """Domains alike in the mean and covariance of their logits (last-layer form).

    Not convex: the head is a local optimum, reached from ERM's head.
    """
    return (yield from _recipe(task, settings, "coral"))


@method(
    "MMD",
    settings=MatchingSettings,
    needs=dataclasses.replace(_NEEDS, most_domains=MOST_COMPARED),
    paper="Li et al. 2018, Domain generalization with adversarial feature learning",
    space={"strength": LogUniform(0.1, 10.0), "l2": LogUniform(1e-2, 10.0)},
)
def mmd(task: Task, settings: MatchingSettings, random: np.random.Generator) -> Recipe:
    """Domains alike in the distribution of their logits, by Gaussian kernels (last-layer form).

    Not convex: the head is a local optimum, reached from ERM's head. Its search leaves out the weakest
    penalties, under which logits are so large that the kernels see single rows.
    """
    return (yield from _recipe(task, settings, "mmd"))
