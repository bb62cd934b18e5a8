"""Batched L-BFGS for smooth heads: two products of features per iteration, all else on logits or weights.

Each head has its own line search and leaves the stack when it is done. The quasi-Newton updates (Nocedal
1980) start from the shared metric of `curvature`, and all vectors are kept in its eigenbasis.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from headwater.heads.solvers.curvature import Basis, Metric
from headwater.heads.stack import Solved, Stack

_MEMORY = 12
_TRIALS = 15
_SUFFICIENT, _CURVATURE = 1e-4, 0.5
# The estimate of the gap, half the squared gradient in the quasi-Newton metric, may be short by a factor.
_SAFETY = 8.0
# Without a penalty, a loss below this means classes that can be told apart without error: no optimum exists.
SEPARATED = 1e-8


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per head of (d + 1, K, H) arrays: (H,) float64."""
    return torch.sum((a * b).sum(1, dtype=torch.float64), dim=0)


@dataclass
class _History:
    """The last steps and gradient changes of every head, newest last."""

    steps: list[Tensor] = field(default_factory=list)
    changes: list[Tensor] = field(default_factory=list)
    rho: list[Tensor] = field(default_factory=list)

    def push(self, step: Tensor, change: Tensor) -> None:
        product = _dot(step, change)
        size = (_dot(step, step) * _dot(change, change)).sqrt()
        usable = product > 1e-8 * size
        self.steps.append(step)
        self.changes.append(change)
        self.rho.append(torch.where(usable, 1 / product.clamp_min(1e-300), 0))
        if len(self.steps) > _MEMORY:
            for kept in (self.steps, self.changes, self.rho):
                del kept[0]

    def of(self, keep: Tensor) -> None:
        self.steps = [a[..., keep] for a in self.steps]
        self.changes = [a[..., keep] for a in self.changes]
        self.rho = [a[keep] for a in self.rho]

    def forget(self, heads: Tensor) -> None:
        for rho in self.rho:
            rho[heads] = 0

    def direction(self, gradient: Tensor, metric: Metric) -> Tensor:
        """Minus the inverse Hessian estimate applied to the gradient (two-loop recursion)."""
        q = gradient.clone()
        alphas = []
        for s, y, rho in zip(reversed(self.steps), reversed(self.changes), reversed(self.rho), strict=True):
            alpha = rho * _dot(s, q)
            alphas.append(alpha)
            q -= alpha.to(q.dtype) * y
        weight, bias = metric.solve(q[:-1], q[-1])
        q = torch.cat([weight, bias.unsqueeze(0)])
        for s, y, rho, alpha in zip(self.steps, self.changes, self.rho, reversed(alphas), strict=True):
            q += (alpha - rho * _dot(y, q)).to(q.dtype) * s
        return q.neg_()


