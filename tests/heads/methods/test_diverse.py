"""DivDis, ACE and D-BAT as methods: what they ask the bank for, and that a few labels choose the head."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.errors import RequestError
from headwater.heads.methods import plan
from headwater.heads.methods.recipes import FittedHead, run_recipes
from headwater.heads.specs.coupling import Independence, Repulsion, TopDisagreement
from headwater.heads.tasks.task import Task


def correlated(meant: int) -> Task:
    """Two coordinates that agree on train, and half of the time on val and test; one of them is the class."""
    random = np.random.default_rng(0)
    split = np.repeat(["train", "val", "test"], [200, 300, 300])
    codes = random.integers(2, size=(800, 2))
    codes[:200, 1] = codes[:200, 0]
    x = np.concatenate([(2 * codes - 1) * random.uniform(0.3, 2, (800, 2)), random.normal(size=(800, 3))], 1)
    return Task.from_arrays(x.astype(np.float32), codes[:, meant], {"place": codes[:, 1 - meant]}, split)


def fit(task: Task, name: str, **settings: object) -> FittedHead:
    (fitted,) = run_recipes(task, [plan(task, name, settings)])
    return fitted


@pytest.mark.parametrize("meant", [0, 1])
@pytest.mark.parametrize(("name", "settings"), [("DivDis", {}), ("ACE", {"mix_rate": 0.4})])
def test_the_head_that_is_meant_comes_out(name: str, settings: dict[str, float], meant: int) -> None:
    task = correlated(meant)
    test = task.splits["test"]
    plain = fit(task, "ERM")
    crossed = test[task.domains[test] != task.target[test]]
    right = {
        each.method: (task.logits([each.head], crossed)[0].argmax(1) == task.target[crossed]).mean()
        for each in (plain, fit(task, name, l2=1e-2, **settings))
    }
    assert right["ERM"] < 0.75
    assert right[name] > 0.95


def test_the_second_head_of_dbat_is_repelled_by_what_the_first_says() -> None:
    task = correlated(0)
    recipe = plan(task, "D-BAT", {"strength": 2.0, "starts": 3}).recipe
    first = next(recipe)
    assert len(first) == 1
    assert first[0].coupling is None
    head = fit(task, "ERM").head
    second = recipe.send([head])
    assert len(second) == 3
    coupling = second[0].coupling
    assert coupling is not None
    assert isinstance(coupling.tie, Repulsion)
    assert coupling.rows == task.rows("val")
    z = head.logits(task.features[task.splits["val"]]).astype(float)
    expected = 1 / (1 + np.exp(z[:, ::-1] - z))
    np.testing.assert_allclose(coupling.tie.against[0].values.reshape(-1, 2), expected, atol=1e-5)
    assert len({each.start for each in second}) == 3


def test_ties_are_as_asked_for() -> None:
    task = correlated(0)
    (one,) = next(plan(task, "DivDis", {"strength": 3.0, "balance": 4.0, "starts": 1}).recipe)
    (two,) = next(plan(task, "ACE", {"strength": 3.0, "mix_rate": 0.25, "starts": 1}).recipe)
    assert one.coupling is not None
    assert two.coupling is not None
    assert one.coupling.tie == Independence(3.0, 4.0)
    assert two.coupling.tie == TopDisagreement(3.0, 0.25)


def test_labels_are_asked_of_the_rows_that_differ_most_and_no_others() -> None:
    task = correlated(1)
    fitted = fit(task, "DivDis", labels=5, l2=1e-2)
    assert fitted.choices["asked"] == 5
    assert fitted.choices["right"] >= 4
    without_val = Task.from_arrays(
        task.features[:200], task.target[:200], {"place": task.domains[:200]}, np.repeat("train", 200)
    )
    with pytest.raises(RequestError, match="DivDis needs rows in split 'val'"):
        plan(without_val, "DivDis")
