"""Sweeps over hundreds of small groups: rules by the worst K %, a table, train cut for lack of val."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from headwater.errors import RequestError
from headwater.heads import Task, fit, load_sweep, sweep
from headwater.heads.measures.shrunk import STRENGTH, shrunk_areas
from headwater.heads.measures.tail import worst_curve
from headwater.heads.sweeps.folds import cross_fits
from headwater.heads.tasks.hierarchy import Hierarchy
from headwater.taxonomy import from_columns
from tests.heads.sweeps.conftest import Bank

ASKED: dict[str, Any] = {
    "methods": ["ERM", "RWG", "DFR-val"],
    "draws": 1,
    "seeds": 1,
    "folds": 2,
    "settings": {"DFR-val.subsets": 2, "DFR-val.C": [1.0], "DFR-val.penalty": "l2"},
}


@pytest.fixture(scope="module")
def many() -> Task:
    """250 groups in three classes: of one to five rows in train, four in val and three in test."""
    random = np.random.default_rng(0)
    of_class = random.integers(0, 3, 250)
    counts = {"train": random.integers(1, 6, 250), "val": np.full(250, 4), "test": np.full(250, 3)}
    group = np.concatenate([np.repeat(np.arange(250), count) for count in counts.values()])
    split = np.repeat(list(counts), [count.sum() for count in counts.values()])
    centre = random.normal(size=(3, 6))[of_class] + random.normal(size=(250, 6)) * 0.9
    features = (centre[group] + random.normal(size=(len(group), 6))).astype(np.float32)
    return Task.from_arrays(features, of_class[group], {"kind": group}, split)


def _without_val(task: Task) -> Task:
    splits = {name: rows for name, rows in task.splits.items() if name != "val"}
    return Task(**{**{name: getattr(task, name) for name in task.__dataclass_fields__}, "splits": splits})


def test_many_small_groups_are_judged_by_their_worst_shares_and_kept_in_a_table_of_their_own(
    many: Task, tmp_path: Path
) -> None:
    done = sweep(many, out=tmp_path / "run", **ASKED)
    assert (done.rule, done.aim) == ("cv_worst_area", "worst_area")
    assert not [name for name in done.table.column_names if ".group." in name]
    by_group = parquet.read_table(tmp_path / "run" / "groups.parquet")
    assert by_group["group"].to_pylist() == list(many.group_names)
    assert by_group["rows.test"].to_pylist() == [3] * 250
    rows = {row["id"]: row for row in done.table.to_pylist()}
    names = [name for name in by_group.column_names if name.startswith("test.")]
    assert {name.removeprefix("test.") for name in names} == set(rows)
    for name in names:
        accuracies = by_group[name].to_numpy().astype(np.float64)
        assert rows[name.removeprefix("test.")]["test.worst_area"] == pytest.approx(
            worst_curve(accuracies).area, abs=1e-6
        )
    assert "cv.DFR-val.00.s0" in by_group.column_names
    pick = load_sweep(tmp_path / "run").pick
    assert pick is not None
    low, high = done.intervals[pick.id]
    assert low < pick.test["worst_area"] < high
    again = sweep(many, out=tmp_path / "run", select="worst_area", bank=Bank(many, most=0), **ASKED)
    assert again.rule == "worst_area"
    assert (tmp_path / "run" / "groups.parquet").is_file()
    with pytest.raises(RequestError, match="at most 200 groups, and there are 250; choose 'cv_worst_area'"):
        sweep(many, select="cv_worst_group", **ASKED)


def test_without_val_every_method_is_judged_on_rows_of_train_that_it_never_saw(many: Task) -> None:
    task = _without_val(many)
    folds = cross_fits(task)
    held = np.concatenate([fold.held_out for fold in folds.folds])
    assert folds.of_train
    assert sorted(held.tolist()) == list(range(len(task.rows("train").index)))
    for fold in folds.folds:
        rest = fold.task.rows("train").index
        assert set(rest) | set(task.rows("train").index[fold.held_out]) == set(task.rows("train").index)
        assert len(np.unique(task.target[rest])) == 3
    done = sweep(task, methods=["ERM", "RWG"], draws=2, seeds=1)
    assert done.rule == "cv_worst_area"
    assert not any(done.table["val_in_sample"].to_pylist())
    assert done.table["judged.overall"].to_pylist() == done.table["cv.overall"].to_pylist()
    # Train as it was fitted is known better than rows that were held out.
    in_sample, out = (done.table[f"{where}.overall"].to_numpy().mean() for where in ("train", "cv"))
    assert out < in_sample - 0.01
    single = sweep(task, methods=["ERM"], draws=1, seeds=1, folds=4)
    parts = cross_fits(task, folds=4)

    right = 0
    for fold in parts.folds:
        head = fit(fold.task, method="ERM").head
        rows = task.rows("train").index[fold.held_out]
        right += int((task.predict([head], rows)[0] == task.target[rows]).sum())
    assert single.table["cv.overall"][0].as_py() == pytest.approx(right / len(held), abs=0.01)


def test_few_groups_of_a_taxonomy_are_judged_by_their_worst_shares_too() -> None:
    random = np.random.default_rng(0)
    species, split = np.arange(180) % 6, np.repeat(["train", "val", "test"], 60)
    features = (np.eye(6)[species] + random.normal(size=(180, 6))).astype(np.float32)
    levels = {"phylum": (species // 3).astype(str), "species": species.astype(str)}
    task = Task.from_arrays(features, "phylum", "species", split, levels=levels)
    done = sweep(task, methods=["ERM"], draws=1, seeds=1)
    assert (done.rule, done.aim) == ("worst_area", "worst_area")
    assert {"worst_area", "cv_worst_area", "oracle_area"} <= {pick.rule for pick in done.picks}


def test_shrunk_areas_are_those_of_walking_the_tree() -> None:
    random = np.random.default_rng(1)
    columns = {
        "order": [f"o{random.integers(3)}" for _ in range(40)],
        "family": [None if random.random() < 0.2 else f"f{random.integers(6)}" for _ in range(40)],
        "kind": [f"k{number}" for number in range(40)],
    }
    tree, nodes = from_columns(columns)
    count = random.integers(0, 4, 40)
    right = random.binomial(count, 0.7, size=(3, 40))
    judged = random.random(40) < 0.9
    shares = np.where(count > 0, right / np.maximum(count, 1), np.nan)
    found = shrunk_areas(Hierarchy(tree, nodes, 1), judged, shares, count)

    def rate(head: int, node: int) -> float:
        if node < 0:
            return right[head].sum() / count.sum()
        inside = [g for g in range(40) if _is_below(tree, int(nodes[g]), node)]
        above = rate(head, int(tree.parent[node]))
        return (right[head, inside].sum() + STRENGTH * above) / (count[inside].sum() + STRENGTH)

    for head in range(3):
        wanted = np.array([rate(head, int(nodes[g])) for g in np.flatnonzero(judged)])
        assert found[head] == pytest.approx(worst_curve(wanted).area)


def _is_below(tree: Any, node: int, above: int) -> bool:
    while node >= 0:
        if node == above:
            return True
        node = int(tree.parent[node])
    return False


def test_augmented_views_of_a_held_out_image_are_held_out_with_it() -> None:
    random = np.random.default_rng(2)
    features = random.normal(size=(60, 3)).astype(np.float32)
    target, group = np.arange(60) % 2, np.arange(60) % 20
    task = Task.from_arrays(
        features, target, {"kind": group}, ["train"] * 60, views=random.normal(size=(2, 60, 3))
    )
    for fold in cross_fits(task).folds:
        rest = fold.task.rows("train").index % 60
        assert len(rest) == 3 * len(np.unique(rest))
        assert not set(rest) & set(fold.held_out)
