"""Ties between the heads of a set against the papers' formulas, written plainly, and torch's autograd."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from headwater.heads.objectives.cells import CellsTie, transported
from headwater.heads.objectives.members import MembersLoss, Tied
from headwater.heads.objectives.rowloss import Logarithm, ShapedLoss
from headwater.heads.objectives.ties import IndependenceTie, RepulsionTie, TargetTie, TieOf, TopTie

ROWS, TIED, SETS = 30, 24, 3
Formula = Callable[[torch.Tensor, int], torch.Tensor]


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mutual_information(p: torch.Tensor, one: int, other: int) -> torch.Tensor:
    joint = torch.stack([torch.outer(a, b) for a, b in zip(p[:, one], p[:, other], strict=True)]).mean(0)
    apart = torch.outer(p[:, one].mean(0), p[:, other].mean(0))
    return (joint * torch.log(joint / apart)).sum()


def independence(members: int, classes: int) -> tuple[TieOf, Formula]:
    strength, balance = torch.tensor([10.0, 1.0, 0.0]).double(), torch.tensor([10.0, 0.0, 2.0]).double()
    prior = draw(classes, SETS, seed=9).softmax(0)

    def formula(p: torch.Tensor, h: int) -> torch.Tensor:
        pairs = [(g, k) for g in range(members) for k in range(g)]
        total = strength[h] * sum(mutual_information(p, *pair) for pair in pairs)
        for mean in p.mean(0):
            total = total + balance[h] * (mean * torch.log(mean / prior[:, h])).sum()
        return total

    return IndependenceTie(strength, balance, prior), formula


def repulsion(members: int, classes: int) -> tuple[TieOf, Formula]:
    strength = torch.tensor([1.0, 0.5, 3.0]).double()
    others = draw(2, TIED, classes, SETS, seed=8).softmax(2)
    sure, said = others.max(2)

    def formula(p: torch.Tensor, h: int) -> torch.Tensor:
        total = torch.zeros(()).double()
        for other in range(2):
            for row in range(TIED):
                code = int(others[other, row, :, h].argmax())
                for member in range(members):
                    one, two = p[row, member, code], others[other, row, code, h]
                    total = total - torch.log(one * (1 - two) + two * (1 - one))
        return strength[h] * total / (2 * TIED)

    return RepulsionTie(strength, said, sure, torch.arange(SETS)), formula


def top(members: int, classes: int) -> tuple[TieOf, Formula]:
    strength, count = torch.tensor([1.0, 10.0, 0.1]).double(), torch.tensor([2, 5, TIED])

    def formula(p: torch.Tensor, h: int) -> torch.Tensor:
        total = torch.zeros(()).double()
        for way in product(range(classes), repeat=members):
            if len(set(way)) > 1:
                losses = sum(-p[:, member, code].log() for member, code in enumerate(way))
                total = total + torch.as_tensor(losses).topk(int(count[h]), largest=False).values.mean()
        return strength[h] * total

    return TopTie(strength, count), formula


def targets(members: int, classes: int) -> tuple[TieOf, Formula]:
    strength, values = torch.tensor([1.0, 2.0, 0.5]).double(), draw(TIED, classes, 2, seed=7).softmax(1)
    column = torch.tensor([1, 0, 1])

    def formula(p: torch.Tensor, h: int) -> torch.Tensor:
        wanted = values[:, :, column[h]].unsqueeze(1)
        return -strength[h] * (wanted * p.log()).sum((1, 2)).mean()

    return TargetTie(strength, values, column), formula


KINDS = {"independence": independence, "repulsion": repulsion, "top": top, "targets": targets}


def tied(tie: TieOf, members: int) -> tuple[Tied, torch.Tensor]:
    rows = torch.arange(ROWS)[-TIED:]
    return Tied(rows, members, tie), rows


def probabilities(z: torch.Tensor, members: int, classes: int) -> torch.Tensor:
    blocks = z.view(len(z), members, -1, z.shape[2])
    if classes == 2:
        one = torch.sigmoid(blocks)
        return torch.cat([1 - one, one], dim=2)
    return blocks.softmax(2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("members", "classes"), [(2, 2), (2, 3), (3, 2), (1, 2)])
def test_ties_are_the_papers_formulas_and_their_derivatives(kind: str, members: int, classes: int) -> None:
    if members == 1 and kind in {"independence", "top"}:
        pytest.skip("takes two members")
    tie, formula = KINDS[kind](members, classes)
    coupled, rows = tied(tie, members)
    columns = members * (1 if classes == 2 else classes)
    z = draw(ROWS, columns, SETS, seed=1).requires_grad_()
    p = probabilities(z[rows], members, classes)
    expected = torch.stack([formula(p[..., h], h) for h in range(SETS)])
    (derivative,) = torch.autograd.grad(expected.sum(), z)
    value, residual = coupled.at(z.detach())
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(residual, derivative)
    keep = torch.tensor([2, 0])
    some = coupled.of(keep).at(z.detach()[..., keep])
    torch.testing.assert_close(some, (value[keep], residual[..., keep]))


def cells_tie(classes: int, temperature: float) -> tuple[CellsTie, torch.Tensor]:
    shares = draw(classes**2, SETS, seed=6).softmax(0)
    tau = torch.full((SETS,), temperature, dtype=torch.float64)
    strength = torch.tensor([1.0, 2.0, 5.0]).double()
    return CellsTie(strength, tau, shares, torch.zeros_like(shares)), shares


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_cells_hold_their_shares_at_the_least_cost(classes: int, temperature: float) -> None:
    tie, shares = cells_tie(classes, temperature)
    gain = draw(TIED, classes**2, SETS, seed=2).log_softmax(1)
    value, q = transported(gain, shares, tie.temperature, torch.zeros_like(shares))
    torch.testing.assert_close(q.mean(0), shares, rtol=0, atol=1e-6)
    torch.testing.assert_close(q.sum(1), torch.ones(TIED, SETS).double())
    cost = (q * (-gain + temperature * q.log())).sum(1).mean(0)
    torch.testing.assert_close(value, cost, rtol=0, atol=1e-5)
    # Any other assignment with these shares, such as one without regard to cost, is dearer.
    blind = shares.expand(TIED, -1, -1)
    assert bool(((blind * (-gain + temperature * blind.log())).sum(1).mean(0) >= value - 1e-9).all())


def test_cold_cells_are_the_linear_program_of_transport() -> None:
    """scipy's linear program has the cost without entropy, which a low temperature comes near."""
    rows, cells = 12, 4
    gain = 3 * draw(rows, cells, 1, seed=3)
    shares = torch.tensor([0.4, 0.1, 0.2, 0.3]).double().unsqueeze(1)
    by_row = np.kron(np.eye(rows), np.ones(cells))
    by_cell = np.kron(np.ones(rows), np.eye(cells)) / rows
    plan = linprog(
        -gain[..., 0].numpy().ravel() / rows,
        A_eq=np.concatenate([by_row, by_cell]),
        b_eq=np.concatenate([np.ones(rows), shares[:, 0].numpy()]),
    )
    value, _ = transported(gain, shares, torch.tensor([0.05]).double(), torch.zeros_like(shares))
    assert plan.fun - 0.05 * np.log(cells) <= float(value) <= plan.fun + 1e-3


