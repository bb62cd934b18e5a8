"""Solves heads that differ only in their L2 strength as a path: a few first, then those between them.

The optimum is a smooth function of log λ, so a polynomial through the nearest solved strengths starts a
head so close to its optimum that one or two iterations remain. Where the first stay far from theirs, they
are given up and found one after another, each from stronger ones. How a stack is solved lives in `smooth`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.heads.rows.blocks import Blocks
from headwater.heads.solvers.preconditioner import Directions
from headwater.heads.solvers.smooth import TRIED, Newton, solve_smooth
from headwater.heads.solvers.stack import SmoothStack, Solved

_STRIDES = (32, 16, 8, 4, 2, 1)
# A pass over the rows costs much the same for few columns of heads as for this share of so many: stacks that
# are narrower are solved in two rounds, which take more iterations and far fewer passes.
_WIDE, _STRIDES_OF_NARROW = 512, (4, 1)
_NODES, _NODES_BEYOND = 4, 3  # a polynomial says less beyond its nodes
# Over wider gaps than this between nodes, in natural log units of λ, the polynomial is a straight line.
_WIDEST = 3.0
_RAREST = 1e-6  # no class is taken to be rarer
# A head between others that took more iterations than this is not where they pointed.
_SOON = 2
_LINK = 8  # the stride of strengths that are solved one after another
_NUMBERS = 1 << 24  # probabilities of sampled rows held at once


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
    """The given heads of the stack, started from the polynomial through their nearest `usable` relatives.

    Without any they start where they were left, if they were begun, and cold if not.
    """
    log = stack.l2.clamp_min(1e-300).log().cpu().numpy()
    chosen = stack.of(torch.tensor(heads, device=theta.device))
    start, cold = chosen.theta.clone(), chosen.cold.clone()
    for place, head in enumerate(heads):
        if not bool(cold[place]):
            continue
        relatives = np.flatnonzero(usable & (family == family[head]))
        nearest = relatives[np.argsort(np.abs(log[relatives] - log[head]), kind="stable")[:_NODES]]
        if (log[nearest] > log[head]).all() or (log[nearest] < log[head]).all():
            nearest = nearest[:_NODES_BEYOND]
        _, first = np.unique(log[nearest], return_index=True)
        nearest = nearest[np.sort(first)]
        if len(nearest) == 0:
            if bool(theta[head].any()):
                start[place], cold[place] = theta[head], False
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


@dataclass(frozen=True)
class Room:
    """What a path may take: `widest` heads at a time, `rows` sampled for Newton steps, 0 for none.

    `held`: whether rows that are read anew on every pass may be held where passes are many and narrow.
    """

    widest: int
    rows: int = 0
    held: bool = False


def solve_path(stack: SmoothStack, directions: Directions, family: NDArray[np.int64], room: Room) -> Solved:
    """Solve every head of a smooth stack.

    `family` (H,) numbers the sets of heads that differ only in `l2`. Where there is room for Newton steps,
    those of the first round that stay far from their optimum are given up, and solved with some between them
    one after another, from the strongest penalty down: near its optimum a head takes few such steps, and far
    from it many. Heads in the rounds after that may take such steps too.
    """
    path = _Path(stack, directions, family, room)
    strides = _STRIDES if stack.heads * stack.theta.shape[1] >= _WIDE else _STRIDES_OF_NARROW
    first, *rounds = levels(path.l2, family, path.alone, strides)
    slow = path.tried(first)
    if slow:
        nodes, *_ = levels(path.l2, family, path.alone, (_LINK, 1))
        theirs = set(family[slow].tolist())
        path.descend([head for head in {*slow, *nodes} - path.done if int(family[head]) in theirs])
    for heads in rounds:
        path.solve([head for head in heads if head not in path.done], newton_after=_SOON if slow else None)
    return path.answers


class _Path:
    """The heads of a stack that are solved so far, `done`, and those among them that others start from."""

    def __init__(
        self, stack: SmoothStack, directions: Directions, family: NDArray[np.int64], room: Room
    ) -> None:
        self._stack, self._directions, self._family, self._room = stack, directions, family, room
        self._theta = torch.zeros_like(stack.theta)
        self._usable = np.zeros(stack.heads, dtype=bool)
        self._spent = torch.zeros_like(stack.max_iterations)  # iterations of heads that were given up
        self.answers = Solved.into(self._theta)
        self.done: set[int] = set()
        self.alone = ~stack.cold.cpu().numpy()
        self.l2 = stack.l2.cpu().numpy()

    def tried(self, heads: list[int]) -> list[int]:
        """Solves heads side by side, but gives up, and returns, far ones that could start from others."""
        if not self._room.rows:
            self.solve(heads)
            return []
        _, place, relatives = np.unique(self._family, return_inverse=True, return_counts=True)
        others = (relatives[place] > 1) & ~self.alone & (self.l2 > 0)
        self.solve(heads, may_leave=torch.from_numpy(others))
        left = others & (~self.answers.converged & (self.answers.iterations == TRIED)).cpu().numpy()
        slow = [head for head in heads if left[head]]
        self._spent[slow] = TRIED
        self.done -= set(slow)
        return slow

    def descend(self, heads: list[int]) -> None:
        """Solves heads one strength after another, each family from its strongest down, by Newton steps."""
        ranks: dict[int, list[int]] = {}
        for head in sorted(heads, key=lambda head: -self.l2[head]):
            ranks.setdefault(int(self._family[head]), []).append(head)
        rows = self._stack.loss.rows
        if self._room.held:
            rows = rows.held()
        for link in zip_longest(*ranks.values()):
            self.solve([head for head in link if head is not None], newton_after=0, rows=rows)

    def solve(
        self,
        heads: list[int],
        newton_after: int | None = None,
        may_leave: Tensor | None = None,
        rows: Blocks | None = None,
    ) -> None:
        """Solves heads side by side, from what is known, at most as many at a time as there is room for."""
        if not heads:
            return
        limit = self._stack.max_iterations - self._spent
        stack = dataclasses.replace(self._stack, max_iterations=limit)
        if rows is not None:
            stack = dataclasses.replace(stack, loss=dataclasses.replace(stack.loss, rows=rows))
        started = _interpolate(stack, self._theta, heads, self._usable, self._family)
        # Heads that need a similar number of iterations run together: by strength, not by order.
        order = torch.argsort(started.l2, stable=True)
        for part in torch.split(order, self._room.widest):
            which = torch.tensor(heads, device=part.device)[part]
            ready = _from_shares(started.of(part))
            leaving = None if may_leave is None else may_leave.to(which.device)[which]
            solved = solve_smooth(ready, self._directions, self._newton(ready, newton_after), leaving)
            self.answers.put(which, solved)
            self.answers.iterations[which] += self._spent[which]
        converged = self.answers.converged.cpu().numpy()[heads]
        self._usable[heads] = converged & (self.l2[heads] > 0)
        self.done |= set(heads)

    def _newton(self, stack: SmoothStack, after: int | None) -> Newton | None:
        heads, columns, numbers = stack.theta.shape
        rows = min(self._room.rows, _NUMBERS // (heads * columns))
        return Newton(rows, after) if after is not None and rows >= numbers else None
