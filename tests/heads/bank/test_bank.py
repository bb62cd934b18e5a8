"""The bank against scipy, scikit-learn and the optimality conditions, written down plainly in float64."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from headwater.heads.bank import head_bank as bank_module
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows, Weights


def problem(rows, dim, classes, seed=0, noise=1.0):
    """Correlated, non-negative features (rows, dim) float32 and labels (rows,) of every class."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(rows, min(dim, 12)))
    features = np.maximum(
        latent @ rng.normal(size=(latent.shape[1], dim)) * 0.4 + rng.normal(size=(rows, dim)) * 0.3 + 0.2, 0
    )
    labels = (latent[:, :classes] + noise * rng.normal(size=(rows, classes))).argmax(axis=1)
    labels[:classes] = np.arange(classes)
    return features.astype(np.float32), labels


def objective(features, labels, weight, bias, *, l1=0.0, l2=0.0, weights=None, scale=None):
    """Weighted mean cross-entropy plus penalty of a raw-feature head; two classes are penalised as one
    column.
    """
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=float)
    z = np.asarray(features, dtype=float) @ np.asarray(weight, dtype=float).T + np.asarray(bias, dtype=float)
    z = z - z.max(axis=1, keepdims=True)
    loss = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(labels)), labels]
    w = np.asarray(weight, dtype=float) * (1.0 if scale is None else scale)
    if len(w) == 2:
        w = w[1:] - w[:1]
    return weights @ loss / weights.sum() + l1 * np.abs(w).sum() + l2 / 2 * (w**2).sum()


def optimum(features, labels, classes, *, l2, weights=None):
    """The least objective with an L2 penalty, by scipy in float64 from an analytic gradient."""
    x = np.asarray(features, dtype=float)
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=float)
    weights = weights / weights.sum()
    columns = 1 if classes == 2 else classes
    onehot = np.eye(classes)[labels]

    def value(theta):
        w, b = theta[:-columns].reshape(-1, columns), theta[-columns:]
        z = x @ w + b
        z = np.hstack([np.zeros_like(z), z]) if columns == 1 else z
        z = z - z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        residual = (weights[:, None] * (np.exp(log_p) - onehot))[:, -columns:]
        gradient = np.concatenate([(x.T @ residual + l2 * w).ravel(), residual.sum(axis=0)])
        return -(weights * (log_p * onehot).sum(axis=1)).sum() + l2 / 2 * (w**2).sum(), gradient

    with threadpool_limits(1):
        found = minimize(
            value,
            np.zeros((x.shape[1] + 1) * columns),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 20000, "maxfun": 40000, "ftol": 1e-15, "gtol": 1e-9},
        )
    return found.fun


def train(features, labels, classes, specs):
    return HeadBank(features, labels, classes, device="cpu").train(specs)


@pytest.mark.parametrize(("rows", "dim", "classes"), [(300, 10, 2), (300, 10, 5), (40, 90, 2), (40, 90, 4)])
@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
def test_l2_reaches_the_optimum_that_scipy_finds(rows, dim, classes, l2):
    features, labels = problem(rows, dim, classes)
    weights = np.random.default_rng(1).uniform(0.1, 3, rows)
    spec = HeadSpec(Rows(range(rows)), Penalty(l2=l2), weights=Weights(weights), tolerance=1e-7)
    (head,) = train(features, labels, classes, [spec])
    least = optimum(features, labels, classes, l2=l2, weights=weights)
    ours = objective(features, labels, head.weight, head.bias, l2=l2, weights=weights)
    assert head.convergence.converged
    assert least - 1e-9 <= ours <= least * (1 + 1e-6) + 1e-9
    assert head.convergence.objective == pytest.approx(ours, rel=1e-6)


@pytest.mark.parametrize(("classes", "l1_ratio"), list(itertools.product([2, 3], [0.0, 0.5, 1.0])))
@pytest.mark.parametrize("weighted", [False, True])
def test_penalties_mean_what_scikit_learn_means(classes, l1_ratio, weighted):
    features, labels = problem(200, 15, classes)
    weights = np.random.default_rng(2).uniform(0.5, 2, 200) if weighted else None
    C = 0.2
    total = 200 if weights is None else weights.sum()
    penalty = Penalty(l1=l1_ratio / (C * total), l2=(1 - l1_ratio) / (C * total))
    spec = HeadSpec(
        Rows(range(200)), penalty, weights=None if weights is None else Weights(weights), tolerance=1e-10
    )
    (head,) = train(features, labels, classes, [spec])
    solver = "saga" if l1_ratio else "lbfgs"
    peer = LogisticRegression(C=C, l1_ratio=l1_ratio, solver=solver, tol=1e-10, max_iter=50_000)
    peer.fit(features.astype(float), labels, sample_weight=weights)
    weight = head.weight if classes > 2 else head.weight[1:] - head.weight[:1]
    np.testing.assert_allclose(weight, peer.coef_, atol=2e-4)
    if l1_ratio:
        assert ((weight != 0) == (np.abs(peer.coef_) > 1e-5)).mean() > 0.95