@pytest.mark.parametrize("classes", [2, 3])
def test_the_slope_of_cells_is_that_of_their_cost(classes: int) -> None:
    tie, _ = cells_tie(classes, 0.5)
    coupled, _ = tied(tie, 2)
    columns = 2 * (1 if classes == 2 else classes)
    z, d = draw(ROWS, columns, SETS, seed=4), draw(ROWS, columns, SETS, seed=5)
    step = 1e-4
    ahead, behind = coupled.at(z + step * d)[0], coupled.at(z - step * d)[0]
    slope = (coupled.at(z)[1] * d).sum((0, 1))
    torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6)
    assert float(slope.abs().min()) > 1e-3


@pytest.mark.parametrize("classes", [2, 3])
def test_members_fit_the_labels_by_themselves_and_their_own_rows_alone(classes: int) -> None:
    columns = 1 if classes == 2 else classes
    target = torch.arange(ROWS) % classes
    own = torch.zeros(ROWS, SETS, dtype=torch.bool)
    own[:4, 1] = True
    each = ShapedLoss(target, columns, Logarithm())
    loss = MembersLoss(each, 2, own)
    z = draw(ROWS, 2 * columns, SETS, seed=1)
    value, slope = loss.at(z)
    first, by_first = each.at(z[:, :columns])
    second, by_second = each.at(z[:, columns:])
    second[own], by_second.transpose(1, 2)[own] = 0, 0
    torch.testing.assert_close(value, first + second)
    torch.testing.assert_close(slope, torch.cat([by_first, by_second], dim=1))
    weights = draw(ROWS, SETS, seed=2).softmax(0)
    curvature = loss.curvature(z, weights)
    alone = each.curvature(z[:, columns:], weights * ~own)
    torch.testing.assert_close(curvature[:, columns:, columns:], alone)
    assert float(curvature[:, :columns, columns:].abs().max()) == 0
