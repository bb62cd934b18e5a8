"""Methods of other losses, mixtures and penalties: against scipy, and where two of them must coincide."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.distance import pdist
from scipy.special import log_softmax

from headwater.errors import RequestError
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.methods import plan
from headwater.heads.methods.domains import domains
from headwater.heads.methods.mixing import selected_partners
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import Weights
from headwater.heads.tasks.task import Task


def fit(task: Task, name: str, seed: int = 0, **settings: Any) -> LinearHead:
    (fitted,) = run_recipes(task, [plan(task, name, settings, seed=seed)])
    assert fitted.convergence.converged
    return fitted.head


def margin(task: Task, head: LinearHead) -> np.ndarray:
    """The logit of class 1 against class 0 for every row."""
    logits = head.logits(task.features).astype("f8")
    return logits[:, 1] - logits[:, 0]


def standardised(task: Task) -> np.ndarray:
    train = task.features[task.splits["train"]].astype("f8")
    return (task.features.astype("f8") - train.mean(0)) / train.std(0)


def optimum(task: Task, loss: Any, l2: float, x: np.ndarray | None = None) -> np.ndarray:
    """The logit of class 1 at scipy's least mean loss(z, y) + l2/2·w² over train, for every row."""
    every = standardised(task)
    train = task.splits["train"]
    x = every[train] if x is None else x

    def value(theta: np.ndarray) -> float:
        z = x @ theta[:-1] + theta[-1]
        return float(np.mean(loss(z, task.target[train])) + l2 / 2 * theta[:-1] @ theta[:-1])

    found = minimize(value, np.zeros(x.shape[1] + 1), method="BFGS", options={"gtol": 1e-7, "maxiter": 1000})
    return np.asarray(every @ found.x[:-1] + found.x[-1])


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -log_softmax(logits, axis=1)[np.arange(len(y)), y]


def two(z: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros_like(z), z], axis=1)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_the_papers_loss(task: Task, gamma: float) -> None:
    def loss(z: np.ndarray, y: np.ndarray) -> np.ndarray:
        p = np.exp(-cross_entropy(two(z), y))
        return -((1 - p) ** gamma) * np.log(p)

    found = margin(task, fit(task, "Focal", gamma=gamma, l2=0.01))
    np.testing.assert_allclose(found, optimum(task, loss, 0.01), atol=0.02)


@pytest.mark.parametrize("reweight", [False, True])
def test_ldam_is_the_papers_loss_at_its_own_scale(task: Task, reweight: bool) -> None:
    counts = np.bincount(task.target[task.splits["train"]])
    scale, l2 = 3.0, 0.01
    c = 0.5 / (1 / counts**0.25).max()
    margins = c / counts**0.25
    per_class = (1 - 0.9999) / (1 - 0.9999**counts) if reweight else np.ones(2)

    def loss(z: np.ndarray, y: np.ndarray) -> np.ndarray:
        weights = per_class[y] / per_class[y].mean()
        return weights * cross_entropy(scale * (two(z) - np.eye(2)[y] * margins[y][:, None]), y)

    # The published form has scale² the penalty on weights that are smaller by that factor.
    expected = scale * optimum(task, loss, l2 * scale**2)
    found = margin(task, fit(task, "LDAM", scale=scale, l2=l2, reweight=reweight))
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_balanced_softmax_is_the_papers_loss(task: Task) -> None:
    counts = np.bincount(task.target[task.splits["train"]])

    def loss(z: np.ndarray, y: np.ndarray) -> np.ndarray:
        weighted = counts * np.exp(two(z))
        return -np.log(weighted[np.arange(len(y)), y] / weighted.sum(1))

    found = margin(task, fit(task, "BSoftmax", l2=0.01))
    np.testing.assert_allclose(found, optimum(task, loss, 0.01), atol=0.02)
    adjusted = margin(task, fit(task, "LogitAdjustment", tau=1.0, l2=0.01))
    np.testing.assert_allclose(adjusted, found, atol=1e-3)


def test_logit_adjustment_moves_the_boundary_by_tau(task: Task) -> None:
    # A free bias takes up a constant, so that the weights stay and the bias moves by tau·log(n_1/n_0).
    counts = np.bincount(task.target[task.splits["train"]])
    plain = margin(task, fit(task, "ERM", l2=0.01))
    found = margin(task, fit(task, "LogitAdjustment", tau=2.0, l2=0.01))
    np.testing.assert_allclose(found, plain - 2 * np.log(counts[1] / counts[0]), atol=0.02)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Focal", {"gamma": 0.0}),
        ("LDAM", {"max_margin": 0.0}),
        ("LogitAdjustment", {"tau": 0.0}),
        ("IRM", {"strength": 0.0}),
        ("CORAL", {"strength": 0.0}),
        ("MMD", {"strength": 0.0}),
    ],
)
def test_limiting_cases_are_erm(task: Task, name: str, settings: dict[str, Any]) -> None:
    plain = margin(task, fit(task, "ERM", l2=0.01))
    np.testing.assert_allclose(margin(task, fit(task, name, l2=0.01, **settings)), plain, atol=0.02)


