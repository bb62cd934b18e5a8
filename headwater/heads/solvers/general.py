"""Batched L-BFGS for any objective that is a function of logits: two products of features per iteration.

The line search moves along logits and needs none. Every head has its own line search and stopping, and leaves
when it is done. What is minimised lives in `headwater.heads.objectives`; the metric that the quasi-Newton
updates start from in `compact`, with their memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.heads.objectives.joint import JointObjective
from headwater.heads.solvers.compact import CompactHistory, Metric, dot
from headwater.heads.solvers.minmax import WorstCases
from headwater.heads.solvers.preconditioner import Directions, inverses
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
# Trials after which a line search is content with enough descent.
_ENOUGH = 2
# Directions along which the Hessian itself is inverted, and the share of its diagonal that is added to it.
_LEADING, _LIFT = 64, 1e-5
# Up to so many columns a product with the features is made of products with vectors, which need no packing.
_ONE_BY_ONE = 3
_BY_HEAD = (
    "l2", "slack", "tolerance", "is_convex", "is_exact", "heads", "theta", "gradient", "value", "since",
    "stalled", "done", "max_iterations",
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """H heads: minimise objective(offset + x·W + b) + l2/2·‖W‖² over W (d, K, H) and b (K, H).

    `x` (n, d) has columns of mean zero, `directions` are those of its second moments. `offset` (n, K, H) are
    the logits of the weights W is to stay near, None where there are none; `weight` and `bias` are the start.
    `l2`, `tolerance` (H,) float64; `max_iterations` (H,).
    """

    x: Tensor
    directions: Directions
    objective: JointObjective
    l2: Tensor
    weight: Tensor
    bias: Tensor
    tolerance: Tensor
    max_iterations: Tensor
    offset: Tensor | None = None

    @property
    def heads(self) -> int:
        """How many heads."""
        return len(self.l2)


class Run:
    """The heads that are still running: parameters (H, K, d + 1) with the bias last, logits, gradient.

    `done` (H,) have been written down and stand still until they leave. `since` (H,) counts iterations since
    what they minimise changed, `slack` is a gap that is small enough and `tolerance` the relative one.
    """

    def __init__(self, problem: Problem) -> None:
        self.x, self.objective, self.l2 = problem.x, problem.objective, problem.l2
        self.heads = torch.arange(problem.heads, device=self.x.device)
        self.iteration = 0
        self.since = torch.zeros_like(self.heads)
        self.stalled = torch.zeros_like(self.heads)
        self.done = torch.zeros_like(self.heads, dtype=torch.bool)
        self.slack, self.tolerance = torch.zeros_like(self.l2), problem.tolerance
        self.max_iterations = problem.max_iterations
        self.is_convex = self.objective.flags("is_convex").to(self.x.device)
        self.is_exact = self.objective.flags("is_exact").to(self.x.device)
        start = torch.cat([problem.weight, problem.bias.unsqueeze(0)])
        self.theta = start.permute(2, 1, 0).contiguous()
        self.z = self.logits(self.theta)
        if problem.offset is not None:
            self.z += problem.offset
        # Rows along the leading directions and, for the bias, a one, in two-class problems.
        self.leading: Tensor | None = None
        if self.theta.shape[1] == 1:
            vectors, count = problem.directions.vectors, min(_LEADING, len(problem.directions.values))
            rows = self.x if vectors is None else self.x @ vectors[:, -count:]
            self.leading = torch.cat([rows[:, -count:], torch.ones_like(rows[:, :1])], dim=1)
        self.residual, self.gradient, self.value = torch.empty_like(self.z), self.theta, self.l2

    def evaluate(self) -> None:
        """Value and residual where the heads are, by what they minimise now."""
        value, self.residual = self.objective.at(self.z)
        self.value = value + self.l2 / 2 * self.square(self.theta)

    @staticmethod
    def square(theta: Tensor) -> Tensor:
        """‖W‖² (H,) of parameters."""
        return dot(theta[..., :-1], theta[..., :-1])

    def logits(self, theta: Tensor) -> Tensor:
        """The logits (n, K, H) of parameters: the first of the two products."""
        flat = theta.permute(2, 1, 0).reshape(theta.shape[2], -1)
        if flat.shape[1] <= _ONE_BY_ONE:
            out = torch.stack([torch.mv(self.x, each) for each in flat[:-1].T.contiguous()], dim=1)
            return (out + flat[-1]).view(len(self.x), theta.shape[1], -1)
        return torch.addmm(flat[-1:], self.x, flat[:-1]).view(len(self.x), theta.shape[1], -1)

    def differentiate(self, renewed: Tensor) -> tuple[Tensor, Tensor | None]:
        """The gradient at the present residual: the second of the two products.

        With it come the directions (h, K, d + 1, r) of parameters in which the heads numbered `renewed` are
        steep, if they are in any.
        """
        heads, columns, length = self.theta.shape
        by_logit = self.objective.of(renewed).steep(self.z[..., renewed]) if len(renewed) else []
        flat = torch.cat([self.residual, *(each.flatten(2) for _, each in by_logit)], dim=2)
        seen = _transposed(flat.flatten(1), self.x).view(columns, flat.shape[2], -1).transpose(0, 1)
        sums = flat.sum(0).T
        gradient = torch.cat([seen, sums.unsqueeze(2)], dim=2)
        rest = gradient[heads:]
        gradient = gradient[:heads].contiguous()
        gradient[..., :-1] += self.l2.to(flat.dtype).view(-1, 1, 1) * self.theta[..., :-1]
        if not by_logit:
            return gradient, None
        rank = max(each.shape[3] for _, each in by_logit)
        steep = gradient.new_zeros(len(renewed), columns, length, rank)
        for part, each in by_logit:
            count, width = each.shape[2:]
            of_part = rest[: count * width].view(count, width, columns, length)
            steep[part.heads, ..., :width] = of_part.movedim(1, 3)
            rest = rest[count * width :]
        return gradient, steep

    def metric(
        self, directions: Directions, curvature: Tensor, steep: Tensor | None, heads: Tensor
    ) -> Metric:
        """The metric of the heads numbered `heads` where they are, given their curvature and steepness."""
        inverse = None
        l2 = self.l2[heads]
        if self.leading is not None:
            # Where the rows' curvatures are not known one by one, they are all the mean.
            mean = curvature.view(1, -1) / len(self.x)
            by_row = mean.expand(len(self.x), -1).clone()
            for part, each in self.objective.of(heads).by_row(self.z[..., heads]):
                by_row[:, part.heads] = each
            inverse = self._inverses(by_row, l2)
        return Metric(directions, curvature, l2, self.x.dtype, steep=steep, leading=inverse)

    def _inverses(self, by_row: Tensor, l2: Tensor) -> Tensor:
        """Inverse Hessians (h, r + 1, r + 1) by leading direction and bias, from rows' shares (n, h)."""
        assert self.leading is not None
        width = self.leading.shape[1]
        hessian = torch.empty((by_row.shape[1], width, width), dtype=torch.float64, device=by_row.device)
        for place, shares in enumerate(by_row.sqrt().to(self.leading.dtype).T):
            half = self.leading * shares.unsqueeze(1)
            hessian[place] = half.T @ half
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        lift = (_LIFT * diagonal.mean(1, keepdim=True) + 1e-12).repeat(1, width)
        diagonal[:, :-1] += l2.unsqueeze(1)
        return inverses(hessian, lift).to(self.x.dtype)

    def of(self, keep: Tensor) -> None:
        """Keep some of the heads only."""
        self.objective = self.objective.of(keep)
        for name in _BY_HEAD:
            setattr(self, name, getattr(self, name)[keep])
        self.z = self.z[..., keep].contiguous()
        self.residual = torch.empty_like(self.z)

    def move(self, step: Tensor, moved: Tensor, t: Tensor) -> Tensor:
        """Goes `t` (H,) along `step`, whose logits are `moved`; what that adds to the parameters."""
        length = t.to(step.dtype)
        self.z.addcmul_(moved, length)
        taken = step * length.view(-1, 1, 1)
        self.theta += taken
        self.iteration += 1
        return taken

    def search(self, step: Tensor, moved: Tensor, slope: Tensor, standing: Tensor) -> tuple[Tensor, Tensor]:
        """Step lengths (H,) along `step`, whose logits are `moved`, and which heads found one.

        Weak Wolfe conditions, in the approximate form of Hager and Zhang (2005) where the change is below its
        rounding; after a few trials enough descent will do. `standing` (H,) heads do not move. Leaves
        `self.residual` and `self.value` at the accepted points.
        """
        square, along = self.square(self.theta), self.square(step)
        across = dot(self.theta[..., :-1], step[..., :-1])
        rounding = torch.where(self.is_exact & (self.z.dtype == torch.float64), 1e-14, 1e-7)
        noise = torch.maximum(self.value.abs() * rounding, _NEGLIGIBLE * self.slack)
        start = self.value.clone()
        t = torch.ones_like(slope)
        low, high = torch.zeros_like(t), torch.full_like(t, torch.inf)
        slope_low, slope_high = slope.clone(), torch.full_like(t, torch.inf)
        found = standing.clone()
        pending = torch.arange(len(t), device=t.device)
        for trials in range(_TRIALS):
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
            good = (enough & (far | (trials >= _ENOUGH))) | standing[pending]
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
    a stationary point was reached, by the same estimate, and nothing is certified. Worst cases are smoothed,
    and sharpened whenever they are solved, see `minmax`. A head alone and in a stack takes the same steps, up
    to the rounding of sums.
    """
    run, worst = Run(problem), WorstCases(problem)
    worst.begin(run)
    run.evaluate()
    history = CompactHistory(run.theta, _MEMORY)
    everyone = run.heads
    run.gradient, steep = run.differentiate(everyone)
    curvature = run.objective.curvature(run.z)
    metric = run.metric(problem.directions, curvature, steep, everyone)
    answer = metric.solve(run.gradient)
    while True:
        step = history.direction(run.gradient, answer)
        slope = dot(run.gradient, step)
        bad = ~(slope < 0) & (dot(run.gradient, run.gradient) > 0)
        if bool(bad.any()):
            history.forget(bad)
            step[bad] = -answer[bad]
            slope = dot(run.gradient, step)
        changed = _finish(run, worst, slope, curvature)
        if bool(run.done.all()):
            return worst.answers
        if float(run.done.float().mean()) >= _LEAVING:
            keep = torch.nonzero(~run.done).flatten()
            run.of(keep)
            history.of(keep)
            metric, curvature = metric.of(keep), curvature[keep]
            step, slope, answer, changed = step[keep], slope[keep], answer[keep], changed[keep]
        standing = run.done | changed
        step[standing], slope[standing] = 0, 0
        moved = run.logits(step)
        t, found = run.search(step, moved, slope, standing)
        run.stalled = torch.where(found, 0, run.stalled + 1)
        taken = run.move(step, moved, t)
        run.since = torch.where(changed, 0, run.since + 1)
        # Anew when what is minimised changed, and after 1, 3, 7, 15 … iterations.
        due = ~run.done & ((run.since & (run.since + 1)) == 0)
        renewed = torch.nonzero(due).flatten()
        before, answered = run.gradient, answer
        run.gradient, steep = run.differentiate(renewed)
        answer = metric.solve(run.gradient)
        history.push(taken, run.gradient - before, answer - answered)
        history.forget(~found | changed)
        if len(renewed):
            curvature[renewed] = run.objective.of(renewed).curvature(run.z[..., renewed])
            new = run.metric(problem.directions, curvature[renewed], steep, renewed)
            metric.put(renewed, new)
            history.renew(renewed, new, step.shape[1])
            answer[renewed] = new.solve(run.gradient[renewed])


def _finish(run: Run, worst: WorstCases, slope: Tensor, curvature: Tensor) -> Tensor:
    """Writes down the heads that are done now; which ones have something else to minimise now, (H,) bool."""
    estimate = -slope / 2 * _SAFETY
    weight, bias = run.gradient[..., :-1], run.gradient[..., -1].double()
    ridge = 1e-12 * torch.eye(bias.shape[1], dtype=torch.float64, device=bias.device)
    inverse = torch.linalg.pinv(curvature + ridge, hermitian=True)
    bias_part = torch.einsum("hk,hkj,hj->h", bias, inverse, bias)
    bound = dot(weight, weight) / (2 * run.l2) + bias_part
    bound = torch.where(run.l2 > 0, bound, torch.inf)
    target = torch.maximum(run.tolerance * run.value.abs(), run.slack)
    certified = (bound <= target) & run.is_convex
    unbounded = (run.l2 == 0) & (run.value < SEPARATED)
    converged = (certified | (estimate <= target)) & ~unbounded
    spent = run.iteration >= run.max_iterations
    finished = converged | unbounded | (run.stalled > 1) | ~torch.isfinite(run.value) | spent
    finished = (finished | worst.lingering(run)) & ~run.done
    found = Solved(
        weight=run.theta[..., :-1].permute(2, 1, 0),
        bias=run.theta[..., -1].T,
        objective=run.value,
        gradient_norm=dot(run.gradient, run.gradient).sqrt(),
        gap=torch.where(certified, bound, estimate),
        certified=certified,
        iterations=torch.full_like(run.heads, run.iteration),
        converged=converged,
    )
    changed = worst.advance(run, finished, spent, found)
    done = torch.nonzero(finished & ~changed & ~worst.are_worst(run)).flatten()
    if len(done):
        worst.answers.put(run.heads[done], found.of(done))
    run.done |= finished & ~changed
    return changed


def _transposed(a: Tensor, x: Tensor) -> Tensor:
    """aᵀ·x, (columns, d), for a (n, columns): few columns one by one, which saves packing x."""
    if a.shape[1] <= _ONE_BY_ONE:
        return torch.stack([torch.mv(x.T, each) for each in a.T.contiguous()])
    return a.T @ x
