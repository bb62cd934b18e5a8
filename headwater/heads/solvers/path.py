"""Solves heads that differ only in their L2 strength as a path: a few first, then those between them.

The optimum is a smooth function of log λ, so a polynomial through the nearest solved strengths starts a
head so close to its optimum that one or two iterations remain. How a stack is solved lives in `smooth`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.heads.solvers.curvature import Basis
from headwater.heads.solvers.smooth import solve_smooth
from headwater.heads.stack import Solved, Stack

_STRIDES = (8, 4, 2, 1)
_NODES = 4
# Interpolation over wider gaps than this, in natural log units of λ, starts no better than zero does.
_WIDEST = 3.0


def levels(l2: NDArray[np.float64], family: NDArray[np.int64], alone: NDArray[np.bool_]) -> list[list[int]]:
    """Heads by the round in which they are solved; each round may interpolate the rounds before it.

    `family` groups the heads that share everything but their strength; heads that are `alone` start by
    themselves.
    """
    rounds: list[list[int]] = [[] for _ in _STRIDES]
    for number in np.unique(family):
        members = np.flatnonzero((family == number) & ~alone & (l2 > 0))
        members = members[np.argsort(l2[members], kind="stable")]
        for position, head in enumerate(members):
            last = position == len(members) - 1
            level = 0 if last else next(i for i, stride in enumerate(_STRIDES) if position % stride == 0)
            rounds[level].append(int(head))
    rounds[0] += [int(head) for head in np.flatnonzero(alone | (l2 <= 0))]
    return [sorted(heads) for heads in rounds if heads]


def lagrange(nodes: NDArray[np.float64], at: float) -> NDArray[np.float64]:
    """Weights of the interpolating polynomial through distinct `nodes`, at one point."""
    gaps = nodes[:, None] - nodes[None, :]
    np.fill_diagonal(gaps, 1)
    away = np.where(np.eye(len(nodes), dtype=bool), 1, at - nodes[None, :])
    return np.asarray((away / gaps).prod(axis=1))


def _interpolate(
    stack: Stack, answers: Solved, heads: list[int], solved: list[int], family: NDArray[np.int64]
) -> Stack:
    """The given heads of the stack, started from the polynomial through their nearest solved relatives."""
    log = stack.l2.clamp_min(1e-300).log().cpu().numpy()
    chosen = stack.of(torch.tensor(heads, device=stack.x.device))
    weight, bias, cold = chosen.weight.clone(), chosen.bias.clone(), chosen.cold.clone()
    for place, head in enumerate(heads):
        if not bool(cold[place]):
            continue
        relatives = [
            i for i in solved if family[i] == family[head] and stack.l2[i] > 0 and bool(answers.converged[i])
        ]
        nearest = sorted(relatives, key=lambda i: abs(log[i] - log[head]))[:_NODES]
        _, first = np.unique(log[nearest], return_index=True)
        nearest = [nearest[i] for i in first]
        if not nearest or min(abs(log[i] - log[head]) for i in nearest) > _WIDEST:
            continue
        if max(log[nearest]) - min(log[nearest]) > _NODES * _WIDEST:
            nearest = sorted(nearest, key=lambda i: abs(log[i] - log[head]))[:2]
        share = torch.tensor(lagrange(log[nearest], log[head]), dtype=weight.dtype, device=weight.device)
        weight[:, :, place] = answers.weight[:, :, nearest] @ share
        bias[:, place] = answers.bias[:, nearest] @ share
        cold[place] = False
    return dataclasses.replace(chosen, weight=weight, bias=bias, cold=cold)


def solve_path(stack: Stack, basis: Basis, family: Tensor, widest: int) -> Solved:
    """Solve every head of a smooth stack, at most `widest` at a time.

    `family` (H,) numbers the sets of heads that differ only in `l2`.
    """
    answers = Solved.empty(stack)
    kin = family.cpu().numpy()
    alone = ~stack.cold.cpu().numpy()
    solved: list[int] = []
    for heads in levels(stack.l2.cpu().numpy(), kin, alone):
        started = _interpolate(stack, answers, heads, solved, kin)
        # Heads that need a similar number of iterations run together: by strength, not by order.
        order = torch.argsort(started.l2, stable=True)
        for part in torch.split(order, widest):
            which = torch.tensor(heads, device=part.device)[part]
            answers.put(which, solve_smooth(started.of(part), basis))
        solved += heads
    return answers
