"""Heads of other losses, mixtures and anchors against scipy on the papers' formulas, on raw features."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from headwater.errors import RequestError
from headwater.heads.bank import general
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.criterion import (
    CrossEntropy,
    Focal,
    GeneralizedCrossEntropy,
    Invariance,
    Mixing,
)
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.specs.spec import Codes, HeadSpec, Minibatch, Penalty, Rows, Weights

LOSSES = {
    "offset": CrossEntropy(offset=(0.3, -1.2, 0.8)),
    "ldam": CrossEntropy(margin=(0.5, 0.1, 0.3), scale=4.0),
    "all": CrossEntropy(offset=(0.3, -1.2, 0.8), margin=(0.5, 0.1, 0.3), scale=0.7),
    "focal": Focal(2.0),
    "generalised": GeneralizedCrossEntropy(0.7),
}


def problem(rows, dim, classes, seed=0):
    """Features (rows, dim) float32 and labels (rows,) of every class, not separable."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=rows)
    labels[:classes] = np.arange(classes)
    centres = random.normal(size=(classes, dim)) / np.sqrt(dim)
    features = centres[labels] * 2 + random.normal(size=(rows, dim)) * np.linspace(0.3, 1.5, dim) + 0.5
    return features.astype(np.float32), labels


def cut(loss, classes):
    """The loss for fewer classes than three."""
    if not isinstance(loss, CrossEntropy):
        return loss
    short = {name: value and value[:classes] for name, value in vars(loss).items() if name != "scale"}
    return dataclasses.replace(loss, **short)


def value(spec, features, labels, classes, weight, bias):  # noqa: PLR0917
    """What a spec asks to minimise, in torch on raw features; `weight` (classes or 1, dim)."""
    index = spec.rows.index
    x, y = torch.tensor(features[index], dtype=torch.float64), torch.tensor(labels[index])
    shift, scale = 0.0, 1.0
    if spec.scaler_rows is not None:
        chosen = features[spec.scaler_rows.index].astype(float)
        shift, scale = torch.tensor(chosen.mean(0)), torch.tensor(chosen.std(0))
    x = (x - shift) / scale
    pairs = [(1.0, y)]
    if spec.mixing is not None:
        partner = torch.tensor(spec.mixing.partner.values)
        share = torch.tensor(spec.mixing.share.values)
        x = share[:, None] * x + (1 - share[:, None]) * x[partner]
        pairs = [(share, y), (1 - share, y[partner])]
    z = x @ weight.T + bias
    if classes == 2:
        z = torch.cat([torch.zeros_like(z), z], dim=1)
    losses = sum(share * row_loss(spec.loss, z, target) for share, target in pairs)
    rows = np.ones(len(index)) if spec.weights is None else spec.weights.values
    mean = torch.tensor(rows / rows.sum()) @ losses
    near = torch.zeros_like(weight)
    if spec.anchor is not None:
        near = torch.tensor(spec.anchor.weight).double() * scale
        near = near[1:] - near[:1] if classes == 2 else near
    return mean + spec.penalty.l2 / 2 * (weight - near).square().sum()


def row_loss(loss, z, y):
    own = torch.nn.functional.one_hot(y, z.shape[1]).double()
    if isinstance(loss, CrossEntropy):
        offset = torch.tensor(loss.offset or [0.0] * z.shape[1]).double()
        margin = torch.tensor(loss.margin or [0.0] * z.shape[1]).double()
        z = loss.scale * (z + offset - margin * own)
    log_p = (z.log_softmax(1) * own).sum(1)
    if isinstance(loss, Focal):
        return -((1 - log_p.exp()) ** loss.gamma) * log_p
    if isinstance(loss, GeneralizedCrossEntropy):
        return (1 - log_p.exp() ** loss.q) / loss.q
    return -log_p


def optimum(spec, features, labels, classes, start=None):
    """The least value of a spec that scipy finds, and its weights (columns, dim)."""
    columns = 1 if classes == 2 else classes
    dim = features.shape[1]

    def both(theta):
        point = torch.tensor(theta, requires_grad=True)
        found = value(
            spec, features, labels, classes, point[: columns * dim].view(columns, dim), point[columns * dim :]
        )
        found.backward()
        return found.item(), point.grad.numpy()

    start = np.zeros(columns * (dim + 1)) if start is None else start
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-16, "gtol": 1e-10}
    with threadpool_limits(1):
        found = minimize(both, start, jac=True, method="L-BFGS-B", options=options)
    return found.fun, found.x[: columns * dim].reshape(columns, dim)


