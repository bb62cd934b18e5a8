"""Plain data of heads that are solved together: a feature matrix, a loss, penalties and starts."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from headwater.heads.loss import LogisticLoss


@dataclass(frozen=True)
class Stack:
    """H heads on the same rows: minimise loss(x·W + b) + l1·‖W‖₁ + l2/2·‖W‖², each with its own numbers.

    `x` (n, d) has columns of mean zero (the unpenalised bias makes centring free) and is scaled as the
    specs ask. `weight` (d, K, H) and `bias` (K, H) are where to start. `cold` (H,) is True where no start
    was given.
    """

    x: Tensor
    loss: LogisticLoss
    l1: Tensor
    l2: Tensor
    weight: Tensor
    bias: Tensor
    cold: Tensor
    tolerance: Tensor
    max_iterations: Tensor

    @property
    def heads(self) -> int:
        """How many heads."""
        return len(self.l2)

    def of(self, keep: Tensor) -> Stack:
        """Some of the heads only; `keep` holds their numbers."""
        return Stack(
            self.x,
            self.loss.of(keep),
            self.l1[keep],
            self.l2[keep],
            self.weight[:, :, keep],
            self.bias[:, keep],
            self.cold[keep],
            self.tolerance[keep],
            self.max_iterations[keep],
        )


@dataclass
class Solved:
    """What a solver found for each head of a stack, and how far it is from the optimum.

    `gap` bounds (where `certified`) or estimates the distance of `objective` from its minimum.
    """

    weight: Tensor
    bias: Tensor
    objective: Tensor
    gradient_norm: Tensor
    gap: Tensor
    certified: Tensor
    iterations: Tensor
    converged: Tensor

    @staticmethod
    def empty(stack: Stack) -> Solved:
        """Room for the answers of a stack, filled as its heads finish."""
        device = stack.x.device
        number = torch.zeros(stack.heads, dtype=torch.float64, device=device)
        flag = torch.zeros(stack.heads, dtype=torch.bool, device=device)
        return Solved(
            weight=torch.zeros_like(stack.weight),
            bias=torch.zeros_like(stack.bias),
            objective=number.clone(),
            gradient_norm=number.clone(),
            gap=number.clone(),
            certified=flag.clone(),
            iterations=torch.zeros(stack.heads, dtype=torch.int64, device=device),
            converged=flag.clone(),
        )

    def put(self, heads: Tensor, other: Solved) -> None:
        """Take over the answers of `other` as those of the heads numbered `heads`."""
        self.weight[:, :, heads] = other.weight
        self.bias[:, heads] = other.bias
        for name in ("objective", "gradient_norm", "gap", "certified", "iterations", "converged"):
            getattr(self, name)[heads] = getattr(other, name)

    def of(self, keep: Tensor) -> Solved:
        """The answers of some of the heads."""
        return Solved(*(getattr(self, field.name)[..., keep] for field in fields(self)))
