"""Batched L-BFGS for any objective that is a function of logits: two products of features per iteration.

The line search moves along logits and needs none. Every head has its own line search and stopping, and leaves
when it is done. What is minimised lives in `headwater.heads.objectives`; the metric that the quasi-Newton
updates start from in `compact`, with their memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headwater.heads.objectives.base import Objective
from headwater.heads.solvers.compact import CompactHistory, Metric, dot
from headwater.heads.solvers.preconditioner import Directions
from headwater.heads.solvers.stack import SEPARATED, Solved

_MEMORY = 10
_TRIALS = 20
_SUFFICIENT, _CURVATURE = 1e-4, 0.5
# The share of a gap that is small enough below which a line search may take a change for rounding.
_NEGLIGIBLE = 1e-2
# The estimate of the gap, half the squared gradient in the quasi-Newton metric, may be short by a factor.
_SAFETY = 8.0
# Heads that are done leave when they are this share of those that run: leaving copies what the others hold.
_LEAVING = 0.125


@dataclass(frozen=True)
class Problem:
    """H heads: minimise objective(offset + x·W + b) + l2/2·‖W‖² over W (d, K, H) and b (K, H).

    `x` (n, d) has columns of mean zero, `directions` are those of its second moments. `offset` (n, K, H) are
    the logits of the weights W is to stay near, None where there are none; `weight` and `bias` are the start.
    `l2`, `tolerance` (H,) float64; `max_iterations` (H,). `slack` (H,) is a gap that is small enough whatever
    the objective, None where only the relative one counts.
    """

    x: Tensor
    directions: Directions
    objective: Objective
    l2: Tensor
    weight: Tensor
    bias: Tensor
    tolerance: Tensor
    max_iterations: Tensor
    offset: Tensor | None = None
    slack: Tensor | None = None

    @property
    def heads(self) -> int:
        """How many heads."""
        return len(self.l2)

    def of(self, keep: Tensor) -> Problem:
        """Some of the heads only; `keep` holds their numbers."""
        return replace(
            self,
            objective=self.objective.of(keep),
            l2=self.l2[keep],
            weight=self.weight[:, :, keep],
            bias=self.bias[:, keep],
            tolerance=self.tolerance[keep],
            max_iterations=self.max_iterations[keep],
            offset=None if self.offset is None else self.offset[:, :, keep],
            slack=None if self.slack is None else self.slack[keep],
        )

    def empty(self) -> Solved:
        """Room for the answers, filled as heads finish."""
        number = torch.zeros_like(self.l2)
        return Solved(
            weight=torch.zeros_like(self.weight),
            bias=torch.zeros_like(self.bias),
            objective=number.clone(),
            gradient_norm=number.clone(),
            gap=number.clone(),
            certified=number.bool(),
            iterations=torch.zeros_like(self.max_iterations),
            converged=number.bool(),
        )


class _Run:
    """The heads that are still running: parameters (H, K, d + 1) with the bias last, logits, gradient.

    `done` (H,) have been written down and stand still until they leave.
    """

    def __init__(self, problem: Problem) -> None:
        self.x, self.objective, self.l2 = problem.x, problem.objective, problem.l2
        self.slack = torch.zeros_like(self.l2) if problem.slack is None else problem.slack
        self.heads = torch.arange(problem.heads, device=self.x.device)
        self.iteration = 0
        self.stalled = torch.zeros_like(self.heads)
        self.done = torch.zeros_like(self.heads, dtype=torch.bool)
        start = torch.cat([problem.weight, problem.bias.unsqueeze(0)])
        self.theta = start.permute(2, 1, 0).contiguous()
        self.z = self.logits(self.theta)
        if problem.offset is not None:
            self.z += problem.offset
        value, self.residual = self.objective.at(self.z)
        self.value = value + self.l2 / 2 * self.square(self.theta)
        self.gradient = self.differentiate()

    @staticmethod
    def square(theta: Tensor) -> Tensor:
        return dot(theta[..., :-1], theta[..., :-1])

    def logits(self, theta: Tensor) -> Tensor:
        """The logits (n, K, H) of parameters: the first of the two products."""
        flat = theta.permute(2, 1, 0).reshape(theta.shape[2], -1)
        return torch.addmm(flat[-1:], self.x, flat[:-1]).view(len(self.x), theta.shape[1], -1)

    def differentiate(self) -> Tensor:
        """The gradient at the present residual: the second of the two products."""
        heads, columns, _ = self.theta.shape
        flat = self.residual.view(len(self.x), -1).T @ self.x
        gradient = torch.empty_like(self.theta)
        gradient[..., :-1] = flat.view(columns, heads, -1).transpose(0, 1)
        gradient[..., :-1] += self.l2.to(flat.dtype).view(-1, 1, 1) * self.theta[..., :-1]
        gradient[..., -1] = self.residual.sum(0).T
        return gradient

    def steep(self) -> Tensor | None:
        """The directions (H, K, d + 1, r) of parameters in which the invariance is steep, if any."""
        invariance = self.objective.invariance
        by_logit = None if invariance is None else invariance.steep(self.z)
        if by_logit is None:
            return None
        heads, columns, length = self.theta.shape
        rank = by_logit.shape[3]
        out = self.theta.new_empty(heads, columns, length, rank)
        flat = by_logit.view(len(self.x), -1).T @ self.x
        out[:, :, :-1] = flat.view(columns, heads, rank, -1).permute(1, 0, 3, 2)
        out[:, :, -1] = by_logit.sum(0).transpose(0, 1)
        return out

    def of(self, keep: Tensor) -> None:
        self.objective = self.objective.of(keep)
        for name in ("l2", "slack", "heads", "theta", "gradient", "value", "stalled", "done"):
            setattr(self, name, getattr(self, name)[keep])
        self.z = self.z[..., keep].contiguous()
        self.residual = torch.empty_like(self.z)

    def search(self, step: Tensor, moved: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Step lengths (H,) along `step`, whose logits are `moved`, and which heads found one.

        Weak Wolfe conditions, in the approximate form of Hager and Zhang (2005) where the change is below its
        rounding. Leaves `self.residual` and `self.value` at the accepted points.
        """
        square, along = self.square(self.theta), self.square(step)
        across = dot(self.theta[..., :-1], step[..., :-1])
        exact = self.z.dtype == torch.float64 and self.objective.invariance is None  # those sum in float32
        noise = torch.maximum(self.value.abs() * (1e-14 if exact else 1e-7), _NEGLIGIBLE * self.slack)
        start = self.value.clone()
        t = torch.ones_like(slope)
        low, high = torch.zeros_like(t), torch.full_like(t, torch.inf)
        slope_low, slope_high = slope.clone(), torch.full_like(t, torch.inf)
        found = self.done.clone()
        pending = torch.arange(len(t), device=t.device)
        for _ in range(_TRIALS):
            now = t[pending]
            if len(pending) == len(t):
                value, rise = self.objective.along(self.z, moved, now, self.residual)
            else:
                part = torch.empty_like(self.z[..., pending])
                z, d = self.z[..., pending], moved[..., pending]
                value, rise = self.objective.of(pending).along(z, d, now, part)
                self.residual[..., pending] = part
            l2, down = self.l2[pending], slope[pending]
            value = value + l2 / 2 * (square[pending] + 2 * now * across[pending] + now**2 * along[pending])
            rise = rise + l2 * (across[pending] + now * along[pending])
            change = value - start[pending]
            enough = (change <= _SUFFICIENT * now * down) | (
                (change <= noise[pending]) & (rise <= (2 * _SUFFICIENT - 1) * down)
            )
            enough &= torch.isfinite(value) & torch.isfinite(rise)
            far = rise >= _CURVATURE * down
            self.value[pending] = value
            good = (enough & far) | self.done[pending]
            found[pending[good]] = True
            over, under = ~enough, enough & ~far
            width = (high - low)[pending]
            high[pending[over]], slope_high[pending[over]] = now[over], rise[over]
            low[pending[under]], slope_low[pending[under]] = now[under], rise[under]
            unsettled, pending = pending, pending[~good]
            if len(pending) == 0:
                return t, found
            trial = _next_length(low, high, slope_low, slope_high, slope)
            # Where the secant hardly moves one end of the bracket, the minimum is near the other.
            slow = (high - low)[unsettled] > 0.5 * width
            near = low + torch.where(t == high, 0.1, 0.9) * (high - low)
            trial[unsettled[slow]] = near[unsettled[slow]]
            t[pending] = trial[pending]
        # What is left goes to the best point it is sure of, and no further.
        t = torch.where(found, t, low)
        value, self.residual = self.objective.at(torch.addcmul(self.z, moved, t.to(self.z.dtype)))
        self.value = value + self.l2 / 2 * (square + 2 * t * across + t**2 * along)
        return t, found


