"""Heads trained by steps on mini-batches, side by side: SGD with momentum, or Adam.

The order of batches is the specs', so heads that share one are read and stepped together. What comes out is
measured on all rows at the end; nothing here is said to have converged that has not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.heads.rows.blocks import Resident
from headwater.heads.solvers.history import dot
from headwater.heads.solvers.onepass import MeanLoss
from headwater.heads.solvers.preconditioner import Directions, Preconditioner
from headwater.heads.solvers.stack import SmoothStack, Solved
from headwater.heads.specs.spec import Minibatch

# Adam's decay rates of its two averages, and what keeps it from dividing by zero (Kingma & Ba 2015).
_BETAS, _EPSILON = (0.9, 0.999), 1e-8
# Rows of a shuffled block: read in one go, and shuffled inside.
_BLOCK = 8192
# The gap is estimated in a metric that may be short by a factor.
_SAFETY = 4.0


def batches(plan: Minibatch, rows: int, contiguous: int = _BLOCK) -> Iterator[NDArray[np.int64]]:
    """Places (b,) in the rows, batch after batch.

    Without an order of its own every epoch visits each row once, in shuffled blocks of `contiguous` rows that
    are shuffled inside, so that a file is read in large pieces.
    """
    if plan.order is not None:
        for epoch in np.split(plan.order.values, plan.epochs):
            for first in range(0, len(epoch), plan.batch):
                yield epoch[first : first + plan.batch]
        return
    random = np.random.default_rng(plan.seed)
    held = max(contiguous, plan.batch)
    for _ in range(plan.epochs):
        left = np.empty(0, dtype=np.int64)
        for block in random.permutation(-(-rows // held)):
            here = np.arange(block * held, min((block + 1) * held, rows))
            left = np.concatenate([left, random.permutation(here)])
            whole = len(left) - len(left) % plan.batch
            for first in range(0, whole, plan.batch):
                yield left[first : first + plan.batch]
            left = left[whole:]
        if len(left):
            yield left


class _Steps:
    """One kind of steps for heads (H, K, d + 1), each with its own rate and momentum."""

    def __init__(self, theta: Tensor, plans: list[Minibatch]) -> None:
        def numbers(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=theta.dtype, device=theta.device).view(-1, 1, 1)

        self._adam = plans[0].adam
        self._rate = numbers([plan.rate for plan in plans])
        self._momentum = numbers([plan.momentum for plan in plans])
        self._first, self._second = torch.zeros_like(theta), torch.zeros_like(theta)
        self._count = 0

    def take(self, theta: Tensor, gradient: Tensor) -> None:
        self._count += 1
        if not self._adam:
            self._first.mul_(self._momentum).add_(gradient)
            theta -= self._rate * self._first
            return
        one, two = _BETAS
        self._first.lerp_(gradient, 1 - one)
        self._second.mul_(two).addcmul_(gradient, gradient, value=1 - two)
        spread = (self._second / (1 - two**self._count)).sqrt_().add_(_EPSILON)
        theta -= self._rate * (self._first / (1 - one**self._count)) / spread


@dataclass(frozen=True)
class Stepped:
    """The rows that steps are taken on.

    `read` gives rows (b, d), as the stack sees them, by their places in it; `sequence` are the places of the
    specs' rows in training order. `shift` (d,) makes of them what a training loop would see, whose steps,
    unlike its optimum, depend on where zero is.
    """

    read: Callable[[NDArray[np.int64]], Tensor]
    sequence: NDArray[np.int64]
    shift: Tensor


def solve_minibatch(
    stack: SmoothStack, plans: list[Minibatch], rows: Stepped, directions: Directions
) -> Solved:
    """Train heads whose `plans` draw the same batches.

    A batch's loss is its rows' weighted sum times rows per batch, so that the full gradient is met on average
    and `l2` means what it means elsewhere.
    """
    sequence = rows.sequence
    theta, loss = stack.theta.clone(), stack.loss
    theta[..., -1] -= theta[..., :-1] @ rows.shift
    steps = _Steps(theta, plans)
    penalty = stack.l2.to(theta.dtype).view(-1, 1, 1)
    # A row that is repeated in the sequence holds all its weight in one place of the stack.
    times = torch.from_numpy(np.bincount(sequence, minlength=loss.rows.shape[0])).to(theta).clamp_min(1)
    share = loss.weights / times
    for batch in batches(plans[0], len(sequence)):
        places = sequence[batch]
        taken = torch.from_numpy(places).to(theta.device)
        scale = len(sequence) / len(places)
        some = MeanLoss(
            Resident(rows.read(places) + rows.shift),
            loss.target[taken],
            share[:, taken] * scale,
            loss.columns,
        )
        _, gradient = some.at(theta, stack.weight_of)
        gradient[..., :-1] += penalty * theta[..., :-1]
        steps.take(theta, gradient)
    theta[..., -1] += theta[..., :-1] @ rows.shift
    return _measured(stack, theta, directions, plans)


def _measured(stack: SmoothStack, theta: Tensor, directions: Directions, plans: list[Minibatch]) -> Solved:
    """Objective and gap of what was reached, from one pass over all rows."""
    value, gradient = stack.loss.at(theta, stack.weight_of)
    weight = theta[..., :-1]
    value += stack.l2 / 2 * dot(weight, weight)
    gradient[..., :-1] += stack.l2.to(theta.dtype).view(-1, 1, 1) * weight
    finite = torch.isfinite(value)
    usable = torch.where(finite.view(-1, 1, 1), theta, 0.0)  # steps that are too long run off
    metric = Preconditioner(directions, stack.loss.sample(), usable, stack.weight_of, stack.l2)
    gap = _SAFETY / 2 * dot(gradient, metric.solve(gradient))
    # Where steps were too long the loss is all but flat; yet no optimum lies above the head of zeros.
    gap = torch.maximum(gap, value - math.log(max(2, stack.loss.columns)))
    epochs = torch.tensor([plan.epochs for plan in plans], device=theta.device)
    return Solved(
        weight=weight.permute(2, 1, 0),
        bias=theta[..., -1].T,
        objective=value,
        gradient_norm=dot(gradient, gradient).sqrt(),
        gap=torch.where(finite, gap, torch.inf),
        certified=torch.zeros_like(finite),
        iterations=epochs,
        converged=finite & (gap <= stack.tolerance * value.abs()),
    )
