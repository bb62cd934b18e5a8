"""Rows drawn to estimate curvature on: which ones, what they stand for, and what bends the loss there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLED = 4096  # rows that a curvature is taken from where nothing else is said
_ALIKE = 0.1  # the part of a sample that all rows share alike, whatever their chance
_ROUNDS, _FIRST = 20, 0.382


def systematic(chance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Places of about `count` rows, ascending, and the probability (m,) with which each was drawn.

    Probabilities are proportional to `chance` (n,), next to a part that all rows share alike; rows in order
    are drawn at equal steps of their sum, so that equal ones are evenly spread (systematic sampling, Madow
    1949). A sum over rows is estimated by the drawn ones, each divided by its probability (Horvitz & Thompson
    1952). All chances may be zero, which makes them equal.
    """
    total = len(chance)
    chance = chance.double() / chance.sum(dtype=torch.float64).clamp_min(1e-300)
    included = _inclusion(_ALIKE / total + (1 - _ALIKE) * chance, min(count, total))
    # From a place that no sum of simple fractions falls on.
    steps = (included.cumsum(0) + _FIRST).floor()
    places = torch.nonzero(steps > torch.cat([steps.new_zeros(1), steps[:-1]])).flatten()
    return places, included[places]


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