def _next_length(low: Tensor, high: Tensor, slope_low: Tensor, slope_high: Tensor, slope: Tensor) -> Tensor:
    """The next trial by the secant of the slopes, kept inside the bracket or growing at most fourfold."""
    bounded = torch.isfinite(high)
    width = torch.where(bounded, high - low, 1)
    secant = low + width * (-slope_low) / (slope_high - slope_low).clamp_min(1e-300)
    usable = torch.isfinite(secant) & torch.isfinite(slope_high) & (slope_high > slope_low)
    inside = torch.where(usable, secant, low + width / 2)
    inside = torch.minimum(torch.maximum(inside, low + 0.05 * width), low + 0.95 * width)
    line = low * slope / (slope - slope_low).clamp_max(-1e-300)  # where slopes from 0 and low lead to
    outside = torch.minimum(torch.maximum(torch.nan_to_num(line, nan=0.0), 1.5 * low), 4 * low)
    return torch.where(bounded, inside, outside)


def solve_general(problem: Problem) -> Solved:
    """Minimise every head to its tolerance.

    For a convex objective with l2 > 0 the gap is certified or estimated; for another, `converged` says that
    a stationary point was reached, by the same estimate, and nothing is certified. A head alone and in a
    stack takes the same steps, up to the rounding of sums.
    """
    answers = problem.empty()
    run = _Run(problem)
    history = CompactHistory(run.theta, _MEMORY)
    refresh = 0
    while True:
        if run.iteration >= refresh:
            curvature = run.objective.curvature(run.z)
            metric = Metric(problem.directions, curvature, run.l2, run.x.dtype, run.steep())
            history.renew(metric, run.theta.shape)
            answer = metric.solve(run.gradient)
            refresh = 2 * run.iteration + 1
        step = history.direction(run.gradient, answer)
        slope = dot(run.gradient, step)
        bad = ~(slope < 0) & (dot(run.gradient, run.gradient) > 0)
        if bool(bad.any()):
            history.forget(bad)
            step[bad] = -answer[bad]
            slope = dot(run.gradient, step)
        run.done |= _finish(run, problem, answers, slope, curvature)
        if bool(run.done.all()):
            return answers
        if float(run.done.float().mean()) >= _LEAVING:
            keep = torch.nonzero(~run.done).flatten()
            run.of(keep)
            history.of(keep)
            metric, curvature = metric.of(keep), curvature[keep]
            step, slope, answer = step[keep], slope[keep], answer[keep]
        step[run.done], slope[run.done] = 0, 0
        moved = run.logits(step)
        t, found = run.search(step, moved, slope)
        run.stalled = torch.where(found, 0, run.stalled + 1)
        length = t.to(step.dtype)
        run.z.addcmul_(moved, length)
        taken = step * length.view(-1, 1, 1)
        run.theta += taken
        before, answered = run.gradient, answer
        run.gradient = run.differentiate()
        answer = metric.solve(run.gradient)
        history.push(taken, run.gradient - before, answer - answered)
        if not bool(found.all()):
            history.forget(~found)
        run.iteration += 1


