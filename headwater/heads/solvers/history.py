"""The last steps and gradient changes of many heads, and the quasi-Newton direction they give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class Metric(Protocol):
    """An approximate inverse Hessian of every head."""

    def solve(self, gradient: Tensor) -> Tensor:
        """It, applied to (H, K, d + 1), the bias last."""
        ...


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per head of (H, K, d + 1) arrays: (H,) float64."""
    return (a * b).sum(2, dtype=torch.float64).sum(1)


@dataclass
class History:
    """Steps and gradient changes (H, K, d + 1), newest last; `size` of them are kept.

    A head that took no step when the others did has 1/(sᵀy) = 0 there, which leaves the step out.
    """

    size: int
    steps: list[Tensor] = field(default_factory=list)
    changes: list[Tensor] = field(default_factory=list)
    rho: list[Tensor] = field(default_factory=list)

    def push(self, step: Tensor, change: Tensor, taken: Tensor) -> None:
        """Remember what `taken` (H,) heads did; a change that is no positive curvature is left out."""
        product = dot(step, change)
        size = (dot(step, step) * dot(change, change)).sqrt()
        usable = taken & (product > 1e-8 * size)
        self.steps.append(step)
        self.changes.append(change)
        self.rho.append(torch.where(usable, 1 / product.clamp_min(1e-300), 0))
        if len(self.steps) > self.size:
            for kept in (self.steps, self.changes, self.rho):
                del kept[0]

    def of(self, keep: Tensor) -> None:
        """Keep some of the heads only."""
        for kept in (self.steps, self.changes, self.rho):
            for place, each in enumerate(kept):  # one at a time, so that memory holds no second history
                kept[place] = each[keep]

    def forget(self, heads: Tensor) -> None:
        """Start anew for these heads."""
        for rho in self.rho:
            rho[heads] = 0

    def direction(self, gradient: Tensor, metric: Metric) -> Tensor:
        """Minus the inverse Hessian estimate applied to the gradient (two-loop recursion, Nocedal 1980)."""
        q = gradient.clone()
        alphas = []
        for s, y, rho in zip(reversed(self.steps), reversed(self.changes), reversed(self.rho), strict=True):
            alpha = rho * dot(s, q)
            alphas.append(alpha)
            q -= alpha.to(q.dtype).view(-1, 1, 1) * y
        q = metric.solve(q)
        for s, y, rho, alpha in zip(self.steps, self.changes, self.rho, reversed(alphas), strict=True):
            q += (alpha - rho * dot(y, q)).to(q.dtype).view(-1, 1, 1) * s
        return q.neg_()
