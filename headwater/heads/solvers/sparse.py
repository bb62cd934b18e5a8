"""L1 and elastic-net heads, batched, with exact zeros: a path of penalties, working features, Newton steps.

Heads start at the penalty that leaves nothing and come down to their own in a few strides; in between, each
works only on the features that want to move. This runs in single precision; then the few features that
matter are settled in double precision, and the duality gap says how near the optimum a head is. The Newton
steps live in `sparse_newton`, the gap in `sparse_gap`, what heads are made of in `sparse_heads`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.heads.solvers.sparse_gap import balanced, dual
from headwater.heads.solvers.sparse_heads import Heads, Picked, begin
from headwater.heads.solvers.sparse_model import Array, Mask, subgradient
from headwater.heads.solvers.sparse_newton import Work, newton
from headwater.heads.solvers.sparse_rows import AllFeatures
from headwater.heads.solvers.stack import Solved, Stack

_STRIDE = 0.05  # from one penalty of the path to the next
_FIRST = 24  # features a head may add to its first working set
_COARSE = 1e-2  # the subgradient, relative to l1, at which single precision has done its part
_FINE = 0.1  # of its tolerance is the one at which a head is settled
_NEAR = 3e-2  # features this near to moving, relative to l1, are judged in double precision
_NOISE = 1e-6  # of a slope in single precision, relative to the sizes that are summed
_TOGETHER = 32  # heads whose working copies share the caches
_COPIES = 1 << 24  # numbers in the working copies of the heads that move at once
_DESCENT = 0.5  # of a head's steps may be taken in single precision: some never come near their optimum there
_PATH, _END = 1, 2  # Newton steps at a penalty of the path, and at a head's own
_EXACT = 1e-3  # of the tolerance is what an estimate of the gap must come down to
_SAFETY = 8.0  # the estimate may be short by a factor
_ROUNDS, _LAST = 6, 6  # of the finish, and Newton steps in each


@dataclass
class Measured:
    """Where heads ended, all (H,): objective, gap, whether that is certified, the subgradient's sizes."""

    objective: Array
    gap: Array
    gradient_norm: Array
    steepest: Array
    certified: Mask

    @staticmethod
    def empty(count: int) -> Measured:
        """Room for `count` heads."""
        zero = np.zeros(count)
        return Measured(zero, zero.copy(), zero.copy(), zero.copy(), np.ones(count, dtype=bool))

    def put(self, keep: NDArray[np.int64], other: Measured) -> None:
        """Take over the figures of some of the heads."""
        self.objective[keep], self.gap[keep] = other.objective, other.gap
        self.gradient_norm[keep], self.steepest[keep] = other.gradient_norm, other.steepest
        self.certified[keep] = other.certified


