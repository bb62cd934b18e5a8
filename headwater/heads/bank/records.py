"""A head's convergence record, in words, from what a solver found for its stack."""

from __future__ import annotations

import math

from headwater.heads.solvers.stack import SEPARATED, Solved
from headwater.heads.specs.head import MAX_ITERATIONS_REACHED, Convergence
from headwater.heads.specs.spec import HeadSpec


def record(solved: Solved, h: int, spec: HeadSpec, *, convex: bool = True) -> Convergence:
    """The record of head `h` of a stack, asked for by `spec`; `convex`: what it minimises."""
    objective, gap = float(solved.objective[h]), float(solved.gap[h])
    relative = gap / abs(objective) if objective else gap
    if convex:
        how = "certified" if bool(solved.certified[h]) else "estimated"
        message = f"gap to the optimum {how} below {relative:.1e} of the objective"
    else:
        message = (
            f"stationary to an estimated {relative:.1e} of the objective, which is not convex: "
            "the optimum is a local one"
        )
    if not bool(solved.converged[h]):
        message = f"{_obstacle(spec, int(solved.iterations[h]), objective)}; {message}"
    return Convergence(
        converged=bool(solved.converged[h]),
        iterations=int(solved.iterations[h]),
        objective=objective,
        gradient_norm=float(solved.gradient_norm[h]),
        message=message,
        stepped=spec.minibatch is not None and math.isfinite(objective),
    )


def _obstacle(spec: HeadSpec, iterations: int, objective: float) -> str:
    if spec.minibatch is not None:
        if not math.isfinite(objective):
            return f"its steps ran off within {iterations} epochs; lower the rate, {spec.minibatch.rate:g}"
        return f"stepped {iterations} epochs, as asked"
    if spec.penalty.l1 == spec.penalty.l2 == 0 and objective < SEPARATED:
        return "the rows can be separated without error, so that there is no optimum without a penalty"
    if iterations >= spec.max_iterations:
        return MAX_ITERATIONS_REACHED
    return "no further progress in this precision"
