"""Environment inference for invariant learning: groups that show what a plain head gets wrong about scale.

Follows Creager, Jacobsen, Zemel 2021, "Environment inference for invariant learning", and its authors' code.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.domains import invariant_spec
from headwater.heads.methods.dro import ADJUSTMENT_SPACE, group_risk, robust_spec
from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Needs, method
from headwater.heads.methods.stages import IDENTIFICATION_L2_SPACE, early_spec
from headwater.heads.specs.criterion import Invariance
from headwater.heads.specs.spec import Codes
from headwater.heads.tasks.task import Task


class EIILSettings(TrainSettings):
    """The paper trains with GroupDRO on Waterbirds and with IRM, strength 10,000, on coloured digits."""

    reference_l2: float = Field(
        1.0, ge=0, description="weight decay of the first head; stands in for stopping it early"
    )
    learner: Literal["GroupDRO", "IRM"] = Field("GroupDRO", description="what trains on the groups found")
    adjustment: float = Field(0.0, ge=0, description="GroupDRO's C: a group's loss is raised by C/√n")
    strength: float = Field(10_000.0, ge=0, description="IRM's penalty between the environments")


@method(
    "EIIL",
    settings=EIILSettings,
    needs=Needs(classes_on=("train",)),
    paper="Creager et al. 2021, Environment inference for invariant learning",
    space={
        "reference_l2": IDENTIFICATION_L2_SPACE,
        "adjustment": ADJUSTMENT_SPACE,
        "l2": L2_SPACE,
    },
)
def eiil(task: Task, settings: EIILSettings, random: np.random.Generator) -> Recipe:
    """Two environments by a plain head's IRM penalty, then robust training between them (last-layer form).

    GroupDRO's groups are class by environment; IRM works between the two environments.
    """
    train = task.rows("train").index
    (reference,) = yield [early_spec(task, settings, settings.reference_l2)]
    environment = environments(task.logits([reference], train)[0], task.target[train])
    if settings.learner == "IRM":
        codes = Codes(np.unique(environment, return_inverse=True)[1])
        penalty = Invariance("irm", codes, settings.strength)
        spec = invariant_spec(train_spec(task, settings), penalty)
    else:
        groups = 2 * task.target[train] + environment
        spec = robust_spec(task, settings, group_risk(groups, settings.adjustment))
    (head,) = yield [spec]
    return Outcome(head, {"second_environment": int(environment.sum())})


def environments(logits: NDArray[np.floating], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 or 1 for each row: the assignment whose IRM penalty is the largest; `logits` (rows, classes).

    The authors climb ½Σ_e (1/n Σ_i q_i(e)·d_i)² with d_i the derivative of row i's loss by a factor on its
    logits, over soft assignments q. That is convex in q, so that its maximum is at a corner, and with
    P = Σ max(d, 0), N = Σ max(-d, 0) no split has more than ½(P² + N²)/n²: the rows of positive d against the
    others. It is what their gradient steps end in, found here without taking them. With two classes d_i > 0
    says that row i is misclassified.
    """
    scores = logits.astype(np.float64)
    exponent = np.exp(scores - scores.max(axis=1, keepdims=True))
    expected = (exponent * scores).sum(axis=1) / exponent.sum(axis=1)
    return np.asarray(expected > scores[np.arange(len(codes)), codes], dtype=np.int64)
