"""A sweep: every figure as by hand, honest about val, kept through a kill, and refused where it must be."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import csv

import headwater as hw
from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.heads import HeadBank, Task, load_head, load_sweep, run_recipes, sweep
from headwater.heads.evaluation import report_on
from headwater.heads.methods import draw_settings, find_method, plan, random_for, registry
from headwater.heads.methods.erm import TrainSettings
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows
from headwater.heads.sweeps.folds import cross_fits
from headwater.heads.sweeps.results import judged
from headwater.heads.sweeps.selection import RULES

Store = Callable[..., Path]
SMALL: dict[str, Any] = {
    "methods": ["ERM", "SUBG", "DFR-val"],
    "draws": 2,
    "seeds": 2,
    "settings": {"DFR-val.subsets": 2, "DFR-val.C": [1.0], "DFR-val.penalty": "l2"},
}


class Bank:
    """The task's bank, counting calls, or failing where it must not be called."""

    def __init__(self, task: Task, most: int = 1_000) -> None:
        self._bank = HeadBank(task.features, task.target, len(task.classes))
        self.calls: list[list[HeadSpec]] = []
        self._most = most

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        assert len(self.calls) < self._most, "nothing was left to train"
        self.calls.append(list(specs))
        return self._bank.train(specs)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Registers methods for one test."""
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    return registry.method


def _rows(table: Any) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in table.to_pylist()}


def test_every_figure_of_every_split_is_the_group_reports(task: Task) -> None:
    bank = Bank(task)
    result = sweep(task, bank=bank, **SMALL)
    rows = _rows(result.table)
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
    row = _rows(result.table)["DFR-val.00.s1"]
    assert row["cv.overall"] == pytest.approx(np.mean(likely), abs=0.01)
    assert row["cv.worst_group"] == pytest.approx(np.mean(by_group, axis=0).min(), abs=0.02)
    assert row["val_in_sample"]
    assert _rows(result.table)["ERM.00.s0"]["cv.overall"] is None
    seen = {each.id: each.val["overall"] for each in judged(result.table)}
    assert seen["DFR-val.00"] == row["cv.overall"] == _rows(result.table)["DFR-val.00.s0"]["cv.overall"]
    assert _rows(result.table)["DFR-val.00.s0"]["cv.trained"] == 2 * len(folds.folds)
    assert row["cv.trained"] is None
    assert seen["ERM.00"] == _rows(result.table)["ERM.00.s0"]["val.overall"]


def test_learning_val_by_heart_does_not_win(world: Callable[..., dict[str, Any]], register: Any) -> None:
    made = world(dim=60)
    task = Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])

    @register("Peeker", settings=TrainSettings, needs=registry.Needs(splits=("val",)), paper="none")
    def peeker(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
        """Learns val by heart."""
        (head,) = yield [HeadSpec(task.rows("val"), Penalty(l2=1e-6))]
        return Outcome(head)

    result = sweep(task, methods=["ERM", "RWG", "Peeker"], draws=1, seeds=1)
    rows = _rows(result.table)
    assert rows["Peeker.00.s0"]["val.overall"] == 1 > rows["RWG.00.s0"]["val.overall"]
    assert rows["Peeker.00.s0"]["cv.overall"] < rows["RWG.00.s0"]["val.overall"]
    assert next(pick.method for pick in result.picks if pick.rule == "overall") != "Peeker"


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
    rows, expected = _rows(result.table), _rows(alone.table)
    for key, row in expected.items():
        assert rows[key]["test.log_loss"] == pytest.approx(row["test.log_loss"], rel=1e-3)
    assert rows["Broken.00.s0"]["test.overall"] is None
    assert [pick.id for pick in result.picks] == [pick.id for pick in alone.picks]


def test_what_the_task_lacks_skips_a_method_among_all_and_refuses_it_by_name(
    world: Callable[..., dict[str, Any]],
) -> None:
    made = world(counts={"train": (30, 0, 8, 30), "val": (20, 15, 11, 24), "test": (9, 9, 9, 9)})
    task = Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])
    skipped = {each.method: each.reason for each in _design_of(task).skipped}
    assert "needs at least 1 row of every group in split 'train'" in skipped["RWG"]
    assert "ERM" not in skipped
    with pytest.raises(RequestError, match=r"RWG needs at least 1 row of every group in split 'train'"):
        sweep(task, methods=["ERM", "RWG"])


def test_without_group_columns_what_compares_domains_is_skipped(world: Callable[..., dict[str, Any]]) -> None:
    made = world()
    task = Task.from_arrays(made["features"], made["class"], None, made["split"])
    design = _design_of(task)
    assert {each.method for each in design.skipped} == {"LISA", "IRM", "CORAL", "MMD"}


def _design_of(task: Task) -> Any:
    from headwater.heads.sweeps.candidates import Wanted
    from headwater.heads.sweeps.design import make_design

    return make_design(task, Wanted(draws=1), 1, None)


def test_a_run_on_disk_is_what_was_measured_and_is_left_alone_when_done(
    store_at: Store, tmp_path: Path
) -> None:
    path, out = store_at(), tmp_path / "run"
    request = {**SMALL, "groups": ["place"], "out": out}
    result = hw.heads.sweep(path, **request)
    assert not result.already_done
    there = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    task = Task.from_store(hw.open_store(path), "class", ("place",))
    again = hw.heads.sweep(path, bank=Bank(task, most=0), **request)
    assert again.already_done
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == there
    loaded = load_sweep(out)
    assert loaded.table.equals(result.table)
    assert (loaded.picks, loaded.rule, loaded.skipped) == (result.picks, "cv_worst_group", ())
    text = csv.read_csv(out / "results.csv")
    assert text.column_names == result.table.column_names
    np.testing.assert_allclose(
        text["test.overall"].to_numpy(), result.table["test.overall"].to_numpy(), rtol=1e-12
    )
    for name in ("ERM", "SUBG", "DFR-val"):
        head, info = load_head(out / "heads" / f"{name}.safetensors")
        (report,) = report_on(task, [head], "test")
        assert info.summary["test"]["overall"] == report.overall
    assert load_head(out / "picked.safetensors")[1].method == loaded.pick.method  # type: ignore[union-attr]


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
    row = _rows(second.table)[f"{second.pick.id}.s0"]
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


def test_a_killed_sweep_goes_on_with_what_it_kept(store_at: Store, tmp_path: Path) -> None:
    path, out = store_at(), tmp_path / "run"
    request = {**SMALL, "methods": ["ERM", "JTT", "DFR-val"], "groups": ["place"], "out": str(out)}
    child = f"""
