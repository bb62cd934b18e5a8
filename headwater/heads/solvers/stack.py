"""Plain data of heads that are solved together, and of what a solver found: losses, penalties, starts."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from headwater.heads.solvers.onepass import MeanLoss

# Without a penalty, an objective below this means classes that can be told apart without error: no optimum.
SEPARATED = 1e-8


@dataclass(frozen=True)
class Stack:
    """H heads on the same rows: minimise loss(x·W + b) + l1·‖W‖₁ + l2/2·‖W‖², each with its own numbers.

    `x` (n, d) has columns of mean zero (the unpenalised bias makes centring free) and is scaled as the
    specs ask. The loss is the weighted mean of the cross-entropy: `target` (n,) are class numbers 0..K-1,
    `row_weights` (n, U) have columns that sum to 1, `weight_of` (H,) says which of them a head uses, and
    `columns` is K, or 1 for two classes: the logit of class 1 against class 0.

    `weight` (d, K, H) and `bias` (K, H) are where to start; `cold` (H,) is True where no start was given.
    """

    x: Tensor
    target: Tensor
    row_weights: Tensor
    weight_of: Tensor
    columns: int
    l1: Tensor
    l2: Tensor
    weight: Tensor
    bias: Tensor
    cold: Tensor
    tolerance: Tensor
    max_iterations: Tensor


@dataclass(frozen=True)
class SmoothStack:
    """H heads without L1 penalty, for solvers that read the rows block by block.

    `theta` (H, columns, d + 1) is where to start, the bias last, and heads come first everywhere; `cold` (H,)
    is True where no start was given. `weight_of` (H,) is the number of each head's row weights in `loss`.
    """

    loss: MeanLoss
    weight_of: Tensor
    l2: Tensor
    theta: Tensor
    cold: Tensor
    tolerance: Tensor
    max_iterations: Tensor

    @property
    def heads(self) -> int:
        """How many heads."""
        return len(self.l2)

    def of(self, keep: Tensor) -> SmoothStack:
        """Some of the heads only; `keep` holds their numbers."""
        return SmoothStack(
            self.loss,
            self.weight_of[keep],
            self.l2[keep],
            self.theta[keep],
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
    def into(room: Tensor) -> Solved:
        """Answers that are written into `room`, parameters heads first: (H, K, d + 1), the bias last."""
        return Solved.around(room[..., :-1].permute(2, 1, 0), room[..., -1].T)

    @staticmethod
    def around(weight: Tensor, bias: Tensor) -> Solved:
        """Answers that are written into `weight` (d, K, H) and `bias` (K, H) as heads finish."""
        heads, device = weight.shape[2], weight.device
        number = torch.zeros(heads, dtype=torch.float64, device=device)
        flag = torch.zeros(heads, dtype=torch.bool, device=device)
        return Solved(
            weight=weight,
            bias=bias,
            objective=number.clone(),
            gradient_norm=number.clone(),
            gap=number.clone(),
            certified=flag.clone(),
            iterations=torch.zeros(heads, dtype=torch.int64, device=device),
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
