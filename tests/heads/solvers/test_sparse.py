"""L1 heads against closed forms, scikit-learn's liblinear and saga, and the conditions of optimality."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.solvers.sparse_gap import balanced, dual
from headwater.heads.solvers.sparse_model import Model
from headwater.heads.solvers.sparse_rows import HeadLoss
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows, Weights


def problem(rows: int, dim: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    latent = random.normal(size=(rows, 8))
    features = np.maximum(latent @ random.normal(size=(8, dim)) + random.normal(size=(rows, dim)), 0)
    labels = (latent[:, :classes] + 0.7 * random.normal(size=(rows, classes))).argmax(1)
    labels[:classes] = np.arange(classes)
    return features.astype(np.float32), labels


def train(x: np.ndarray, y: np.ndarray, specs: list[HeadSpec]) -> list[LinearHead]:
    return HeadBank(x, y, int(y.max()) + 1, device="cpu").train(specs)


def standardised(x: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    return x.astype("f8") if rows is None else StandardScaler().fit(x[rows].astype("f8")).transform(x)


def columns(head: LinearHead, x: np.ndarray, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, dim) and biases of the penalised problem, on standardised features."""
    weight, bias = head.weight.astype("f8"), head.bias.astype("f8")
    if rows is not None:
        scaler = StandardScaler().fit(x[rows].astype("f8"))
        weight, bias = weight * scaler.scale_, bias + weight @ scaler.mean_
    if len(weight) == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    return weight, bias


