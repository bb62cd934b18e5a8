"""A sweep that was killed or is asked for more keeps what it trained and trains the rest."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headwater as hw
from headwater.errors import RequestError
from headwater.heads import Task, load_sweep, sweep
from headwater.heads.specs.spec import HeadSpec, Penalty
from tests.heads.sweeps.conftest import SMALL, Bank, by_id

Store = Callable[..., Path]


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
    assert len(by_id(result.table)) == 10
    assert not any(spec.penalty.l2 == 1e-3 and spec.weights is None for spec in bank.calls[1])
    fresh = by_id(sweep(task, **{**request, "out": None}).table)
    for key, row in by_id(result.table).items():
        assert row["test.log_loss"] == pytest.approx(fresh[key]["test.log_loss"], rel=1e-3)
        assert row["trained"] == fresh[key]["trained"]
    assert not list(out.rglob("*.tmp"))


def test_more_methods_draws_and_seeds_keep_what_is_trained(task: Task, tmp_path: Path) -> None:
    out = tmp_path / "run"
    request: dict[str, Any] = {**SMALL, "methods": ["ERM", "DFR-val"]}
    before = by_id(sweep(task, out=out, **request).table)
    more = {**request, "methods": ["ERM", "RWG", "DFR-val"], "draws": 3, "seeds": 3}
    bank = Bank(task)
    told: list[Any] = []
    result = sweep(task, out=out, bank=bank, progress=told.append, **more)
    folds = result.request["folds"] * result.request["repeats"]
    assert told[0].ended == 2 * 2 + 2 + folds
    published = HeadSpec(task.rows("train"), Penalty(1e-3), scaler_rows=task.rows("train"))
    assert published not in [spec for call in bank.calls for spec in call]
    after = by_id(result.table)
    for key, row in before.items():
        assert after[key]["judged.worst_group"] == row["judged.worst_group"]
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
