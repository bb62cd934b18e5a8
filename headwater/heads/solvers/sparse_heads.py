"""Sparse heads on their way: their weights, logits and steps taken, and which features each one works on.

What is as long as the rows is in torch, the rest in numpy. How heads move is in `sparse`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.heads.solvers.sparse_model import Array, Mask
from headwater.heads.solvers.sparse_rows import AllFeatures, HeadLoss, own_rows
from headwater.heads.solvers.stack import Stack


@dataclass
class Heads:
    """Weights (H, K, d + 1), the bias last, and logits `z` (H, K, r) on the heads' own `rows` (H, r).

    `l1`, `l2`, `damping`, and the Newton steps `used` and at `most` to be used are (H,).
    """

    loss: HeadLoss
    rows: Tensor | None
    l1: Array
    l2: Array
    weight: Array
    z: Tensor
    used: NDArray[np.int64]
    most: NDArray[np.int64]
    damping: Array

    def of(self, keep: NDArray[np.int64]) -> Heads:
        """Some of the heads."""
        at = torch.from_numpy(keep).to(self.z.device)
        return Heads(
            self.loss.of(at),
            None if self.rows is None else self.rows[at],
            self.l1[keep],
            self.l2[keep],
            self.weight[keep],
            self.z[at],
            self.used[keep],
            self.most[keep],
            self.damping[keep],
        )

    def put(self, keep: NDArray[np.int64], other: Heads) -> None:
        """Take over where some of the heads have moved."""
        self.z[torch.from_numpy(keep).to(self.z.device)] = other.z
        self.weight[keep], self.used[keep], self.damping[keep] = other.weight, other.used, other.damping

    def on_all_rows(self, values: Tensor, n: int) -> Tensor:
        """Values (H, K, r) on the heads' own rows as (H, K, n), zero elsewhere."""
        if self.rows is None:
            return values
        full = torch.zeros((*values.shape[:2], n), dtype=values.dtype, device=values.device)
        return full.scatter_add_(2, self.rows.unsqueeze(1).expand_as(values), values)


@dataclass(frozen=True)
class Picked:
    """The features that each of H heads works on: `features` (H, m), padded where not `allowed` (H, m)."""

    features: NDArray[np.int64]
    allowed: Mask

    @staticmethod
    def of(chosen: Mask) -> Picked:
        """From a mask (H, d + 1)."""
        counts = chosen.sum(1)
        allowed = np.arange(max(1, int(counts.max()))) < counts[:, None]
        features = np.zeros(allowed.shape, dtype=np.int64)
        features[allowed] = np.nonzero(chosen)[1]
        return Picked(features, allowed)

    def gather(self, full: Array) -> Array:
        """The values (H, K, m) of the picked features among all, (H, K, d + 1); zero in the padding."""
        values: Array = np.take_along_axis(full, self.features[:, None], axis=2) * self.allowed[:, None]
        return values

    def scatter(self, values: Array, full: Array) -> Array:
        """Writes values (H, K, m) of the picked features into all, (H, K, d + 1), and returns these."""
        head, place = np.nonzero(self.allowed)
        full[head, :, self.features[head, place]] = values[head, :, place]
        return full


def begin(stack: Stack, shift: Tensor | None) -> Heads:
    """The heads at their starts; those without one at the optimum of nothing but a free bias."""
    rows, weights = own_rows(stack.row_weights.double(), stack.weight_of)
    target = stack.target.expand(len(weights), -1)
    if rows is not None:
        target = target.gather(1, rows)
    loss = HeadLoss(target, weights, stack.columns)
    weight, bias = stack.weight.double().permute(2, 1, 0), stack.bias.double().T
    if shift is not None:
        bias = bias - weight @ shift.double()
    else:
        bias = torch.where(stack.cold.unsqueeze(1), _frequencies(loss), bias)
    weight = torch.cat([weight, bias.unsqueeze(2)], dim=2)
    z = AllFeatures(stack.x, shift).logits(weight.to(stack.x.dtype)).double()
    if rows is not None:
        z = z.gather(2, rows.unsqueeze(1).expand(-1, z.shape[1], -1))
    most = stack.max_iterations.cpu().numpy()
    return Heads(
        loss,
        rows,
        stack.l1.cpu().numpy(),
        stack.l2.cpu().numpy(),
        weight.cpu().numpy(),
        z,
        np.zeros_like(most),
        most,
        np.zeros(len(most)),
    )


def _frequencies(loss: HeadLoss) -> Tensor:
    """The biases (H, K) whose probabilities are the weighted frequencies of the classes."""
    classes = max(2, loss.columns)
    share = torch.zeros((len(loss.target), classes), dtype=torch.float64, device=loss.target.device)
    share.scatter_add_(1, loss.target, loss.weights)
    log = share.log()
    return log[:, 1:] - log[:, :1] if loss.columns == 1 else log - log.mean(1, keepdim=True)
