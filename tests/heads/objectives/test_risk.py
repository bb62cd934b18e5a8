"""Risks against linear and quadratic programmes by scipy, limits and properties."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog, minimize

from headwater.heads.objectives.base import RowCodes, RowWeights
from headwater.heads.objectives.filling import fill_ball, fill_box
from headwater.heads.objectives.risk import risk_of
from headwater.heads.objectives.worst_case import WorstCase
from headwater.heads.objectives.worst_groups import WorstGroup, WorstOne
from headwater.heads.specs.criterion import ChiSquare, CVaR, GroupRisk
from headwater.heads.specs.spec import Codes


def _weights(values: NDArray[np.float64], heads: int) -> RowWeights:
    return RowWeights(torch.tensor(values / values.sum()).view(-1, 1), torch.zeros(heads, dtype=torch.long))


def _sharp(risk: WorstCase, losses: torch.Tensor, sharpness: float) -> WorstCase:
    return risk.moved(losses * 0, torch.full((losses.shape[1],), sharpness, dtype=torch.float64))


@st.composite
def _worlds(draw: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, heads = draw(st.integers(2, 30)), draw(st.integers(1, 4))
    losses = random.exponential(size=(n, heads)) * 10.0 ** random.integers(-2, 2, heads)
    if draw(st.booleans()):
        losses = np.round(losses, 1)  # ties
    weights = random.dirichlet(np.ones(n)) if draw(st.booleans()) else np.ones(n)
    return losses, weights / weights.sum()


@settings(max_examples=60, deadline=None)
@given(_worlds(), st.floats(0.02, 1.0), st.sampled_from([1e-2, 1.0, 1e3, 1e6]))
def test_cvar(world: Any, share: float, sharpness: float) -> None:
    losses, weights = world
    heads = losses.shape[1]
    risk = risk_of([CVaR(share)] * heads, _weights(weights, heads), None)
    exact, _, _ = risk.bounds(torch.tensor(losses))
    for head in range(heads):
        direct = linprog(
            -losses[:, head],
            A_eq=np.ones((1, len(losses))),
            b_eq=[1.0],
            bounds=[(0, each / share) for each in weights],
        )
        assert float(exact[head]) == pytest.approx(-direct.fun, rel=1e-6, abs=1e-8)
    sharp = _sharp(risk, torch.tensor(losses), sharpness)
    value, q = sharp.at(torch.tensor(losses))
    assert (q >= 0).all()
    np.testing.assert_allclose(q.sum(0), 1, rtol=1e-9)
    assert (q.numpy() <= weights[:, None] / share * (1 + 1e-6)).all()
    exact, under, largest = sharp.bounds(torch.tensor(losses))
    np.testing.assert_allclose(under, (q * torch.tensor(losses)).sum(0), rtol=1e-9)
    assert (value <= under + 1e-12).all()
    assert (under <= exact * (1 + 1e-6) + 1e-12).all()
    assert (exact - value <= sharp.diameter / sharpness + 1e-6 * exact).all()
    assert torch.equal(exact, largest)


@settings(max_examples=60, deadline=None)
@given(_worlds(), st.floats(1e-3, 50.0), st.sampled_from([1e-2, 1.0, 1e3, 1e6]))
def test_chi_square(world: Any, radius: float, sharpness: float) -> None:
    losses, weights = world
    heads = losses.shape[1]
    given = torch.tensor(losses)
    risk = _sharp(risk_of([ChiSquare(radius)] * heads, _weights(weights, heads), None), given, sharpness)
    value, q = risk.at(given)
    divergence = (weights[:, None] * (q.numpy() / weights[:, None] - 1) ** 2).sum(0) / 2
    assert (q >= 0).all()
    np.testing.assert_allclose(q.sum(0), 1, rtol=1e-9)
    assert (divergence <= radius * (1 + 1e-6)).all()
    exact, under, _ = risk.bounds(given)
    # By the dual (Duchi & Namkoong 2021, eq. 7): the least over t of sqrt(1 + 2·radius)·‖(losses - t)+‖ + t.
    for head in range(heads):
        column = losses[:, head]
        span = column.max() - column.min() + 1e-9
        t = column.max() - span * np.concatenate([np.geomspace(1e-9, 1e4, 4000), [0]])
        over = np.maximum(column[:, None] - t, 0)
        dual = (np.sqrt(1 + 2 * radius) * np.sqrt((weights[:, None] * over**2).sum(0)) + t).min()
        assert float(exact[head]) == pytest.approx(dual, rel=1e-3, abs=1e-6)
        assert float(exact[head]) <= dual * (1 + 1e-6) + 1e-9
    assert (under <= exact * (1 + 1e-6) + 1e-12).all()
    assert (exact - value <= radius / sharpness + 1e-6 * exact).all()


def test_chi_square_is_a_quadratic_programme() -> None:
    random = np.random.default_rng(0)
    losses, weights = random.exponential(size=(7, 1)), random.dirichlet(np.ones(7))
    for radius in (0.05, 0.5, 2.0):
        direct = minimize(
            lambda q: -q @ losses[:, 0],
            weights,
            jac=lambda q: -losses[:, 0],
            method="SLSQP",
            bounds=[(0, 1)] * 7,
            constraints=[
                {"type": "eq", "fun": lambda q: q.sum() - 1},
                {
                    "type": "ineq",
                    "fun": lambda q, r=radius: r - (weights * (q / weights - 1) ** 2).sum() / 2,
                },
            ],
            options={"ftol": 1e-13, "maxiter": 500},
        )
        exact, _, _ = risk_of([ChiSquare(radius)], _weights(weights, 1), None).bounds(torch.tensor(losses))
        assert float(exact) == pytest.approx(-direct.fun, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(_worlds(), st.floats(1.0, 20.0), st.floats(0.0, 5.0))
def test_fillings_are_projections(world: Any, most: float, radius: float) -> None:
    scores, weights = world
    w, heads = torch.tensor(weights).view(-1, 1), scores.shape[1]
    given = torch.tensor(scores)
    for a, feasible in (
        (
            fill_box(given, w, torch.full((heads,), most, dtype=torch.float64)),
            lambda b: (b <= most + 1e-6).all(),
        ),
        (
            fill_ball(given, w, torch.full((heads,), radius, dtype=torch.float64)),
            lambda b: ((w * (b - 1) ** 2).sum(0) / 2 <= radius + 1e-6).all(),
        ),
    ):
        assert feasible(a)
        # No other point of the set is better along the way to it: the conditions of an optimum.
        random = np.random.default_rng(1)
        for _ in range(5):
            other = torch.tensor(random.dirichlet(np.ones(len(scores)))).view(-1, 1) / w
            scaled = 1 + (other - 1) * min(1.0, (most - 1) / max(1e-12, float((other - 1).max())))
            spread = float((w * (scaled - 1) ** 2).sum() / 2)
            other = 1 + (scaled - 1) * min(1.0, np.sqrt(radius / max(spread, 1e-300)))
            gain = (w * (given - a) * (other - a)).sum(0)
            assert (gain <= 1e-6 * (1 + given.abs().amax(0)) * (1 + other.max())).all()


def test_limits() -> None:
    random = np.random.default_rng(1)
    losses, weights = torch.tensor(random.exponential(size=(40, 3))), np.ones(40)
    mean, most = losses.mean(0), losses.amax(0)
    for risk, limit in (
        (CVaR(1.0), mean),
        (CVaR(1e-6), most),
        (ChiSquare(0.0), mean),
        (ChiSquare(1e3), most),
    ):
        exact, _, _ = risk_of([risk] * 3, _weights(weights, 3), None).bounds(losses)
        torch.testing.assert_close(exact, limit, rtol=1e-5, atol=1e-9)


def _grouped(adjustment: tuple[float, ...], heads: int = 2) -> tuple[WorstGroup, torch.Tensor, Any]:
    random = np.random.default_rng(2)
    codes = random.integers(0, 3, 20)
    losses = torch.tensor(random.exponential(size=(20, heads)))
    weights = random.uniform(0.1, 1, 20)
    made = risk_of(
        [GroupRisk(Codes(codes), adjustment)] * heads,
        _weights(weights, heads),
        RowCodes(torch.tensor(codes).view(-1, 1), torch.zeros(heads, dtype=torch.long)),
    )
    assert isinstance(made, WorstGroup)
    means = np.stack(
        [np.average(losses.numpy()[codes == g], axis=0, weights=weights[codes == g]) for g in range(3)]
    )
    return made, losses, means


def test_groups() -> None:
    adjustment = (0.5, 0.0, 0.2)
    risk, losses, means = _grouped(adjustment)
    np.testing.assert_allclose(risk.means.at(losses), means, rtol=1e-12)
    shifted = np.array(adjustment)[:, None] - 0.5
    for sharpness in (0.5, 20.0, 1e5):
        sharp = risk.moved(losses * 0, torch.full((2,), sharpness, dtype=torch.float64))
        assert isinstance(sharp, WorstGroup)
        assert isinstance(sharp.worst, WorstOne)
        assert isinstance(risk.worst, WorstOne)
        sharp = replace(sharp, worst=replace(sharp.worst, centre=risk.worst.centre))
        value, q = sharp.at(losses)
        expected = np.log(np.mean(np.exp(sharpness * (means + shifted - (means + shifted).max(0))), axis=0))
        expected = expected / sharpness + (means + shifted).max(0)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert (q >= 0).all()
        np.testing.assert_allclose(q.sum(0), 1)
        exact, under, largest = sharp.bounds(losses)
        np.testing.assert_allclose(exact, (means + shifted).max(0))
        np.testing.assert_allclose(largest, means.max(0))
        assert (value <= under + 1e-12).all()
        assert (under <= exact + 1e-12).all()


def test_weights_are_the_derivative_of_the_value() -> None:
    risk, losses, _ = _grouped((0.5, 0.0, 0.2))
    random = np.random.default_rng(4)
    others = [
        _sharp(risk_of([each] * 2, _weights(random.uniform(size=20), 2), None), losses, 7.0)
        for each in (CVaR(0.3), ChiSquare(0.4))
    ]
    for each in (risk.moved(losses, torch.full((2,), 3.0, dtype=torch.float64)), *others):
        _, q = each.at(losses)
        step = 1e-6
        for row in range(20):
            up, down = losses.clone(), losses.clone()
            up[row] += step
            down[row] -= step
            slope = (each.at(up)[0] - each.at(down)[0]) / (2 * step)
            np.testing.assert_allclose(q[row], slope, atol=1e-5)


def test_heads_with_groupings_of_their_own() -> None:
    random = np.random.default_rng(5)
    losses = torch.tensor(random.exponential(size=(12, 3)), dtype=torch.float32)
    first, second = random.integers(0, 2, 12), random.integers(0, 3, 12)
    risks = [GroupRisk(Codes(first), (0.0,) * 2), GroupRisk(Codes(second), (0.1,) * 3)]
    codes = RowCodes(torch.tensor(np.stack([first, second], axis=1)), torch.tensor([0, 1, 0]))
    together = risk_of([risks[0], risks[1], risks[0]], _weights(np.ones(12), 3), codes)
    value, q = together.at(losses)
    for head, (risk, code) in enumerate(((risks[0], first), (risks[1], second), (risks[0], first))):
        one = RowCodes(torch.tensor(code).view(-1, 1), torch.zeros(1, dtype=torch.long))
        alone = risk_of([risk], _weights(np.ones(12), 1), one)
        expected, weights = alone.at(losses[:, [head]])
        torch.testing.assert_close(value[[head]], expected)
        torch.testing.assert_close(q[:, [head]], weights)
        kept, _ = together.of(torch.tensor([head])).at(losses[:, [head]])
        torch.testing.assert_close(kept, expected)
    assert q.dtype == torch.float32


def test_rows_without_weight_make_no_group() -> None:
    codes = np.array([0, 0, 1, 2])
    values = torch.tensor([[0.5], [0.5], [0.0], [0.0]], dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.long)
    given = RowCodes(torch.tensor([[0], [0], [1], [-1]]), zero)
    risk = risk_of([GroupRisk(Codes(codes), (0.0, 9.0, 9.0))], RowWeights(values, zero), given)
    exact, _, _ = risk.bounds(torch.tensor([[1.0], [2.0], [50.0], [60.0]]))
    assert float(exact) == pytest.approx(1.5)


@pytest.mark.parametrize("risk", [CVaR(0.4), ChiSquare(0.3)])
def test_what_bends_a_worst_share_is_how_its_weights_answer_losses(risk: Any) -> None:
    """By central differences, along changes of losses that leave the level where it is."""
    losses = torch.tensor(np.random.default_rng(8).exponential(size=(12, 1)))
    made = risk_of([risk], _weights(np.full(12, 1 / 12), 1), None)
    made = made.moved(losses, torch.tensor([0.7], dtype=torch.float64))
    diagonal, directions = made.bend(losses)
    assert directions is None
    inside = diagonal > 0
    assert 2 < int(inside.sum()) <= 12
    # Neither the mean nor, for the ball, the spread of the losses inside changes.
    fixed = torch.stack([inside[:, 0].double(), losses[:, 0] * inside[:, 0]], dim=1)
    change = torch.randn(12, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * inside
    change -= fixed @ torch.linalg.lstsq(fixed, change).solution
    up, down = (made.at(losses + step * change)[1] for step in (1e-5, -1e-5))
    np.testing.assert_allclose((up - down) / 2e-5, diagonal * change, rtol=1e-4, atol=1e-8)


def test_what_bends_a_worst_group_is_its_second_derivative() -> None:
    risk, losses, _ = _grouped((0.5, 0.0, 0.2))
    risk = risk.moved(losses, torch.full((losses.shape[1],), 2.0, dtype=torch.float64))
    diagonal, directions = risk.bend(losses)
    assert diagonal is None
    assert directions is not None
    change = torch.randn(losses.shape, generator=torch.Generator().manual_seed(1), dtype=losses.dtype)
    up, down = (risk.at(losses + step * change)[1] for step in (1e-5, -1e-5))
    expected = torch.einsum("nhr,mhr,mh->nh", directions, directions, change)
    np.testing.assert_allclose((up - down) / 2e-5, expected, rtol=1e-4, atol=1e-8)


def test_a_slip_of_the_caller_is_no_other_risk() -> None:
    weights = _weights(np.ones(4), 1)
    with pytest.raises(ValueError, match="codes of its groups"):
        risk_of([GroupRisk(Codes(np.array([0, 0, 1, 1])), (0.0, 0.0))], weights, None)
    with pytest.raises(TypeError, match="one kind"):
        risk_of([CVaR(0.3), ChiSquare(0.4)], _weights(np.ones(4), 2), None)