def ours(head, spec, features, labels, classes):
    """The value a spec has at a head, from its raw weights."""
    weight, bias = torch.tensor(head.weight).double(), torch.tensor(head.bias).double()
    if spec.scaler_rows is not None:
        chosen = features[spec.scaler_rows.index].astype(float)
        bias = bias + weight @ torch.tensor(chosen.mean(0))
        weight = weight * torch.tensor(chosen.std(0))
    if classes == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    return value(spec, features, labels, classes, weight, bias).item()


def train(features, labels, classes, specs):
    return HeadBank(features, labels, classes, device="cpu").train(specs)


def some_head(features, classes, seed=3):
    random = np.random.default_rng(seed)
    weight = random.normal(size=(classes, features.shape[1])).astype(np.float32)
    bias = random.normal(size=classes).astype(np.float32)
    return LinearHead(weight, bias, Convergence(True, 0, 0.0, 0.0))


@pytest.mark.parametrize(("rows", "dim", "classes"), [(200, 8, 2), (200, 8, 3), (40, 90, 2), (40, 90, 3)])
@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_reaches_the_optimum_that_scipy_finds(name, rows, dim, classes):
    features, labels = problem(rows, dim, classes)
    weights = Weights(np.random.default_rng(1).uniform(0.1, 3, rows))
    every = Rows(range(rows))
    spec = HeadSpec(every, Penalty(l2=0.01), weights, cut(LOSSES[name], classes), scaler_rows=every)
    (head,) = train(features, labels, classes, [spec])
    found = ours(head, spec, features, labels, classes)
    least, _ = optimum(spec, features, labels, classes)
    assert head.convergence.converged
    assert least * (1 - 1e-6) <= found <= least * (1 + 2e-6)
    assert head.convergence.objective == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize(("rows", "dim", "classes"), [(120, 8, 2), (120, 8, 3), (40, 90, 2), (40, 90, 3)])
@pytest.mark.parametrize("l2", [0.01, 10.0])
def test_an_anchored_head_is_pulled_to_its_anchor(rows, dim, classes, l2):
    features, labels = problem(rows, dim, classes)
    every = Rows(range(rows))
    anchor = some_head(features, classes)
    spec = HeadSpec(every, Penalty(l2=l2), anchor=anchor, scaler_rows=every, tolerance=1e-8)
    (head,) = train(features, labels, classes, [spec])
    least, weight = optimum(spec, features, labels, classes)
    found = ours(head, spec, features, labels, classes)
    assert head.convergence.converged
    assert least * (1 - 1e-6) <= found <= least * (1 + 1e-6)
    if classes == 2:
        scale = features.astype(float).std(0)
        np.testing.assert_allclose((head.weight[1] - head.weight[0]) * scale, weight[0], atol=2e-3)


def test_an_overwhelming_penalty_leaves_the_anchor_with_a_free_bias():
    features, labels = problem(150, 6, 2)
    anchor = some_head(features, 2)
    spec = HeadSpec(Rows(range(150)), Penalty(l2=1e7), anchor=anchor, tolerance=1e-10)
    (head,) = train(features, labels, 2, [spec])
    np.testing.assert_allclose(
        head.weight[1] - head.weight[0], anchor.weight[1] - anchor.weight[0], atol=1e-5
    )
    logits = head.logits(features)
    p = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    assert p.mean() == pytest.approx(labels.mean(), abs=1e-4)  # what a free bias brings about


@pytest.mark.parametrize(("rows", "dim", "classes"), [(90, 6, 2), (90, 6, 3), (30, 60, 2)])
@pytest.mark.parametrize("name", ["offset", "focal"])
def test_mixed_rows_are_trained_without_mixing_features(rows, dim, classes, name):
    features, labels = problem(rows, dim, classes)
    random = np.random.default_rng(5)
    every = Rows(random.permutation(rows))
    specs = [
        HeadSpec(
            every,
            Penalty(l2=0.02),
            Weights(random.uniform(0.1, 2, rows)),
            cut(LOSSES[name], classes),
            mixing=Mixing(Codes(random.permutation(rows)), Weights(random.beta(2, 2, rows))),
            scaler_rows=every,
        )
        for _ in range(2)
    ]
    for spec, head in zip(specs, train(features, labels, classes, specs), strict=True):
        least, _ = optimum(spec, features, labels, classes)
        found = ours(head, spec, features, labels, classes)
        assert least * (1 - 1e-6) <= found <= least * (1 + 2e-6)


