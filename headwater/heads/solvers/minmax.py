"""Heads whose risk is a maximum over weights of rows or groups, solved to a gap between primal and dual.

Proximal steps on the weights: minimise the smoothed risk, whose maximising weights are the step's result
(for groups the exponentiated gradient of Sagawa et al. 2020, taken implicitly), move its centre there,
sharpen, repeat, each time from the last optimum. How a smoothed risk is minimised lives in `general`, which
asks here what is next whenever it has done so for some heads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from headwater.heads.objectives.joint import Part
from headwater.heads.objectives.worst_case import WorstCase
from headwater.heads.solvers.stack import Solved

if TYPE_CHECKING:
    from headwater.heads.solvers.general import Problem, Run

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
# The share of a head's own relative tolerance to which each smoothed risk is solved.
_SHARE = 0.25


class WorstCases:
    """The steps of those heads of a problem whose risk is a worst case, each at its own pace.

    A head is solved to its tolerance when the gap between its worst case and a lower bound is, relative.
    With weights q of the set, the least penalised mean loss under q is at most the optimum; as that mean is
    strongly convex, it is at least its present value less ‖gradient‖²/(2·l2) (and the bias' part), which is a
    certificate. The tolerance is relative to the worst case of the losses without their groups' adjustments:
    these are constants, which must not make it any looser.
    `answers` are those of all heads of the problem, and all tensors have a number for each.
    """

    def __init__(self, problem: Problem) -> None:
        room = torch.zeros_like(problem.weight), torch.zeros_like(problem.bias)
        self.answers, self._tolerance = Solved.around(*room), problem.tolerance
        self._gap = torch.full_like(problem.l2, torch.inf)
        self._highest = torch.full_like(problem.l2, -torch.inf)
        self._sharpness = torch.zeros_like(problem.l2)
        self._steps = torch.zeros_like(problem.max_iterations)
        self._stalled = torch.zeros_like(problem.max_iterations)

    def are_worst(self, run: Run) -> Tensor:
        """Which of the heads that run have a worst case, (H,) bool."""
        out = torch.zeros_like(run.done)
        for part in run.objective.parts:
            out[part.heads] = part.is_worst_case
        return out

    def lingering(self, run: Run) -> Tensor:
        """Which heads' steps have taken so long that they end where they are, (H,) bool."""
        return self.are_worst(run) & (run.since >= _INNER_ITERATIONS)

    def begin(self, run: Run) -> None:
        """Smooth all worst cases for their first steps."""
        for place, part, own in run.objective.worst_cases(run.heads):
            losses = part.objective.losses(run.z[..., part.heads])
            mean = losses.double().mean(0)
            heads = own + part.first
            self._sharpness[heads] = _FIRST * _risk(part).diameter / mean.clamp_min(1e-12)
            run.slack[heads] = _EXPECTED * mean
            run.tolerance = run.tolerance.index_copy(0, heads, _SHARE * self._tolerance[heads])
            risk = _risk(part).moved(losses, self._sharpness[heads])
            run.objective = run.objective.with_part(place, replace(part.objective, risk=risk))

    def advance(self, run: Run, ended: Tensor, spent: Tensor, found: Solved) -> Tensor:
        """Writes down heads whose step has `ended` (H,), and gives those not solved yet their next one.

        `spent` (H,) heads have no iterations left. The answer (H,) bool says which have something else to
        minimise now.
        """
        changed = torch.zeros_like(ended)
        if not bool(ended.any()):
            return changed
        for place, part, own in run.objective.worst_cases(torch.nonzero(ended).flatten()):
            if len(own):
                places = own + part.first
                finished, risk = self._step(run, part, own, spent[places], found.of(places))
                if risk is not None:
                    changed[places[~finished]] = True
                    merged = _risk(part).put(own[~finished], risk)
                    run.objective = run.objective.with_part(place, replace(part.objective, risk=merged))
        return changed

    def _step(
        self, run: Run, part: Part, own: Tensor, spent: Tensor, inner: Solved
    ) -> tuple[Tensor, WorstCase | None]:
        """Which heads of a part are finished (h,), and the next smoothed risk of those that are not."""
        places = own + part.first
        heads = run.heads[places]
        objective = part.objective.of(own)
        losses = objective.losses(run.z[..., places])
        risk: WorstCase = objective.risk  # type: ignore[assignment]
        worst, under, largest = risk.bounds(losses)
        penalty = run.l2[places] / 2 * run.square(run.theta[places])
        apart = (worst - under).clamp_min(0)
        total = apart + inner.gap
        wanted = self._tolerance[heads] * (largest + penalty)
        bound = under + penalty - inner.gap
        gap, highest = self._gap[heads], self._highest[heads]
        progress = (total < 0.7 * gap) | (bound > highest + 0.1 * wanted)
        self._stalled[heads] = torch.where(progress, 0, self._stalled[heads] + 1)
        self._highest[heads] = torch.maximum(highest, bound)
        better = (total < gap) | (self._steps[heads] == 0)
        self._gap[heads] = torch.where(better, total, gap)
        self._steps[heads] += 1
        converged = total <= wanted
        chosen = torch.nonzero(better).flatten()
        found = replace(inner, objective=worst + risk.common + penalty, gap=total, converged=converged)
        self.answers.put(heads[chosen], found.of(chosen))
        self.answers.iterations[heads] = inner.iterations
        finished = converged | spent | ~torch.isfinite(total)
        finished |= (self._stalled[heads] >= _PATIENCE) | (self._steps[heads] >= _STEPS)
        keep = torch.nonzero(~finished).flatten()
        if not len(keep):
            return finished, None
        risk, heads, places = risk.of(keep), heads[keep], places[keep]
        apart, wanted, before = apart[keep], wanted[keep], self._sharpness[heads]
        sharper = _sharper(before, risk.diameter, apart, wanted)
        self._sharpness[heads] = torch.where(inner.converged[keep], sharper, before)
        run.slack[places] = _INNER * torch.maximum(_EXPECTED * apart, wanted)
        run.stalled[places] = 0
        return finished, risk.moved(losses[:, keep], self._sharpness[heads])


def _sharper(sharpness: Tensor, diameter: Tensor, apart: Tensor, wanted: Tensor) -> Tensor:
    """The sharpness of the next step, from the gap `apart` between worst case and bound of the last."""
    aim = _SHARPER * diameter / torch.maximum(apart, wanted / 4).clamp_min(1e-300)
    return torch.minimum(torch.maximum(aim, _SLOWEST * sharpness), _FASTEST * sharpness)


def _risk(part: Part) -> WorstCase:
    risk: WorstCase = part.objective.risk  # type: ignore[assignment]
    return risk
