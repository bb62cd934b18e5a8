"""Tasks: columns become classes, groups and splits as a naive reading does, and bad columns get one
sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import HeadwaterError, RequestError
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.tasks.task import Task
from headwater.store import annotate, open_store

DONE = Convergence(True, 1, 0.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc-"), st.sampled_from("xy-")), min_size=4, max_size=30))
def test_groups_are_the_combinations_that_occur(rows: list[tuple[str, str]]) -> None:
    target = ["" if t == "-" else t for t, _ in rows] + ["a", "b"]
    place = ["" if p == "-" else p for _, p in rows] + ["x", "x"]
    task = Task.from_arrays(np.zeros((len(target), 2)), target, {"place": place})
    occurring = sorted({(t, p) for t, p in zip(target, place, strict=True) if t and p})
    assert task.group_names == tuple(f"{t}, {p}" for t, p in occurring)
    for row, (t, p) in enumerate(zip(target, place, strict=True)):
        assert (task.classes[task.target[row]] if task.target[row] >= 0 else "") == t
        assert task.groups[row] == (occurring.index((t, p)) if t and p else -1)
    assert task.left_out.without_target == target.count("")
    assert task.splits["train"].tolist() == [row for row, t in enumerate(target) if t]


def test_whole_numbers_need_not_be_contiguous_and_minus_one_is_missing() -> None:
    task = Task.from_arrays(np.zeros((5, 1)), [7, -1, 100, 7, 3])
    assert task.classes == ("3", "7", "100")
    assert task.target.tolist() == [1, -1, 2, 1, 0]
    assert Task.from_arrays(np.zeros((3, 1)), [1.0, np.nan, 2.0]).target.tolist() == [0, -1, 1]


def test_without_group_columns_the_groups_are_the_classes(task: Task) -> None:
    plain = Task.from_arrays(task.features, task.target)
    assert plain.group_names == plain.classes
    assert (plain.groups == plain.target).all()


def test_splits_may_be_numbered_as_in_waterbirds() -> None:
    task = Task.from_arrays(np.zeros((5, 1)), list("abbab"), split=[0, 1, 2, 0, -1])
    assert {name: rows.tolist() for name, rows in task.splits.items()} == {
        "train": [0, 3],
        "val": [1],
        "test": [2],
    }
    assert task.left_out.without_split == 1


def test_the_parts_of_an_ambiguous_data_set_are_splits() -> None:
    split = ["labeled", "labeled", "unlabeled", "target", "val"]
    task = Task.from_arrays(np.zeros((5, 1)), list("abcab"), split=split)
    found = {name: rows.tolist() for name, rows in task.splits.items()}
    assert found == {"train": [0, 1], "val": [4], "test": [3]}
    # Labels of unlabeled rows, which a store may know, make no classes.
    assert (task.classes, task.left_out.without_split) == (("a", "b"), 1)
    with pytest.raises(RequestError, match="holds 'labeled' and 'train', which both mean train"):
        Task.from_arrays(np.zeros((5, 1)), list("abcab"), split=[*split[:4], "train"])
    with pytest.raises(RequestError, match="holds 'targets', which names no split"):
        Task.from_arrays(np.zeros((5, 1)), list("abcab"), split=[*split[:3], "targets", "val"])


def test_from_store_leaves_failed_rows_out_and_reads_the_same_groups(
    store_at: Callable[..., Path], world: Callable[..., dict[str, Any]]
) -> None:
    path, made = store_at(), world()
    task = Task.from_store(open_store(path), "class", ("place",))
    assert (task.left_out.failed, task.target[0]) == (1, -1)
    assert sum(len(rows) for rows in task.splits.values()) == len(made["class"]) - 1
    for split, rows in task.splits.items():
        assert set(made["split"][rows]) == {split}
        named = [task.group_names[code] for code in task.groups[rows]]
        assert named == [f"{c}, {p}" for c, p in zip(made["class"][rows], made["place"][rows], strict=True)]
    np.testing.assert_array_equal(task.features[task.splits["val"]], made["features"][task.splits["val"]])
    assert task.origin.fingerprint == open_store(path).fingerprint


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"target": "clas"}, "no column 'clas' for the target (did you mean 'class'?)"),
        ({"groups": ("plaice",)}, "no column 'plaice' for the group (did you mean 'place'?)"),
        ({"split": "fold"}, "no split column 'fold'"),
        ({"split": "fold"}, "`headwater store split"),
        ({"target": "temperature"}, "fractional numbers such as 0.5"),
        ({"split": "place"}, "'land', 'water', which names no split; use train, val and test"),
    ],
)
def test_a_column_that_cannot_play_its_part_is_one_sentence(
    wanted: dict[str, Any], sentence: str, store_at: Callable[..., Path]
) -> None:
    with pytest.raises(RequestError) as error:
        Task.from_store(open_store(store_at()), **wanted)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_one_class_and_no_rows_are_refused(store_at: Callable[..., Path]) -> None:
    with pytest.raises(RequestError, match="one class only, 'a'"):
        Task.from_arrays(np.zeros((3, 1)), ["a", "a", ""])
    with pytest.raises(RequestError, match="no row has features"):
        Task.from_arrays(np.zeros((2, 1)), ["", ""])
    with pytest.raises(RequestError, match="has 2 rows, the features 3"):
        Task.from_arrays(np.zeros((3, 1)), ["a", "b"])


def test_an_unfinished_store_is_refused(store_at: Callable[..., Path]) -> None:
    path = store_at()
    (path / "shard-00001.h5").unlink()
    with pytest.raises(HeadwaterError, match="not finished"):
        open_store(path)


def test_classes_of_a_head_trained_elsewhere_keep_their_codes(store_at: Callable[..., Path]) -> None:
    path = store_at()
    store = open_store(path)
    task = Task.from_store(store, "class", classes=("waterbird", "landbird"))
    assert task.classes == ("waterbird", "landbird")
    assert [task.classes[c] for c in task.target[1:]] == store.annotations["class"].texts()[1:]
    species = ["heron", *store.annotations["class"].texts()[1:-1], "heron"]
    annotate(path, {"path": store.keys.tolist(), "class": species}, replace=True)
    with pytest.raises(RequestError, match="'heron', which the head does not know"):
        Task.from_store(open_store(path), "class", classes=("waterbird", "landbird"))


def test_many_heads_predict_what_each_predicts_alone(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.heads.tasks.task._BLOCK", 7)  # many blocks
    random = np.random.default_rng(0)
    heads = [
        LinearHead(random.normal(size=(2, 12)).astype("f4"), random.normal(size=2).astype("f4"), DONE)
        for _ in range(3)
    ]
    rows = task.splits["test"]
    together = task.logits(heads, rows)
    assert together.shape == (3, len(rows), 2)
    for head, scores in zip(heads, together, strict=True):
        expected = task.features[rows].astype("f8") @ head.weight.T.astype("f8") + head.bias
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    assert (task.predict(heads, rows) == together.argmax(axis=2)).all()


def test_a_split_that_is_not_there_is_refused(task: Task) -> None:
    with pytest.raises(RequestError, match="no rows are in split 'holdout'"):
        task.rows("holdout")


@pytest.mark.parametrize(
    "numbers", [list(range(60)), [f"{n}.jpg" for n in range(60)], [float(n) for n in range(60)]]
)
def test_a_column_that_names_every_row_makes_no_groups(numbers: list[Any]) -> None:
    with pytest.raises(RequestError) as error:
        Task.from_arrays(np.zeros((60, 2)), ["a", "b"] * 30, {"place": ["x", "y", "x"] * 20, "path": numbers})
    assert "column 'path' has 60 values and makes 60 groups of 60 rows, fewer than two" in str(error.value)
    assert "\n" not in str(error.value)


def test_many_small_groups_and_few_rows_are_groups_all_the_same() -> None:
    many = Task.from_arrays(np.zeros((80, 2)), ["a", "b"] * 40, {"site": np.repeat(np.arange(20), 4)})
    assert len(many.group_names) == 40
    few = Task.from_arrays(np.zeros((6, 2)), ["a", "b"] * 3, {"site": np.arange(6)})
    assert len(few.group_names) == 6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_before_any_training(
    world: Callable[..., dict[str, Any]], bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headwater.heads import fit
    from headwater.heads.bank.head_bank import HeadBank

    monkeypatch.setattr("headwater.heads.tasks.task._BLOCK", 7)  # many blocks
    monkeypatch.setattr(HeadBank, "_solve", lambda *_: pytest.fail("trained"))
    made = world()
    for split in ("val", "test"):
        row = int(np.flatnonzero(made["split"] == split)[9])
        features = made["features"].copy()
        features[row, 5] = bad
        with pytest.raises(RequestError, match=rf"row {row} of split '{split}' holds NaN .* feature 5"):
            Task.from_arrays(features, made["class"], split=made["split"])
    train = int(np.flatnonzero(made["split"] == "train")[3])
    features = made["features"].copy()
    features[train, 0] = bad
    task = Task.from_arrays(features, made["class"], split=made["split"])
    with pytest.raises(RequestError, match=rf"row {train}\b"):
        fit(task)


def test_a_row_in_no_split_may_hold_anything(world: Callable[..., dict[str, Any]]) -> None:
    made = world()
    made["split"][5] = ""
    made["features"][5] = np.nan
    assert Task.from_arrays(made["features"], made["class"], split=made["split"]).left_out.without_split == 1


@pytest.mark.parametrize("labels", [["a", "b"], [-7, 100], [3.0, 5.0]])
def test_missing_labels_leave_rows_out_whatever_the_others_are(labels: list[Any]) -> None:
    for missing in (None, "", np.nan, -1):
        if (missing == "" and labels != ["a", "b"]) or (missing == -1 and labels == ["a", "b"]):
            continue
        target = np.array([*labels, missing, labels[0]], dtype=object)
        task = Task.from_arrays(np.zeros((4, 1)), target if missing != -1 else target.astype(float))
        assert task.target.tolist() == [0, 1, -1, 0]
        assert task.left_out.without_target == 1


def test_a_single_heads_scores_are_remembered_and_are_what_they_were(task: Task) -> None:
    random = np.random.default_rng(0)
    record = Convergence(True, 1, 0.0, 0.0)
    heads = [
        LinearHead(random.normal(size=(2, 12)).astype("f4"), np.zeros(2, "f4"), record) for _ in range(40)
    ]
    train, val = task.rows("train").index, task.rows("val").index
    for _ in range(2):
        for head in heads:
            for rows in (train, val):
                np.testing.assert_allclose(
                    task.logits([head], rows)[0], task.features[rows] @ head.weight.T, rtol=1e-4, atol=1e-4
                )
    assert task.logits(heads[:1], val) is task.logits([heads[0]], val.copy())
    assert task.logits(heads[:1], val) is not task.logits(heads[1:2], val)
    with pytest.raises(ValueError, match="read-only"):
        task.logits(heads[:1], val)[0, 0, 0] = 1


def test_a_target_that_is_an_id_is_refused() -> None:
    ids = [f"bird {row}" for row in range(100)]
    with pytest.raises(RequestError, match=r"column 'class' has 100 values for 100 rows, .* is an id"):
        Task.from_arrays(np.zeros((100, 2), "f4"), ids)
    fine = Task.from_arrays(np.zeros((100, 2), "f4"), [f"species {row // 2}" for row in range(100)])
    assert len(fine.classes) == 50