import os, signal
from headwater.heads import HeadBank, sweep
train, calls = HeadBank.train, []
def train_once(self, specs):
    if calls:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(1)
    return train(self, specs)
HeadBank.train = train_once
sweep({str(path)!r}, **{request!r})
"""
    killed = subprocess.run([sys.executable, "-c", child], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "results.parquet").exists()
    with pytest.raises(RequestError, match="is not finished; give its command again"):
        load_sweep(out)
    task = Task.from_store(hw.open_store(path), "class", ("place",))
    bank = Bank(task)
    told: list[Any] = []
    result = hw.heads.sweep(path, bank=bank, progress=told.append, **request)
    assert told[0].ended > 0
    assert len(_rows(result.table)) == 10
    assert not any(spec.penalty.l2 == 1e-3 and spec.weights is None for spec in bank.calls[1])
    fresh = _rows(sweep(task, **{**request, "out": None}).table)
    for key, row in _rows(result.table).items():
        assert row["test.log_loss"] == pytest.approx(fresh[key]["test.log_loss"], rel=1e-3)
        assert row["trained"] == fresh[key]["trained"]
    assert not list(out.rglob("*.tmp"))


def test_a_folder_with_something_else_is_refused_by_name_and_untouched(task: Task, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    bank = Bank(task, most=0)
    with pytest.raises(RequestError, match="holds something that is no sweep"):
        sweep(task, methods=["ERM"], out=taken, bank=bank)
    with pytest.raises(RequestError, match="is a file"):
        sweep(task, methods=["ERM"], out=taken / "thesis.txt", bank=bank)
    assert [file.name for file in taken.iterdir()] == ["thesis.txt"]
    out = tmp_path / "run"
    sweep(task, methods=["ERM"], draws=2, seeds=1, out=out)
    there = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    other = Task.from_arrays(task.features, 1 - task.target, task.groups, _split(task))
    for wanted, what in (
        ({"methods": ["RWY"], "draws": 2, "seeds": 1}, "differs in methods;"),
        ({"methods": ["ERM"], "draws": 1, "seeds": [1]}, "differs in draws, seeds;"),
        ({"methods": ["ERM"], "grid": {"l2": [1]}, "seeds": 1}, "differs in draws, grid;"),
        ({"methods": ["ERM"], "draws": 2, "seeds": 1, "settings": {"l2": 1}}, "differs in settings;"),
    ):
        with pytest.raises(RequestError, match=what):
            sweep(task, out=out, bank=bank, **wanted)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="the values in those columns"):
        sweep(other, methods=["ERM"], draws=2, seeds=1, out=out, bank=bank)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == there


def _split(task: Task) -> list[str]:
    split = [""] * len(task.target)
    for name, rows in task.splits.items():
        for row in rows:
            split[row] = name
    return split


def test_a_damaged_part_is_named(task: Task, tmp_path: Path) -> None:
    out = tmp_path / "run"
    sweep(task, methods=["ERM"], draws=2, seeds=1, out=out)
    (part,) = (out / "trained").iterdir()
    part.write_bytes(part.read_bytes()[:-100])
    (out / "selection.json").unlink()
    with pytest.raises(HeadwaterError, match=r"00000\.safetensors' is damaged; delete it"):
        sweep(task, methods=["ERM"], draws=2, seeds=1, out=out)
    part.unlink()
    assert sweep(task, methods=["ERM"], draws=2, seeds=1, out=out).table.num_rows == 2


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"methods": ["ERN"]}, "there is no method 'ERN' .did you mean 'ERM'"),
        ({"methods": []}, "no method is named"),
        ({"methods": ["all", "ERM"]}, "give either `all` or names"),
        ({"draws": 0}, "at least one draw is needed"),
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": [1, 1]}, "must be different and not negative"),
        ({"select": "worst"}, "there is no selection rule 'worst'"),
        ({"folds": 1}, "at least 2 folds"),
        ({"methods": ["ERM"], "grid": {"L2": [1]}}, "none of the methods has a setting 'L2'"),
        ({"methods": ["ERM"], "grid": {"RWG.l2": [1]}}, "RWG, which is not among the methods"),
        ({"methods": ["ERM"], "grid": {"ERM.L2": [1]}}, "ERM has no setting 'L2' .did you mean 'l2'"),
        ({"methods": ["ERM"], "grid": {"l2": [-1]}}, "ERM cannot take l2 = -1"),
    ],
)
def test_a_wrong_request_is_refused_before_any_training(
    wanted: dict[str, Any], sentence: str, task: Task, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(RequestError, match=sentence) as error:
        sweep(task, bank=Bank(task, most=0), out=out, **wanted)
    assert "\n" not in str(error.value)
    assert not out.exists()


def test_rules_need_what_they_look_at(task: Task, world: Callable[..., dict[str, Any]]) -> None:
    made = world(counts={"train": (30, 9, 8, 30), "test": (9, 9, 9, 9)})
    no_val = Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])
    with pytest.raises(RequestError, match="no rows in split 'val', and every honest rule"):
        sweep(no_val, methods=["ERM"])
    with pytest.warns(HeadwaterWarning, match="looking at test"):
        result = sweep(no_val, methods=["ERM"], draws=1, seeds=1, select="oracle")
    assert [pick.rule for pick in result.picks] == ["oracle"]
    made = world(counts={"train": (30, 9, 8, 30), "val": (9, 9, 9, 9)})
    no_test = Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])
    result = sweep(no_test, methods=["ERM", "RWG"], draws=1, seeds=1)
    assert "oracle" not in [pick.rule for pick in result.picks]
    assert [pick.cost for pick in result.picks] == [None] * len(result.picks)
    assert result.table["test.overall"].null_count == len(result.table)
    unknown = np.where(np.isin(np.arange(len(task.target)), task.rows("val").index), -1, task.groups)
    blind = Task.from_arrays(task.features, task.target, unknown, _split(task))
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


def test_more_methods_draws_and_seeds_keep_what_is_trained(task: Task, tmp_path: Path) -> None:
    out = tmp_path / "run"
    request: dict[str, Any] = {**SMALL, "methods": ["ERM", "DFR-val"]}
    sweep(task, out=out, **request)
    more = {**request, "methods": ["ERM", "RWG", "DFR-val"], "draws": 3, "seeds": 3}
    bank = Bank(task)
    told: list[Any] = []
    result = sweep(task, out=out, bank=bank, progress=told.append, **more)
    folds = result.request["folds"] * result.request["repeats"]
    shared = sum(number % 2 == number % 3 for number in range(folds))  # judged by the same seed before
    assert told[0].ended == 2 * 2 + 2 + shared
    published = HeadSpec(task.rows("train"), Penalty(1e-3), scaler_rows=task.rows("train"))
    assert published not in [spec for call in bank.calls for spec in call]
    fresh = sweep(task, **more)
    assert result.table["id"].equals(fresh.table["id"])
    for name in ("test.log_loss", "judged.worst_group"):
        np.testing.assert_allclose(result.table[name].to_numpy(), fresh.table[name].to_numpy(), rtol=1e-3)
    assert load_sweep(out).table.equals(result.table)
    assert sweep(task, out=out, bank=Bank(task, most=0), **more).already_done
    with pytest.raises(RequestError, match="differs in methods, draws, seeds; ask for all that it holds"):
        sweep(task, out=out, bank=Bank(task, most=0), **request)


def test_a_grid_with_values_in_between_takes_no_head_for_another(task: Task, tmp_path: Path) -> None:
    out = tmp_path / "run"
    request: dict[str, Any] = {"methods": ["ERM"], "seeds": 1}
    sweep(task, out=out, grid={"l2": [0.1, 10]}, **request)
    bank = Bank(task)
    result = sweep(task, out=out, grid={"l2": [0.1, 1, 10]}, bank=bank, **request)
    assert [spec.penalty.l2 for call in bank.calls for spec in call] == [1]
    fresh = sweep(task, grid={"l2": [0.1, 1, 10]}, **request)
    np.testing.assert_allclose(
        result.table["test.log_loss"].to_numpy(), fresh.table["test.log_loss"].to_numpy(), rtol=1e-3
    )
    again = sweep(
        task, out=out, grid={"l2": [0.1, 1, 10]}, bank=Bank(task, most=0), select="overall", **request
    )
    assert again.rule == "overall"


def test_what_another_revision_measured_is_measured_anew_and_what_it_trained_not_mixed(
    task: Task, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    request: dict[str, Any] = {"methods": ["ERM"], "draws": 2, "seeds": 1, "out": out}
    sweep(task, **request)
    asked = json.loads((out / "sweep.json").read_text())

    def pretend(**changes: Any) -> None:
        text = json.dumps({**asked, **changes})
        (out / "sweep.json").write_text(text)
        chosen = json.loads((out / "selection.json").read_text())
        digest = hashlib.sha256(text.encode()).hexdigest()
        (out / "selection.json").write_text(json.dumps({**chosen, "of": digest}))

    pretend(measuring=asked["measuring"] - 1, training=0)
    with pytest.raises(RequestError, match=r"were measured by another revision .* give its command again"):
        load_sweep(out)
    (out / "results.parquet").unlink()
    (out / "results.parquet").write_bytes(b"older figures")
    with pytest.warns(HeadwaterWarning, match="are measured anew from the heads it kept"):
        done = sweep(task, bank=Bank(task, most=0), **request)
    assert done.table.num_rows == 2
    assert json.loads((out / "sweep.json").read_text())["training"] == 0  # who trained them has not changed
    with pytest.raises(RequestError, match=r"heads in .* were trained by another revision of headwater"):
        sweep(task, bank=Bank(task, most=0), **{**request, "seeds": 2})
    done = sweep(task, replace=True, **{**request, "seeds": 2})
    assert (done.table.num_rows, done.request["training"]) == (4, asked["training"])


def test_replacing_leaves_nothing_of_the_sweep_before(task: Task, tmp_path: Path) -> None:
    out = tmp_path / "run"
    sweep(task, methods=["ERM", "SUBG"], draws=2, seeds=1, out=out)
    done = sweep(task, methods=["RWG"], draws=1, seeds=1, out=out, replace=True)
    assert done.table["id"].to_pylist() == ["RWG.00.s0"]
    assert [path.name for path in (out / "heads").iterdir()] == ["RWG.safetensors"]
    assert len(list((out / "trained").iterdir())) == 1
    (out / "sweep.json").unlink()
    with pytest.raises(RequestError, match="holds something that is no sweep"):
        sweep(task, methods=["RWG"], draws=1, seeds=1, out=out, replace=True)


def test_intervals_hold_what_they_are_of(task: Task) -> None:
    result = sweep(task, **SMALL)
    rows = result.table.to_pylist()
    assert {pick.id for pick in result.picks} <= set(result.intervals)
    assert {name.partition(".")[0] for name in result.intervals} == {"ERM", "SUBG", "DFR-val"}
    for name, (low, high) in result.intervals.items():
        mean = np.mean([row["test.worst_group"] for row in rows if row["candidate"] == name])
        assert 0 <= low < mean < high <= 1


def test_the_page_about_the_folder_names_every_file_column_and_rule(task: Task, tmp_path: Path) -> None:
    done = sweep(task, out=tmp_path / "run", methods=["ERM", "LLR-class"], draws=1, seeds=1)
    page = (Path(hw.heads.__file__).parent / "sweeps" / "RUN.md").read_text()
    for name in done.table.column_names:
        split, dot, figure = name.partition(".")
        if dot and f"`{name}`" not in page:
            assert f"`{split}.…`" in page
            shown = f"{split}.group.NAME".replace("cv.", "val.") if figure.startswith("group.") else figure
            assert f"`{shown}`" in page or f"`val.{shown}`" in page, name
        else:
            assert f"`{name}`" in page, name
    for rule in RULES:
        where = "test" if rule.split == "test" else "judged"
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{rule.name}` |")]
        assert f"| `{where}.{rule.figure}` |" in line
        assert line.split("|")[3].strip() == rule.why.partition("; but")[0]
    for path in (tmp_path / "run").glob("[!.]*"):
        assert f"`{path.name}" in page, path.name
