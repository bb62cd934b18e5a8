"""The logistic loss of many heads and its gradient in one reading of the rows, block by block.

Heads come first here, (heads, columns, dim + 1) with the bias last: heads that leave are slices, and logits
of a block, (heads, columns, rows), are never kept. Multinomial heads have one column per class; two-class
heads have one column, the logit of class 1 against class 0. How the losses are minimised lives in `solvers`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from headwater.heads.rows.blocks import Blocks, block_rows

_SAMPLED = 4096  # rows that curvatures are taken from
_ALIKE = 0.1  # the part of a sample that all rows share alike, whatever they weigh
_ROUNDS, _FIRST = 20, 0.382


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

    def sample(self, count: int = _SAMPLED, chance: Tensor | None = None) -> Sample:
        """About `count` rows, held in memory, to estimate curvature on.

        `chance` (n,), by default the rows' mean weight, is what a row's probability of being in it is
        proportional to, next to a part that all share alike; a row counts for as many as it stands for.
        """
        total, _ = self.rows.shape
        chance = self.weights.mean(0) if chance is None else chance
        share = _ALIKE / total + (1 - _ALIKE) * chance.double() / chance.sum(dtype=torch.float64)
        included = _inclusion(share, min(count, total))
        # Systematic: rows in order are drawn at equal steps of their summed probabilities, so that equal ones
        # are evenly spread; from a place that no sum of simple fractions falls on.
        steps = (included.cumsum(0) + _FIRST).floor()
        places = torch.nonzero(steps > torch.cat([steps.new_zeros(1), steps[:-1]])).flatten()
        weights = self.weights[:, places].double() / included[places]
        return Sample(self.rows.at(places), weights, total)

    def curved(self, theta: Tensor, weight_of: Tensor) -> Tensor:
        """How much each row adds to the trace of the second derivatives by its logits, (n,) float64.

        Of every head the same share, summed over heads: what `sample` should draw rows by at `theta`.
        """
        heads, columns, _ = theta.shape
        count, dim = self.rows.shape
        weight, bias = theta[..., :-1].reshape(heads * columns, dim), theta[..., -1:]
        found = torch.empty((heads, count), dtype=torch.float64, device=theta.device)
        for part, x in self.rows.blocks(block_rows(dim, heads * columns, theta.element_size())):
            z = (weight @ x.T).view(heads, columns, -1) + bias
            p = z.sigmoid() if columns == 1 else z.softmax(1)
            trace = (p - p.square()).sum(1) * self._weights(part, weight_of)
            found[:, part] = trace.double()
        return (found / found.sum(1, keepdim=True).clamp_min(1e-300)).sum(0)


def _inclusion(share: Tensor, count: int) -> Tensor:
    """Probabilities (n,) proportional to `share`, none above one, that sum to `count`."""
    included = (share * count).clamp_max(1)
    for _ in range(_ROUNDS):  # what the certain ones leave over goes to the others
        certain = included >= 1
        left = count - certain.sum()
        rest = share.masked_fill(certain, 0)
        included = torch.where(certain, 1.0, (rest * (left / rest.sum().clamp_min(1e-300))).clamp_max(1))
    return included


@dataclass(frozen=True)
class Sample:
    """Some of the rows, `x` (s, dim) out of `of`, weighted (U, s) as all rows that they stand for.

    Weights are not made to add up to 1: curvature, not weight, is what rows are drawn by.
    """

    x: Tensor
    weights: Tensor
    of: int

    def curvature(self, theta: Tensor, weight_of: Tensor) -> RowCurvature:
        """The loss's second derivatives by the logits of these rows, at `theta` (H, columns, d + 1)."""
        heads, columns, _ = theta.shape
        z = theta[..., :-1].reshape(heads * columns, -1) @ self.x.T
        z = z.view(heads, columns, -1) + theta[..., -1:]
        weights = torch.where(self.weights.any(1, keepdim=True), self.weights, 1 / self.weights.shape[1])
        p = z.sigmoid() if columns == 1 else z.softmax(1)
        return RowCurvature(p, weights[weight_of].to(p.dtype))


@dataclass(frozen=True)
class RowCurvature:
    """Second derivatives diag(p) - p pᵀ (p - p² for two classes) of rows, weighted: `p` (H, K, s), (H, s)."""

    p: Tensor
    weights: Tensor

    def mean(self) -> Tensor:
        """Their mean, (H, columns, columns) float64."""
        p, weights = self.p.double(), self.weights.double()
        if p.shape[1] == 1:
            p = p.squeeze(1)
            return (weights * p * (1 - p)).sum(1).view(-1, 1, 1)
        weighted = p * weights.unsqueeze(1)
        return torch.diag_embed(weighted.sum(2)) - weighted @ p.transpose(1, 2)

    def times(self, z: Tensor) -> Tensor:
        """Of every row its weighted second derivative times `z` (H, columns, s), which is overwritten."""
        weights = self.weights.unsqueeze(1)
        if z.shape[1] == 1:
            return z.mul_(self.p * (1 - self.p)).mul_(weights)
        z *= self.p
        z -= self.p * z.sum(1, keepdim=True)
        return z.mul_(weights)

    def within(self, u: Tensor, heads: slice) -> Tensor:
        """Some heads' Hessians by weights on the features `u` (s, r) of these rows: (h, K·r, K·r)."""
        p, weights = self.p[heads], self.weights[heads].unsqueeze(1)
        count, columns, rows = p.shape
        width = u.shape[1]
        own = weights * p * (1 - p) if columns == 1 else weights * p
        # diag(own): one (r, r) block for each column
        scaled = own.sqrt().reshape(-1, rows, 1) * u
        blocks = scaled.transpose(1, 2) @ scaled
        if columns == 1:
            return blocks
        stacked = ((weights.sqrt() * p).unsqueeze(2) * u.T).reshape(count, columns * width, rows)
        hessian = (-stacked @ stacked.transpose(1, 2)).view(count, columns, width, columns, width)
        hessian.diagonal(dim1=1, dim2=3).add_(blocks.view(count, columns, width, width).permute(0, 2, 3, 1))
        return hessian.reshape(count, columns * width, columns * width)
