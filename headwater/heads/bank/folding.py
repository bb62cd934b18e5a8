"""Between heads on raw features and weights on centred, standardised ones: into a solver and out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.heads.bank.whitening import HalfWhitening
from headwater.heads.specs.head import Convergence, LinearHead

# The logit of a class that no training row has: never the highest, and finite so that softmax stays defined.
_ABSENT = -1e4


@dataclass(frozen=True, eq=False)
class Frame:
    """How a solver sees heads: features are (raw - centre) / scale, logits those of the `classes` present.

    With a `whitening` T the features are T (raw - centre) / scale.

    `columns` is 1 for a two-class problem, whose one logit is class 1's against class 0's, else the number of
    classes present; `n_classes` counts the absent ones too.
    """

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    classes: NDArray[np.int64]
    columns: int
    n_classes: int
    whitening: HalfWhitening | None = None

    def fold(self, head: LinearHead) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A raw-feature head as weights (dim, columns) and biases (columns,) of this frame."""
        raw, offset = head.weight.astype(np.float64), head.bias.astype(np.float64)
        offset = (offset + raw @ self.centre)[self.classes]
        raw = (raw * self.scale)[self.classes]
        if self.whitening is not None:
            raw = self.whitening.undo(torch.from_numpy(raw)).numpy()
        if self.columns == 1:
            raw, offset = raw[1:] - raw[:1], offset[1:] - offset[:1]
        return raw.T, offset

    def fold_all(
        self, heads: Sequence[LinearHead | None]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Weights (dim, columns, H), biases (columns, H), and which are None (H,): those stay at zero."""
        weight = np.zeros((len(self.centre), self.columns, len(heads)))
        bias = np.zeros((self.columns, len(heads)))
        for place, head in enumerate(heads):
            if head is not None:
                weight[:, :, place], bias[:, place] = self.fold(head)
        return weight, bias, np.array([head is None for head in heads])

    def unfold(
        self, weight: NDArray[np.float64], bias: NDArray[np.float64], convergence: Convergence
    ) -> LinearHead:
        """The raw-feature head of weights (dim, columns) and biases (columns,): the inverse of `fold`."""
        rows = weight.T
        if self.columns == 1:
            rows, bias = np.concatenate([-rows / 2, rows / 2]), np.concatenate([-bias / 2, bias / 2])
        if self.whitening is not None:
            rows = self.whitening.apply(torch.from_numpy(rows)).numpy()
        raw = rows / self.scale
        full = np.zeros((self.n_classes, len(weight)), dtype=np.float32)
        offset = np.full(self.n_classes, _ABSENT, dtype=np.float32)
        full[self.classes] = raw
        offset[self.classes] = bias - raw @ self.centre
        return LinearHead(full, offset, convergence)