def test_binary_l1_equals_liblinear_where_its_penalised_bias_is_free():
    features, labels = problem(150, 30, 2)
    C = 0.5
    (head,) = train(
        features, labels, 2, [HeadSpec(Rows(range(150)), Penalty(l1=1 / (C * 150)), tolerance=1e-10)]
    )
    # A huge constant column makes liblinear's penalty on the bias vanish.
    peer = LogisticRegression(
        C=C, l1_ratio=1.0, solver="liblinear", intercept_scaling=1e3, tol=1e-9, max_iter=10_000
    )
    peer.fit(features.astype(float), labels)
    np.testing.assert_allclose(head.weight[1] - head.weight[0], peer.coef_[0], atol=5e-3)


@pytest.mark.parametrize(("rows", "dim", "classes"), [(400, 30, 2), (400, 30, 4), (60, 200, 2), (60, 200, 3)])
@pytest.mark.parametrize(("l1", "l2"), [(0.003, 0.0), (0.02, 0.0), (0.01, 0.01)])
def test_l1_heads_satisfy_the_optimality_conditions(rows, dim, classes, l1, l2):
    features, labels = problem(rows, dim, classes)
    spec = HeadSpec(Rows(range(rows)), Penalty(l1=l1, l2=l2), tolerance=1e-8)
    (head,) = train(features, labels, classes, [spec])
    assert head.convergence.converged
    z = features.astype(float) @ head.weight.T.astype(float) + head.bias
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    residual = (p - np.eye(classes)[labels]) / rows
    w = head.weight.T.astype(float)
    if classes == 2:
        residual, w = residual[:, 1:], w[:, 1:] - w[:, :1]
    slope = features.T.astype(float) @ residual + l2 * w
    zero = w == 0
    assert zero.any()
    assert (np.abs(slope[zero]) <= l1 * (1 + 1e-4)).all()
    np.testing.assert_allclose(slope[~zero], -l1 * np.sign(w[~zero]), atol=l1 * 1e-3)
    np.testing.assert_allclose(residual.sum(axis=0), 0, atol=1e-5)


def test_the_strongest_l1_leaves_only_class_frequencies():
    features, labels = problem(200, 20, 3)
    (head,) = train(features, labels, 3, [HeadSpec(Rows(range(200)), Penalty(l1=10.0), tolerance=1e-9)])
    assert not head.weight.any()
    p = np.exp(head.bias - head.bias.max())
    np.testing.assert_allclose(p / p.sum(), np.bincount(labels) / 200, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_standardisation_is_folded_into_the_head(classes):
    features, labels = problem(300, 12, classes)
    features = features * np.linspace(0.1, 30, 12, dtype=np.float32) + 5
    features[:, 3] = 7  # a constant feature has no scale
    scaler = Rows(range(0, 300, 2))
    mean, scale = features[::2].astype(float).mean(0), features[::2].astype(float).std(0)
    scale[3] = 1
    (head,) = train(
        features,
        labels,
        classes,
        [HeadSpec(Rows(range(300)), Penalty(l2=0.01), scaler_rows=scaler, tolerance=1e-9)],
    )
    least = optimum((features - mean) / scale, labels, classes, l2=0.01)
    assert objective(features, labels, head.weight, head.bias, l2=0.01, scale=scale) == pytest.approx(
        least, rel=1e-5
    )


@pytest.mark.parametrize("penalty", [Penalty(l2=0.01), Penalty(l1=0.01)])
def test_a_repeated_row_counts_as_a_weight(penalty):
    features, labels = problem(80, 10, 3)
    counts = np.random.default_rng(0).integers(1, 4, 80)
    repeated = HeadSpec(Rows(np.repeat(np.arange(80), counts)), penalty, tolerance=1e-10)
    weighted = HeadSpec(Rows(range(80)), penalty, weights=Weights(counts), tolerance=1e-10)
    one, two = train(features, labels, 3, [repeated, weighted])
    np.testing.assert_allclose(one.weight, two.weight, atol=1e-4)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.sampled_from([2, 3]), log_l2=st.floats(-3, 1))
