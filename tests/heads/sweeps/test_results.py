"""A sweep's table: every figure as by hand, honest about val, and intervals that hold what they are of."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headwater.heads import Task, run_recipes, sweep
from headwater.heads.evaluation import report_on
from headwater.heads.methods import plan, registry
from headwater.heads.methods.erm import TrainSettings
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.specs.spec import HeadSpec, Penalty
from headwater.heads.sweeps.folds import cross_fits
from headwater.heads.sweeps.results import judged
from tests.heads.sweeps.conftest import SMALL, Bank, by_id


def test_every_figure_of_every_split_is_the_group_reports(task: Task) -> None:
    bank = Bank(task)
    result = sweep(task, bank=bank, **SMALL)
    rows = by_id(result.table)
    assert len(rows) == result.table.num_rows == (2 + 2 + 1) * 2
    for method, number, seed in (("ERM", 1, 0), ("SUBG", 0, 1), ("DFR-val", 0, 1)):
        row = rows[f"{method}.{number:02}.s{seed}"]
        settings = result.settings_of(f"{method}.{number:02}")
        (fitted,) = run_recipes(task, [plan(task, method, settings, seed=seed)])
        assert json.loads(row["settings"]) == settings
        assert (row["method"], row["seed"], row["trained"]) == (method, seed, fitted.trained)
        for split in ("train", "val", "test"):
            (report,) = report_on(task, [fitted.head], split)
            assert row[f"{split}.worst_group"] == pytest.approx(report.worst_group.accuracy, abs=0.04)
            assert row[f"{split}.overall"] == pytest.approx(report.overall, abs=0.02)
            assert row[f"{split}.balanced"] == pytest.approx(report.balanced, abs=0.02)
            assert row[f"{split}.train_weighted"] == pytest.approx(report.train_weighted, abs=0.02)
            assert row[f"{split}.worst_class"] == pytest.approx(report.worst_class.accuracy, abs=0.04)
        for group in report.by_group:
            assert row[f"test.group.{group.name}"] == pytest.approx(group.accuracy, abs=0.05)
        assert 0 < row["test.log_loss"] < 1
        assert 0 <= row["test.ece"] <= 1
        assert 0.5 < row["test.auroc"] <= 1


def test_a_method_that_reads_val_is_judged_on_rows_it_never_saw(task: Task) -> None:
    result = sweep(task, **SMALL)
    folds = cross_fits(task)
    assert (folds.per_repeat, folds.repeats) == (result.request["folds"], result.request["repeats"])
    settings = result.settings_of("DFR-val.00")
    val = task.rows("val").index
    by_group, likely = [], []
    for repeat in range(folds.repeats):
        predicted = np.full(len(val), -1)
        for number, fold in enumerate(folds.folds):
            if fold.repeat == repeat:
                (twin,) = run_recipes(task, [plan(fold.task, "DFR-val", settings, seed=number % 2)])
                rows = val[fold.held_out]
                predicted[fold.held_out] = twin.head.predict(task.features[rows])
        right = predicted == task.target[val]
        likely.append(right.mean())
        by_group.append([right[task.groups[val] == group].mean() for group in range(4)])
    row = by_id(result.table)["DFR-val.00.s1"]
    assert row["cv.overall"] == pytest.approx(np.mean(likely), abs=0.01)
    assert row["cv.worst_group"] == pytest.approx(np.mean(by_group, axis=0).min(), abs=0.02)
    assert row["val_in_sample"]
    assert by_id(result.table)["ERM.00.s0"]["cv.overall"] is None
    seen = {each.id: each.val["overall"] for each in judged(result.table)}
    assert seen["DFR-val.00"] == row["cv.overall"] == by_id(result.table)["DFR-val.00.s0"]["cv.overall"]
    assert by_id(result.table)["DFR-val.00.s0"]["cv.trained"] == 2 * len(folds.folds)
    assert row["cv.trained"] is None
    assert seen["ERM.00"] == by_id(result.table)["ERM.00.s0"]["val.overall"]


def test_learning_val_by_heart_does_not_win(world: Callable[..., dict[str, Any]], register: Any) -> None:
    made = world(dim=60)
    task = Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])

    @register("Peeker", settings=TrainSettings, needs=registry.Needs(splits=("val",)), paper="none")
    def peeker(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
        """Learns val by heart."""
        (head,) = yield [HeadSpec(task.rows("val"), Penalty(l2=1e-6))]
        return Outcome(head)

    result = sweep(task, methods=["ERM", "RWG", "Peeker"], draws=1, seeds=1)
    rows = by_id(result.table)
    assert rows["Peeker.00.s0"]["val.overall"] == 1 > rows["RWG.00.s0"]["val.overall"]
    assert rows["Peeker.00.s0"]["cv.overall"] < rows["RWG.00.s0"]["val.overall"]
    assert next(pick.method for pick in result.picks if pick.rule == "overall") != "Peeker"


def test_intervals_hold_what_they_are_of(task: Task) -> None:
    result = sweep(task, **SMALL)
    rows = result.table.to_pylist()
    assert {pick.id for pick in result.picks} <= set(result.intervals)
    assert {name.partition(".")[0] for name in result.intervals} == {"ERM", "SUBG", "DFR-val"}
    for name, (low, high) in result.intervals.items():
        mean = np.mean([row["test.worst_group"] for row in rows if row["candidate"] == name])
        assert 0 <= low < mean < high <= 1
