"""GEORGE: that its clusters are the groups nobody told it of, and that they are found once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from headwater.heads.methods import clusters as clustering
from headwater.heads.methods import george, plan
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.specs.criterion import GroupRisk
from headwater.heads.tasks.task import Task


@pytest.fixture
def apart() -> Task:
    """Two classes of two and three groups that lie far apart, in 20 features; no groups on train."""
    random = np.random.default_rng(0)
    counts = (120, 30, 90, 40, 25)
    group = np.repeat(np.arange(5), counts)
    label = np.array([0, 0, 1, 1, 1])[group]
    centres = 6 * random.normal(size=(5, 20)) / np.sqrt(20) * 2
    x = centres[group] + random.normal(size=(len(group), 20))
    order = random.permutation(len(group))
    return Task.from_arrays(x[order].astype(np.float32), label[order], {"hidden": group[order]})


def _robust_spec(task: Task, seed: int = 0, **settings: Any) -> Any:
    recipe = plan(task, "GEORGE", settings, seed=seed).recipe
    from headwater.heads.bank.head_bank import HeadBank

    bank = HeadBank(task.features, task.target, len(task.classes))
    heads = bank.train(next(recipe))
    (spec,) = recipe.send(heads)
    return spec


@pytest.mark.parametrize("clusterer", ["gmm", "kmeans"])
def test_clusters_are_the_hidden_groups(apart: Task, clusterer: str) -> None:
    spec = _robust_spec(apart, clusterer=clusterer)
    assert isinstance(spec.risk, GroupRisk)
    found = spec.risk.groups.values
    assert adjusted_rand_score(apart.groups, found) > 0.95
    assert len(np.unique(found)) == 5
    for code in np.unique(found):  # a cluster lies within a class
        assert len(np.unique(apart.target[found == code])) == 1


def test_overclustering_makes_so_many_more(apart: Task) -> None:
    found = _robust_spec(apart, overcluster=3, adjustment=1.0).risk
    assert 10 < len(np.unique(found.groups.values)) <= 15
    np.testing.assert_allclose(found.adjustment, 1 / np.sqrt(np.bincount(found.groups.values)))


def test_clusters_are_found_once(apart: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = clustering.number_of_clusters
    monkeypatch.setattr(george, "number_of_clusters", lambda *a: calls.append(1) or real(*a))
    plans = [
        plan(apart, "GEORGE", {"l2": l2, "overcluster": many}, seed=seed)
        for l2 in (0.1, 1.0)
        for many in (1, 2)
        for seed in (0, 1)
    ]
    fitted = run_recipes(apart, plans)
    assert len(calls) == 2 * 2  # seeds and classes
    assert all(each.convergence.converged for each in fitted)
    assert fitted[0].choices["clusters"] == [2, 3]
    assert fitted[0].rounds == 2


def test_is_as_good_as_knowing_the_groups(apart: Task) -> None:
    hidden, known = run_recipes(apart, [plan(apart, name, {"l2": 0.1}) for name in ("GEORGE", "GroupDRO")])
    assert hidden.convergence.objective == pytest.approx(known.convergence.objective, rel=0.05)


def test_number_of_clusters_and_tiny_classes() -> None:
    random = np.random.default_rng(0)
    x = (10 * np.eye(4)[np.repeat(np.arange(4), 50)] + random.normal(size=(200, 4))).astype(np.float32)
    count, codes = clustering.number_of_clusters(x, "kmeans", 8, 0)
    assert count == 4
    assert adjusted_rand_score(np.repeat(np.arange(4), 50), codes) == 1
    for rows in (1, 2):
        count, codes = clustering.number_of_clusters(x[:rows], "gmm", 8, 0)
        assert count == 1
        assert codes.tolist() == [0] * rows


def test_principal_components_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    x = (random.normal(size=(300, 40)) * np.linspace(1, 10, 40)).astype(np.float32)
    found = clustering.principal(x, 3, 0)
    centred = x.astype("f8") - x.mean(0)
    _, values, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), values[:3], rtol=1e-3)
