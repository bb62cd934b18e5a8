"""EIIL's environments against every split of a few rows, and its head against one that scipy finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.methods import plan
from headwater.heads.methods.eiil import environments
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.specs.criterion import GroupRisk, Invariance
from headwater.heads.specs.head import LinearHead
from headwater.heads.tasks.task import Task
from tests.heads.methods.scipy_bank import ScipyBank

Made = Callable[..., dict[str, Any]]


def test_environments_have_the_largest_penalty_of_all() -> None:
    """Against random soft assignments, every hard one of ten rows, and the published gradient ascent."""
    random = np.random.default_rng(3)
    logits, codes = random.normal(size=(10, 3)) * 2, random.integers(0, 3, 10)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = (p * logits).sum(axis=1) - logits[np.arange(10), codes]

    def penalty(q: np.ndarray) -> np.ndarray:
        return ((q @ slope / 10) ** 2 + ((1 - q) @ slope / 10) ** 2) / 2

    found = environments(logits, codes)
    hard = (np.arange(1024)[:, None] >> np.arange(10)) & 1
    assert penalty(found) == pytest.approx(penalty(hard).max())
    assert penalty(found) > penalty(random.random((1000, 10))).max()
    free = random.normal(size=10)  # gradient ascent on soft assignments sigmoid(free)
    for _ in range(20_000):
        q = 1 / (1 + np.exp(-free))
        free += 5 * (q @ slope - (1 - q) @ slope) * slope / 100 * q * (1 - q)
    assert (free > 0).astype(int).tolist() in (found.tolist(), (1 - found).tolist())


def test_with_two_classes_the_second_environment_is_the_errors(task: Task) -> None:
    logits = np.random.default_rng(0).normal(size=(50, 2))
    codes = np.random.default_rng(1).integers(0, 2, 50)
    assert environments(logits, codes).tolist() == (logits.argmax(axis=1) != codes).tolist()


def test_eiil_finds_a_planted_environment_and_trains_between_its_groups(world: Made) -> None:
    made = world({"train": (60, 12, 15, 70)}, dim=2, signal=0.0)
    made["features"][:, 1] += np.where(made["place"] == "land", -40, 40)  # all that a held-back head sees
    task = Task.from_arrays(made["features"], made["class"], made["place"], made["split"])
    recipe = plan(task, "EIIL", {"adjustment": 2, "reference_l2": 1.0}).recipe
    reference = ScipyBank(task).train(next(recipe))
    (spec,) = recipe.send(reference)
    assert isinstance(spec.risk, GroupRisk)
    planted = task.groups[task.splits["train"]]
    found = spec.risk.groups.values
    pairs = {(a, b) for a, b in zip(planted.tolist(), found.tolist(), strict=True)}
    assert len(pairs) == len(set(planted.tolist())) == len(set(found.tolist())) == 4
    assert spec.risk.adjustment == pytest.approx([2 / np.sqrt((found == g).sum()) for g in range(4)])
    recipe = plan(task, "EIIL", {"learner": "IRM", "strength": 7.0}).recipe
    next(recipe)
    (spec,) = recipe.send(reference)
    assert isinstance(spec.invariance, Invariance)
    assert (spec.invariance.kind, spec.invariance.strength, spec.risk) == ("irm", 7.0, None)
    place = np.array(made["place"]) == "land"
    wrong = (task.target == 0) != place  # the class that the place stands for
    assert spec.invariance.groups.values.tolist() == wrong[task.splits["train"]].tolist()


def test_eiil_minimises_the_worst_of_its_groups(noisy: Task) -> None:
    """The smallest t that no group's loss with adjustment exceeds, penalty included, by scipy's SLSQP."""
    settings = {"l2": 0.1, "adjustment": 1.0, "reference_l2": 1.0}
    recipe = plan(noisy, "EIIL", settings).recipe
    (spec,) = recipe.send(ScipyBank(noisy).train(next(recipe)))
    assert isinstance(spec.risk, GroupRisk)
    train = spec.rows.index
    x = noisy.features[train].astype("f8")
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    sign, groups = 2 * noisy.target[train] - 1, spec.risk.groups.values

    def slacks(flat: np.ndarray) -> np.ndarray:
        losses = np.logaddexp(0, -sign * (x @ flat[:-2] + flat[-2]))
        return np.array(
            [flat[-1] - losses[groups == g].mean() - c for g, c in enumerate(spec.risk.adjustment)]
        )

    exact = minimize(
        lambda flat: flat[-1] + 0.1 / 2 * (flat[:-2] ** 2).sum(),
        np.array([0.0] * (x.shape[1] + 1) + [5.0]),
        constraints={"type": "ineq", "fun": slacks},
        options={"ftol": 1e-12, "maxiter": 500},
    ).x
    (found,) = run_recipes(noisy, [plan(noisy, "EIIL", settings)], device="cpu")
    assert found.unconverged == 0

    def worst(head: LinearHead) -> float:
        weight, bias = head.weight[1] - head.weight[0], head.bias[1] - head.bias[0]
        scaled = weight.astype("f8") * noisy.features[train].astype("f8").std(axis=0)
        shift = weight.astype("f8") @ noisy.features[train].astype("f8").mean(axis=0)
        slack = slacks(np.append(scaled, [bias + shift, 0.0]))
        return float(-slack.min() + 0.1 / 2 * (scaled**2).sum())

    least = exact[-1] + 0.1 / 2 * (exact[:-2] ** 2).sum()
    assert least * (1 - 1e-6) <= worst(found.head) <= least * (1 + spec.tolerance)
    (closer,) = HeadBank(noisy.features, noisy.target, 2).train([dataclasses.replace(spec, tolerance=1e-5)])
    logits = closer.logits(noisy.features[train])
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], x @ exact[:-2] + exact[-2], atol=2e-2)
