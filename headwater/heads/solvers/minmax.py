"""Heads whose risk is a maximum over weights of rows or groups, solved to a gap between primal and dual.

Proximal steps on the weights: minimise the smoothed risk, whose maximising weights are the step's result
(for groups the exponentiated gradient of Sagawa et al. 2020, taken implicitly), move its centre there,
sharpen, repeat, each time from the last optimum. How a smoothed risk is minimised lives in `general`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from headwater.heads.objectives.risk import WorstCase
from headwater.heads.solvers.general import Problem, solve_general
from headwater.heads.solvers.stack import Solved

# The first sharpness, and how much sharper than diameter / gap the next ones are, in units of the diameter.
_FIRST, _SHARPER = 3.0, 0.1
# The factor by which sharpness grows from one step to the next.
_SLOWEST, _FASTEST = 2.0, 30.0
# The smoothed risk is solved to this share of the gap that its step is expected to leave.
_INNER = 0.25
_EXPECTED = 0.1
_STEPS = 40
# Iterations after which a step ends where it is, and is taken again from there.
_INNER_ITERATIONS = 100
# Steps in which neither the gap nor the lower bound gets better, after which a head is given up.
_PATIENCE = 6


def solve_minmax(problem: Problem) -> Solved:
    """Minimise every head to its tolerance, the gap between its worst case and a lower bound, relative.

    `problem.objective.risk` is a WorstCase. With weights q of the set, the least penalised mean loss under q
    is at most the optimum; as that mean is strongly convex, it is at least its present value less
    ‖gradient‖²/(2·l2) (and the bias' part), which is a certificate. `objective` leaves the adjustments
    of groups out, and so does the scale of the tolerance. `iterations` counts those of all steps.
    """
    answers = problem.empty()
    answers.gap.fill_(torch.inf)
    heads = torch.arange(problem.heads, device=problem.x.device)
    gap, highest = torch.full_like(problem.l2, torch.inf), torch.full_like(problem.l2, -torch.inf)
    stalled, used = torch.zeros_like(heads), torch.zeros_like(problem.max_iterations)
    now, losses = problem, _losses(problem)
    sharpness = _FIRST * _risk(now).diameter / losses.double().mean(0).clamp_min(1e-12)
    goal = _EXPECTED * losses.double().mean(0)
    for step in range(_STEPS):
        risk = _risk(now).moved(losses, sharpness)
        now = replace(now, objective=replace(now.objective, risk=risk))
        left = (now.max_iterations - used).clamp(1, _INNER_ITERATIONS)
        inner = solve_general(replace(now, tolerance=now.tolerance / 4, slack=goal, max_iterations=left))
        used = used + inner.iterations
        now = replace(now, weight=inner.weight, bias=inner.bias)
        losses = _losses(now)
        worst, under, plain = risk.bounds(losses)
        penalty = now.l2 / 2 * now.weight.double().square().sum((0, 1))
        apart = (worst - under).clamp_min(0)
        total = apart + inner.gap
        objective = apart + plain + penalty
        wanted = now.tolerance * objective.abs()
        bound = under + penalty - inner.gap
        progress = (total < 0.7 * gap) | (bound > highest + 0.1 * wanted)
        stalled = torch.where(progress, 0, stalled + 1)
        highest = torch.maximum(highest, bound)
        better = (total < gap) | (step == 0)
        gap = torch.where(better, total, gap)
        converged = total <= wanted
        chosen = torch.nonzero(better).flatten()
        found = replace(inner, objective=objective, gap=total, iterations=used, converged=converged)
        answers.put(heads[chosen], found.of(chosen))
        finished = converged | (used >= now.max_iterations) | (stalled >= _PATIENCE)
        if bool(finished.all()):
            break
        keep = torch.nonzero(~finished).flatten()
        now, losses, heads, used = now.of(keep), losses[:, keep], heads[keep], used[keep]
        gap, highest, stalled = gap[keep], highest[keep], stalled[keep]
        apart, wanted = apart[keep], wanted[keep]
        sharper = _sharper(sharpness[keep], _risk(now).diameter, apart, wanted)
        sharpness = torch.where(inner.converged[keep], sharper, sharpness[keep])
        goal = _INNER * torch.maximum(_EXPECTED * apart, wanted)
    return answers


def _sharper(sharpness: Tensor, diameter: Tensor, apart: Tensor, wanted: Tensor) -> Tensor:
    """The sharpness of the next step, from the gap `apart` between worst case and bound of the last."""
    aim = _SHARPER * diameter / torch.maximum(apart, wanted / 4).clamp_min(1e-300)
    return torch.minimum(torch.maximum(aim, _SLOWEST * sharpness), _FASTEST * sharpness)


def _risk(problem: Problem) -> WorstCase:
    risk: WorstCase = problem.objective.risk  # type: ignore[assignment]
    return risk


def _losses(problem: Problem) -> Tensor:
    weight = problem.weight
    flat = torch.addmm(problem.bias.reshape(1, -1), problem.x, weight.reshape(len(weight), -1))
    z = flat.view(len(problem.x), *weight.shape[1:])
    if problem.offset is not None:
        z += problem.offset
    return problem.objective.losses(z)
