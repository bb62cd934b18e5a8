"""Batched L-BFGS for smooth heads: one reading of the rows per iteration, and nothing kept of heads by rows.

Every head that runs is evaluated once per reading, at the end of its full step or, where that was too long,
at a shorter one; heads leave when they are done. Those that stay long may take Newton steps from sampled rows
instead, which `newton` finds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.heads.solvers.history import History, Metric, dot
from headwater.heads.solvers.newton import SampledNewton
from headwater.heads.solvers.preconditioner import Directions, Preconditioner
from headwater.heads.solvers.sampling import Sample
from headwater.heads.solvers.stack import SEPARATED, SmoothStack, Solved
from headwater.heads.specs.spec import SETTLING

MEMORY = 10
# After so many iterations a head is far from its optimum if no estimate of its gap was below this share of
# its objective.
TRIED, _FAR = 8, 0.1
# A step that had to be cut to this share of its length leads nowhere; to the other, where the gap is closed
# already and only rounding makes steps too long.
_SHORTEST, _SHORTEST_NEAR = 1e-4, 0.1
_SUFFICIENT = 1e-4
# The estimate of the gap, half the squared gradient in the quasi-Newton metric, may be short by a factor.
_SAFETY = 4.0
# A head is converged once its gap is certified or estimated below its tolerance. From `SETTLING` down it
# goes on until its weights stand still as well, so that it comes out the same to 1e-5 wherever it started:
# until no weight is foreseen to move by more than `_STILL`, or the estimate of the gap has stopped falling
# for `_PATIENCE` iterations.
_STILL, _PATIENCE = 5e-7, 4


@dataclass(frozen=True)
class Newton:
    """From iteration `after` on, heads take Newton steps from a sample of about `rows` rows."""

    rows: int
    after: int


@dataclass
class _Run:
    """The heads still running: where they are, and the step they try next. All fields are heads first."""

    heads: Tensor
    weight_of: Tensor
    l2: Tensor
    tolerance: Tensor
    max_iterations: Tensor
    theta: Tensor
    objective: Tensor
    gradient: Tensor
    step: Tensor
    slope: Tensor
    length: Tensor
    fresh: Tensor  # at a new point, with no step to it yet
    near: Tensor  # converged at the last such point
    may_leave: Tensor
    failures: Tensor  # steps in a row that led nowhere
    least: Tensor  # the smallest estimate of the gap so far
    since: Tensor  # iterations since it fell

    @staticmethod
    def at(stack: SmoothStack) -> _Run:
        theta = _centred(stack.theta)
        heads = torch.arange(stack.heads, device=theta.device)
        zero = torch.zeros(stack.heads, dtype=torch.float64, device=theta.device)
        run = _Run(
            heads=heads,
            weight_of=stack.weight_of,
            l2=stack.l2,
            tolerance=stack.tolerance,
            max_iterations=stack.max_iterations,
            theta=theta,
            objective=zero,
            gradient=theta,
            step=torch.zeros_like(theta),
            slope=zero,
            length=zero + 1,
            fresh=torch.ones_like(heads, dtype=torch.bool),
            near=torch.zeros_like(heads, dtype=torch.bool),
            may_leave=torch.zeros_like(heads, dtype=torch.bool),
            failures=torch.zeros_like(heads),
            least=zero + torch.inf,
            since=torch.zeros_like(heads),
        )
        run.objective, run.gradient = run.evaluate(stack, theta)
        return run

    def evaluate(self, stack: SmoothStack, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Objective (H,) and gradient with the penalty."""
        value, gradient = stack.loss.at(theta, self.weight_of)
        weight = theta[..., :-1]
        value += self.l2 / 2 * dot(weight, weight)
        gradient[..., :-1] += self.l2.to(theta.dtype).view(-1, 1, 1) * weight
        return value, _centred(gradient)

    def of(self, keep: Tensor) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name)[keep])


def solve_smooth(
    stack: SmoothStack,
    directions: Directions,
    newton: Newton | None = None,
    may_leave: Tensor | None = None,
) -> Solved:
    """Minimise every head of a stack without L1 penalty to its tolerance.

    A head leaves as soon as its gap is certified or estimated below `tolerance` times its objective; at
    `SETTLING` and below only when its weights have come to rest too. Those that `may_leave` (H,) bool leave
    after `TRIED` iterations if they are still far from the optimum.
    """
    answers = Solved.into(torch.zeros_like(stack.theta))
    sample = stack.loss.sample()
    drawn: Sample | None = None
    run, history = _Run.at(stack), History(MEMORY)
    if may_leave is not None:
        run.may_leave = may_leave
    iteration = refresh = 0
    while True:
        if iteration >= refresh:
            simple = Preconditioner(directions, sample, run.theta, run.weight_of, run.l2)
            refresh = 2 * iteration + 1
        metric: Metric = simple
        if newton is not None and iteration >= newton.after:
            if drawn is None:
                bends = simple.mean.diagonal(dim1=1, dim2=2).sum(1).clamp_min(1e-300)
                drawn = stack.loss.sample(newton.rows, stack.loss.curved(run.theta, run.weight_of, bends))
            metric = SampledNewton(simple, drawn, run.theta, run.weight_of, run.l2)
        _aim(run, history, metric)
        finished = _finish(run, answers, simple.mean, iteration)
        if bool(finished.all()):
            return answers
        if bool(finished.any()):
            keep = torch.nonzero(~finished).flatten()
            run.of(keep)
            history.of(keep)
            simple = simple.of(keep)
        _advance(run, stack, history)
        iteration += 1