def test_heads_of_different_numbers_in_one_stack_are_those_trained_alone():
    features, labels = problem(150, 8, 3)
    every = Rows(range(150))
    losses = [
        *(CrossEntropy(offset=(k, 0.0, -k), margin=(0.0, k, 0.1), scale=1 + k) for k in (0.1, 1.0, 3.0)),
        CrossEntropy(scale=2.0),
        *(Focal(gamma) for gamma in (0.0, 0.5, 2.0, 5.0)),
        *(GeneralizedCrossEntropy(q) for q in (0.1, 0.5, 1.0)),
    ]
    specs = [HeadSpec(every, Penalty(l2=l2), loss=loss, tolerance=1e-12) for loss in losses for l2 in (0.1,)]
    for spec, head in zip(specs, train(features, labels, 3, specs), strict=True):
        (alone,) = train(features, labels, 3, [spec])
        np.testing.assert_allclose(head.weight, alone.weight, atol=1e-5)
        assert head.convergence.converged


@pytest.mark.parametrize(("rows", "dim"), [(400, 24), (50, 120)])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_head_is_the_same_alone_and_in_a_stack_of_500(rows, dim, classes):
    features, labels = problem(rows, dim, classes)
    random = np.random.default_rng(1)
    weightings = [Weights(random.uniform(0.1, 1, rows)) for _ in range(10)]
    specs = [
        HeadSpec(Rows(range(rows)), Penalty(l2=float(l2)), weights, cut(LOSSES["all"], classes))
        for weights in weightings
        for l2 in np.logspace(-3, 1, 50)
    ]
    stacked = train(features, labels, classes, specs)
    assert all(head.convergence.converged for head in stacked)
    for i in (0, 7, 251, 499):
        (alone,) = train(features, labels, classes, [specs[i]])
        np.testing.assert_allclose(stacked[i].weight, alone.weight, atol=1e-5)
        np.testing.assert_allclose(stacked[i].bias, alone.bias, atol=1e-5)


def test_single_precision_reaches_the_same_optimum_in_parts_and_again(monkeypatch):
    monkeypatch.setattr("headwater.heads.bank.workspace.SMALL", 0)
    features, labels = problem(400, 20, 3)
    every = Rows(range(400))
    specs = [
        HeadSpec(every, Penalty(l2=float(l2)), loss=LOSSES[name], scaler_rows=every)
        for name in ("all", "focal")
        for l2 in (1e-4, 0.1)
    ]
    heads, again = train(features, labels, 3, specs), train(features, labels, 3, specs)
    assert heads == again
    monkeypatch.setattr(general, "_ROOM", 1)  # one head at a time
    for spec, head, single in zip(specs, heads, train(features, labels, 3, specs), strict=True):
        least, _ = optimum(spec, features, labels, 3)
        assert head.convergence.converged
        assert ours(head, spec, features, labels, 3) <= least * (1 + 2e-6)
        np.testing.assert_allclose(single.weight, head.weight, atol=1e-3)


def test_repeated_rows_count_twice():
    features, labels = problem(100, 6, 3)
    rows = np.random.default_rng(0).integers(100, size=250)
    rows = np.concatenate([rows, [0, 1, 2]])
    counts = np.bincount(rows, minlength=100)
    kept = np.flatnonzero(counts)
    one, two = train(
        features,
        labels,
        3,
        [
            HeadSpec(Rows(rows), Penalty(l2=0.01), loss=LOSSES["all"], tolerance=1e-10),
            HeadSpec(Rows(kept), Penalty(l2=0.01), Weights(counts[kept]), LOSSES["all"], tolerance=1e-10),
        ],
    )
    np.testing.assert_allclose(one.weight, two.weight, atol=1e-5)


def test_a_mixture_may_repeat_a_row_with_another_partner():
    features, labels = problem(40, 5, 2)
    rows = Rows(np.tile(np.arange(40), 3))
    random = np.random.default_rng(2)
    mixing = Mixing(Codes(random.integers(120, size=120)), Weights(random.uniform(size=120)))
    spec = HeadSpec(rows, Penalty(l2=0.01), mixing=mixing, tolerance=1e-9)
    (head,) = train(features, labels, 2, [spec])
    least, _ = optimum(spec, features, labels, 2)
    assert ours(head, spec, features, labels, 2) == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize(("rows", "dim"), [(300, 15), (40, 90)])
def test_a_warm_start_ends_at_the_same_head_sooner(rows, dim):
    features, labels = problem(rows, dim, 3)
    every = Rows(range(rows))
    spec = HeadSpec(every, Penalty(l2=0.003), loss=LOSSES["all"], scaler_rows=every, tolerance=1e-9)
    (cold,) = train(features, labels, 3, [spec])
    (warm,) = train(features, labels, 3, [dataclasses.replace(spec, start=cold)])
    assert warm.convergence.iterations < cold.convergence.iterations / 2
    assert warm.convergence.objective == pytest.approx(cold.convergence.objective, rel=1e-8)


