"""What two-class general heads take for their Hessian, against autograd on objectives that are spelt out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from headwater.heads.objectives import base
from headwater.heads.objectives.base import Mixtures, Objective, RowCodes, RowWeights, WeightedMean
from headwater.heads.objectives.joint import JointObjective
from headwater.heads.objectives.risk import risk_of
from headwater.heads.objectives.rowloss import Logarithm, ShapedLoss
from headwater.heads.objectives.worst_groups import WorstGroup, WorstOne
from headwater.heads.solvers.general import Problem, Run
from headwater.heads.solvers.preconditioner import Directions
from headwater.heads.specs.criterion import GroupRisk
from headwater.heads.specs.spec import Codes

ROWS, DIM, HEADS = 40, 5, 2
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(ROWS, DIM, generator=GENERATOR, dtype=torch.float64) * torch.linspace(0.5, 2, DIM).double()
X -= X.mean(0)
THETA = torch.randn(HEADS, DIM + 1, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randint(2, (ROWS,), generator=GENERATOR)
WEIGHTS = torch.rand(ROWS, generator=GENERATOR, dtype=torch.float64)
WEIGHTS /= WEIGHTS.sum()
GROUPS = torch.arange(ROWS) % 3
ADJUSTMENT, SHARPNESS = (0.0, 0.1, 0.3), (3.0, 20.0)
L2 = torch.tensor([0.3, 0.02], dtype=torch.float64)
WITH_ONES = torch.cat([X, torch.ones(ROWS, 1, dtype=torch.float64)], dim=1)
Z = (WITH_ONES @ THETA.T).unsqueeze(1)


def made(kind: str) -> Objective:
    column = torch.zeros(HEADS, dtype=torch.long)
    weights = RowWeights(WEIGHTS.view(-1, 1), column)
    loss = ShapedLoss(TARGET, 1, Logarithm())
    if kind == "mean":
        return Objective(loss, WeightedMean(weights))
    risks = [GroupRisk(Codes(GROUPS.numpy()), ADJUSTMENT)] * HEADS
    risk = risk_of(risks, weights, RowCodes(GROUPS.view(-1, 1), column))
    assert isinstance(risk, WorstGroup)
    assert isinstance(risk.worst, WorstOne)
    worst = replace(risk.worst, sharpness=torch.tensor(SHARPNESS, dtype=torch.float64))
    return Objective(loss, replace(risk, worst=worst))


def spelt_out(kind: str, z: Tensor, head: int) -> Tensor:
    """The objective of one head at logits (rows,), but for a constant."""
    losses = WEIGHTS * functional.softplus(torch.where(TARGET == 1, -z, z))
    if kind == "mean":
        return losses.sum()
    means = [losses[g == GROUPS].sum() / WEIGHTS[g == GROUPS].sum() + ADJUSTMENT[g] for g in range(3)]
    return torch.logsumexp(SHARPNESS[head] * torch.stack(means), 0) / SHARPNESS[head]


def hessian(kind: str, head: int) -> Tensor:
    """By the logits (rows, rows), with the share of the squared slopes that metrics have beside it."""
    z = Z[:, 0, head]
    second: Tensor = torch.autograd.functional.hessian(lambda at: spelt_out(kind, at, head), z)  # type: ignore[no-untyped-call]
    (first,) = torch.autograd.grad(spelt_out(kind, at := z.clone().requires_grad_(), head), at)
    slope = torch.sigmoid(z) - TARGET  # of each row's loss; what it weighs is the rest of the gradient
    return second + torch.diag(base._SQUARES * first * slope)


@pytest.mark.parametrize("kind", ["mean", "worst group"])
def test_curvatures_by_row_and_steep_directions_are_the_hessian_by_logits(kind: str) -> None:
    objective = made(kind)
    by_row, steep = objective.by_row(Z), objective.steep(Z)
    assert by_row is not None
    torch.testing.assert_close(by_row.sum(0).view(-1, 1, 1), objective.curvature(Z))
    assert (steep is None) == (kind == "mean")
    for head in range(HEADS):
        found = torch.diag(by_row[:, head])
        if steep is not None:
            found += steep[:, 0, head] @ steep[:, 0, head].T
        torch.testing.assert_close(found, hessian(kind, head))


def test_curvatures_by_row_are_unknown_of_mixtures_and_of_several_classes() -> None:
    plain = made("mean")
    own, share = torch.arange(ROWS), torch.full((ROWS, 1), 0.5, dtype=torch.float64)
    mixtures = Mixtures(own, own.flip(0).view(-1, 1), share, torch.zeros(HEADS, dtype=torch.long))
    assert replace(plain, mixtures=mixtures).by_row(Z) is None
    three = replace(plain, loss=ShapedLoss(TARGET, 3, Logarithm()))
    assert three.by_row(Z.expand(-1, 3, -1)) is None


@pytest.mark.parametrize(("kind", "leading"), [("mean", DIM), ("worst group", DIM), ("mean", 2)])
def test_the_metric_inverts_the_hessian_along_leading_directions(
    kind: str, leading: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.heads.solvers.general._LEADING", leading)
    values, vectors = torch.linalg.eigh(X.T @ X / ROWS)
    problem = Problem(
        x=X,
        directions=Directions(vectors, values),
        objective=JointObjective.of_parts([made(kind)], [HEADS]),
        l2=L2,
        weight=THETA[:, :-1].T.unsqueeze(1),
        bias=THETA[:, -1:].T,
        tolerance=torch.full((HEADS,), 1e-6, dtype=torch.float64),
        max_iterations=torch.full((HEADS,), 10),
    )
    run = Run(problem)
    run.evaluate()
    _, steep = run.differentiate(run.heads)
    metric = run.metric(problem.directions, run.objective.curvature(run.z), steep, run.heads)
    along = torch.block_diag(vectors[:, -leading:], torch.ones(1, 1, dtype=torch.float64))
    given = torch.randn(HEADS, leading + 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = metric.solve((given @ along.T).unsqueeze(1)).squeeze(1)
    for head in range(HEADS):
        whole = WITH_ONES.T @ hessian(kind, head) @ WITH_ONES
        whole += L2[head] * torch.diag(torch.tensor([1.0] * DIM + [0.0], dtype=torch.float64))
        expected = along @ torch.linalg.solve(along.T @ whole @ along, given[head])
        # the Hessian is lifted a little before it is inverted
        torch.testing.assert_close(found[head], expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
