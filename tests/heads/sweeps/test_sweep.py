"""A sweep: equal requests are trained once, draws are seeded, and what fails takes nothing along."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headwater.heads import Task, sweep
from headwater.heads.methods import draw_settings, find_method, random_for, registry
from headwater.heads.methods.erm import TrainSettings
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows
from tests.heads.sweeps.conftest import Bank, by_id


def test_each_round_is_one_call_and_equal_requests_are_trained_once(task: Task) -> None:
    bank = Bank(task)
    told: list[Any] = []
    result = sweep(
        task, methods=["RWG", "JTT"], grid={"l2": ["0.1", 0.1, 1]}, bank=bank, progress=told.append
    )
    assert len(result.table) == 2 * 2 * 3  # 0.1 and "0.1" are one setting
    assert len(bank.calls) == max(row["rounds"] for row in result.table.to_pylist()) == 2
    assert len(set(bank.calls[0])) < len(bank.calls[0])  # RWG ignores the seed
    assert [at.round for at in told if at.heads] == [1, 2]
    assert [at.ended for at in told] == [0, 6, 12]
    assert {at.recipes for at in told} == {12}


def test_the_first_candidate_is_the_published_one_and_draws_are_seeded(task: Task) -> None:
    result = sweep(task, methods=["ERM"], draws=4, seeds=[5])
    method = find_method("ERM")
    random = random_for(method, 5, "settings")
    expected = [
        method.defaults(),
        *({**method.defaults(), **draw_settings(method, random)} for _ in range(3)),
    ]
    assert [each["settings"] for each in result.request["candidates"]] == expected
    fewer = sweep(task, methods=["ERM"], draws=2, seeds=[5])
    assert fewer.request["candidates"] == result.request["candidates"][:2]
    fixed = sweep(task, methods=["ERM"], draws=4, seeds=[5], settings={"l2": 0.5})
    assert [each["settings"]["l2"] for each in fixed.request["candidates"]] == [0.5]


def test_one_method_may_be_named_without_a_list(task: Task) -> None:
    one, listed = (sweep(task, methods=methods, draws=1, seeds=1) for methods in ("ERM", ["ERM"]))
    assert one.table["id"].to_pylist() == listed.table["id"].to_pylist() == ["ERM.00.s0"]


def test_a_recipe_that_fails_loses_nothing_but_itself(task: Task, register: Any) -> None:
    @register("Broken", settings=TrainSettings, needs=registry.Needs(), paper="none")
    def broken(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
        """Raises in its second round."""
        yield [HeadSpec(task.rows("train"), Penalty(l2=1))]
        raise ZeroDivisionError("a weight is 1/0")

    @register("Refused", settings=TrainSettings, needs=registry.Needs(), paper="none")
    def refused(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
        """Asks for what the bank refuses."""
        one_class = np.flatnonzero(task.target == 0)
        (head,) = yield [HeadSpec(Rows(one_class), Penalty(l2=1))]
        return Outcome(head)

    result = sweep(task, methods=["ERM", "Broken", "RWG", "Refused"], draws=2, seeds=2)
    alone = sweep(task, methods=["ERM", "RWG"], draws=2, seeds=2)
    failed = dict(result.failed)
    assert set(failed) == {f"{name}.00.s{seed}" for name in ("Broken", "Refused") for seed in (0, 1)}
    assert failed["Broken.00.s1"] == "ZeroDivisionError: a weight is 1/0"
    assert "a head needs rows of two classes" in failed["Refused.00.s0"]
    rows, expected = by_id(result.table), by_id(alone.table)
    for key, row in expected.items():
        assert rows[key]["test.log_loss"] == pytest.approx(row["test.log_loss"], rel=1e-3)
    assert rows["Broken.00.s0"]["test.overall"] is None
    assert [pick.id for pick in result.picks] == [pick.id for pick in alone.picks]
