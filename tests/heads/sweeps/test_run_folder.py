"""A sweep's folder: what was measured, left alone when done, and refused where it holds something else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import csv

import headwater as hw
from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.heads import Task, load_head, load_sweep, sweep
from headwater.heads.evaluation import report_on
from tests.heads.sweeps.conftest import SMALL, Bank, split_of

Store = Callable[..., Path]


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
    other = Task.from_arrays(task.features, 1 - task.target, task.groups, split_of(task))
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


def test_other_features_under_the_same_labels_are_another_sweep(task: Task, tmp_path: Path) -> None:
    sweep(task, methods=["ERM"], draws=1, seeds=1, out=tmp_path / "run")
    features = np.array(task.features)
    features[task.splits["test"]] += 1
    other = dataclasses.replace(task, features=features)
    with pytest.raises(
        RequestError, match="holds another sweep, which differs in the rows and their features;"
    ):
        sweep(other, methods=["ERM"], draws=1, seeds=1, out=tmp_path / "run", bank=Bank(other, most=0))
    same = dataclasses.replace(task, features=np.array(task.features))
    assert sweep(same, methods=["ERM"], draws=1, seeds=1, out=tmp_path / "run").already_done


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