class _Solver:
    """What all heads of a stack share: the features in both precisions, and which of them are penalised."""

    def __init__(self, exact: AllFeatures) -> None:
        self.exact, self.narrow = exact, exact.narrow()
        self.penalised = np.ones(exact.features)
        if exact.shift is None:
            self.penalised[-1] = 0
        sample = self.narrow.x[:: max(1, len(exact.x) // 64)]
        size = sample.square().mean(0)
        if self.narrow.shift is not None:
            size = size + self.narrow.shift.square()
        self.size = float(size.max().sqrt())

    def gradient(self, heads: Heads) -> NDArray[np.float32]:
        """The loss's gradients (H, K, d + 1) in single precision, without penalties."""
        loss = heads.loss.to(torch.float32)
        return self._back(heads, loss.residual(loss.probabilities(heads.z.float())))

    def _back(self, heads: Heads, residual: Tensor) -> NDArray[np.float32]:
        slopes: NDArray[np.float32] = (
            self.narrow.back(heads.on_all_rows(residual, len(self.narrow.x))).cpu().numpy()
        )
        return slopes

    def descend(self, heads: Heads, *, cold: Mask) -> NDArray[np.float32]:
        """Brings heads near their optima in single precision, down a path of penalties where `cold` (H,).

        Returns the loss's gradients where they end.
        """
        running = np.arange(len(heads.l1))
        level, began, at = heads.l1.copy(), cold, heads.of(running)
        slopes = np.zeros(heads.weight.shape, dtype=np.float32)
        while True:
            loss_gradient = self.gradient(at)
            l1, l2 = (each[:, None, None] * self.penalised for each in (at.l1, at.l2))
            gradient = loss_gradient + l2 * at.weight if l2.any() else loss_gradient.astype(np.float64)
            worst = np.abs(subgradient(gradient, at.weight, l1)).max((1, 2))
            size = np.abs(gradient).max(1)
            level = np.where(began, (size * self.penalised).max(1), level)
            began = np.zeros_like(began)
            noise = _NOISE * self.size
            done = (level <= at.l1) & (worst <= np.maximum(_COARSE * at.l1, noise))
            done |= at.used >= _DESCENT * at.most
            done |= ~at.weight.any((1, 2)) & (worst <= 0)
            if done.any():
                slopes[running[done]] = loss_gradient[done]
                heads.put(running[done], at.of(np.flatnonzero(done)))
                keep = np.flatnonzero(~done)
                if len(keep) == 0:
                    return slopes
                running, at, level, began = running[keep], at.of(keep), level[keep], began[keep]
                size = size[keep]
            level = np.maximum(at.l1, _STRIDE * level)
            chosen = self._wanted(size, at.weight, level)
            last = bool((level <= at.l1).all())
            goal = np.where(level <= at.l1, 0.1 * _COARSE * at.l1, 0.1 * level)
            self._move(at, chosen, level, np.maximum(goal, 0.1 * noise), _END if last else _PATH)

    def _wanted(self, size: Array, weight: Array, level: Array) -> Mask:
        """Each head's non-zero features and about as many of those that want in, (H, d + 1).

        `size` (H, d + 1) of the slopes.
        """
        support: Mask = (weight != 0).any(1)
        excess = np.where(support, 0, np.maximum(size - level[:, None], 0))
        room = np.maximum(support.sum(1), _FIRST)
        most = min(int(room.max()), excess.shape[1])
        places = np.argpartition(-excess, most - 1, axis=1)[:, :most]
        values = np.take_along_axis(excess, places, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        places, values = np.take_along_axis(places, order, axis=1), np.take_along_axis(values, order, axis=1)
        chosen = support
        added = (values > 0) & (np.arange(most) < room[:, None])
        head, place = np.nonzero(added)
        chosen[head, places[head, place]] = True
        if not self.penalised[-1]:
            chosen[:, -1] = True
        return chosen

    def _copy(self, at: Heads, picked: Picked, dtype: torch.dtype) -> Work:
        """The heads on their picked features."""
        x = (self.exact if dtype == torch.float64 else self.narrow).copies(picked.features, at.rows, dtype)
        weight = picked.gather(at.weight)
        penalised = np.where(picked.allowed, self.penalised[picked.features], 1)[:, None]
        work = Work(
            x=x,
            loss=at.loss.to(dtype),
            weight=weight,
            z=at.z,
            l1=at.l1[:, None, None] * penalised,
            l2=at.l2[:, None, None] * penalised,
            allowed=picked.allowed[:, None],
            damping=at.damping,
            promise=np.full(len(weight), np.inf),
        )
        work.z = work.along(weight)
        return work

    def _parts(self, at: Heads, chosen: Mask) -> list[NDArray[np.int64]]:
        """Heads that move at once: those of similar numbers of features, few enough for the caches."""
        counts = chosen.sum(1)
        most, columns = max(1, int(counts.max())), at.weight.shape[1]
        width = max(1, int(_COPIES / (most * max(at.z.shape[2], most * columns**2))))
        width = min(width, _TOGETHER)
        order = np.argsort(counts, kind="stable")
        return [order[first : first + width] for first in range(0, len(order), width)]

    def _move(self, at: Heads, chosen: Mask, level: Array, goal: Array, steps: int) -> None:
        """Newton steps of every head on its chosen features in single precision."""
        for part in self._parts(at, chosen):
            some = replace(at.of(part), l1=level[part])
            picked = Picked.of(chosen[part])
            work = self._copy(some, picked, torch.float32)
            left = np.ceil(_DESCENT * some.most).astype(np.int64) - some.used
            some.used += newton(work, steps=np.minimum(steps, left), goal=goal[part])
            self._store(some, work, picked)
            at.put(part, some)

    @staticmethod
    def _store(at: Heads, work: Work, picked: Picked) -> None:
        at.weight = picked.scatter(work.weight, np.zeros_like(at.weight))
        at.z, at.damping = work.z.to(at.z.dtype), work.damping

    def settle(self, heads: Heads, tolerance: Array, slopes: NDArray[np.float32]) -> Measured:
        """Finishes heads in double precision and measures them; `slopes` are the loss's gradients there."""
        measured = Measured.empty(len(tolerance))
        chosen = self._near(heads, slopes)
        for part in self._parts(heads, chosen):
            some = heads.of(part)
            measured.put(part, self._settle(some, chosen[part], tolerance[part]))
            heads.put(part, some)
        return measured

    def _near(self, heads: Heads, gradient: NDArray[Any]) -> Mask:
        """Features that single precision cannot call zero or not: the non-zeros, and those about to move."""
        room = heads.l1 * (1 - _NEAR) - _NOISE * self.size
        moving: Mask = (np.abs(gradient).max(1) > room[:, None]) & (self.penalised > 0)
        moving |= (heads.weight != 0).any(1) | (self.penalised == 0)
        return moving

    def _settle(self, at: Heads, chosen: Mask, tolerance: Array) -> Measured:
        goal = np.maximum(_FINE * tolerance * at.l1, 1e-14 * self.size)
        picked = Picked.of(chosen)
        work = self._copy(at, picked, torch.float64)
        promise = work.promise
        for number in range(_ROUNDS):
            if number:  # what is not settled by now needs every digit
                work.curved = torch.float64
            before = at.used.copy()
            at.used += newton(work, steps=np.minimum(_LAST, at.most - at.used), goal=goal)
            # Heads only descend: what an earlier step promised is still true. A step of nothing promises
            # nothing, since its model was not solved.
            promise = np.minimum(promise, np.where(work.promise > 0, work.promise, np.inf))
            measured, slopes = self._measure(at, work, picked)
            self._store(at, work, picked)
            near = self._near(at, slopes) & ~chosen
            late = measured.gap > tolerance * np.abs(measured.objective)
            more = (late | (measured.steepest > goal)) & (at.used < at.most)
            if not (near.any() or more.any()) or ((at.used == before).all() and not near.any()):
                break
            goal = np.where(late, 0.1 * goal, goal)
            if near.any():
                chosen = chosen | near
                picked = Picked.of(chosen)
                work = self._copy(at, picked, torch.float64)
                promise = work.promise
        # A penalty near nothing lets no dual point near the optimum: there a step's promise decides.
        estimate = _SAFETY * promise
        enough = (measured.gap > tolerance * measured.objective) & (
            estimate <= _EXACT * tolerance * measured.objective
        )
        measured.gap = np.where(enough, estimate, measured.gap)
        measured.certified = ~enough
        return measured

    def _measure(self, at: Heads, work: Work, picked: Picked) -> tuple[Measured, Array]:
        """Objective, gap and subgradient in double precision, and the slopes of all features."""
        loss = work.loss
        p = loss.probabilities(work.z)
        residual = loss.residual(p)
        own = (residual @ work.x.transpose(1, 2)).cpu().numpy()
        slope = subgradient(own + work.l2 * work.weight, work.weight, work.l1) * work.allowed
        factors = torch.ones_like(work.z[:, :1])
        if self.exact.shift is None:
            residual, factors = balanced(residual, loss.target, loss.columns)
            own = (residual @ work.x.transpose(1, 2)).cpu().numpy()
        slopes = self._back(at, residual.float()).astype(np.float64)
        outside = np.maximum(np.abs(slopes) - at.l1[:, None, None], 0) * self.penalised
        picked.scatter(np.zeros_like(own), outside)
        picked.scatter(own, slopes)
        objective = work.objective(work.weight, work.z)
        penalties = [
            torch.from_numpy(each[:, None, None] * self.penalised).to(p.device) for each in (at.l1, at.l2)
        ]
        bound = dual(loss, p, factors, torch.from_numpy(slopes).to(p.device), (penalties[0], penalties[1]))
        return Measured(
            objective=objective,
            gap=np.maximum(objective - bound.cpu().numpy(), 0),
            gradient_norm=np.sqrt((slope**2).sum((1, 2)) + (outside**2).sum((1, 2))),
            steepest=np.maximum(np.abs(slope).max((1, 2)), outside.max((1, 2))),
            certified=np.ones(len(objective), dtype=bool),
        ), slopes


def solve_sparse(stack: Stack, widest: int, shift: Tensor | None = None) -> Solved:
    """Minimise every head of a stack with an L1 penalty to its tolerance, at most `widest` heads at a time.

    `shift` (d,) penalises the bias: logits are then (x + shift)·w + b with b as one more weight. None: b is
    free.
    """
    solver = _Solver(AllFeatures(stack.x, shift))
    heads, tolerance = begin(stack, shift), stack.tolerance.cpu().numpy()
    order = np.lexsort((heads.l2, -heads.l1))  # those of one penalty together, strong penalties first
    measured = Measured.empty(len(order))
    cold = stack.cold.cpu().numpy()
    for first in range(0, len(order), max(1, widest)):
        part = order[first : first + max(1, widest)]
        some = heads.of(part)
        slopes = solver.descend(some, cold=cold[part])
        measured.put(part, solver.settle(some, tolerance[part], slopes))
        heads.put(part, some)
    weight, bias = heads.weight[:, :, :-1], heads.weight[:, :, -1]
    if shift is not None:
        bias = bias + weight @ shift.double().cpu().numpy()

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(stack.x.device)

    return Solved(
        weight=tensor(weight).permute(2, 1, 0).to(stack.weight.dtype),
        bias=tensor(bias).T.to(stack.bias.dtype),
        objective=tensor(measured.objective),
        gradient_norm=tensor(measured.gradient_norm),
        gap=tensor(measured.gap),
        certified=tensor(measured.certified),
        iterations=tensor(heads.used),
        converged=tensor(measured.gap <= tolerance * np.abs(measured.objective)),
    )
