"""What the rules pick in a whole sweep: again without training, from its table alone, or not at all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import csv

from headwater.errors import HeadwaterWarning, RequestError
from headwater.heads import Task, load_head, load_sweep, sweep
from headwater.heads.evaluation import report_on
from tests.heads.sweeps.conftest import SMALL, Bank, by_id, split_of


def test_another_rule_selects_anew_without_training(task: Task, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = sweep(task, out=out, select="worst_group", **SMALL)
    with pytest.warns(HeadwaterWarning, match="'oracle' chose by looking at test"):
        second = sweep(task, out=out, select="oracle", bank=Bank(task, most=0), **SMALL)
    assert (first.rule, second.rule, load_sweep(out).rule) == ("worst_group", "oracle", "oracle")
    assert second.already_done
    head, info = load_head(out / "picked.safetensors")
    assert second.pick is not None
    assert info.method == second.pick.method
    (report,) = report_on(task, [head], "test")
    row = by_id(second.table)[f"{second.pick.id}.s0"]
    assert report.worst_group.accuracy == pytest.approx(row["test.worst_group"])
    assert (info.chosen_by, info.chosen_on) == ("oracle", "test")
    assert "rule 'oracle', which looks at test" in info.in_sample("test")
    assert "looking at test" in json.loads((out / "selection.json").read_text())["warning"]
    assert (
        sweep(task, out=out, bank=Bank(task, most=0), **SMALL).rule == "cv_worst_group"
    )  # it does not stick
    assert "warning" not in json.loads((out / "selection.json").read_text())
    assert not load_head(out / "picked.safetensors")[1].in_sample("test")
    sweep(task, out=out, select="overall", bank=Bank(task, most=0), **SMALL)
    assert sweep(task, out=out, bank=Bank(task, most=0), **SMALL).rule == "overall"  # none asked for: kept


def _in(task: Task, split: str) -> np.ndarray:
    return np.isin(np.arange(len(task.target)), task.rows(split).index)


def test_rules_need_what_they_look_at(task: Task, world: Callable[..., dict[str, Any]]) -> None:
    made = world(counts={"train": (30, 9, 8, 30), "test": (9, 9, 9, 9)})
    no_val = Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])
    result = sweep(no_val, methods=["ERM"], draws=1, seeds=1)
    assert (result.rule, result.request["cut"]) == ("cv_worst_group", "train")
    target = no_val.target.copy()
    target[no_val.rows("train").index[no_val.target[no_val.rows("train").index] == 1][1:]] = -1
    alone = dataclasses.replace(
        no_val, splits={**no_val.splits, "train": np.flatnonzero((target >= 0) & (_in(no_val, "train")))}
    )
    with pytest.raises(RequestError, match="no rows in split 'val', and a class has a single row in train"):
        sweep(alone, methods=["ERM"])
    with pytest.warns(HeadwaterWarning, match="looking at test"):
        result = sweep(alone, methods=["ERM"], draws=1, seeds=1, select="oracle")
    assert [pick.rule for pick in result.picks] == ["oracle"]
    made = world(counts={"train": (30, 9, 8, 30), "val": (9, 9, 9, 9)})
    no_test = Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])
    result = sweep(no_test, methods=["ERM", "RWG"], draws=1, seeds=1)
    assert "oracle" not in [pick.rule for pick in result.picks]
    assert [pick.cost for pick in result.picks] == [None] * len(result.picks)
    assert result.table["test.overall"].null_count == len(result.table)
    unknown = np.where(np.isin(np.arange(len(task.target)), task.rows("val").index), -1, task.groups)
    blind = Task.from_arrays(task.features, task.target, unknown, split_of(task))
    with pytest.raises(RequestError, match="rule 'balanced' needs groups"):
        sweep(blind, methods=["ERM"], select="balanced")
    assert sweep(blind, methods=["ERM"], draws=1, seeds=1).rule == "worst_class"


def test_every_choice_can_be_made_again_from_the_table_alone(task: Task, tmp_path: Path) -> None:
    out = tmp_path / "run"
    sweep(task, out=out, **{**SMALL, "methods": ["ERM", "RWG", "SUBG", "DFR-val"], "draws": 3})
    table = csv.read_csv(out / "results.csv").to_pylist()
    in_sample = {row["method"]: row["val_in_sample"] for row in table}
    assert in_sample == {"ERM": False, "RWG": False, "SUBG": False, "DFR-val": True}
    picks = {pick["rule"]: pick for pick in json.loads((out / "selection.json").read_text())["picks"]}
    figures = {name: f"judged.{name}" for name in ("worst_group", "worst_class", "overall", "balanced")}
    figures |= {"cv_worst_group": "judged.worst_group_likelihood", "oracle": "test.worst_group"}
    assert set(picks) == set(figures)
    for rule, column in figures.items():
        where = column.partition(".")[0]
        means = {}
        for row in table:
            mine = [each for each in table if each["candidate"] == row["candidate"]]
            tie = [f"{where}.balanced", f"{where}.overall"]
            means[row["candidate"]] = [
                *(round(float(np.mean([each[name] for each in mine])), 9) for name in (column, *tie)),
                -round(float(np.mean([each[f"{where}.log_loss"] for each in mine])), 9),
            ]
        assert picks[rule]["id"] == max(means, key=means.__getitem__)
        assert picks[rule]["figure"] == pytest.approx(max(mean[0] for mean in means.values()))
        assert picks[rule]["unit"] == ("likelihood" if rule == "cv_worst_group" else "accuracy")
    for row in table:
        source = "cv" if row["val_in_sample"] else "val"
        assert row["judged.worst_group"] == row[f"{source}.worst_group"]