@pytest.mark.parametrize("name", ["Mixup", "LISA"])
def test_shares_of_one_make_mixtures_erm(task: Task, name: str) -> None:
    (spec,) = next(plan(task, name, {"l2": 0.01}).recipe)
    assert spec.mixing is not None
    unmixed = dataclasses.replace(spec.mixing, share=Weights(np.ones(len(spec.rows))))
    bank = HeadBank(task.features, task.target, 2, device="cpu")
    (head,) = bank.train([dataclasses.replace(spec, mixing=unmixed)])
    np.testing.assert_allclose(margin(task, head), margin(task, fit(task, "ERM", l2=0.01)), atol=0.02)


def test_balanced_softmax_on_balanced_classes_is_erm(world: Any) -> None:
    made = world({"train": (40, 40, 40, 40), "val": (9, 9, 9, 9), "test": (9, 9, 9, 9)})
    task = Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])
    plain = margin(task, fit(task, "ERM", l2=0.01))
    np.testing.assert_allclose(margin(task, fit(task, "BSoftmax", l2=0.01)), plain, atol=0.02)


def test_mixup_is_the_mean_loss_of_mixed_features(task: Task) -> None:
    train = task.splits["train"]
    n, seed, alpha = len(train), 3, 2.0
    planned = plan(task, "Mixup", {"partners": 1, "l2": 0.01, "alpha": alpha}, seed=seed)
    (spec,) = next(planned.recipe)
    assert spec.mixing is not None
    partner, share = spec.mixing.partner.values, spec.mixing.share.values
    assert sorted(partner.tolist()) == list(range(n))
    x = standardised(task)[train]
    mixed = share[:, None] * x + (1 - share[:, None]) * x[partner]

    def loss(z: np.ndarray, y: np.ndarray) -> np.ndarray:
        return share * cross_entropy(two(z), y) + (1 - share) * cross_entropy(two(z), y[partner])

    found = margin(task, fit(task, "Mixup", seed=seed, partners=1, l2=0.01, alpha=alpha))
    np.testing.assert_allclose(found, optimum(task, loss, 0.01, x=mixed), atol=0.02)


@pytest.mark.parametrize("name", ["Mixup", "LISA"])
def test_shares_follow_the_beta_distribution(task: Task, name: str) -> None:
    (spec,) = next(plan(task, name, {"partners": 50, "alpha": 2.0}).recipe)
    assert spec.mixing is not None
    share = spec.mixing.share.values
    assert len(share) == 50 * len(task.splits["train"])
    assert share.mean() == pytest.approx(0.5, abs=0.01)
    assert share.var() == pytest.approx(1 / 20, abs=0.002)  # Beta(2, 2)


def test_lisa_pairs_rows_of_one_class_across_domains_or_of_one_domain_across_classes(task: Task) -> None:
    train = task.splits["train"]
    n = len(train)
    place = np.array([name.split(", ")[1] for name in task.group_names])[task.groups[train]]
    target = task.target[train]
    for p_sel, same, other in ((1.0, target, place), (0.0, place, target)):
        (spec,) = next(plan(task, "LISA", {"p_sel": p_sel}).recipe)
        assert spec.mixing is not None
        own, partner = np.arange(4 * n) % n, spec.mixing.partner.values % n
        assert (same[own] == same[partner]).all()
        assert (other[own] != other[partner]).all()
        assert len(np.unique(partner)) > 0.4 * n  # any row that fits, not always the first
    (spec,) = next(plan(task, "LISA", {"p_sel": 0.5, "partners": 50}).recipe)
    assert spec.mixing is not None
    own, partner = np.arange(50 * n) % n, spec.mixing.partner.values % n
    assert (target[own] == target[partner]).mean() == pytest.approx(0.5, abs=0.02)


def test_a_row_without_a_partner_stays_as_it_is() -> None:
    classes, places = np.array([0, 0, 1]), np.array([0, 0, 1])
    for same_class in (True, False):
        asked = np.full(6, same_class)
        partner = selected_partners(classes, places, asked, np.random.default_rng(0))
        np.testing.assert_array_equal(partner, [0, 1, 2, 0, 1, 2])


def test_domains_are_what_groups_say_beside_the_class(task: Task) -> None:
    train = task.splits["train"]
    found = domains(task, train)
    place = np.array([name.split(", ")[1] for name in task.group_names])[task.groups[train]]
    assert len(np.unique(found)) == 2
    assert len({(int(a), b) for a, b in zip(found, place, strict=True)}) == 2


