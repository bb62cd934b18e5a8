"""Robust methods: what they ask for and attain, and the papers' order on a task shaped like Waterbirds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headwater.errors import RequestError
from headwater.heads.measures.grouped import accuracies_by_group
from headwater.heads.methods import find_method, plan
from headwater.heads.methods.recipes import FittedHead, run_recipes
from headwater.heads.specs.criterion import ChiSquare, CVaR, GroupRisk
from headwater.heads.tasks.task import Task

# Waterbirds' shares of rows: land birds on land and on water, water birds on land and on water.
TRAIN, TEST = (3498, 184, 56, 1057), (500, 500, 500, 500)


def shaped(seed: int, rows: float = 2.0) -> Task:
    """A class and a place that mostly agree, in 8 features, of which one tells the classes apart."""
    random = np.random.default_rng(seed)
    train = [max(8, int(rows * count)) for count in TRAIN]
    label = np.concatenate([np.repeat([0, 0, 1, 1], train), np.repeat([0, 0, 1, 1], TEST)])
    place = np.concatenate([np.repeat([0, 1, 0, 1], train), np.repeat([0, 1, 0, 1], TEST)])
    x = random.normal(size=(len(label), 8))
    # The rarest group lies so near the other class that equal weights are not enough to get it right.
    x[:, 0] += np.where(label == 0, -1.5, np.where(place == 0, -0.4, 2.5))
    split = np.repeat(["train", "test"], [sum(train), sum(TEST)])
    return Task.from_arrays(x.astype(np.float32), label, {"place": place}, split)


def fit(task: Task, name: str, **settings: Any) -> FittedHead:
    (fitted,) = run_recipes(task, [plan(task, name, settings)])
    assert fitted.convergence.converged, fitted.convergence
    return fitted


def worst(task: Task, fitted: FittedHead) -> float:
    rows = task.rows("test").index
    by_group = accuracies_by_group(
        task.target[rows], task.predict([fitted.head], rows), task.groups[rows], len(task.group_names)
    )
    return float(by_group.min())


def losses(task: Task, fitted: FittedHead) -> np.ndarray:
    train = task.rows("train").index
    z = task.logits([fitted.head], train)[0].astype("f8")
    return np.logaddexp.reduce(z, axis=1) - z[np.arange(len(z)), task.target[train]]


def test_the_papers_order_holds() -> None:
    names = ("ERM", "RWG", "GroupDRO")
    figures = np.array(
        [[worst(task, fit(task, name, l2=1e-3)) for name in names] for task in map(shaped, range(2))]
    )
    erm, rwg, robust = figures.mean(axis=0)
    # One standard error of 2 x 500 test rows is 0.016.
    assert erm + 0.2 < rwg
    assert rwg + 0.1 < robust
    assert (np.diff(figures, axis=1) > 0).all()


def test_each_is_best_at_what_it_minimises(task: Task) -> None:
    groups = task.groups[task.splits["train"]]
    share = 0.2

    def figures(fitted: FittedHead) -> tuple[float, ...]:
        each = losses(task, fitted)
        ordered = np.sort(each)[::-1]
        count = share * len(each)
        mass = np.clip(count - np.arange(len(each)), 0, 1)
        t = np.linspace(-20, each.max(), 20001)
        over = np.maximum(each[:, None] - t, 0)
        return (
            max(each[groups == g].mean() for g in range(4)),
            float((mass * ordered).sum() / count),
            float((np.sqrt(3) * np.sqrt((over**2).mean(0)) + t).min()),
            float(each.mean()),
        )

    fits = [
        fit(task, "GroupDRO", l2=1e-3),
        fit(task, "CVaR-DRO", l2=1e-3, share=share),
        fit(task, "Chi2-DRO", l2=1e-3, radius=1.0),
        fit(task, "ERM", l2=1e-3),
    ]
    table = np.array([figures(fitted) for fitted in fits])
    norms = np.array([np.square(fitted.head.weight * task.features.std(0)).sum() for fitted in fits])
    table += 1e-3 * norms[:, None]  # w of the sigmoid is w1 - w0: twice either, so that this is its l2/2
    np.testing.assert_array_equal(table.argmin(axis=0), [0, 1, 2, 3])


def test_what_they_ask_for(task: Task) -> None:
    train = task.splits["train"]
    (spec,) = next(plan(task, "GroupDRO", {"adjustment": 2.0}).recipe)
    counts = np.bincount(task.groups[train])
    assert isinstance(spec.risk, GroupRisk)
    np.testing.assert_array_equal(spec.risk.groups.values, task.groups[train])
    np.testing.assert_allclose(spec.risk.adjustment, 2 / np.sqrt(counts))
    (spec,) = next(plan(task, "CVaR-DRO", {"share": 0.3}).recipe)
    assert spec.risk == CVaR(0.3)
    (spec,) = next(plan(task, "Chi2-DRO", {"radius": 0.3}).recipe)
    assert spec.risk == ChiSquare(0.3)


def test_needs() -> None:
    assert find_method("GroupDRO").needs({}).groups_on == ("train",)
    for name in ("CVaR-DRO", "Chi2-DRO"):
        assert find_method(name).needs({}).groups_on == ()


@pytest.mark.parametrize(
    ("name", "settings"),
    [("GroupDRO", {"adjustment": -1}), ("CVaR-DRO", {"share": 1.5}), ("Chi2-DRO", {"radius": 0})],
)
def test_refuses_settings_out_of_range(task: Task, name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(settings))):
        plan(task, name, settings)


def test_adjustment_moves_the_head_to_small_groups(task: Task) -> None:
    groups = task.groups[task.splits["train"]]
    smallest = np.bincount(groups).argmin()
    plain = losses(task, fit(task, "GroupDRO", l2=0.01))[groups == smallest].mean()
    raised = losses(task, fit(task, "GroupDRO", l2=0.01, adjustment=3.0))[groups == smallest].mean()
    assert raised < 0.8 * plain