def test_row_order_and_weight_scale_do_not_matter(seed, classes, log_l2):
    rng = np.random.default_rng(seed)
    features, labels = problem(60, 8, classes, seed)
    weights = rng.uniform(0.2, 2, 60)
    order = rng.permutation(60)
    penalty = Penalty(l2=10**log_l2)
    plain, shuffled = train(
        features,
        labels,
        classes,
        [
            HeadSpec(Rows(range(60)), penalty, weights=Weights(weights), tolerance=1e-10),
            HeadSpec(Rows(order), penalty, weights=Weights(7 * weights[order]), tolerance=1e-10),
        ],
    )
    np.testing.assert_allclose(plain.weight, shuffled.weight, atol=1e-5)
    np.testing.assert_allclose(plain.bias, shuffled.bias, atol=1e-5)


@pytest.mark.parametrize(("rows", "dim"), [(400, 24), (50, 120)])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_head_is_the_same_alone_and_in_a_stack_of_500(rows, dim, classes):
    features, labels = problem(rows, dim, classes)
    weightings = [None, *(Weights(np.random.default_rng(s).uniform(0.1, 1, rows)) for s in range(9))]
    specs = [
        HeadSpec(Rows(range(rows)), Penalty(l2=float(l2)), weights=weights)
        for weights in weightings
        for l2 in np.logspace(-3, 1, 50)
    ]
    stacked = train(features, labels, classes, specs)
    assert all(head.convergence.converged for head in stacked)
    for i in (0, 7, 251, 499):
        (alone,) = train(features, labels, classes, [specs[i]])
        np.testing.assert_allclose(stacked[i].weight, alone.weight, atol=1e-5)
        np.testing.assert_allclose(stacked[i].bias, alone.bias, atol=1e-5)


