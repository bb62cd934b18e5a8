"""Heads whose risk is a maximum: against direct solutions by scipy, and cases in which they must coincide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.criterion import ChiSquare, CVaR, GroupRisk, GroupTree, Risk, Shrinking
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import Codes, HeadSpec, Penalty, Rows, Weights

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Features (90, 5), two classes, four groups of unequal size."""
    random = np.random.default_rng(3)
    counts = (40, 8, 6, 36)
    target, place = np.repeat([0, 0, 1, 1], counts), np.repeat([0, 1, 0, 1], counts)
    x = random.normal(size=(len(target), 5))
    x[:, 0] += 0.8 * (2 * target - 1)
    x[:, 1] += 1.5 * (2 * place - 1)
    return x.astype(np.float32), target, 2 * target + place


def _train(rows: Any, risk: Risk | None, l2: float, **kind: Any) -> LinearHead:
    x, target, _ = rows
    spec = HeadSpec(Rows(np.arange(len(x))), Penalty(l2=l2), risk=risk, tolerance=TOLERANCE, **kind)
    return HeadBank(x, target, int(target.max()) + 1).train([spec])[0]


def _losses(theta: NDArray[np.float64], x: NDArray[np.float32], target: NDArray[np.int64]) -> Any:
    z = x.astype(np.float64) @ theta[:-1] + theta[-1]
    return np.logaddexp(0, -(2 * target - 1) * z)


def _theta(head: LinearHead) -> NDArray[np.float64]:
    """The weights of the one logit of two classes, the bias last."""
    weight = head.weight.astype(np.float64)
    return np.append(weight[1] - weight[0], float(head.bias[1]) - float(head.bias[0]))


def _epigraph(
    x: NDArray[np.float32], target: NDArray[np.int64], l2: float, pieces: Callable[..., Any], extra: int
) -> float:
    """Least t + l2/2‖w‖² (and what `pieces` adds) by SLSQP over theta and `extra` further variables."""
    dim = x.shape[1] + 1
    start = np.concatenate([np.zeros(dim), np.ones(extra)])
    objective, constraints, bounds = pieces(dim)
    found = minimize(
        lambda v: objective(v) + l2 / 2 * float(v[: dim - 1] @ v[: dim - 1]),
        start,
        method="SLSQP",
        constraints=constraints,
        bounds=bounds,
        options={"maxiter": 1000, "ftol": 1e-12},
    )
    assert found.success, found.message
    return float(found.fun)


