"""The logistic loss of many heads and its gradient in one reading of the rows, block by block.

Heads come first here, (heads, columns, dim + 1) with the bias last: heads that leave are slices, and logits
of a block, (heads, columns, rows), are never kept. Multinomial heads have one column per class; two-class
heads have one column, the logit of class 1 against class 0. Second derivatives are taken from some rows only,
in `sampling`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from headwater.heads.rows.blocks import Blocks, block_rows
from headwater.heads.solvers.sampling import SAMPLED, Sample, systematic


@dataclass(frozen=True)
class MeanLoss:
    """Weighted mean of the cross-entropy of heads over the n rows of `rows`.

    `target` (n,) class numbers 0..K-1; `weights` (U, n), each row summing to 1; `columns` is K, or 1 for two
    classes. `weight_of` (H,), wherever it is asked for, says which weights a head uses.
    """

    rows: Blocks
    target: Tensor
    weights: Tensor
    columns: int

    def at(self, theta: Tensor, weight_of: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (H,) float64 and gradient, shaped like `theta` (H, columns, dim + 1)."""
        heads, columns, _ = theta.shape
        _, dim = self.rows.shape
        weight = theta[..., :-1].reshape(heads * columns, dim)
        bias = theta[..., -1].unsqueeze(2)
        gradient = torch.zeros_like(weight)
        bias_gradient = torch.zeros((heads, columns), dtype=torch.float64, device=theta.device)
        loss = torch.zeros(heads, dtype=torch.float64, device=theta.device)
        size = block_rows(dim, heads * columns, theta.element_size())
        for part, x in self.rows.blocks(size):
            z = (weight @ x.T).view(heads, columns, -1)
            z += bias
            loss += self._residual(z, self.target[part], self._weights(part, weight_of))
            gradient.addmm_(z.view(heads * columns, -1), x)
            bias_gradient += z.sum(2)
        full = torch.cat(
            [gradient.view(heads, columns, dim), bias_gradient.to(theta.dtype).unsqueeze(2)], dim=2
        )
        return loss, full

    def _weights(self, part: slice, weight_of: Tensor) -> Tensor:
        weight = self.weights[:, part]
        return weight if len(weight) == 1 else weight[weight_of]

    def _residual(self, z: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Summed loss per head; the logits `z` (H, columns, b) become the derivatives by them."""
        heads, _, rows = z.shape
        if self.columns == 1:
            sign = 1 - 2 * target.to(z.dtype)
            against = z.mul_(sign).squeeze(1)
            loss = (functional.softplus(against) * weight).sum(1, dtype=torch.float64)
            z.sigmoid_().mul_((sign * weight).unsqueeze(1))
            return loss
        z -= z.amax(1, keepdim=True)
        own = target.view(1, 1, rows).expand(heads, 1, rows)
        picked = z.gather(1, own).squeeze(1)
        z.exp_()
        total = z.sum(1)
        loss = ((total.log() - picked) * weight).sum(1, dtype=torch.float64)
        z *= (weight / total).unsqueeze(1)
        z.scatter_add_(1, own, (-weight).unsqueeze(1).expand(heads, 1, rows))
        return loss

    def sample(self, count: int = SAMPLED, chance: Tensor | None = None) -> Sample:
        """About `count` rows, held in memory, to estimate curvature on.

        `chance` (n,), by default the rows' mean weight, is what rows are drawn by, see `systematic`.
        """
        places, included = systematic(self.weights.mean(0) if chance is None else chance, count)
        weights = self.weights[:, places].double() / included
        return Sample(self.rows.at(places), weights, self.rows.shape[0])

    def curved(self, theta: Tensor, weight_of: Tensor, by: Tensor) -> Tensor:
        """How much each row adds to the trace of the second derivatives by its logits, (n,) float64.

        Summed over heads, each head's in units of `by` (H,): what `sample` should draw rows by at `theta`.
        """
        heads, columns, _ = theta.shape
        count, dim = self.rows.shape
        weight, bias = theta[..., :-1].reshape(heads * columns, dim), theta[..., -1:]
        found = torch.zeros(count, dtype=torch.float64, device=theta.device)
        for part, x in self.rows.blocks(block_rows(dim, heads * columns, theta.element_size())):
            z = (weight @ x.T).view(heads, columns, -1) + bias
            p = z.sigmoid() if columns == 1 else z.softmax(1)
            trace = (p - p.square()).sum(1) * self._weights(part, weight_of)
            found[part] = (trace.double() / by.unsqueeze(1)).sum(0)
        return found
