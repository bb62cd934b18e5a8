"""Rows that a head has seen are known again, wherever they lie and whatever their split is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headwater.errors import HeadwaterWarning
from headwater.heads import Task, evaluate, fit, load_head
from headwater.heads.evaluation import measured
from headwater.heads.seen import marks_in, seen_rows
from headwater.store import Plan, ShardRows, StoreWriter, annotate, open_store, pack

Store = Callable[..., Path]


def _task(store: Path) -> Task:
    return Task.from_store(open_store(store), groups=["place"])


def _stored(at: Path, store: Path, rows: np.ndarray, splits: list[str], *, per_shard: int = 100) -> Path:
    """These rows of a store as another store."""
    old = open_store(store)
    keys = old.keys[rows].tolist()
    plan = Plan.for_keys(
        keys, recipe=dict(old.plan.recipe), dim=old.dim, dtype="float32", rows_per_shard=per_shard
    )
    with StoreWriter(at, plan, keys) as writer:
        for shard in list(writer.missing):
            part = rows[slice(*plan.shard_range(shard))]
            failed, sizes = old.status[part], np.full(len(part), 224, dtype=np.int32)
            errors = ["not an image" if each else "" for each in failed]
            writer.write(shard, ShardRows(old.features[part], None, failed, errors, sizes, sizes))
        writer.finish({})
    columns = {name: np.array(old.annotations[name].texts())[rows].tolist() for name in ("class", "place")}
    annotate(at, {"path": keys, **columns, "split": splits})
    return at


def test_rows_are_known_again_in_any_store_and_under_any_split(store_at: Store, tmp_path: Path) -> None:
    mine, out = store_at(), tmp_path / "head.safetensors"
    split = np.array(open_store(mine).annotations["split"].texts())
    rows, train = np.arange(len(split)), np.flatnonzero(split == "train")
    first, second = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    begun = _stored(tmp_path / "begun.store", mine, first, split[first].tolist())
    settings = {"subsets": 2, "penalty": "l2"}
    fit(begun, groups=["place"], method="DFR-val", settings=settings, out=out)
    swapped = {"train": "test", "val": "val", "test": "train"}
    elsewhere = {
        "resharded": _stored(tmp_path / "a.store", begun, first, split[first].tolist(), per_shard=37),
        "grown": _stored(tmp_path / "b.store", mine, rows[::-1], split[::-1].tolist()),
        "packed": pack(begun, tmp_path / "c.h5"),
        "split anew": _stored(tmp_path / "d.store", begun, first, [swapped[each] for each in split[first]]),
    }
    for name, store in elsewhere.items():
        assert measured(out, store, "val")[1] == "fitted, tuned or standardised on rows of val", name
        seen, new = ("test", "train") if name == "split anew" else ("train", "test")
        assert [bool(measured(out, store, each)[1]) for each in (seen, new)] == [True, False], name
    rest = _stored(tmp_path / "e.store", mine, second, split[second].tolist())
    assert not any(measured(out, rest, each)[1] for each in ("train", "val", "test"))
    one = [train[0] if train[0] else train[1], *second]  # of all that it was fitted on
    mixed = _stored(tmp_path / "f.store", mine, np.array(one), ["test", *split[second]])
    with pytest.warns(HeadwaterWarning, match="figures on test are in sample"):
        evaluate(out, mixed)
    looked = dataclasses.replace(load_head(out)[1], fitted_on=(), chosen_by="oracle", chosen_on="train")
    assert looked.in_sample("test", _task(mixed)).endswith("which looks at train, and so at rows of test")


def test_of_very_many_rows_a_sample_is_marked(store_at: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.heads.seen.MOST", 20)
    path = store_at()
    info = fit(path, method="ERM").info
    assert len(marks_in(info.seen["train"])) == 20
    assert info.in_sample("train", _task(path))
    assert not info.in_sample("val", _task(path))


def test_rounding_of_another_device_hides_few_rows(store_at: Store) -> None:
    task = _task(store_at())
    draw = np.random.default_rng(0)
    features = np.asarray(task.features[:])
    moved = (features * (1 + 1e-6 * draw.standard_normal(features.shape))).astype(np.float32)
    again = dataclasses.replace(task, features=moved)
    marks = [marks_in(seen_rows(each, "train")) for each in (task, again)]
    assert np.isin(*marks).mean() > 0.8
