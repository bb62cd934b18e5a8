"""What methods in two stages share: the first head's spec, what it thinks of rows, rows held out for later.

An early-stopped network has no counterpart among heads that are solved to their optimum; a stronger penalty
takes its place. For steps of one rate on a quadratic loss the two nearly agree where the penalty is
1/(rate·steps) (Ali, Kolter, Tibshirani 2019, "A continuous-time view of early stopping for least squares").
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from headwater.heads.methods.erm import TrainSettings, train_spec
from headwater.heads.methods.registry import Among, numbers
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty
from headwater.heads.tasks.task import Task

NotNegatives = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...], BeforeValidator(numbers), Field(min_length=1)
]

# Few values, so that many draws of a sweep share a first head and the bank trains it once.
FIRST_L2_SPACE = Among((1e-3, 1e-2, 0.1, 1.0))
IDENTIFICATION_L2_SPACE = Among((0.1, 1.0, 10.0))


def early_spec(task: Task, settings: TrainSettings, l2: float) -> HeadSpec:
    """The method's plain head on train, held back by the penalty `l2` in place of early stopping."""
    return dataclasses.replace(train_spec(task, settings), penalty=Penalty(l2=l2))


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-probabilities of logits (rows, classes), in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def log_probabilities(task: Task, head: LinearHead, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of every class for the rows, shape (rows, classes)."""
    return log_softmax(task.logits([head], rows)[0])


def row_losses(task: Task, head: LinearHead, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cross-entropy of each row, -log p_y, shape (rows,)."""
    return -log_probabilities(task, head, rows)[np.arange(len(rows)), task.target[rows]]


def distance_penalty(strength: float, n_classes: int) -> Penalty:
    """`strength`/2·‖W - W_anchor‖² over one column per class, as papers on networks write it.

    A head of two classes is penalised on the one column w₁ - w₀, whose square is twice that of both.
    """
    return Penalty(l2=strength / 2 if n_classes == 2 else strength)


def split_off(
    rows: NDArray[np.int64], codes: NDArray[np.int64], share: float, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A random `share` of `rows` and the rest, as (rest, share), both ascending; `codes` one per row.

    As published the draw takes no notice of codes. Where that would leave a part without one of them, each
    code with two rows or more is split by itself instead. Share 1 leaves no rest.
    """
    order = random.permutation(len(rows))
    taken = np.zeros(len(rows), dtype=bool)
    taken[order[: max(1, round(share * len(rows)))]] = True
    present = len(np.unique(codes))
    if share < 1 and min(len(np.unique(codes[taken])), len(np.unique(codes[~taken]))) < present:
        for code in np.unique(codes):
            mine = order[codes[order] == code]
            taken[mine] = False
            taken[mine[: min(max(1, round(share * len(mine))), max(1, len(mine) - 1))]] = True
    return np.sort(rows[~taken]), np.sort(rows[taken])
