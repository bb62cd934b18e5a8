"""Selective last-layer finetuning: a head finetuned on the few held-out rows where two heads disagree most.

Follows LaBonte, Muthukumar, Kumar 2023, "Towards last-layer retraining for group robustness with fewer
annotations", and its authors' code, with the backbone frozen throughout.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.erm import TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, Needs, method
from headwater.heads.methods.reweighting import inverse_counts
from headwater.heads.methods.stages import (
    FIRST_L2_SPACE,
    distance_penalty,
    early_spec,
    log_probabilities,
    log_softmax,
    row_losses,
    split_off,
)
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import Rows
from headwater.heads.tasks.task import Task

_BLOCK = 4096  # rows whose features are dropped at once, so that memory stays bounded


class SELFSettings(TrainSettings):
    """Published: 20, 100 or 500 rows of half of val; early stopping after 10, 20 or 50 of 100 epochs of rate
    3e-3, 150 steps each; dropout 0.5, 0.7 or 0.9; 250 steps of rate 1e-4, 1e-3 or 1e-2 from the final head.

    `early_l2` and `finetune` are penalties that stand for those numbers of steps, 1/(rate·steps).
    """

    l2: float = Field(1e-3, ge=0, description="weight decay of the final head, beside the mean loss")
    by: Literal["early-stop", "dropout", "misclassified", "early-stop-misclassified", "random"] = Field(
        "early-stop", description="what picks the rows: two heads' disagreement, one's loss, or chance"
    )
    rows: int = Field(500, ge=2, description="how many held-out rows are picked, if there are as many")
    share: float = Field(0.5, gt=0, le=1, description="the part of val that is held out for this")
    early_l2: float = Field(0.05, gt=0, description="penalty that stands in for stopping early")
    dropout: float = Field(0.5, gt=0, lt=1, description="the part of the features that is dropped")
    finetune: float = Field(0.4, gt=0, description="penalty on leaving the final head while finetuning")


@method(
    "SELF",
    settings=SELFSettings,
    needs=Needs(classes_on=("train", "val")),
    paper="LaBonte et al. 2023, Towards last-layer retraining for group robustness with fewer annotations",
    space={
        "by": Among(("early-stop", "dropout", "misclassified", "early-stop-misclassified")),
        "rows": Among((20, 100, 500)),
        "early_l2": Among((0.2, 0.1, 0.05)),
        "dropout": Among((0.5, 0.7, 0.9)),
        "finetune": Among((40.0, 4.0, 0.4)),
        "l2": FIRST_L2_SPACE,
    },
)
def self_(task: Task, settings: SELFSettings, random: np.random.Generator) -> Recipe:
    """ERM, finetuned class-balanced on the val rows where it and an early-stopped head disagree most.

    Disagreement is KL(final ‖ other) of the predictions; the other head is early-stopped (a stronger penalty)
    or the final one with features dropped. The variants pick by the loss of either head instead.
    """
    splitting, drawing = random.spawn(2)
    val = task.rows("val").index
    _, held_out = split_off(val, task.target[val], settings.share, splitting)
    final_spec = train_spec(task, settings)
    early = settings.by.startswith("early-stop")
    heads = yield [final_spec, *([early_spec(task, settings, settings.early_l2)] if early else [])]
    interest = _interest(task, settings, heads, held_out, drawing)
    picked = held_out[most_of_every_class(interest, task.target[held_out], settings.rows)]
    (head,) = yield [
        dataclasses.replace(
            final_spec,
            rows=Rows(picked),
            penalty=distance_penalty(settings.finetune, len(task.classes)),
            weights=inverse_counts(task.target[picked]),
            anchor=heads[0],
            start=heads[0],
        )
    ]
    return Outcome(head, {"picked": len(picked)})


def _interest(
    task: Task,
    settings: SELFSettings,
    heads: list[LinearHead],
    rows: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """How much each row is worth finetuning on, shape (rows,)."""
    if settings.by == "random":
        return random.random(len(rows))
    if settings.by.endswith("misclassified"):
        return row_losses(task, heads[-1], rows)
    final = log_probabilities(task, heads[0], rows)
    if settings.by == "dropout":
        other = dropped_log_probabilities(task, heads[0], rows, settings.dropout, random)
    else:
        other = log_probabilities(task, heads[1], rows)
    return np.asarray((np.exp(final) * (final - other)).sum(axis=1))


def dropped_log_probabilities(
    task: Task, head: LinearHead, rows: NDArray[np.int64], dropout: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Log-probabilities (rows, classes) with features dropped at random and the others scaled up for it."""
    logits = np.empty((len(rows), len(task.classes)))
    for first in range(0, len(rows), _BLOCK):
        features = np.asarray(task.features[rows[first : first + _BLOCK]], dtype=np.float32)
        kept = random.random(features.shape, dtype=np.float32) >= dropout
        logits[first : first + len(features)] = head.logits(features * kept / np.float32(1 - dropout))
    return log_softmax(logits)


def most_of_every_class(
    interest: NDArray[np.float64], codes: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Places of the `count` highest `interest`, ascending; all places if there are no more.

    A class that would be missing gets its highest row in place of the lowest one of the others, since a head
    cannot be trained on a class that is not there; the first of equals is the higher.
    """
    order = np.argsort(-interest, kind="stable")
    _, best = np.unique(codes[order], return_index=True)  # where in the order each class comes first
    rank = np.arange(len(order))
    rank[best] -= len(order)  # the best of every class comes before all others that might be dropped
    kept = np.argsort(rank, kind="stable")[: max(count, len(best))]
    return np.sort(order[kept])
