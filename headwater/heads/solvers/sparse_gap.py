"""How far sparse heads can be from their optima: duality gaps, which bound the distance without any estimate.

The dual of the penalised logistic loss is the entropy of probabilities that lie between the labels and the
model's own; any such point whose features' slopes respect the penalty gives a lower bound on the objective.
"""

from __future__ import annotations

import torch
from torch import Tensor

from headwater.heads.solvers.sparse_rows import HeadLoss


def balanced(residual: Tensor, target: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Residuals (H, K, r) that sum to zero over the rows, as free biases demand, and rows' factors.

    Every class's rows are scaled by one factor of at most 1, so that probabilities stay between the labels
    and the model's own. Returns the scaled residuals and the factors (H, 1, r).
    """
    if columns == 1:
        up = residual.clamp_min(0).sum((1, 2))
        down = -residual.clamp_max(0).sum((1, 2))
        least = torch.minimum(up, down)
        factors = torch.stack([least / up.clamp_min(1e-300), least / down.clamp_min(1e-300)], dim=1)
    else:
        own = torch.nn.functional.one_hot(target, columns).to(residual.dtype)
        flow = residual @ own  # (H, K, classes): what the rows of a class pull each bias by
        system = torch.cat([flow, torch.ones_like(flow[:, :1])], dim=1)
        right = torch.zeros_like(system[:, :, :1])
        right[:, -1] = columns
        factors = torch.linalg.lstsq(system, right).solution.squeeze(2).clamp_min(0)
        factors = factors / factors.amax(1, keepdim=True).clamp_min(1e-300)
    per_row = factors.gather(1, target).unsqueeze(1)
    return residual * per_row, per_row


def lower_bound(loss: HeadLoss, p: Tensor, share: Tensor) -> Tensor:
    """The weighted entropy (H,) of probabilities moved from the labels towards `p` by `share` (H, 1, r)."""
    if loss.columns == 1:
        label = loss.target.unsqueeze(1).to(p.dtype)
        moved = label + share * (p - label)
        entropy = torch.special.entr(moved) + torch.special.entr(1 - moved)
    else:
        moved = share * p
        moved = moved.scatter_add(1, loss.target.unsqueeze(1), (1 - share).to(p.dtype))
        entropy = torch.special.entr(moved)
    total: Tensor = (entropy.sum(1) * loss.weights).sum(1, dtype=torch.float64)
    return total


def dual(
    loss: HeadLoss, p: Tensor, factors: Tensor, slopes: Tensor, penalties: tuple[Tensor, Tensor]
) -> Tensor:
    """A lower bound (H,) on the objective from balanced residuals whose slopes are `slopes` (H, K, D).

    `penalties`: l1 and l2 of every feature, (H, 1, D); features without a penalty have balanced slopes.
    """
    l1, l2 = penalties
    size = torch.where(l1 > 0, slopes.abs(), 0).double()
    ratio = torch.where((l1 > 0) & (l2 == 0), size / l1.clamp_min(1e-300), 0).amax((1, 2)).clamp_min(1)
    share = factors / ratio.view(-1, 1, 1)
    excess = (size / ratio.view(-1, 1, 1) - l1).clamp_min(0).square()
    cost = torch.where(l2 > 0, excess / (2 * l2.clamp_min(1e-300)), 0).sum((1, 2))
    return lower_bound(loss, p, share) - cost
