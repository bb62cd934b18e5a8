"""Methods that change the loss of a row, by its confidence or by how rare its class is; one head on train.

All are published for whole networks and are offered in their last-layer form, solved to the optimum.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import LogUniform, Needs, Uniform, method
from headwater.heads.specs.criterion import CrossEntropy, Focal
from headwater.heads.specs.spec import Weights
from headwater.heads.tasks.task import Task

_CLASSES = Needs(classes_on=("train",))


class FocalSettings(TrainSettings):
    """`gamma` 2 is the paper's; SubpopBench draws it from 0.5 to 5."""

    gamma: float = Field(2.0, ge=0, description="how little a row counts that is classified well already")


@method(
    "Focal",
    settings=FocalSettings,
    needs=_CLASSES,
    paper="Lin et al. 2017, Focal loss for dense object detection",
    space={"gamma": LogUniform(0.5, 5.0), "l2": L2_SPACE},
)
def focal(task: Task, settings: FocalSettings, random: np.random.Generator) -> Recipe:
    """Losses -(1 - p_y)^gamma·log p_y, which let go of rows that are right already (last-layer form).

    The loss is not convex: the head is a local optimum, reached from zero.
    """
    spec = train_spec(task, settings)
    (head,) = yield [dataclasses.replace(spec, loss=Focal(settings.gamma))]
    return Outcome(head)


class LDAMSettings(TrainSettings):
    """`max_margin` and `scale` as published; the margin in logits is their product.

    The paper's logits are cosines, which `scale` stretches. A linear head on features of any length chooses
    its own scale, and loss(scale·(z - margin)) with the penalty l2 is loss(z - scale·margin) with
    l2/scale². The second is what is trained, so that `l2` means here what it means elsewhere.
    """

    max_margin: float = Field(0.5, ge=0, description="the margin of the rarest class, before scaling")
    scale: float = Field(30.0, gt=0, description="factor that turns margins into logits")
    reweight: bool = Field(
        False, description="weights (1 - 0.9999)/(1 - 0.9999^n_y), as in the second phase of the paper's DRW"
    )


def ldam_margins(counts: NDArray[np.int64], max_margin: float) -> NDArray[np.float64]:
    """Margins proportional to n_y^(-1/4), the largest being `max_margin` (Cao et al. 2019, eq. 12)."""
    return np.asarray(max_margin * (counts.min() / counts) ** 0.25)


@method(
    "LDAM",
    settings=LDAMSettings,
    needs=_CLASSES,
    paper="Cao et al. 2019, Learning imbalanced datasets with label-distribution-aware margin loss",
    space={"max_margin": LogUniform(0.1, 0.8), "scale": LogUniform(1.0, 30.0), "l2": L2_SPACE},
)
def ldam(task: Task, settings: LDAMSettings, random: np.random.Generator) -> Recipe:
    """Cross-entropy after a margin off the own logit, larger for rare classes (last-layer form).

    `reweight` is the end of deferred reweighting (DRW): what it defers leaves no trace in an optimum.
    """
    counts = task.class_counts("train")
    margins = settings.scale * ldam_margins(counts, settings.max_margin)
    weights = None
    if settings.reweight:
        per_class = 1 / -np.expm1(counts * np.log(0.9999))
        weights = Weights(per_class[task.target[task.rows("train").index]])
    spec = train_spec(task, settings, weights=weights)
    (head,) = yield [dataclasses.replace(spec, loss=CrossEntropy(margin=tuple(margins.tolist())))]
    return Outcome(head)


@method(
    "BSoftmax",
    settings=TrainSettings,
    needs=_CLASSES,
    paper="Ren et al. 2020, Balanced meta-softmax for long-tailed visual recognition",
    space={"l2": L2_SPACE},
)
def bsoftmax(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
    """log n_y is added to the logits in training and left out afterwards (last-layer form)."""
    offset = np.log(task.class_counts("train"))
    spec = train_spec(task, settings)
    (head,) = yield [dataclasses.replace(spec, loss=CrossEntropy(offset=tuple(offset.tolist())))]
    return Outcome(head)


class LogitAdjustmentSettings(TrainSettings):
    """`tau` 1, the paper's, makes the head right for balanced classes, and equal to BSoftmax's."""

    tau: float = Field(1.0, ge=0, description="how much of the log prior is taken out of the logits")


@method(
    "LogitAdjustment",
    settings=LogitAdjustmentSettings,
    needs=_CLASSES,
    paper="Menon et al. 2021, Long-tail learning via logit adjustment",
    space={"tau": Uniform(0.5, 3.0), "l2": L2_SPACE},
)
def logit_adjustment(task: Task, settings: LogitAdjustmentSettings, random: np.random.Generator) -> Recipe:
    """tau·log(prior) is added to the logits in training and left out afterwards (last-layer form)."""
    counts = task.class_counts("train")
    offset = settings.tau * np.log(counts / counts.sum())
    spec = train_spec(task, settings)
    (head,) = yield [dataclasses.replace(spec, loss=CrossEntropy(offset=tuple(offset.tolist())))]
    return Outcome(head)