def _centred(theta: Tensor) -> Tensor:
    """Without its component along shifts of all logits, which no loss sees and every optimum lacks.

    Rounding makes gradients and steps have one, and metrics, singular there, make it large.
    """
    return theta - theta.mean(1, keepdim=True) if theta.shape[1] > 1 else theta


def _aim(run: _Run, history: History, metric: Metric) -> None:
    """Gives the heads that are at a new point a direction, and their full length to try."""
    step = _centred(history.direction(run.gradient, metric))
    slope = dot(run.gradient, step)
    uphill = run.fresh & ~(slope < 0) & (dot(run.gradient, run.gradient) > 0)
    if bool(uphill.any()):
        history.forget(uphill)
        step = _centred(history.direction(run.gradient, metric))
        slope = dot(run.gradient, step)
    if bool(run.fresh.all()):
        run.step, run.slope = step, slope
    else:
        run.step = torch.where(run.fresh.view(-1, 1, 1), step, run.step)
        run.slope = torch.where(run.fresh, slope, run.slope)
    run.length = torch.where(run.fresh, 1.0, run.length)


def _advance(run: _Run, stack: SmoothStack, history: History) -> None:
    """Evaluates every head at the end of its step; takes the steps that lead down, shortens the others.

    A step is taken when the objective falls enough (Armijo), or, where its change is below its rounding, when
    the slope says so (the approximate condition of Hager & Zhang 2005).
    """
    length = run.length.to(run.theta.dtype).view(-1, 1, 1)
    moved = run.step * length
    trial = run.theta + moved
    objective, gradient = run.evaluate(stack, trial)
    slope = dot(gradient, run.step)
    change = objective - run.objective
    noise = run.objective.abs() * (2e-7 if run.theta.dtype == torch.float32 else 1e-14)
    taken = (change <= _SUFFICIENT * run.length * run.slope) | (
        (change <= noise) & (slope <= (2 * _SUFFICIENT - 1) * run.slope)
    )
    taken &= torch.isfinite(objective)
    history.push(moved, gradient - run.gradient, taken)
    if bool(taken.all()):
        run.theta, run.objective, run.gradient = trial, objective, gradient
    else:
        chosen = taken.view(-1, 1, 1)
        run.theta = torch.where(chosen, trial, run.theta)
        run.gradient = torch.where(chosen, gradient, run.gradient)
        run.objective = torch.where(taken, objective, run.objective)
    # Where the secant of the two slopes vanishes, well inside the step.
    share = run.slope / (run.slope - slope)
    shorter = run.length * torch.nan_to_num(share, nan=0.1).clamp(0.1, 0.6)
    given_up = ~taken & (shorter < torch.where(run.near, _SHORTEST_NEAR, _SHORTEST))
    if bool(given_up.any()):
        history.forget(given_up)
    run.failures = torch.where(taken, 0, run.failures + given_up.long())
    run.length = torch.where(taken, run.length, shorter)
    run.fresh = taken | given_up


def _finish(run: _Run, answers: Solved, curvature: Tensor, iteration: int) -> Tensor:
    """Writes down the heads that are done, (H,) bool."""
    fresh = run.fresh
    estimate = -run.slope / 2 * _SAFETY
    bias = run.gradient[..., -1].double()
    identity = torch.eye(bias.shape[1], device=bias.device)
    inverse = torch.linalg.pinv(curvature + 1e-12 * identity, hermitian=True)
    bias_part = torch.einsum("hk,hkj,hj->h", bias, inverse, bias)
    weight = run.gradient[..., :-1]
    bound = torch.where(run.l2 > 0, dot(weight, weight) / (2 * run.l2) + bias_part, torch.inf)
    target = run.tolerance * run.objective.abs()
    certified = bound <= target
    separated = (run.l2 == 0) & (run.objective < SEPARATED)
    converged = fresh & (certified | (estimate <= target)) & ~separated

    run.near = torch.where(fresh, converged, run.near)
    falls = fresh & (estimate < run.least / 2)
    run.least = torch.where(falls, estimate, run.least)
    run.since = torch.where(falls, 0, run.since + fresh.long())
    still = (run.step.abs().amax((1, 2)) <= _STILL) | (run.since >= _PATIENCE)
    spent = iteration >= run.max_iterations
    finished = converged & (still | (run.tolerance > SETTLING))
    finished |= (run.failures > 1) | spent | separated | ~torch.isfinite(run.objective)
    finished |= run.since > 10 * _PATIENCE
    if iteration == TRIED:
        finished |= run.may_leave & (run.least > _FAR * run.objective)
    done = torch.nonzero(finished).flatten()
    if len(done):
        gap = torch.where(certified, bound, torch.where(fresh, estimate, run.least))
        answers.put(
            run.heads[done],
            Solved(
                weight=run.theta[done, :, :-1].permute(2, 1, 0),
                bias=run.theta[done, :, -1].T,
                objective=run.objective[done],
                gradient_norm=dot(run.gradient, run.gradient).sqrt()[done],
                gap=gap[done],
                certified=certified[done],
                iterations=torch.full_like(done, iteration),
                converged=converged[done],
            ),
        )
    return finished