def test_float32_stacks_reach_the_same_optimum_and_are_deterministic(monkeypatch):
    monkeypatch.setattr(bank_module, "SMALL", 0)
    monkeypatch.setattr("headwater.heads.bank.workspace.SMALL", 0)
    features, labels = problem(2000, 30, 5)
    specs = [
        HeadSpec(Rows(range(2000)), Penalty(l2=float(l2)), tolerance=1e-6) for l2 in np.logspace(-5, 0, 12)
    ]
    heads, again = train(features, labels, 5, specs), train(features, labels, 5, specs)
    assert heads == again
    for spec, head in list(zip(specs, heads, strict=True))[::3]:
        least = optimum(features, labels, 5, l2=spec.penalty.l2)
        assert head.convergence.converged
        assert objective(features, labels, head.weight, head.bias, l2=spec.penalty.l2) <= least * (1 + 1.5e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_large_l1_problems_in_float32_match_small_ones_in_float64(monkeypatch, classes):
    features, labels = problem(1500, 40, classes)
    specs = [HeadSpec(Rows(range(1500)), Penalty(l1=l1), tolerance=1e-5) for l1 in (0.05, 0.01, 0.003)]
    exact = train(features, labels, classes, specs)
    monkeypatch.setattr(bank_module, "SMALL", 0)
    monkeypatch.setattr("headwater.heads.bank.workspace.SMALL", 0)
    for spec, one, two in zip(specs, exact, train(features, labels, classes, specs), strict=True):
        values = [objective(features, labels, h.weight, h.bias, l1=spec.penalty.l1) for h in (one, two)]
        assert values[0] == pytest.approx(values[1], rel=2e-5)


def test_overlapping_row_sets_share_a_stack_without_touching_each_other():
    features, labels = problem(400, 10, 3)
    rng = np.random.default_rng(3)
    specs = [
        HeadSpec(
            Rows(rng.permutation(400)[:330]), Penalty(l2=0.01), scaler_rows=Rows(range(400)), tolerance=1e-12
        )
        for _ in range(4)
    ]
    together = train(features, labels, 3, specs)
    for spec, head in zip(specs, together, strict=True):
        (alone,) = train(features, labels, 3, [spec])
        np.testing.assert_allclose(head.weight, alone.weight, atol=1e-5)


@pytest.mark.parametrize("penalty", [Penalty(l2=0.001), Penalty(l1=0.003)])
@pytest.mark.parametrize(("rows", "dim"), [(400, 20), (40, 90)])
def test_a_warm_start_ends_at_the_same_head_sooner(penalty, rows, dim):
    features, labels = problem(rows, dim, 3)
    spec = HeadSpec(Rows(range(rows)), penalty, scaler_rows=Rows(range(rows)), tolerance=1e-9)
    (cold,) = train(features, labels, 3, [spec])
    (warm,) = train(features, labels, 3, [HeadSpec(**{**vars_of(spec), "start": cold})])
    assert warm.convergence.iterations < cold.convergence.iterations
    assert warm.convergence.objective == pytest.approx(cold.convergence.objective, rel=1e-7)


def vars_of(spec):
    return {name: getattr(spec, name) for name in HeadSpec.__dataclass_fields__}


def test_equal_specs_are_trained_once_and_come_back_in_order(monkeypatch):
    features, labels = problem(100, 5, 2)
    solved = []
    original = HeadBank._solve
    monkeypatch.setattr(
        HeadBank, "_solve", lambda self, group: solved.extend(group.specs) or original(self, group)
    )
    specs = [HeadSpec(Rows(range(100)), Penalty(l2=l2)) for l2 in (0.1, 1.0, 0.1, 0.1)]
    heads = train(features, labels, 2, specs)
    assert len(solved) == 2
    assert heads[0] is heads[2] is heads[3]
    assert np.abs(heads[1].weight).sum() < np.abs(heads[0].weight).sum()


def test_a_class_without_rows_is_never_predicted_and_leaves_the_others_right():
    features, labels = problem(200, 8, 4)
    rows = np.flatnonzero(labels != 2)
    (head,) = train(features, labels, 4, [HeadSpec(Rows(rows), Penalty(l2=0.01), tolerance=1e-8)])
    assert not (head.predict(features) == 2).any()
    relabelled = np.searchsorted([0, 1, 3], labels[rows])
    least = optimum(features[rows], relabelled, 3, l2=0.01)
    kept = [0, 1, 3]
    assert objective(
        features[rows], relabelled, head.weight[kept], head.bias[kept], l2=0.01
    ) == pytest.approx(least, rel=1e-6)


def test_what_has_not_converged_says_so():
    features, labels = problem(300, 20, 3)
    (head,) = train(
        features, labels, 3, [HeadSpec(Rows(range(300)), Penalty(l2=1e-5), tolerance=1e-9, max_iterations=2)]
    )
    assert not head.convergence.converged
    assert head.convergence.iterations == 2
    assert "max_iterations" in head.convergence.message


def test_separable_rows_without_a_penalty_have_no_optimum_and_say_so():
    features, labels = problem(30, 60, 2)
    (head,) = train(features, labels, 2, [HeadSpec(Rows(range(30)), Penalty())])
    assert not head.convergence.converged
    assert "separated" in head.convergence.message
    assert np.isfinite(head.weight).all()
    assert (head.predict(features) == labels).all()


def test_the_faintest_l1_penalty_ends_at_the_unpenalised_optimum():
    features, labels = problem(200, 8, 3)
    (head,) = train(features, labels, 3, [HeadSpec(Rows(range(200)), Penalty(l1=1e-9))])
    assert head.convergence.converged
    assert head.convergence.objective == pytest.approx(optimum(features, labels, 3, l2=0.0), rel=1e-6)


def test_the_recorded_gap_covers_the_true_gap():
    features, labels = problem(500, 30, 4)
    least = optimum(features, labels, 4, l2=1e-3)
    for tolerance in (1e-2, 1e-3, 1e-4, 1e-5):
        spec = HeadSpec(Rows(range(500)), Penalty(l2=1e-3), tolerance=tolerance)
        (head,) = train(features, labels, 4, [spec])
        true = objective(features, labels, head.weight, head.bias, l2=1e-3) / least - 1
        assert true <= tolerance
        assert head.convergence.converged


def test_float16_memory_maps_are_read_as_they_are(tmp_path):
    features, labels = problem(120, 9, 3)
    half = features.astype(np.float16)
    np.save(tmp_path / "features.npy", half)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    spec = HeadSpec(Rows(range(120)), Penalty(l2=0.01), scaler_rows=Rows(range(120)))
    assert train(mapped, labels, 3, [spec]) == train(half.astype(np.float32), labels, 3, [spec])


def test_threads_are_given_back():
    before = torch.get_num_threads()
    features, labels = problem(50, 5, 2)
    train(features, labels, 2, [HeadSpec(Rows(range(50)), Penalty(l2=0.1))])
    assert torch.get_num_threads() == before
