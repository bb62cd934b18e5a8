"""CV-GroupDRO against scikit-learn round by round, and what its folds and weights must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from headwater.errors import RequestError
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.methods import plan
from headwater.heads.methods.crossvalidated import dealt
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.specs.spec import HeadSpec
from headwater.heads.tasks.task import Task
from tests.heads.conftest import half_whitened

L2 = 0.3


@pytest.fixture
def small(world: Callable[..., dict[str, Any]]) -> Task:
    made = world({"train": (30, 6, 5, 30), "val": (8, 8, 8, 8), "test": (20, 20, 20, 20)}, signal=0.5)
    return Task.from_arrays(made["features"], made["class"], made["place"], made["split"])


def peer(
    task: Task, rows: np.ndarray, share: np.ndarray, whiten: bool = False
) -> tuple[LogisticRegression, np.ndarray]:
    """scikit-learn on `rows` with weights share_g / n_g, and the features as they are penalised.

    Those are standardised on train, or half-whitened on train and val.
    """
    x, train = task.features.astype("f8"), task.splits["train"]
    if whiten:
        x = half_whitened(x, np.concatenate([train, task.splits["val"]]))
    else:
        x = StandardScaler().fit(x[train]).transform(x)
    groups = task.groups[rows]
    weights = np.array([share[g] / (groups == g).sum() for g in groups])
    weights /= weights.mean()
    model = LogisticRegression(C=1 / (L2 * len(rows)), solver="newton-cg", tol=1e-10, max_iter=2000)
    return model.fit(x[rows], task.target[rows], sample_weight=weights), x


def trained_on(spec: HeadSpec) -> np.ndarray:
    assert spec.weights is not None
    return spec.rows.index[spec.weights.values > 0]


@pytest.mark.parametrize("whiten", [True, False])
def test_every_round_is_what_scikit_learn_makes_of_it(small: Task, whiten: bool) -> None:
    rows = np.concatenate([small.splits["train"], small.splits["val"]])
    asked = {"l2": L2, "updates": 2, "step": 2.0, "folds": 4, "half_whiten": whiten}
    recipe = plan(small, "CV-GroupDRO", asked).recipe
    bank = HeadBank(small.features, small.target, 2)
    share = np.full(4, 0.25)
    specs = next(recipe)
    for _ in range(2):
        losses: list[list[float]] = [[], [], [], []]
        for spec in specs:
            kept = trained_on(spec)
            held_out = np.setdiff1d(rows, kept)
            model, x = peer(small, kept, share, whiten)
            for row in held_out:
                chance = model.predict_proba(x[[row]])[0, small.target[row]]
                losses[small.groups[row]].append(-np.log(chance))
        assert sum(map(len, losses)) == len(rows)  # every row held out once
        share = share * np.exp(2.0 * np.array([np.mean(each) for each in losses]))
        share /= share.sum()
        specs = recipe.send(bank.train(specs))
    (spec,) = specs
    assert sorted(trained_on(spec)) == sorted(rows)
    model, x = peer(small, rows, share, whiten)
    heads = bank.train(specs)
    with pytest.raises(StopIteration) as stop:
        recipe.send(heads)
    outcome = stop.value.value
    found = [outcome.choices["group_weights"][name] for name in small.group_names]
    np.testing.assert_allclose(found, share, rtol=5e-3)
    assert np.ptp(share) > 0.05
    logits = outcome.head.logits(small.features)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], model.decision_function(x), atol=0.02)


def test_without_updates_every_group_weighs_the_same(small: Task) -> None:
    rows = np.concatenate([small.splits["train"], small.splits["val"]])
    (fitted,) = run_recipes(
        small, [plan(small, "CV-GroupDRO", {"l2": L2, "updates": 0, "half_whiten": False})]
    )
    model, x = peer(small, rows, np.full(4, 0.25))
    logits = fitted.head.logits(small.features)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], model.decision_function(x), atol=0.01)
    assert set(fitted.choices["group_weights"].values()) == {0.25}


@pytest.mark.parametrize("rows", ["train", "val"])
def test_it_can_keep_to_one_split(small: Task, rows: str) -> None:
    recipe = plan(small, "CV-GroupDRO", {"rows": rows, "updates": 1}).recipe
    seen = np.concatenate([trained_on(spec) for spec in next(recipe)])
    assert set(seen) == set(small.splits[rows])


def test_a_group_that_only_one_row_speaks_for_is_refused(world: Callable[..., dict[str, Any]]) -> None:
    made = world({"train": (9, 1, 9, 9), "val": (3, 3, 3, 3)})
    task = Task.from_arrays(made["features"], made["class"], made["place"], made["split"])
    with pytest.raises(RequestError, match="CV-GroupDRO needs at least 2 row"):
        plan(task, "CV-GroupDRO", {"rows": "train"})
    recipe = plan(task, "CV-GroupDRO", {"updates": 1}).recipe
    specs = next(recipe)
    assert len(specs) == 4  # the smallest group has four rows, in train and val together
    assert all(len(set(task.groups[trained_on(spec)])) == 4 for spec in specs)


def test_rows_are_dealt_evenly() -> None:
    random = np.random.default_rng(0)
    codes = random.permutation(np.repeat([3, 0, 7], [23, 5, 10]))
    part = dealt(codes, 5, random)
    for code, least in ((3, 4), (0, 1), (7, 2)):
        counts = np.bincount(part[codes == code], minlength=5)
        assert counts.min() == least
        assert counts.max() <= least + 1
    assert (dealt(codes, 5, np.random.default_rng(1)) != part).any()


@pytest.mark.parametrize(("dim", "expected"), [(71, False), (73, True)])
def test_features_are_half_whitened_where_they_are_more_than_the_rows(dim: int, expected: bool) -> None:
    groups = np.tile([0, 1, 2, 3], 24)
    features = np.random.default_rng(0).normal(size=(96, dim)).astype(np.float32)
    split = np.repeat(["train", "val", "test"], [48, 24, 24])
    task = Task.from_arrays(features, groups // 2, {"place": groups % 2}, split)
    specs = next(plan(task, "CV-GroupDRO", {}).recipe)
    assert {spec.half_whitened for spec in specs} == {expected}
    own = np.arange(72) if expected else np.arange(48)
    assert all(spec.scaler_rows is not None and set(spec.scaler_rows.index) == set(own) for spec in specs)
    specs = next(plan(task, "CV-GroupDRO", {"half_whiten": not expected}).recipe)
    assert {spec.half_whitened for spec in specs} == {not expected}