def test_domains_are_told_apart_where_names_hold_commas() -> None:
    """A "wood, wet" seen in "may" and a "wood" seen in "wet, may" are two domains, though both read alike."""
    features = np.zeros((4, 2), dtype=np.float32)
    where = {"place": ["wood, wet", "sea", "wood", "sea"], "month": ["may", "june", "wet, may", "june"]}
    task = Task.from_arrays(features, [0, 0, 1, 1], where)
    first, sea, second, again = domains(task, np.arange(4)).tolist()
    assert len({first, sea, second}) == 3
    assert again == sea


def test_domains_need_a_column_beside_the_class(world: Any) -> None:
    made = world()
    task = Task.from_arrays(made["features"], made["class"], None, made["split"])
    for name in ("LISA", "IRM", "CORAL", "MMD"):
        with pytest.raises(RequestError, match=f"{name} compares domains"):
            plan(task, name)


def test_more_domains_than_mmd_compares_are_refused_before_training() -> None:
    features = np.zeros((400, 2), dtype=np.float32)
    target, place = np.repeat([0, 1], 200), np.tile(np.arange(100), 4).astype(str)
    task = Task.from_arrays(features, target, {"place": place}, np.full(400, "train"))
    with pytest.raises(RequestError, match="at most 96 domains, and the groups of train have 100"):
        plan(task, "MMD")
    assert plan(task, "CORAL")


def irm_penalty(z: np.ndarray, y: np.ndarray, place: np.ndarray) -> float:
    """Squared derivative of each domain's mean loss by a factor on its logits, by central differences."""
    step, total = 1e-5, 0.0
    for each in np.unique(place):
        own = place == each
        up, down = (cross_entropy(two(z[own] * (1 + e)), y[own]).mean() for e in (step, -step))
        total += ((up - down) / (2 * step)) ** 2
    return total


def halves(z: np.ndarray) -> np.ndarray:
    return np.stack([-z / 2, z / 2], axis=1)


def coral_penalty(z: np.ndarray, y: np.ndarray, place: np.ndarray) -> float:
    a, b = (halves(z[place == each]) for each in np.unique(place))
    means, covariances = a.mean(0) - b.mean(0), np.cov(a.T) - np.cov(b.T)
    return float((means**2).mean() + (covariances**2).mean())


def mmd_penalty(z: np.ndarray, y: np.ndarray, place: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        square = ((a[:, None] - b[None]) ** 2).sum(2)
        return float(sum(np.exp(-gamma * square).mean() for gamma in (0.1, 1, 10)))

    a, b = (halves(z[place == each]) for each in np.unique(place))
    return kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)


PENALTIES = {"IRM": (irm_penalty, 3.0), "CORAL": (coral_penalty, 0.5), "MMD": (mmd_penalty, 0.3)}


@pytest.mark.parametrize("name", list(PENALTIES))
def test_penalties_between_domains_are_the_published_ones(task: Task, name: str) -> None:
    penalty, strength = PENALTIES[name]
    train = task.splits["train"]
    place, y = domains(task, train), task.target[train]
    x, l2 = standardised(task), 0.01
    plain = fit(task, "ERM", l2=l2)
    near = 1.0
    if (
        name == "MMD"
    ):  # kernels are as wide as rows of the plain head are apart, half the margin for each class
        near = float(np.median(pdist(margin(task, plain)[train][:, None], "sqeuclidean"))) / 2

    def value(z: np.ndarray, w: np.ndarray) -> float:
        pulled = penalty(z / near**0.5, y, place)
        return float(cross_entropy(two(z), y).mean() + strength * pulled + l2 / 2 * (w**2).sum())

    def at(head: LinearHead) -> float:
        w = (head.weight[1] - head.weight[0]).astype("f8") * task.features[train].astype("f8").std(0)
        return value(margin(task, head)[train], w)

    head = fit(task, name, strength=strength, l2=l2)
    assert head.convergence.objective == pytest.approx(at(head), rel=1e-4)
    assert "local" in head.convergence.message
    w = (head.weight[1] - head.weight[0]).astype("f8") * task.features[train].astype("f8").std(0)
    start = np.concatenate([w, [margin(task, head)[train[0]] - x[train[0]] @ w]])
    # From where we stopped, scipy finds nothing better nearby.
    found = minimize(
        lambda theta: value(x[train] @ theta[:-1] + theta[-1], theta[:-1]), start, options={"maxiter": 30}
    )
    assert found.fun >= at(head) - 1e-4 * abs(found.fun)  # what the recipe asks
    scaled = [margin(task, each)[train] / near**0.5 for each in (head, plain)]
    assert penalty(scaled[0], y, place) < penalty(scaled[1], y, place)
    assert at(head) < at(plain)