def _finish(run: _Run, problem: Problem, answers: Solved, slope: Tensor, curvature: Tensor) -> Tensor:
    """Writes down the heads that are done now, (H,) bool."""
    estimate = -slope / 2 * _SAFETY
    weight, bias = run.gradient[..., :-1], run.gradient[..., -1].double()
    ridge = 1e-12 * torch.eye(bias.shape[1], dtype=torch.float64, device=bias.device)
    inverse = torch.linalg.pinv(curvature + ridge, hermitian=True)
    bias_part = torch.einsum("hk,hkj,hj->h", bias, inverse, bias)
    bound = dot(weight, weight) / (2 * run.l2) + bias_part
    bound = torch.where(run.l2 > 0, bound, torch.inf)
    target = problem.tolerance[run.heads] * run.value.abs()
    target = torch.maximum(target, run.slack)
    certified = bound <= target
    if not run.objective.is_convex:
        certified = torch.zeros_like(certified)
    unbounded = (run.l2 == 0) & (run.value < SEPARATED)
    converged = (certified | (estimate <= target)) & ~unbounded
    finished = converged | unbounded | (run.stalled > 1) | ~torch.isfinite(run.value)
    finished |= run.iteration >= problem.max_iterations[run.heads]
    finished &= ~run.done
    done = torch.nonzero(finished).flatten()
    if len(done):
        heads = run.heads[done]
        answers.put(
            heads,
            Solved(
                weight=run.theta[done, :, :-1].permute(2, 1, 0),
                bias=run.theta[done, :, -1].T,
                objective=run.value[done],
                gradient_norm=dot(run.gradient, run.gradient).sqrt()[done],
                gap=torch.where(certified, bound, estimate)[done],
                certified=certified[done],
                iterations=torch.full_like(heads, run.iteration),
                converged=converged[done],
            ),
        )
    return finished
