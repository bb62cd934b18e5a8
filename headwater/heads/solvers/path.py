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

from headwater.heads.solvers.preconditioner import Directions
from headwater.heads.solvers.smooth import solve_smooth
from headwater.heads.solvers.stack import SmoothStack, Solved

_STRIDES = (32, 16, 8, 4, 2, 1)
# A pass over the rows costs much the same for few columns of heads as for this share of so many: stacks that
# are narrower are solved in two rounds, which take more iterations and far fewer passes.
_WIDE, _STRIDES_OF_NARROW = 512, (4, 1)
_NODES = 4
# Over wider gaps than this between nodes, in natural log units of λ, the polynomial is a straight line.
_WIDEST = 3.0
_RAREST = 1e-6  # no class is taken to be rarer


def levels(
    l2: NDArray[np.float64],
    family: NDArray[np.int64],
    alone: NDArray[np.bool_],
    strides: tuple[int, ...] = _STRIDES,
) -> list[list[int]]:
    """Heads by the round in which they are solved; each round may interpolate the rounds before it.

    `family` groups the heads that share everything but their strength; heads that are `alone` start by
    themselves. Round r solves every `strides[r]`-th head of a family; the last stride is 1.
    """
    rounds: list[list[int]] = [[] for _ in strides]
    for number in np.unique(family):
        members = np.flatnonzero((family == number) & ~alone & (l2 > 0))
        members = members[np.argsort(l2[members], kind="stable")]
        for position, head in enumerate(members):
            last = position == len(members) - 1
            level = 0 if last else next(i for i, stride in enumerate(strides) if position % stride == 0)
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
    stack: SmoothStack, theta: Tensor, heads: list[int], usable: NDArray[np.bool_], family: NDArray[np.int64]
) -> SmoothStack:
    """The given heads of the stack, started from the polynomial through their nearest `usable` relatives."""
    log = stack.l2.clamp_min(1e-300).log().cpu().numpy()
    chosen = stack.of(torch.tensor(heads, device=theta.device))
    start, cold = chosen.theta.clone(), chosen.cold.clone()
    for place, head in enumerate(heads):
        if not bool(cold[place]):
            continue
        relatives = np.flatnonzero(usable & (family == family[head]))
        nearest = relatives[np.argsort(np.abs(log[relatives] - log[head]), kind="stable")[:_NODES]]
        _, first = np.unique(log[nearest], return_index=True)
        nearest = nearest[np.sort(first)]
        if len(nearest) == 0:
            continue
        if np.diff(np.sort(log[nearest])).max(initial=0) > _WIDEST:
            nearest = _around(nearest, log, log[head])
        for node, share in zip(nearest, lagrange(log[nearest], log[head]), strict=True):
            start[place].add_(theta[node], alpha=float(share))
        cold[place] = False
    return dataclasses.replace(chosen, theta=start, cold=cold)


def _around(nodes: NDArray[np.int64], log: NDArray[np.float64], at: float) -> NDArray[np.int64]:
    """The nearest node on either side, or only one where all lie on the same side."""
    sides = (nodes[log[nodes] <= at], nodes[log[nodes] > at])
    return np.array([side[0] for side in sides if len(side)])


def _from_shares(stack: SmoothStack) -> SmoothStack:
    """The stack with cold heads at the biases that tell the classes' shares by weight, and nothing else.

    From equal shares, where a curvature is that of equal shares too, those of rare classes are slow to find.
    """
    loss, cold = stack.loss, torch.nonzero(stack.cold).flatten()
    shares = torch.zeros(len(loss.weights), max(2, loss.columns)).to(loss.weights)
    logs = shares.index_add_(1, loss.target, loss.weights).clamp_min(_RAREST).log()
    logs = logs[:, 1:] - logs[:, :1] if loss.columns == 1 else logs - logs.mean(1, keepdim=True)
    theta = stack.theta.clone()
    theta[cold, :, -1] = logs[stack.weight_of[cold]]
    return dataclasses.replace(stack, theta=theta)


def solve_path(stack: SmoothStack, directions: Directions, family: NDArray[np.int64], widest: int) -> Solved:
    """Solve every head of a smooth stack, at most `widest` at a time.

    `family` (H,) numbers the sets of heads that differ only in `l2`.
    """
    theta = torch.zeros_like(stack.theta)
    answers = Solved.into(theta)
    alone = ~stack.cold.cpu().numpy()
    l2 = stack.l2.cpu().numpy()
    usable = np.zeros(stack.heads, dtype=bool)
    columns = stack.heads * stack.theta.shape[1]
    strides = _STRIDES if columns >= _WIDE else _STRIDES_OF_NARROW
    for heads in levels(l2, family, alone, strides):
        started = _interpolate(stack, theta, heads, usable, family)
        # Heads that need a similar number of iterations run together: by strength, not by order.
        order = torch.argsort(started.l2, stable=True)
        for part in torch.split(order, widest):
            which = torch.tensor(heads, device=part.device)[part]
            answers.put(which, solve_smooth(_from_shares(started.of(part)), directions))
        usable[heads] = answers.converged.cpu().numpy()[heads] & (l2[heads] > 0)
    return answers
