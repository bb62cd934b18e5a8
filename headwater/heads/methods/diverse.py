"""Methods that train heads apart on rows without labels and keep the one that a few labels speak for.

For labels that two features explain equally well: train fits every head, and val, whose labels are not read
but for the few asked about, is where they disagree. The backbone is frozen, so that heads share no trunk
that would learn with them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, LogUniform, Needs, method
from headwater.heads.methods.stages import log_softmax
from headwater.heads.specs.coupling import (
    Coupling,
    Independence,
    Repulsion,
    Tie,
    TopDisagreement,
    as_set,
    members_of,
)
from headwater.heads.specs.hashed import Weights
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.specs.spec import HeadSpec
from headwater.heads.tasks.task import Task

_NEEDS = Needs(classes_on=("train",), splits=("val",))
# Starts are drawn this wide, beside features of unit variance, so that the members of a set begin apart.
_SPREAD = 1.0
# A local optimum need not be known to many digits.
_TOLERANCE = 1e-4


class DiverseSettings(TrainSettings):
    """`labels` is how many rows of val have their labels read, to choose between the two heads."""

    labels: int = Field(16, ge=1, description="rows of val whose labels choose the head")
    starts: int = Field(4, ge=1, description="random starts, of which the lowest objective is kept")


class DivDisSettings(DiverseSettings):
    """Published: both strengths 10 on Waterbirds, and 16 labels of the target."""

    strength: float = Field(10.0, ge=0, description="weight of the heads' mutual information on val")
    balance: float = Field(10.0, ge=0, description="weight of the pull to the classes' shares")


class DBATSettings(DiverseSettings):
    """Published: a strength from 0.0001 to 10, tuned by task."""

    strength: float = Field(1.0, ge=0, description="weight of the disagreement on val")


class ACESettings(DiverseSettings):
    """Published: a lower bound on the mix rate is given, not tuned."""

    strength: float = Field(10.0, ge=0, description="weight of the pseudo-label losses")
    mix_rate: float = Field(0.1, gt=0, le=1, description="least share of val on which heads disagree")


@method(
    "DivDis",
    settings=DivDisSettings,
    needs=_NEEDS,
    paper="Lee et al. 2022, Diversify and disambiguate: learning from underspecified data",
    space={"l2": L2_SPACE, "strength": Among((1.0, 10.0, 100.0))},
)
def divdis(task: Task, settings: DivDisSettings, random: np.random.Generator) -> Recipe:
    """Two heads whose predictions on val are independent; a few labels of val choose one."""
    return (yield from _set(task, settings, Independence(settings.strength, settings.balance), random))


@method(
    "ACE",
    settings=ACESettings,
    needs=_NEEDS,
    paper="Daniels et al. 2025, ACE and diverse generalization via selective disagreement",
    space={"l2": L2_SPACE, "mix_rate": Among((0.05, 0.1, 0.25, 0.5))},
)
def ace(task: Task, settings: ACESettings, random: np.random.Generator) -> Recipe:
    """Two heads that disagree for sure on a least share of val; a few labels of val choose one."""
    return (yield from _set(task, settings, TopDisagreement(settings.strength, settings.mix_rate), random))


@method(
    "D-BAT",
    settings=DBATSettings,
    needs=_NEEDS,
    paper="Pagliardini et al. 2023, Agree to disagree: diversity through disagreement",
    space={"l2": L2_SPACE, "strength": LogUniform(1e-4, 10.0)},
)
def dbat(task: Task, settings: DBATSettings, random: np.random.Generator) -> Recipe:
    """A plain head and one that disagrees with it on val; a few labels of val choose one."""
    val = task.rows("val")
    spec = train_spec(task, settings)
    (first,) = yield [spec]
    p = np.exp(log_softmax(task.logits([first], val.index)[0]))
    tie = Repulsion(settings.strength, (Weights(p.ravel()),))
    second = yield _started(task, settings, spec, Coupling(tie, val, 1), random)
    return _chosen(task, settings, [first, _lowest(second)])


def _set(task: Task, settings: DiverseSettings, tie: Tie, random: np.random.Generator) -> Recipe:
    coupling = Coupling(tie, task.rows("val"))
    sets = yield _started(task, settings, train_spec(task, settings), coupling, random)
    return _chosen(task, settings, members_of(_lowest(sets), coupling.members))


def _started(
    task: Task,
    settings: DiverseSettings,
    spec: HeadSpec,
    coupling: Coupling,
    random: np.random.Generator,
) -> list[HeadSpec]:
    """The set once for each of its random starts."""
    shape = (len(task.classes), task.features.shape[1])
    scale = np.ones(shape[1]) if spec.scaler_rows is None else _deviations(task, spec.scaler_rows.index)
    record = Convergence(converged=False, iterations=0, objective=0.0, gradient_norm=0.0)

    def draw() -> LinearHead:
        weight = random.normal(0, _SPREAD, shape) / np.sqrt(shape[1]) / scale
        return LinearHead(weight.astype(np.float32), np.zeros(shape[0], dtype=np.float32), record)

    return [
        dataclasses.replace(
            spec,
            coupling=coupling,
            start=as_set([draw() for _ in range(coupling.members)]),
            tolerance=_TOLERANCE,
        )
        for _ in range(settings.starts)
    ]


def _deviations(task: Task, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """About the standard deviation of every feature, from some of the rows; only random starts need it."""
    some = rows[:: max(1, len(rows) // 1024)]
    spread = np.asarray(task.features[some], dtype=np.float64).std(axis=0)
    return np.asarray(np.maximum(spread, 1e-6), dtype=np.float64)


def _lowest(sets: list[LinearHead]) -> LinearHead:
    return min(sets, key=lambda each: each.convergence.objective)


def _chosen(task: Task, settings: DiverseSettings, heads: list[LinearHead]) -> Outcome:
    """The head that is right most often on the rows of val where their probabilities differ most.

    Among equals the first. Differences are summed over classes, as DivDis does.
    """
    val = task.rows("val").index
    one, other = (np.exp(log_softmax(z)) for z in task.logits(heads, val))
    asked = np.argsort(-np.abs(one - other).sum(1), kind="stable")[: settings.labels]
    right = [int((p[asked].argmax(1) == task.target[val[asked]]).sum()) for p in (one, other)]
    best = int(np.argmax(right))
    return Outcome(heads[best], {"head": best + 1, "right": right[best], "asked": len(asked)})