class _Run:
    """The moving parts of one stack: parameters, logits, gradient, for the heads that are still running."""

    def __init__(self, stack: Stack, basis: Basis) -> None:
        self.x, self.basis, self.loss = stack.x, basis, stack.loss
        self.l2 = stack.l2
        self.heads = torch.arange(stack.heads, device=stack.x.device)
        self.iteration, self.stalled = 0, torch.zeros_like(self.heads)
        weight, bias = stack.weight, stack.bias
        if weight.shape[1] > 1:  # the optimum has no component along a shift of all logits
            weight, bias = weight - weight.mean(1, keepdim=True), bias - bias.mean(0)
        self.theta = torch.cat([basis.into(weight), bias.unsqueeze(0)])
        if bool(stack.cold.all()):
            self.z = torch.zeros((len(self.x), *bias.shape), dtype=self.x.dtype, device=self.x.device)
        else:
            self.z = self.logits(self.theta)
        self.residual = torch.empty_like(self.z)
        self.mean_loss, _ = self.loss.along(self.z, None, None, self.residual)
        self.gradient = self.differentiate()
        self.objective = self.mean_loss + self.l2 / 2 * self._square(self.theta)

    @staticmethod
    def _square(theta: Tensor) -> Tensor:
        return _dot(theta[:-1], theta[:-1])

    def logits(self, theta: Tensor) -> Tensor:
        """The logits of weights given in the basis: the first of the two products."""
        weight = self.basis.out(theta[:-1])
        z = self.x @ weight.reshape(len(weight), -1)
        z += theta[-1].reshape(-1)
        return z.view(len(self.x), *theta.shape[1:])

    def differentiate(self) -> Tensor:
        """The gradient at the present residual: the second of the two products."""
        flat = self.residual.view(len(self.x), -1)
        weight = self.basis.into((self.x.T @ flat).view(-1, *self.residual.shape[1:]))
        weight += self.l2.to(weight.dtype) * self.theta[:-1]
        return torch.cat([weight, self.residual.sum(0, keepdim=True)])

    def of(self, keep: Tensor) -> None:
        self.loss = self.loss.of(keep)
        for name in ("l2", "heads", "theta", "z", "gradient", "objective", "mean_loss", "stalled"):
            setattr(self, name, getattr(self, name)[..., keep].contiguous())
        self.residual = torch.empty_like(self.z)

    def search(self, step: Tensor, moved: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Step lengths (H,) along `step`, whose logits are `moved`, and which heads found one.

        Weak Wolfe conditions, in the approximate form of Hager and Zhang (2005) where the objective's change
        is below its rounding. Needs no product of features; leaves `self.residual` at the accepted points.
        """
        loss, residual = self.loss, self.residual
        across, along = _dot(self.theta[:-1], step[:-1]), self._square(step)
        noise = self.objective.abs() * (1e-7 if self.z.dtype == torch.float32 else 1e-14)
        t = torch.ones_like(slope)
        low, high = torch.zeros_like(t), torch.full_like(t, torch.inf)
        slope_low, slope_high = slope.clone(), torch.full_like(t, torch.inf)
        found = torch.zeros_like(t, dtype=torch.bool)
        objective, mean_loss = self.objective.clone(), self.mean_loss.clone()
        pending = torch.arange(len(t), device=t.device)
        for _ in range(_TRIALS):
            every = len(pending) == len(t)
            if every:
                value, rise = loss.along(self.z, moved, t, residual)
            else:
                part = torch.empty_like(self.z[..., pending])
                value, rise = loss.of(pending).along(
                    self.z[..., pending], moved[..., pending], t[pending], part
                )
                residual[..., pending] = part
            now = t[pending]
            total = value + self.l2[pending] / 2 * (
                self._square(self.theta)[pending] + 2 * now * across[pending] + now**2 * along[pending]
            )
            rise = rise + self.l2[pending] * (across[pending] + now * along[pending])
            start, down = self.objective[pending], slope[pending]
            change = total - start
            enough = (change <= _SUFFICIENT * now * down) | (
                (change <= noise[pending]) & (rise <= (2 * _SUFFICIENT - 1) * down)
            )
            enough &= torch.isfinite(total)
            far = rise >= _CURVATURE * down
            done = enough & far
            objective[pending], mean_loss[pending] = total, value
            found[pending[done]] = True
            over, under = pending[~enough], pending[enough & ~far]
            high[over], slope_high[over] = t[over], rise[~enough]
            low[under], slope_low[under] = t[under], rise[enough & ~far]
            pending = pending[~done]
            if len(pending) == 0:
                break
            t[pending] = _next_length(low, high, slope_low, slope_high, slope)[pending]
        self.objective, self.mean_loss = objective, mean_loss
        return t, found

    def move(self, step: Tensor, moved: Tensor, t: Tensor) -> Tensor:
        """Take the steps; returns them."""
        length = t.to(step.dtype)
        self.z.addcmul_(moved, length)
        taken = step * length
        self.theta += taken
        return taken


def _next_length(low: Tensor, high: Tensor, slope_low: Tensor, slope_high: Tensor, slope: Tensor) -> Tensor:
    """The next trial by the secant of the slopes, kept inside the bracket or growing at most fourfold."""
    bounded = torch.isfinite(high)
    width = torch.where(bounded, high - low, 1)
    secant = low + width * (-slope_low) / (slope_high - slope_low).clamp_min(1e-300)
    usable = torch.isfinite(secant) & torch.isfinite(slope_high)
    inside = torch.where(usable, secant, low + width / 2)
    inside = torch.minimum(torch.maximum(inside, low + 0.05 * width), low + 0.95 * width)
    line = low * slope / (slope - slope_low).clamp_max(-1e-300)  # where slopes from 0 and low lead to
    outside = torch.minimum(torch.maximum(torch.nan_to_num(line, nan=0.0), 1.5 * low), 4 * low)
    return torch.where(bounded, inside, outside)


def solve_smooth(stack: Stack, basis: Basis) -> Solved:
    """Minimise every head of a stack without L1 penalty to its tolerance."""
    answers = Solved.empty(stack)
    run = _Run(stack, basis)
    history = _History()
    refresh = 0
    while True:
        if run.iteration >= refresh:
            curvature = run.loss.curvature(run.z)
            metric = Metric(basis, curvature, run.l2, stack.x.dtype)
            refresh = 2 * run.iteration + 1
        step = history.direction(run.gradient, metric)
        slope = _dot(run.gradient, step)
        bad = ~(slope < 0) & (_dot(run.gradient, run.gradient) > 0)
        if bool(bad.any()):
            history.forget(bad)
            step = history.direction(run.gradient, metric)
            slope = _dot(run.gradient, step)
        finished = _finish(run, stack, answers, slope, curvature)
        if bool(finished.all()):
            return answers
        if bool(finished.any()):
            keep = torch.nonzero(~finished).flatten()
            run.of(keep)
            history.of(keep)
            metric, curvature = metric.of(keep), curvature[keep]
            step, slope = step[..., keep].contiguous(), slope[keep]
        moved = run.logits(step)
        before = run.gradient
        t, found = run.search(step, moved, slope)
        run.stalled = torch.where(found, 0, run.stalled + 1)
        if not bool(found.all()):
            history.forget(~found)
        taken = run.move(step, moved, t)
        run.gradient = run.differentiate()
        history.push(taken, run.gradient - before)
        run.iteration += 1


def _finish(run: _Run, stack: Stack, answers: Solved, slope: Tensor, curvature: Tensor) -> Tensor:
    """Writes down the heads that are done, (H,) bool."""
    estimate = -slope / 2 * _SAFETY
    weight, bias = run.gradient[:-1], run.gradient[-1].double()
    inverse = torch.linalg.pinv(curvature + 1e-12 * torch.eye(len(bias), device=bias.device), hermitian=True)
    bias_part = torch.einsum("kh,hkj,jh->h", bias, inverse, bias)
    bound = _dot(weight, weight) / (2 * run.l2) + bias_part
    bound = torch.where(run.l2 > 0, bound, torch.inf)
    target = stack.tolerance[run.heads] * run.objective.abs()
    certified = bound <= target
    converged = (certified | (estimate <= target)) & ((run.l2 > 0) | (run.objective >= SEPARATED))
    finished = converged | (run.stalled > 1) | (run.iteration >= stack.max_iterations[run.heads])
    finished |= ~torch.isfinite(run.objective) | ((run.l2 == 0) & (run.objective < SEPARATED))
    done = torch.nonzero(finished).flatten()
    if len(done):
        heads = run.heads[done]
        answers.put(
            heads,
            Solved(
                weight=run.basis.out(run.theta[:-1, :, done].contiguous()),
                bias=run.theta[-1][:, done],
                objective=run.objective[done],
                gradient_norm=_dot(run.gradient, run.gradient).sqrt()[done],
                gap=torch.where(certified, bound, estimate)[done],
                certified=certified[done],
                iterations=torch.full_like(heads, run.iteration),
                converged=converged[done],
            ),
        )
    return finished
