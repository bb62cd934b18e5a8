"""L1 and elastic-net heads, batched, with exact zeros: a path of penalties, working features, Newton steps.

Heads start at the penalty that leaves nothing and come down to their own in a few strides; in between, each
works only on the features that want to move. This runs in single precision; then the few features that
matter are settled in double precision, and the duality gap says how near the optimum a head is. The Newton
steps live in `sparse_newton`, the gap in `sparse_gap`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headwater.heads.solvers.sparse_gap import balanced, dual
from headwater.heads.solvers.sparse_newton import Work, newton, subgradient
from headwater.heads.solvers.sparse_rows import Design, HeadLoss, own_rows
from headwater.heads.solvers.stack import Solved, Stack

_STRIDE = 0.1  # from one penalty of the path to the next
_FIRST = 48  # features a head may add to its first working set
_COARSE = 1e-3  # the subgradient, relative to l1, at which single precision has done its part
_FINE = 0.1  # of its tolerance is the one at which a head is settled
_NEAR = 1e-4  # features this near to moving are judged in double precision
_NOISE = 1e-6  # of a slope in single precision, relative to the sizes that are summed
_TOGETHER = 32  # heads whose working copies share the caches
_COPIES = 1 << 24  # numbers in the working copies of the heads that move at once
_PATH, _END = 1, 2  # Newton steps at a penalty of the path, and at a head's own
_EXACT = 1e-3  # of the tolerance is what an estimate of the gap must come down to
_SAFETY = 8.0  # the estimate may be short by a factor
_ROUNDS, _LAST = 6, 6  # of the finish, and Newton steps in each


@dataclass
class _Heads:
    """Heads on their way: weights (H, K, d + 1), the bias last, and logits (H, K, r) on their own rows."""

    loss: HeadLoss
    rows: Tensor | None
    l1: Tensor
    l2: Tensor
    weight: Tensor
    z: Tensor
    used: Tensor
    most: Tensor
    damping: Tensor

    def of(self, keep: Tensor) -> _Heads:
        return _Heads(
            self.loss.of(keep),
            None if self.rows is None else self.rows[keep],
            self.l1[keep],
            self.l2[keep],
            self.weight[keep],
            self.z[keep],
            self.used[keep],
            self.most[keep],
            self.damping[keep],
        )

    def put(self, keep: Tensor, other: _Heads) -> None:
        self.weight[keep], self.z[keep], self.used[keep] = other.weight, other.z, other.used
        self.damping[keep] = other.damping

    def on_all_rows(self, values: Tensor, n: int) -> Tensor:
        """Values (H, K, r) on the heads' own rows as (H, K, n), zero elsewhere."""
        if self.rows is None:
            return values
        full = torch.zeros((*values.shape[:2], n), dtype=values.dtype, device=values.device)
        return full.scatter_add_(2, self.rows.unsqueeze(1).expand_as(values), values)

    def penalties(self, features: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """l1 and l2 (H, 1, m) of each head's features; `features` is 0 where a feature is a free bias."""
        return (self.l1.view(-1, 1, 1) * features).to(dtype), (self.l2.view(-1, 1, 1) * features).to(dtype)


@dataclass
class Measured:
    """Where heads ended, all (H,): objective, gap, whether that is certified, the subgradient's sizes."""

    objective: Tensor
    gap: Tensor
    gradient_norm: Tensor
    steepest: Tensor
    certified: Tensor

    @staticmethod
    def empty(count: int, like: Tensor) -> Measured:
        """Room for `count` heads."""
        zero, yes = like.new_zeros(count), torch.ones(count, dtype=torch.bool, device=like.device)
        return Measured(zero, zero.clone(), zero.clone(), zero.clone(), yes)

    def put(self, keep: Tensor, other: Measured) -> None:
        """Take over the figures of some of the heads."""
        self.objective[keep], self.gap[keep] = other.objective, other.gap
        self.gradient_norm[keep], self.steepest[keep] = other.gradient_norm, other.steepest
        self.certified[keep] = other.certified


class _Solver:
    """What all heads of a stack share: the features in both precisions, and which of them are penalised."""

    def __init__(self, design: Design) -> None:
        self.exact, self.narrow = design, design.narrow()
        self.penalised = torch.ones(design.features, dtype=torch.float64, device=design.x.device)
        if design.shift is None:
            self.penalised[-1] = 0
        sample = self.narrow.x[:: max(1, len(design.x) // 256)]
        size = sample.square().mean(0)
        if self.narrow.shift is not None:
            size = size + self.narrow.shift.square()
        self.size = float(size.max().sqrt())

    def gradient(self, heads: _Heads) -> Tensor:
        """The loss's gradients (H, K, d + 1) in single precision, without penalties."""
        loss = heads.loss.to(torch.float32)
        residual = loss.residual(loss.probabilities(heads.z.float()))
        return self.narrow.back(heads.on_all_rows(residual, len(self.narrow.x)))

    def descend(self, heads: _Heads, *, cold: Tensor) -> None:
        """Brings heads near their optima in single precision, down a path of penalties where `cold` (H,)."""
        running = torch.arange(len(heads.l1), device=heads.l1.device)
        level = heads.l1.clone()
        began = cold.clone()
        at = heads.of(running)
        while True:
            l1, l2 = at.penalties(self.penalised, torch.float32)
            gradient = self.gradient(at) + l2 * at.weight
            slope = subgradient(gradient, at.weight, l1)
            worst = slope.abs().amax((1, 2)).double()
            top = (gradient.abs() * (l1 > 0)).amax((1, 2)).double()
            level = torch.where(began, top, level)
            began[:] = False
            noise = _NOISE * self.size
            done = (level <= at.l1) & (worst <= torch.clamp(_COARSE * at.l1, min=noise)) | (
                at.used >= at.most
            )
            done |= (at.weight == 0).all(2).all(1) & (worst <= 0)
            heads.put(running[done], at.of(done))
            keep = torch.nonzero(~done).flatten()
            if len(keep) == 0:
                return
            if len(keep) < len(running):
                running, at, level, began = running[keep], at.of(keep), level[keep], began[keep]
                gradient, worst = gradient[keep], worst[keep]
            level = torch.maximum(at.l1, _STRIDE * level)
            chosen = self._wanted(gradient, at.weight, level)
            last = bool((level <= at.l1).all())
            goal = torch.where(level <= at.l1, 0.1 * _COARSE * at.l1, 0.1 * level)
            self._move(at, chosen, level, goal.clamp_min(0.1 * noise), _END if last else _PATH)

    def _wanted(self, gradient: Tensor, weight: Tensor, level: Tensor) -> Tensor:
        """Each head's non-zero features and about as many of those that want in, (H, d + 1) bool."""
        support = (weight != 0).any(1)
        excess = gradient.abs().amax(1) - level.unsqueeze(1).to(gradient.dtype)
        excess = torch.where(support, 0, excess.clamp_min(0))
        room = support.sum(1).clamp_min(_FIRST)
        most = min(int(room.max()), excess.shape[1])
        values, places = excess.topk(most, dim=1)
        rank = torch.arange(most, device=excess.device)
        chosen = torch.zeros_like(support)
        chosen.scatter_(1, places, (values > 0) & (rank < room.unsqueeze(1)))
        chosen |= support
        chosen[:, -1] |= self.penalised[-1] == 0
        return chosen

    def _copy(self, at: _Heads, chosen: Tensor, dtype: torch.dtype) -> tuple[Work, Tensor]:
        """The heads on their chosen features, and where these features are among all: (H, K, m)."""
        most = max(1, int(chosen.sum(1).max()))
        features = torch.topk(chosen.int(), most, dim=1).indices.sort(1).values
        allowed = chosen.gather(1, features).unsqueeze(1)
        l1, l2 = at.penalties(self.penalised[features].unsqueeze(1), dtype)
        place = features.unsqueeze(1).expand(-1, at.weight.shape[1], -1)
        weight = torch.where(allowed, at.weight.gather(2, place), 0).to(dtype)
        x = (self.exact if dtype == torch.float64 else self.narrow).copies(features, at.rows, dtype)
        return Work(
            x,
            at.loss.to(dtype),
            weight,
            weight @ x,
            l1,
            l2,
            allowed,
            at.damping,
            torch.full_like(at.l1, torch.inf),
        ), place

    def _parts(self, at: _Heads, chosen: Tensor) -> tuple[Tensor, ...]:
        """Heads that move at once: those of similar numbers of features, few enough for the caches."""
        counts = chosen.sum(1)
        width = max(1, int(_COPIES / (max(1, int(counts.max())) * at.z.shape[2])))
        return torch.split(torch.argsort(counts, stable=True), min(width, _TOGETHER))

    def _move(self, at: _Heads, chosen: Tensor, level: Tensor, goal: Tensor, steps: int) -> None:
        """Newton steps of every head on its chosen features in single precision."""
        for part in self._parts(at, chosen):
            some = replace(at.of(part), l1=level[part])
            work, place = self._copy(some, chosen[part], torch.float32)
            some.used += newton(work, steps=steps, goal=goal[part])
            self._store(some, work, place)
            at.put(part, some)

    @staticmethod
    def _store(at: _Heads, work: Work, place: Tensor) -> None:
        full = torch.zeros_like(at.weight)
        at.weight = full.scatter_add_(2, place, torch.where(work.allowed, work.weight, 0).to(full.dtype))
        at.z, at.damping = work.z.to(at.z.dtype), work.damping

    def settle(self, heads: _Heads, tolerance: Tensor) -> Measured:
        """Finishes heads in double precision and measures them."""
        measured = Measured.empty(len(tolerance), tolerance)
        chosen = self._near(heads, self.gradient(heads))
        for part in self._parts(heads, chosen):
            some = heads.of(part)
            measured.put(part, self._settle(some, chosen[part], tolerance[part]))
            heads.put(part, some)
        return measured

    def _near(self, heads: _Heads, gradient: Tensor) -> Tensor:
        """Features that single precision cannot call zero or not: the non-zeros, and those about to move."""
        room = heads.l1.view(-1, 1, 1) * (1 - _NEAR) - _NOISE * self.size
        moving = (gradient.abs() > room).any(1) & (self.penalised > 0)
        return moving | (heads.weight != 0).any(1) | (self.penalised == 0)

    def _settle(self, at: _Heads, chosen: Tensor, tolerance: Tensor) -> Measured:
        goal = _FINE * tolerance * at.l1
        goal = goal.clamp_min(1e-14 * self.size)
        work, place = self._copy(at, chosen, torch.float64)
        for number in range(_ROUNDS):
            if number:  # what is not settled by now needs every digit
                work.curved = torch.float64
            before = at.used.clone()
            at.used += newton(work, steps=_LAST, goal=goal)
            measured, slopes = self._measure(at, work, place)
            self._store(at, work, place)
            near = self._near(at, slopes) & ~chosen
            late = measured.gap > tolerance * measured.objective.abs()
            more = (late | (measured.steepest > goal)) & (at.used < at.most)
            if not bool(near.any() | more.any()) or bool((at.used == before).all() & ~near.any()):
                break
            goal = torch.where(late, 0.1 * goal, goal)
            if bool(near.any()):
                chosen = chosen | near
                work, place = self._copy(at, chosen, torch.float64)
        # A penalty near nothing lets no dual point near the optimum: there the last step's promise decides.
        estimate = _SAFETY * work.promise.clamp_min(0)
        enough = (measured.gap > tolerance * measured.objective) & (
            estimate <= _EXACT * tolerance * measured.objective
        )
        enough &= work.promise > 0  # a step of nothing promises nothing: its model was not solved
        measured.gap = torch.where(enough, estimate, measured.gap)
        measured.certified = ~enough
        return measured

    def _measure(self, at: _Heads, work: Work, place: Tensor) -> tuple[Measured, Tensor]:
        """Objective, gap and subgradient in double precision, and the slopes of all features."""
        loss, columns = work.loss, work.loss.columns
        p = loss.probabilities(work.z)
        residual = loss.residual(p)
        own = residual @ work.x.transpose(1, 2)
        slope = subgradient(own + work.l2 * work.weight, work.weight, work.l1)
        slope = torch.where(work.allowed, slope, 0)
        factors = torch.ones_like(work.z[:, :1])
        if self.exact.shift is None:
            residual, factors = balanced(residual, loss.target, columns)
            own = residual @ work.x.transpose(1, 2)
        slopes = self.narrow.back(at.on_all_rows(residual.float(), len(self.narrow.x))).double()
        slopes.scatter_(2, place, torch.where(work.allowed, own, slopes.gather(2, place)))
        outside = (slopes.abs() - at.l1.view(-1, 1, 1)).clamp_min(0) * (self.penalised > 0)
        outside.scatter_(2, place, torch.where(work.allowed, 0, outside.gather(2, place)))
        objective = work.objective(work.weight, work.z)
        bound = dual(loss, p, factors, slopes, at.penalties(self.penalised, torch.float64))
        return Measured(
            objective=objective,
            gap=(objective - bound).clamp_min(0),
            gradient_norm=(slope.square().sum((1, 2)) + outside.square().sum((1, 2))).sqrt(),
            steepest=torch.maximum(slope.abs().amax((1, 2)), outside.amax((1, 2))),
            certified=torch.ones_like(at.l1, dtype=torch.bool),
        ), slopes


def solve_sparse(stack: Stack, widest: int, shift: Tensor | None = None) -> Solved:
    """Minimise every head of a stack with an L1 penalty to its tolerance, at most `widest` heads at a time.

    `shift` (d,) penalises the bias: logits are then (x + shift)·w + b with b as one more weight. None: b is
    free.
    """
    solver = _Solver(Design(stack.x, shift))
    heads, tolerance = _begin(stack, shift), stack.tolerance
    order = _by_penalty(stack)
    measured = Measured.empty(len(order), tolerance)
    for part in torch.split(order, max(1, widest)):
        some = heads.of(part)
        solver.descend(some, cold=stack.cold[part])
        measured.put(part, solver.settle(some, tolerance[part]))
        heads.put(part, some)
    weight, bias = heads.weight[:, :, :-1], heads.weight[:, :, -1]
    if shift is not None:
        bias = bias + weight @ shift.to(weight.dtype)
    return Solved(
        weight=weight.permute(2, 1, 0).to(stack.weight.dtype),
        bias=bias.T.to(stack.bias.dtype),
        objective=measured.objective,
        gradient_norm=measured.gradient_norm,
        gap=measured.gap,
        certified=measured.certified,
        iterations=heads.used,
        converged=measured.gap <= tolerance * measured.objective.abs(),
    )


def _begin(stack: Stack, shift: Tensor | None) -> _Heads:
    """The heads at their starts; those without one at the optimum of nothing but a free bias."""
    loss = stack.loss
    rows, weights = own_rows(loss.weights.double(), loss.weight_of)
    target = loss.target.expand(len(weights), -1)
    if rows is not None:
        target = target.gather(1, rows)
    row_loss = HeadLoss(target, weights, loss.columns)
    weight, bias = stack.weight.double().permute(2, 1, 0), stack.bias.double().T
    if shift is not None:
        bias = bias - weight @ shift.double()
    else:
        bias = torch.where(stack.cold.unsqueeze(1), _frequencies(row_loss), bias)
    weight = torch.cat([weight, bias.unsqueeze(2)], dim=2)
    z = Design(stack.x, shift).logits(weight.to(stack.x.dtype)).double()
    if rows is not None:
        z = z.gather(2, rows.unsqueeze(1).expand(-1, z.shape[1], -1))
    return _Heads(
        row_loss,
        rows,
        stack.l1,
        stack.l2,
        weight,
        z,
        torch.zeros_like(stack.max_iterations),
        stack.max_iterations,
        torch.zeros_like(stack.l1),
    )


def _frequencies(loss: HeadLoss) -> Tensor:
    """The biases (H, K) whose probabilities are the weighted frequencies of the classes."""
    classes = max(2, loss.columns)
    share = torch.zeros((len(loss.target), classes), dtype=torch.float64, device=loss.target.device)
    share.scatter_add_(1, loss.target, loss.weights)
    log = share.log()
    return log[:, 1:] - log[:, :1] if loss.columns == 1 else log - log.mean(1, keepdim=True)


def _by_penalty(stack: Stack) -> Tensor:
    """The heads' order: those of one penalty beside each other, strong penalties first."""
    order = torch.argsort(stack.l2, stable=True)
    return order[torch.argsort(stack.l1[order], descending=True, stable=True)]
