"""Newton steps for L1 heads on their working features: a quadratic model each, solved for its signs.

One step is a step of proximal Newton (Lee, Sun & Saunders 2014); the quadratic with its L1 term is solved by
guessing which weights are zero, solving for the others and correcting the guess (primal-dual active sets,
Hintermüller, Ito & Kunisch 2003). Which features are worked on is decided in `sparse`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headwater.heads.solvers.sparse_rows import HeadLoss

# Non-zeros up to which a head's Hessian is written down; of more, those of the steepest slopes move.
DENSE = 3000
_WORTH = 0.75
_GUESSES, _SHRINKS, _POWERS = 3, 80, 8
_INEXACT = 0.5  # of its steepest slope may be left of a model that was not solved exactly
_HALVINGS = 8
_DAMPING = 1e-4  # the least, once a step has failed
_BLOCK = 1 << 23
# Rows for each unknown that a Hessian is made from: on the way a step need not be exact to descend, but in
# the finish, in double precision, it takes all rows to come nearer by more than a factor each time.
_ROWS_PER_UNKNOWN = 16
_RIDGE = {torch.float32: 1e-6, torch.float64: 1e-11}


@dataclass
class Work:
    """Heads on their working features: `x` (H, m, r), `weight` (H, K, m), logits `z` (H, K, r).

    `l1`, `l2` (H, 1, m) are the penalties of every feature, and `allowed` (H, 1, m) says which are features
    and not padding. `damping` (H,) is added to the Hessians' diagonals, relative to them, after steps that
    failed; `promise` (H,) is what the last step's model promised; `curved` is the Hessians' precision.
    """

    x: Tensor
    loss: HeadLoss
    weight: Tensor
    z: Tensor
    l1: Tensor
    l2: Tensor
    allowed: Tensor
    damping: Tensor
    promise: Tensor
    curved: torch.dtype = torch.float32

    def of(self, keep: Tensor) -> Work:
        """Some of the heads."""
        return Work(
            self.x[keep],
            self.loss.of(keep),
            self.weight[keep],
            self.z[keep],
            self.l1[keep],
            self.l2[keep],
            self.allowed[keep],
            self.damping[keep],
            self.promise[keep],
            self.curved,
        )

    def put(self, heads: Tensor, other: Work) -> None:
        """Take over where some of the heads have moved."""
        self.weight[heads], self.z[heads] = other.weight, other.z
        self.damping[heads], self.promise[heads] = other.damping, other.promise

    def objective(self, weight: Tensor, z: Tensor) -> Tensor:
        """Loss and penalties (H,) float64."""
        penalty = self.l1 * weight.abs() + self.l2 / 2 * weight.square()
        return self.loss.value(z) + penalty.sum((1, 2), dtype=torch.float64)


def subgradient(gradient: Tensor, weight: Tensor, l1: Tensor) -> Tensor:
    """The subgradient of least size; zero everywhere at the optimum."""
    outside = gradient.sign() * (gradient.abs() - l1).clamp_min(0)
    return torch.where(weight != 0, gradient + l1 * weight.sign(), outside)


@dataclass
class _Model:
    """Quadratic models of H heads in s unknowns each, with the unknowns' present values and l1 (H, s)."""

    slope: Tensor
    hessian: Tensor
    at: Tensor
    l1: Tensor
    real: Tensor

    def value(self, step: Tensor, heads: Tensor) -> Tensor:
        """The model's change by a step, penalty included: (len(heads),)."""
        at = _some(self.at, heads)
        image = (_some(self.hessian, heads) @ step.unsqueeze(2)).squeeze(2)
        moved = (at + step).abs() - at.abs()
        total = (_some(self.slope, heads) + image / 2) * step + _some(self.l1, heads) * moved
        return total.sum(1).to(step.dtype)

    def minimise(self) -> Tensor:
        """The best step found, (H, s); exact where the last guess of zeros and signs proves right."""
        best = torch.zeros_like(self.at)
        least = torch.zeros(len(best), dtype=self.at.dtype, device=best.device)
        sign = torch.where(self.at != 0, self.at.sign(), -self.slope.sign().to(self.at.dtype))
        active = self.real
        todo = torch.arange(len(best), device=best.device)
        for _ in range(_GUESSES):
            step, slope, failed = self._solve(todo, active, sign)
            own, l1 = _some(self.at, todo), _some(self.l1, todo)
            bad = active & ((own + step) * sign < 0) & (l1 > 0)
            back = _some(self.real, todo) & ~active & (slope.abs() > l1 * (1 + 1e-5))
            wrong = (bad | back).any(1) | failed
            step = torch.where(bad, -own, step)
            value = self.value(step, todo)
            better = (value < least[todo]) | ~wrong  # rounding hides the descent of the last steps
            best[todo] = torch.where(better.unsqueeze(1), step, best[todo])
            least[todo] = torch.where(better, value, least[todo])
            left = int(wrong.sum())
            if left == 0:
                break
            sign = torch.where(back, -slope.sign().to(sign.dtype), sign)
            active = (active & ~bad) | back
            if left < _WORTH * len(todo):  # heads that are done would find the same again
                sign, active, todo = sign[wrong], active[wrong], todo[wrong]
        else:
            self._approach(todo[wrong] if len(wrong) == len(todo) else todo, best, least)
        return best

    def _steepest(self, step: Tensor, heads: Tensor) -> Tensor:
        """The largest subgradient of the models after a step: (len(heads),)."""
        real = _some(self.real, heads)
        slope = _some(self.slope, heads) + (_some(self.hessian, heads) @ step.unsqueeze(2)).squeeze(2)
        reached = torch.where(real, _some(self.at, heads) + step, 0)
        return subgradient(slope, reached, _some(self.l1, heads)).mul(real).abs().amax(1)

    def _approach(self, heads: Tensor, best: Tensor, least: Tensor) -> None:
        """Improves the steps of heads whose guesses went wrong, where those steps leave their models steep.

        Accelerated proximal steps find zeros and signs even of more unknowns than rows can tell apart.
        """
        start = self._steepest(torch.zeros_like(best[heads]), heads)
        heads = heads[self._steepest(best[heads], heads) > _INEXACT * start]
        if len(heads) == 0:
            return
        step = self._shrink(heads, best[heads])
        sign = (self.at[heads] + step).sign()
        active = self.real[heads] & ((sign != 0) | (self.l1[heads] == 0))
        solved, _, _ = self._solve(heads, active, torch.where(self.l1[heads] > 0, sign, 0))
        crossed = (self.at[heads] + solved) * sign < 0
        solved = torch.where(crossed, -self.at[heads], solved)
        for found in (step, solved):
            value = self.value(found, heads)
            better = value < least[heads]
            best[heads[better]], least[heads[better]] = found[better], value[better]

    def _shrink(self, heads: Tensor, step: Tensor) -> Tensor:
        """Where accelerated proximal steps lead from a step, restarted where the momentum points uphill."""
        hessian, real = self.hessian[heads], self.real[heads]
        diagonal = torch.diagonal(hessian, dim1=1, dim2=2)
        root = torch.where(real & (diagonal > 0), diagonal, 1).rsqrt() * real
        vector = torch.ones_like(root)
        for _ in range(_POWERS):
            vector = vector / vector.norm(dim=1, keepdim=True).clamp_min(1e-30)
            vector = root * (hessian @ (root * vector).unsqueeze(2)).squeeze(2)
        # power iteration approaches the largest eigenvalue from below
        pace = root.square() / (1.2 * vector.norm(dim=1, keepdim=True)).clamp_min(1e-30)
        threshold = (pace * self.l1[heads]).to(pace.dtype)
        slope, at = self.slope[heads].to(pace.dtype), self.at[heads]
        before = ahead = at + step
        momentum = torch.ones_like(pace[:, :1])
        for _ in range(_SHRINKS):
            after = ahead - pace * (slope + (hessian @ (ahead - at).unsqueeze(2)).squeeze(2))
            after = after.sign() * (after.abs() - threshold).clamp_min(0)
            uphill = ((ahead - after) * (after - before)).sum(1, keepdim=True) > 0
            following = torch.where(uphill, 1.0, (1 + (1 + 4 * momentum.square()).sqrt()) / 2)
            ahead = after + torch.where(uphill, 0, (momentum - 1) / following) * (after - before)
            before, momentum = after, following
        return before - at

    def _solve(self, heads: Tensor, active: Tensor, sign: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Steps with the inactive unknowns at zero and the signs given, and the model's slopes there.

        The third tells the heads whose Hessians rounding left indefinite: their active unknowns stay.
        """
        hessian, slope = _some(self.hessian, heads), _some(self.slope, heads)
        fixed = torch.where(active, 0, -_some(self.at, heads))
        image = (hessian @ fixed.unsqueeze(2)).squeeze(2)
        right = (slope + _some(self.l1, heads) * sign).to(image.dtype) + image
        most = max(1, int(active.sum(1).max()))
        index = torch.topk(active.int(), most, dim=1).indices.sort(1).values
        inside = active.gather(1, index)
        if most == active.shape[1]:
            system = hessian.clone()
        else:
            system = _pick(hessian, index).gather(2, index.unsqueeze(1).expand(-1, most, -1))
        system.masked_fill_(~(inside.unsqueeze(2) & inside.unsqueeze(1)), 0)
        torch.diagonal(system, dim1=1, dim2=2)[~inside] = 1
        factor, failed = torch.linalg.cholesky_ex(system)
        known = torch.where(inside, right.gather(1, index), 0)
        solved = -torch.cholesky_solve(known.unsqueeze(2), factor).squeeze(2)
        solved = torch.where(inside & (failed == 0).unsqueeze(1), solved, 0)
        step = fixed.scatter_add(1, index, solved)
        return step, slope + (hessian @ step.unsqueeze(2)).squeeze(2), failed != 0


def _some(values: Tensor, heads: Tensor) -> Tensor:
    """Of these heads, which are in order: no copy where they are all of them."""
    return values if len(heads) == len(values) else values[heads]


def newton(work: Work, *, steps: int, goal: Tensor) -> Tensor:
    """Up to `steps` Newton steps, each head until its largest subgradient is at most `goal` (H,).

    Moves `work` in place and returns how many steps each head took.
    """
    taken = torch.zeros(len(work.x), dtype=torch.int64, device=work.x.device)
    todo = torch.arange(len(work.x), device=work.x.device)
    part = replace(work)
    work.weight, work.z, work.damping = work.weight.clone(), work.z.clone(), work.damping.clone()
    work.promise = work.promise.clone()
    for _ in range(steps):
        p = part.loss.probabilities(part.z)
        gradient = part.loss.residual(p) @ part.x.transpose(1, 2) + part.l2 * part.weight
        slope = torch.where(part.allowed, subgradient(gradient, part.weight, part.l1), 0)
        far = slope.abs().amax((1, 2)) > goal[todo].to(slope.dtype)
        if not bool(far.any()):
            break
        if int(far.sum()) < _WORTH * len(far):  # fewer heads are worth a copy of their features
            work.put(todo, part)
            keep = torch.nonzero(far).flatten()
            todo, part = todo[keep], part.of(keep)
            p, gradient, slope = p[keep], gradient[keep], slope[keep]
        _step(part, p, gradient, slope)
        taken[todo] += 1
    work.put(todo, part)
    return taken


def _step(work: Work, p: Tensor, gradient: Tensor, slope: Tensor) -> None:
    heads, _, features = work.weight.shape
    wanted = work.allowed & ((work.weight != 0) | (slope != 0) | (work.l1 == 0))
    flat = wanted.reshape(heads, -1)
    count = min(int(flat.sum(1).max()), DENSE)
    rank = torch.where(flat, slope.abs().reshape(heads, -1) + 1, 0)
    entries = rank.topk(count, dim=1).indices.sort(1).values
    real = flat.gather(1, entries)
    place, column = entries % features, entries // features
    l1 = work.l1.squeeze(1).gather(1, place)
    hessian = _hessian(work, p, place, column)
    diagonal = torch.diagonal(hessian, dim1=1, dim2=2)
    # shifts of all logits are invisible to a multinomial loss, and rounding makes them look curved upward
    ridge = _RIDGE[hessian.dtype] * (1 if work.loss.columns == 1 else 10) + work.damping.to(hessian.dtype)
    diagonal += ridge.unsqueeze(1) * diagonal + work.l2.squeeze(1).gather(1, place).to(hessian.dtype)
    model = _Model(
        gradient.reshape(heads, -1).gather(1, entries),
        hessian,
        work.weight.reshape(heads, -1).gather(1, entries).to(hessian.dtype),
        l1,
        real,
    )
    best = torch.where(real, model.minimise(), 0)
    work.promise = -model.value(best, torch.arange(heads, device=best.device)).double()
    found = best.to(work.weight.dtype)
    step = torch.zeros_like(work.weight).reshape(heads, -1).scatter_(1, entries, found).view_as(work.weight)
    # a weight that goes to zero goes to zero exactly, whatever the model's precision
    step = torch.where((work.weight + step).abs() <= 1e-6 * work.weight.abs(), -work.weight, step)
    _search(work, step, gradient)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """Rows (H, s, n) of matrices (H, m, n) at each head's index (H, s); whole rows are copied fast."""
    heads, most, _ = values.shape
    start = most * torch.arange(heads, device=values.device).unsqueeze(1)
    flat = values.reshape(heads * most, -1).index_select(0, (index + start).flatten())
    return flat.view(heads, index.shape[1], -1)


def _hessian(work: Work, p: Tensor, place: Tensor, column: Tensor) -> Tensor:
    """The loss's second derivatives by the unknowns (place, column): (H, s, s), over blocks of rows."""
    heads, count = place.shape
    rows = work.x.shape[2]
    finish = work.x.dtype == torch.float64
    stride = 1 if finish else max(1, rows // max(8192, _ROWS_PER_UNKNOWN * count))
    whole = work.loss.columns == 1 and count == work.x.shape[1]  # the unknowns are the features, in order
    own, shared = work.loss.curvature(p)
    total = torch.zeros((heads, count, count), dtype=work.curved, device=work.x.device)
    same = column.unsqueeze(2) == column.unsqueeze(1)
    length = max(64, _BLOCK // (heads * count)) * stride
    for first in range(0, rows, length):
        block = slice(first, first + length, stride)
        x = work.x[:, :, block]
        values = (x if whole else _pick(x, place)).to(work.curved)
        if shared is None:
            total += (values * own[:, :, block].to(work.curved)) @ values.transpose(1, 2)
            continue
        which = column.unsqueeze(2).expand(-1, -1, x.shape[2])
        total += torch.where(
            same, (values * own[:, :, block].to(work.curved).gather(1, which)) @ values.transpose(1, 2), 0
        )
        values *= shared[:, :, block].to(work.curved).gather(1, which)
        total -= values @ values.transpose(1, 2)
    if stride > 1:
        used = work.loss.weights[:, ::stride].sum(1).clamp_min(1e-30) / work.loss.weights.sum(1)
        total /= used.view(-1, 1, 1).to(work.curved)
    return total


def _search(work: Work, step: Tensor, gradient: Tensor) -> None:
    """Moves each head along its step, halving it until the objective descends (Armijo's rule)."""
    before = work.objective(work.weight, work.z)
    moved = step @ work.x
    change = (work.weight + step).abs() - work.weight.abs()
    drop = (gradient * step + work.l1 * change).sum((1, 2), dtype=torch.float64).clamp_max(0)
    noise = before.abs() * (1e-7 if work.x.dtype == torch.float32 else 1e-14)
    length = torch.ones_like(before)
    for _ in range(_HALVINGS):
        t = length.to(step.dtype).view(-1, 1, 1)
        after = work.objective(work.weight + t * step, work.z + t * moved)
        bad = ~(after <= before + 1e-4 * length * drop + noise)
        if not bool(bad.any()):
            break
        length = torch.where(bad, length / 2, length)
    else:
        length = torch.where(bad, 0.0, length)
    length = torch.where((step == 0).all(2).all(1), 0.0, length)  # no step at all has come to nothing
    # Levenberg's rule: with enough damping a step always descends
    worse = torch.where(length == 0, 100 * work.damping, 4 * work.damping).clamp_min(_DAMPING)
    better = torch.where(work.damping > _DAMPING, work.damping / 10, 0)
    work.damping = torch.where(length < 0.25, worse, torch.where(length == 1, better, work.damping))
    t = length.to(step.dtype).view(-1, 1, 1)
    work.weight = work.weight + t * step
    work.z = work.z + t * moved
