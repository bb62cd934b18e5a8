"""Which stores of a folder make room for another, and what is counted as room."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from headwater.ambiguity.cache_bound import make_room
from headwater.store import Plan, ShardRows, StoreWriter, open_store

KEYS = [f"{row}" for row in range(40)]
DAY = 86_400.0


def store(place: Path, *, days: float, is_finished: bool = True) -> Path:
    """A store that was last used so many days ago."""
    with writer(place) as writing:
        for shard in (0, 1) if is_finished else (0,):
            writing.write(shard, rows())
        writing.finish({})
    aged(place, days)
    return place


def writer(place: Path) -> StoreWriter:
    plan = Plan.for_keys(KEYS, recipe={"made": "up"}, dim=100, dtype="float32", rows_per_shard=20, source="")
    return StoreWriter(place, plan, KEYS)


def rows() -> ShardRows:
    zeros = np.zeros(20, dtype=np.int32)
    features = np.random.default_rng(0).normal(size=(20, 100)).astype("f4")
    return ShardRows(features, None, zeros.astype("u1"), [""] * 20, zeros, zeros)


def aged(place: Path, days: float) -> None:
    at = time.time() - days * DAY
    os.utime(place, (at, at))


def size(place: Path) -> int:
    return sum(file.stat().st_size for file in place.rglob("*"))


def test_a_store_that_is_being_written_stays_and_the_next_one_makes_room(tmp_path: Path) -> None:
    old, other = (
        store(tmp_path / f"{name}.store", days=days, is_finished=name == "b")
        for name, days in (("a", 30), ("b", 3))
    )
    newest = store(tmp_path / "c.store", days=0)
    with writer(old) as writing:
        aged(old, 30)
        make_room(newest, size(newest) + size(old) + 1)
        assert (old.exists(), other.exists(), newest.exists()) == (True, False, True)
        writing.write(1, rows())
        writing.finish({})
    assert len(open_store(old)) == 40


@pytest.mark.parametrize(("days", "stays"), [(2, True), (30, False)])
def test_an_unfinished_store_stays_as_long_as_it_may_be_gone_on_with(
    tmp_path: Path, days: float, stays: bool
) -> None:
    unfinished = store(tmp_path / "a.store", days=days, is_finished=False)
    make_room(store(tmp_path / "b.store", days=0), 1)
    assert unfinished.exists() is stays


def test_what_cannot_be_taken_away_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, other, newest = (
        store(tmp_path / f"{name}.store", days=days) for name, days in (("a", 9), ("b", 3), ("c", 0))
    )
    rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda at, **given: None if at == stuck else rmtree(at, **given))
    with caplog.at_level(logging.INFO):
        make_room(newest, size(newest) + size(other) + 1)
    assert (len(open_store(stuck)), other.exists()) == (40, False)
    assert f"{other} made room" in caplog.text
    assert f"{stuck} made room" not in caplog.text