def slopes(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients (K, dim) and (K,) of the weighted mean loss, written down plainly."""
    z = x @ weight.T + bias
    z = np.hstack([np.zeros_like(z), z]) if len(weight) == 1 else z
    p = np.exp(z - z.max(1, keepdims=True))
    residual = (p / p.sum(1, keepdims=True) - np.eye(p.shape[1])[y])[:, -len(weight) :] * share[:, None]
    return residual.T @ x, residual.sum(0)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    classes=st.sampled_from([2, 3]),
    size=st.sampled_from([(60, 8), (80, 40), (30, 90)]),
    log_l1=st.floats(-3, -1),
    l2=st.sampled_from([0.0, 0.01]),
    biased=st.booleans(),
    scaled=st.booleans(),
)
def test_the_conditions_of_optimality_hold(
    *, seed: int, classes: int, size: tuple[int, int], log_l1: float, l2: float, biased: bool, scaled: bool
) -> None:
    x, y = problem(*size, classes, seed)
    random = np.random.default_rng(seed)
    share = random.uniform(0.2, 2, len(x))
    scaler = np.arange(0, len(x), 2) if scaled else None
    l1 = 10**log_l1
    spec = HeadSpec(
        Rows(range(len(x))),
        Penalty(l1=l1, l2=l2, bias=biased),
        weights=Weights(share),
        scaler_rows=None if scaler is None else Rows(scaler),
    )
    (head,) = train(x, y, [spec])
    assert head.convergence.converged
    weight, bias = columns(head, x, scaler)
    slope, slope_bias = slopes(standardised(x, scaler), y, weight, bias, share / share.sum())
    slope += l2 * weight
    off = weight == 0
    assert (np.abs(slope[off]) <= l1 * (1 + 1e-3)).all()
    np.testing.assert_allclose(slope[~off], -l1 * np.sign(weight[~off]), atol=2e-3 * l1)
    if not biased:
        np.testing.assert_allclose(slope_bias, 0, atol=1e-5)
    else:
        moved = np.abs(bias) > 1e-5
        np.testing.assert_allclose(
            slope_bias[moved], -(l1 * np.sign(bias) + l2 * bias)[moved], atol=2e-3 * l1 + 1e-6
        )
        assert (np.abs(slope_bias[~moved]) <= l1 * (1 + 1e-3)).all()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_weights_vanish_exactly_from_the_largest_slope_on(classes: int, biased: bool) -> None:
    x, y = problem(90, 30, classes)
    share = np.full(90, 1 / 90)
    frequency = np.bincount(y) / 90
    start = np.log(frequency[1:] / frequency[:1]) if classes == 2 else np.log(frequency)
    k = len(start)
    slope, at = slopes(x.astype("f8"), y, np.zeros((k, 30)), np.zeros(k) if biased else start, share)
    least = max(np.abs(slope).max(), np.abs(at).max() if biased else 0)
    over, under = train(
        x, y, [HeadSpec(Rows(range(90)), Penalty(l1=least * f, bias=biased)) for f in (1.0001, 0.98)]
    )
    assert not over.weight.any()
    assert over.convergence.converged
    if biased:
        assert not over.bias.any()
    assert under.weight.any()


@pytest.mark.parametrize("l1", [0.02, 0.1, 0.3])
def test_one_feature_is_thresholded_softly(l1: float) -> None:
    """With balanced rows x = ±1 and no bias the slope is (tanh(w/2) - c)/2, c the rows' correlation."""
    agree = 40
    x = np.tile([[1.0], [-1.0]], (30, 1)).astype("f4")
    y = (x[:, 0] > 0).astype(int)
    y[agree:] = 1 - y[agree:]
    (head,) = train(x, y, [HeadSpec(Rows(range(60)), Penalty(l1=l1, bias=True))])
    c = (2 * agree - 60) / 60
    found = head.weight[1, 0] - head.weight[0, 0]
    expected = 0.0 if c / 2 <= l1 else brentq(lambda w: (np.tanh(w / 2) - c) / 2 + l1, 0, 10)
    assert found == pytest.approx(expected, abs=1e-6)
    assert (found == 0) == (expected == 0)


@pytest.mark.parametrize("size", [(120, 20), (60, 150)])
@pytest.mark.parametrize("c", [0.03, 0.3, 3.0])
def test_a_penalised_bias_is_liblinears(size: tuple[int, int], c: float) -> None:
    x, y = problem(*size, 2)
    scaler, rows = np.arange(0, size[0], 2), np.arange(5, size[0] - 5)
    spec = HeadSpec(Rows(rows), Penalty(l1=1 / (c * len(rows)), bias=True), scaler_rows=Rows(scaler))
    (head,) = train(x, y, [spec])
    weight, bias = columns(head, x, scaler)
    peer = LogisticRegression(C=c, l1_ratio=1.0, solver="liblinear", tol=1e-10, max_iter=100_000)
    peer.fit(standardised(x, scaler)[rows], y[rows])
    np.testing.assert_allclose(weight, peer.coef_, atol=2e-4 * np.abs(peer.coef_).max() + 1e-7)
    np.testing.assert_allclose(bias, peer.intercept_, atol=2e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_elastic_net_is_sagas(classes: int) -> None:
    x, y = problem(150, 30, classes)
    scaled = standardised(x, np.arange(150))
    penalty = Penalty(l1=0.6 / (0.05 * 150), l2=0.4 / (0.05 * 150))
    (head,) = train(x, y, [HeadSpec(Rows(range(150)), penalty, scaler_rows=Rows(range(150)))])
    peer = LogisticRegression(C=0.05, l1_ratio=0.6, solver="saga", tol=1e-7, max_iter=5_000).fit(scaled, y)
    weight, _ = columns(head, x, np.arange(150))
    np.testing.assert_allclose(weight, peer.coef_, atol=2e-5)


def test_subsets_of_rows_share_a_stack_and_are_the_same_alone() -> None:
    x, y = problem(300, 80, 2)
    random = np.random.default_rng(0)
    specs = [
        HeadSpec(
            Rows(random.permutation(300)[:150]),
            Penalty(l1=float(l1), bias=True),
            scaler_rows=Rows(range(300)),
        )
        for _ in range(50)
        for l1 in np.geomspace(0.004, 0.08, 10)
    ]
    stacked = train(x, y, specs)
    assert all(head.convergence.converged for head in stacked)
    for number in (0, 123, 499):
        (alone,) = train(x, y, [specs[number]])
        np.testing.assert_allclose(stacked[number].weight, alone.weight, atol=1e-5)
        np.testing.assert_allclose(stacked[number].bias, alone.bias, atol=1e-5)
    assert train(x, y, specs[:60]) == train(x, y, specs[:60])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_repeated_rows_are_weights(classes: int, biased: bool) -> None:
    x, y = problem(70, 30, classes)
    counts = np.random.default_rng(1).integers(1, 4, 70)
    penalty = Penalty(l1=0.02, bias=biased)
    repeated, weighted = train(
        x,
        y,
        [
            HeadSpec(Rows(np.repeat(np.arange(70), counts)), penalty),
            HeadSpec(Rows(range(70)), penalty, weights=Weights(counts)),
        ],
    )
    np.testing.assert_allclose(repeated.weight, weighted.weight, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(5))
def test_the_dual_is_below_every_objective(classes: int, l2: float, seed: int) -> None:
    """At any point at all, near the optimum or far from it."""
    random = torch.Generator().manual_seed(seed)
    k = 1 if classes == 2 else classes
    x = torch.randn(2, 25, 6, generator=random, dtype=torch.float64)
    target = torch.randint(classes, (2, 25), generator=random)
    target[:, :classes] = torch.arange(classes)
    weights = torch.rand(2, 25, generator=random, dtype=torch.float64)
    loss = HeadLoss(target, weights / weights.sum(1, keepdim=True), k)
    penalties = (torch.full((2, 1, 6), 0.05).double(), torch.full((2, 1, 6), l2).double())

    def at(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = weight @ x.transpose(1, 2) + bias
        cost = penalties[0] * weight.abs() + penalties[1] / 2 * weight.square()
        p = loss.probabilities(z)
        residual, factors = balanced(loss.residual(p), target, k)
        torch.testing.assert_close(residual.sum(2), torch.zeros(2, k).double())
        return loss.value(z) + cost.sum((1, 2)), dual(loss, p, factors, residual @ x, penalties)

    points = [
        at(
            size * torch.randn(2, k, 6, generator=random, dtype=torch.float64),
            size * torch.randn(2, k, 1, generator=random, dtype=torch.float64),
        )
        for size in (0.0, 0.1, 0.3, 1.0)
    ]
    least = torch.stack([objective for objective, _ in points]).amin(0)
    most = torch.stack([bound for _, bound in points]).amax(0)
    assert (most <= least + 1e-12).all()
    assert (most > 0).any()


def test_what_had_no_time_to_converge_says_so_and_how_far_it_is() -> None:
    x, y = problem(100, 60, 3)
    spec = HeadSpec(Rows(range(100)), Penalty(l1=0.002), max_iterations=2)
    (short,) = train(x, y, [spec])
    (whole,) = train(x, y, [HeadSpec(Rows(range(100)), Penalty(l1=0.002))])
    assert not short.convergence.converged
    assert whole.convergence.converged
    assert short.convergence.objective > whole.convergence.objective
    stated = float(short.convergence.message.rsplit("below ", 1)[1].split()[0]) * short.convergence.objective
    assert stated >= short.convergence.objective - whole.convergence.objective


def test_no_head_takes_more_steps_than_it_may_or_claims_what_it_did_not_reach() -> None:
    x, y = problem(100, 60, 3, seed=5)
    rows = Rows(range(100))
    specs = [
        HeadSpec(rows, Penalty(l1=l1), max_iterations=most) for most in range(1, 13) for l1 in (0.001, 0.01)
    ]
    tight = [HeadSpec(rows, Penalty(l1=l1), tolerance=1e-10) for l1 in (0.001, 0.01)]
    least = [head.convergence.objective for head in train(x, y, tight)]
    found = train(x, y, specs)
    for number, (spec, head) in enumerate(zip(specs, found, strict=True)):
        record = head.convergence
        assert record.iterations <= spec.max_iterations
        gap = record.objective - least[number % 2]
        assert gap >= -1e-9
        assert not record.converged or gap <= spec.tolerance * record.objective
    assert not any(head.convergence.converged for head in found[:4])
    assert all(head.convergence.converged for head in found[-2:])
    # one step from where the path ends at once
    (alone,) = train(x, y, [HeadSpec(rows, Penalty(l1=0.05), max_iterations=1)])
    assert alone.convergence.iterations == 1
    assert not alone.convergence.converged


def test_half_of_the_steps_are_left_to_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where single precision is never good enough, a head comes to its optimum all the same."""
    x, y = problem(100, 60, 2, seed=5)
    spec = HeadSpec(Rows(range(100)), Penalty(l1=0.005), tolerance=1e-10, max_iterations=60)
    (expected,) = train(x, y, [spec])
    monkeypatch.setattr("headwater.heads.solvers.sparse._COARSE", 0.0)
    monkeypatch.setattr("headwater.heads.solvers.sparse._NOISE", 0.0)
    (found,) = train(x, y, [spec])
    assert expected.convergence.converged
    assert found.convergence.converged
    assert 30 < found.convergence.iterations <= 60
    np.testing.assert_allclose(found.weight, expected.weight, atol=1e-6)


def test_a_penalised_bias_in_single_precision_ends_where_double_precision_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = problem(200, 60, 2, seed=3)
    rows = Rows(range(200))
    specs = [
        HeadSpec(rows, Penalty(l1=l1, bias=True), scaler_rows=Rows(range(120))) for l1 in (0.003, 0.01, 0.05)
    ]
    expected = train(x, y, specs)
    monkeypatch.setattr("headwater.heads.bank.workspace.SMALL", 0)
    monkeypatch.setattr("headwater.heads.bank.head_bank.SMALL", 0)
    found = train(x, y, specs)
    again = train(
        x, y, [dataclasses.replace(spec, start=head) for spec, head in zip(specs, found, strict=True)]
    )
    for one, two, three in zip(expected, found, again, strict=True):
        assert two.convergence.converged
        assert three.convergence.converged
        np.testing.assert_allclose(two.weight, one.weight, atol=2e-3)
        np.testing.assert_allclose(three.weight, one.weight, atol=2e-3)


def test_heads_that_many_features_fit_equally_well_come_to_an_end() -> None:
    """More features than rows, and three classes: many steps once led nowhere in single precision here."""
    x, y = problem(30, 90, 3, seed=6764)
    share = Weights(np.random.default_rng(6764).uniform(0.2, 2, 30))
    for weights, l2 in ((share, 0.0), (None, 0.01)):
        specs = [
            HeadSpec(Rows(range(30)), Penalty(l1=10**log_l1, l2=l2, bias=True), weights=weights)
            for log_l1 in np.linspace(-2.54765, -2.54755, 11)
        ]
        records = [train(x, y, [spec])[0].convergence for spec in specs]
        assert all(record.converged for record in records)
        assert max(record.iterations for record in records) < 50


@pytest.mark.parametrize("seed", range(3))
def test_a_model_is_minimised_as_by_coordinate_descent(seed: int) -> None:
    random = np.random.default_rng(seed)
    heads, size = 5, 12
    factor = random.normal(size=(heads, size, 20))
    real = np.arange(size) < np.array([12, 12, 7, 9, 12])[:, None]
    model = Model(
        slope=random.normal(size=(heads, size)) * real,
        hessian=factor @ factor.transpose(0, 2, 1) / 20 + 0.05 * np.eye(size),
        at=np.where(random.random((heads, size)) < 0.5, random.normal(size=(heads, size)), 0) * real,
        l1=np.tile(np.where(np.arange(size) == 0, 0, 0.3), (heads, 1)),
        real=real,
    )
    step, change, exact = model.minimise()
    assert exact.all()
    for h in range(heads):
        to = model.at[h].copy()
        for _ in range(3000):
            for i in np.flatnonzero(real[h]):
                slope = model.slope[h, i] + model.hessian[h, i] @ (to - model.at[h])
                free = to[i] - slope / model.hessian[h, i, i]
                to[i] = np.sign(free) * max(abs(free) - model.l1[h, i] / model.hessian[h, i, i], 0)
        np.testing.assert_allclose((model.at + step)[h][real[h]], to[real[h]], atol=1e-8)
    image = np.einsum("hij,hj->hi", model.hessian, step)
    penalty = (model.l1 * (np.abs(model.at + step) - np.abs(model.at))).sum(1)
    np.testing.assert_allclose(change, ((model.slope + image / 2) * step).sum(1) + penalty)