@pytest.mark.parametrize("l2", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_worst_group_is_the_least_there_is(rows: Any, l2: float, strength: float) -> None:
    x, target, groups = rows
    adjustment = strength / np.sqrt(np.bincount(groups))

    def pieces(dim: int) -> Any:
        def slack(v: NDArray[np.float64]) -> Any:
            losses = _losses(v[:dim], x, target)
            return v[dim] - np.array([losses[groups == g].mean() + adjustment[g] for g in range(4)])

        return (lambda v: v[dim]), [{"type": "ineq", "fun": slack}], None

    direct = _epigraph(x, target, l2, pieces, 1)
    head = _train(rows, GroupRisk(Codes(groups), tuple(adjustment)), l2)
    theta = _theta(head)
    losses = _losses(theta, x, target)
    ours = (
        max(losses[groups == g].mean() + adjustment[g] for g in range(4)) + l2 / 2 * theta[:-1] @ theta[:-1]
    )
    assert head.convergence.converged
    assert ours == pytest.approx(direct, rel=2 * TOLERANCE)
    assert ours >= direct - 1e-6
    assert head.convergence.objective == pytest.approx(ours, rel=1e-5)


@pytest.mark.parametrize(
    ("l2", "share", "strength"), [(1e-2, None, 4.0), (1.0, 0.3, 0.0), (1e-2, 0.3, 4.0), (1e-2, 0.6, 30.0)]
)
def test_worst_share_of_shrunk_groups_is_the_least_there_is(
    rows: Any, l2: float, share: float | None, strength: float
) -> None:
    x, target, groups = rows
    groups = 3 * groups + np.arange(90) % 3
    count = 12
    n = np.bincount(groups)
    tree = GroupTree(Codes([-1, -1, 0]), Codes([0, 0, 2, 2, 2, 1, 1, 1, 1, -1, 0, 2]))
    below = [np.isin(tree.above.values, nodes) for nodes in ((0, 2), (1,), (2,))]

    def shrunk(losses: NDArray[np.float64]) -> NDArray[np.float64]:
        means = np.bincount(groups, losses) / n
        nodes: list[float] = []
        for own, parent in zip(below, (-1, -1, 0), strict=True):
            mean, mass = np.average(means[own], weights=n[own]), n[own].sum()
            upper = losses.mean() if parent < 0 else nodes[parent]
            nodes.append((mass * mean + strength * upper) / (mass + strength))
        upper = np.array([*nodes, losses.mean()])[tree.above.values]
        return np.asarray((n * means + strength * upper) / (n + strength))

    def pieces(dim: int) -> Any:
        def over(v: NDArray[np.float64]) -> Any:
            return v[dim + 1 :] - shrunk(_losses(v[:dim], x, target)) + v[dim]

        bounds = [(None, None)] * (dim + 1) + [(0, None if share else 0)] * count
        objective = lambda v: v[dim] + v[dim + 1 :].sum() / ((share or 1) * count)  # noqa: E731
        return objective, [{"type": "ineq", "fun": over}], bounds

    direct = _epigraph(x, target, l2, pieces, 1 + count)
    risk = GroupRisk(Codes(groups), (0.0,) * count, share, Shrinking(tree, strength))
    head = _train(rows, risk, l2)
    losses = np.sort(shrunk(_losses(_theta(head), x, target)))[::-1]
    weight = np.clip((share or 1 / count) * count - np.arange(count), 0, 1)
    ours = losses @ weight / weight.sum() + l2 / 2 * _theta(head)[:-1] @ _theta(head)[:-1]
    assert head.convergence.converged
    assert ours == pytest.approx(direct, rel=2 * TOLERANCE)
    assert ours >= direct - 1e-6
    assert head.convergence.objective == pytest.approx(ours, rel=1e-5)


def test_without_a_share_or_strength_it_is_the_plain_worst_group(rows: Any) -> None:
    _, _, groups = rows
    tree = GroupTree(Codes([-1]), Codes([0, 0, -1, -1]))
    plain, none = (
        _train(rows, GroupRisk(Codes(groups), (0.1, 0.0, 0.3, 0.0), None, shrinking), 0.01)
        for shrinking in (None, Shrinking(tree, 0.0))
    )
    assert plain == none
    mean, endless = _train(rows, None, 0.01), Shrinking(tree, 1e9)
    pulled = _train(rows, GroupRisk(Codes(groups), (0.0,) * 4, 0.3, endless), 0.01)
    assert pulled.convergence.objective == pytest.approx(mean.convergence.objective, rel=TOLERANCE)
    weights = Weights((1 / np.bincount(groups))[groups])
    balanced = _train(rows, None, 0.01, weights=weights)
    whole = _train(rows, GroupRisk(Codes(groups), (0.0,) * 4, 1.0), 0.01)
    assert whole.convergence.objective == pytest.approx(balanced.convergence.objective, rel=TOLERANCE)


@pytest.mark.parametrize("l2", [1e-2, 1.0])
@pytest.mark.parametrize("share", [0.07, 0.4, 1.0])
def test_cvar_is_the_least_there_is(rows: Any, l2: float, share: float) -> None:
    x, target, _ = rows
    x, target = x[::2], target[::2]
    n = len(x)

    def pieces(dim: int) -> Any:
        def slack(v: NDArray[np.float64]) -> Any:
            return v[dim + 1 :] - _losses(v[:dim], x, target) + v[dim]

        bounds = [(None, None)] * (dim + 1) + [(0, None)] * n
        objective = lambda v: v[dim] + v[dim + 1 :].sum() / (share * n)  # noqa: E731
        return objective, [{"type": "ineq", "fun": slack}], bounds

    direct = _epigraph(x, target, l2, pieces, 1 + n)
    head = _train((x, target, None), CVaR(share), l2)
    assert head.convergence.converged
    assert head.convergence.objective == pytest.approx(direct, rel=2 * TOLERANCE)


@pytest.mark.parametrize("l2", [1e-2, 1.0])
@pytest.mark.parametrize("radius", [0.1, 1.0, 20.0])
def test_chi_square_is_the_least_there_is(rows: Any, l2: float, radius: float) -> None:
    x, target, _ = rows
    x, target = x[::2], target[::2]

    # min over t of sqrt(1 + 2·radius)·‖(losses - t)+‖ + t (Duchi & Namkoong 2021, eq. 7), a smooth problem
    def dual(v: NDArray[np.float64]) -> float:
        over = np.maximum(_losses(v[:6], x, target) - v[6], 0)
        return float(np.sqrt(1 + 2 * radius) * np.sqrt((over**2).mean()) + v[6] + l2 / 2 * v[:5] @ v[:5])

    starts = [np.append(np.zeros(6), t) for t in (-1.0, 0.3, 0.6)]
    direct = min(
        minimize(dual, start, method=how, options=opts).fun
        for start in starts
        for how, opts in (
            ("L-BFGS-B", {"maxiter": 5000, "ftol": 1e-14}),
            (
                "Nelder-Mead",
                {"maxiter": 8000, "maxfev": 8000, "fatol": 1e-9, "xatol": 1e-7, "adaptive": True},
            ),
        )
    )
    head = _train((x, target, None), ChiSquare(radius), l2)
    assert head.convergence.converged
    assert head.convergence.objective == pytest.approx(direct, rel=5e-4)
    assert head.convergence.objective <= direct * (1 + 2 * TOLERANCE)


@pytest.mark.parametrize("l2", [1e-5, 1e-3, 0.1, 10.0])
def test_converges_for_every_strength(rows: Any, l2: float) -> None:
    _, _, groups = rows
    for risk in (GroupRisk(Codes(groups), (0.0,) * 4), CVaR(0.1), ChiSquare(1.0)):
        head = _train(rows, risk, l2)
        assert head.convergence.converged, (risk, head.convergence)
        assert head.convergence.iterations < 300


def test_one_group_is_erm(rows: Any) -> None:
    plain = _train(rows, None, 0.01)
    one = _train(rows, GroupRisk(Codes(np.zeros(90)), (0.7,)), 0.01)
    assert one.convergence.objective - 0.7 == pytest.approx(plain.convergence.objective, rel=TOLERANCE)
    np.testing.assert_allclose(_theta(one), _theta(plain), atol=0.02)


def test_groups_of_the_same_rows_are_erm(rows: Any) -> None:
    x, target, _ = rows
    twice = (np.concatenate([x, x]), np.concatenate([target, target]), None)
    plain = _train(rows, None, 0.01)
    both = _train(twice, GroupRisk(Codes(np.repeat([0, 1], 90)), (0.0, 0.0)), 0.01)
    assert both.convergence.objective == pytest.approx(plain.convergence.objective, rel=TOLERANCE)


def test_huge_adjustment_trains_on_that_group_alone(rows: Any) -> None:
    x, target, _ = rows
    groups = np.arange(90) % 2
    alone = _train((x[groups == 1], target[groups == 1], None), None, 0.1)
    pushed = _train(rows, GroupRisk(Codes(groups), (0.0, 50.0)), 0.1)
    assert pushed.convergence.objective - 50 == pytest.approx(alone.convergence.objective, rel=2 * TOLERANCE)
    np.testing.assert_allclose(_theta(pushed), _theta(alone), atol=0.02)


def test_whole_share_and_no_radius_are_erm(rows: Any) -> None:
    plain = _train(rows, None, 0.01).convergence.objective
    assert _train(rows, CVaR(1.0), 0.01).convergence.objective == pytest.approx(plain, rel=TOLERANCE)
    assert _train(rows, ChiSquare(1e-12), 0.01).convergence.objective == pytest.approx(plain, rel=TOLERANCE)


def test_weights_count_as_repeats(rows: Any) -> None:
    x, target, groups = rows
    times = np.arange(90) % 3 + 1
    index = np.repeat(np.arange(90), times)
    bank = HeadBank(x, target, 2)
    for risk, repeated in (
        (CVaR(0.15), CVaR(0.15)),
        (ChiSquare(0.5), ChiSquare(0.5)),
        (GroupRisk(Codes(groups), (0.0,) * 4), GroupRisk(Codes(groups[index]), (0.0,) * 4)),
    ):
        weighted, copied = bank.train(
            [
                HeadSpec(
                    Rows(np.arange(90)), Penalty(l2=0.01), weights=Weights(times), risk=risk, tolerance=1e-5
                ),
                HeadSpec(Rows(index), Penalty(l2=0.01), risk=repeated, tolerance=1e-5),
            ]
        )
        assert weighted.convergence.objective == pytest.approx(copied.convergence.objective, rel=2e-5)


def test_alone_and_in_a_stack_are_the_same(rows: Any) -> None:
    x, target, groups = rows
    three = np.minimum(groups, 2)
    specs = [
        HeadSpec(
            Rows(np.arange(90)), Penalty(l2=l2), risk=GroupRisk(Codes(codes), (0.0,) * count), tolerance=1e-6
        )
        for l2 in (1e-3, 1e-1)
        for codes, count in ((groups, 4), (three, 3))
    ]
    bank = HeadBank(x, target, 2)
    together = bank.train(specs)
    for spec, head in zip(specs, together, strict=True):
        (alone,) = bank.train([spec])
        assert head.convergence.iterations == alone.convergence.iterations
        np.testing.assert_allclose(head.weight, alone.weight, atol=1e-5)


def test_three_classes_and_honest_failure() -> None:
    random = np.random.default_rng(0)
    target = np.repeat([0, 1, 2], 30)
    x = (random.normal(size=(90, 4)) + 2 * np.eye(3, 4)[target]).astype(np.float32)
    groups = target * 2 + random.integers(0, 2, 90)
    rows = (x, target, groups)
    risk = GroupRisk(Codes(groups), (0.0,) * 6)
    head = _train(rows, risk, 0.01)
    z = x.astype(np.float64) @ head.weight.T + head.bias
    losses = np.log(np.exp(z).sum(1)) - z[np.arange(90), target]
    centred = head.weight.astype(np.float64)
    value = max(losses[groups == g].mean() for g in range(6)) + 0.005 * float((centred**2).sum())
    assert head.convergence.converged
    assert value == pytest.approx(head.convergence.objective, rel=1e-4)
    short = _train(rows, risk, 0.01, max_iterations=2)
    assert not short.convergence.converged
    assert short.convergence.iterations <= 4
    assert "max_iterations" in short.convergence.message