def test_a_class_without_rows_is_left_out():
    features, labels = problem(120, 6, 3)
    kept = np.flatnonzero(labels != 1)
    loss = LOSSES["all"]
    spec = HeadSpec(Rows(kept), Penalty(l2=0.01), loss=loss)
    (head,) = train(features, labels, 3, [spec])
    assert (head.predict(features) != 1).all()
    weights = Weights((labels != 1).astype(float))
    (weighted,) = train(
        features, labels, 3, [HeadSpec(Rows(range(120)), Penalty(l2=0.01), weights, loss, tolerance=1e-9)]
    )
    np.testing.assert_allclose(head.weight, weighted.weight, atol=1e-3)
    with pytest.raises(RequestError, match="3 finite numbers"):
        train(features, labels, 3, [dataclasses.replace(spec, loss=CrossEntropy(offset=(1.0, 2.0)))])


def test_the_record_says_what_was_reached():
    features, labels = problem(200, 8, 2)
    every = Rows(range(200))
    specs = [
        HeadSpec(every, Penalty(l2=0.1), loss=CrossEntropy(offset=(0.0, 1.0))),
        HeadSpec(every, Penalty(l2=0.1), loss=Focal(2.0)),
        HeadSpec(every, Penalty(l2=1e-4), loss=Focal(2.0), max_iterations=2),
    ]
    convex, local, short = (head.convergence for head in train(features, labels, 2, specs))
    assert convex.converged
    assert "gap to the optimum" in convex.message
    assert local.converged
    assert "local" in local.message
    assert "certified" not in local.message
    assert not short.converged
    assert short.message.startswith("max_iterations reached")
    assert short.iterations == 2


def test_the_recorded_gap_covers_the_true_gap():
    features, labels = problem(200, 8, 3)
    for tolerance in (1e-1, 1e-3, 1e-5):
        spec = HeadSpec(Rows(range(200)), Penalty(l2=0.01), loss=LOSSES["all"], tolerance=tolerance)
        (head,) = train(features, labels, 3, [spec])
        least, _ = optimum(spec, features, labels, 3)
        assert head.convergence.converged
        assert ours(head, spec, features, labels, 3) - least <= tolerance * least


def test_separable_rows_without_a_penalty_have_no_optimum():
    features = np.array([[-1.0, 0.3], [-2.0, 0.1], [1.0, 0.2], [2.0, -0.4]], dtype=np.float32)
    spec = HeadSpec(Rows(range(4)), Penalty(), loss=CrossEntropy(offset=(0.0, 1.0)))
    (head,) = train(features, np.array([0, 0, 1, 1]), 2, [spec])
    assert not head.convergence.converged
    assert "separated" in head.convergence.message


ROWS = Rows(range(20))
REFUSED = {
    "l1": ({"penalty": Penalty(l1=0.1)}, "l1 penalty"),
    "gamma": ({"loss": Focal(-1.0)}, "gamma"),
    "q": ({"loss": GeneralizedCrossEntropy(0.0)}, "q above 0"),
    "scale": ({"loss": CrossEntropy(scale=0.0)}, "scale"),
    "margin": ({"loss": CrossEntropy(margin=(0.1, float("nan")))}, "margin"),
    "share": ({"mixing": Mixing(Codes([0] * 20), Weights([1.5] * 20))}, "between 0 and 1"),
    "shares": ({"mixing": Mixing(Codes([0] * 20), Weights([0.5] * 19))}, "one for each row"),
    "partner": ({"mixing": Mixing(Codes([20] * 20), Weights([0.5] * 20))}, "one is 20"),
    "strength": ({"invariance": Invariance("irm", Codes([0, 1] * 10), -1.0)}, "strength"),
    "code": ({"invariance": Invariance("irm", Codes([0, -1] * 10), 1.0)}, "start at 0"),
    "both": (
        {
            "mixing": Mixing(Codes([0] * 20), Weights([0.5] * 20)),
            "invariance": Invariance("irm", Codes([0, 1] * 10), 1.0),
        },
        "leave out the mixing",
    ),
    "minibatch": ({"minibatch": Minibatch(1, 4, 0.1), "loss": Focal(1.0)}, "mini-batches"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_cannot_be_trained_is_refused_before_any_training(case, monkeypatch):
    monkeypatch.setattr(general, "solve_general", lambda problem: pytest.fail("trained"))
    features, labels = problem(20, 3, 2)
    given, says = REFUSED[case]
    good = HeadSpec(ROWS, Penalty(l2=1.0), loss=Focal(2.0))
    bad = HeadSpec(ROWS, **{"penalty": Penalty(l2=1.0), "loss": Focal(1.0), **given})
    with pytest.raises(RequestError, match=says):
        train(features, labels, 2, [good, bad])
