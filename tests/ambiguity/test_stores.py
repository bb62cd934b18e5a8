"""A store's rows by their split, with missing labels, failed rows and names of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headwater.ambiguity import open_dataset
from headwater.ambiguity.submission import write_new
from headwater.ambiguity.table import table_text
from headwater.errors import RequestError
from headwater.store import Plan, ShardRows, StoreWriter, annotate, open_store, read_table

SPLITS = ("labeled", "unlabeled", "target")


@pytest.fixture
def store_of(tmp_path: Path) -> Callable[..., Path]:
    """Makes a store of 30 rows, split in turn, with these columns; rows of `failed` have no features."""

    def make(
        columns: Mapping[str, Sequence[Any]],
        failed: Sequence[int] = (),
        source: str = "",
        keys: Sequence[str] = tuple(f"{number}.png" for number in range(30)),
    ) -> Path:
        features = np.random.default_rng(0).normal(size=(30, 4)).astype("f4")
        plan = Plan.for_keys(keys, recipe={"backbone": "pixels"}, dim=4, dtype="float32", source=source)
        zeros, status = np.zeros(30, dtype=np.int32), np.isin(np.arange(30), failed).astype("u1")
        features[status != 0] = 0
        with StoreWriter(tmp_path / "birds.store", plan, keys) as writer:
            errors = ["empty file" if each else "" for each in status]
            writer.write(0, ShardRows(features, None, status, errors, zeros, zeros))
            writer.finish({})
        annotate(tmp_path / "birds.store", {"path": keys, **columns})
        return tmp_path / "birds.store"

    return make


def features() -> Any:
    return np.random.default_rng(0).normal(size=(30, 4)).astype("f4")


ROWS = np.arange(30)
SPLIT = [SPLITS[row % 3] for row in ROWS]
LABEL = ["dog" if row % 2 else "cat" for row in ROWS]


def test_the_split_column_says_which_rows_are_which(store_of: Callable[..., Path]) -> None:
    dataset = open_dataset(store_of({"class": LABEL, "split": SPLIT}))
    problem = dataset.problem
    for kind, found in zip(range(3), (problem.labeled, problem.unlabeled, problem.target), strict=True):
        np.testing.assert_array_equal(found, features()[kind == ROWS % 3])
    assert problem.classes == ("cat", "dog")
    np.testing.assert_array_equal(problem.labels, ROWS[ROWS % 3 == 0] % 2)
    assert dataset.truth is not None
    np.testing.assert_array_equal(dataset.truth, ROWS[ROWS % 3 == 2] % 2)
    assert (dataset.recipe, dataset.notes, dataset.unreadable) == ("pixels", (), 0)


def test_the_table_has_every_target_row_s_key_and_goes_back_into_the_store(
    store_of: Callable[..., Path], tmp_path: Path
) -> None:
    keys = [f'bird-\udcff {number}, "x".png' for number in range(30)]
    own = {"label": LABEL, "probability": [1.0] * 30, "split": SPLIT}
    store = store_of(own, failed=[5], keys=keys)
    dataset = open_dataset(store, target="label")
    codes = dataset.for_all(np.arange(9) % 2)
    sure = np.stack([1 - np.arange(9) / 10, np.arange(9) / 10], axis=1)
    write_new(tmp_path / "table.csv", table_text(dataset, codes, sure))
    annotate(store, read_table(tmp_path / "table.csv"), allow_missing=True)
    columns = open_store(store).annotations
    assert columns["label"].texts() == LABEL
    assert columns["probability"].values.tolist() == [1.0] * 30
    rows = np.flatnonzero(ROWS % 3 == 2)
    expected = dict(zip(rows.tolist(), codes.tolist(), strict=True))
    assert columns["solved_label"].texts() == [
        None if row not in expected else ("cat", "dog")[expected[row]] for row in range(30)
    ]
    found = columns["solved_probability"].values
    assert np.isnan(found[[0, 5]]).all()
    given = iter(sure.tolist())
    for row in rows[rows != 5].tolist():
        assert found[row] == pytest.approx(next(given)[expected[row]])


def test_other_columns_and_names(store_of: Callable[..., Path]) -> None:
    store = store_of({"kind": (ROWS % 2 + 4).tolist(), "part": [f"p{row % 3}" for row in ROWS]})
    dataset = open_dataset(
        store, target="kind", split="part", labeled_rows="p1", unlabeled_rows="p2", target_rows="p0"
    )
    np.testing.assert_array_equal(dataset.problem.target, features()[ROWS % 3 == 0])
    assert dataset.problem.classes == (4, 5)


def test_train_and_test_are_understood_and_missing_unlabeled_rows_said(store_of: Callable[..., Path]) -> None:
    dataset = open_dataset(
        store_of({"class": LABEL, "split": [("train", "val", "test")[row % 3] for row in ROWS]})
    )
    np.testing.assert_array_equal(dataset.problem.target, features()[ROWS % 3 == 2])
    np.testing.assert_array_equal(dataset.problem.unlabeled, dataset.problem.target)
    assert "only the target rows" in dataset.notes[0]


def test_rows_that_cannot_be_used_are_left_out_and_target_rows_still_get_a_class(
    store_of: Callable[..., Path],
) -> None:
    label: list[str | None] = [*LABEL]
    label[0] = None  # labeled
    label[5] = None  # target
    dataset = open_dataset(store_of({"class": label, "split": SPLIT}, failed=[3, 4, 8, 11]))
    problem = dataset.problem
    np.testing.assert_array_equal(problem.labeled, features()[[6, 9, 12, 15, 18, 21, 24, 27]])
    assert len(problem.unlabeled) == 9
    assert dataset.items.tolist() == [0, 1, 4, 5, 6, 7, 8, 9]
    assert (dataset.target_rows, dataset.unreadable) == (10, 2)
    assert [note.split(",")[0] for note in dataset.notes] == [
        "2 labeled rows without features or label left out",
        "1 unlabeled row without features left out",
        "2 target rows without features cannot be told apart; they get the class that most others have",
    ]
    assert dataset.for_all([1, 0, 1, 1, 0, 1, 0, 1]).tolist() == [1, 0, 1, 1, 1, 1, 0, 1, 0, 1]
    assert dataset.truth is not None
    assert dataset.truth[1] == -1


def test_a_class_that_only_the_target_has_is_none_of_the_classes(store_of: Callable[..., Path]) -> None:
    label = ["fox" if row in (2, 4) else name for row, name in enumerate(LABEL)]
    dataset = open_dataset(store_of({"class": label, "split": SPLIT}))
    assert dataset.problem.classes == ("cat", "dog")
    assert dataset.truth is not None
    assert dataset.truth[0] == -1


def test_pictures_come_from_what_the_store_was_made_of(store_of: Callable[..., Path], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for row in ROWS[:-1]:
        Image.new("RGB", (9, 5), (int(row), 2, 3)).save(images / f"{row}.png")
    dataset = open_dataset(store_of({"class": LABEL, "split": SPLIT}, failed=[2], source=str(images)))
    shown = dataset.picture(1)
    assert shown is not None
    assert shown.shape == (5, 9, 3)
    assert shown[0, 0].tolist() == [8, 2, 3]  # the target's second readable row is the store's ninth
    assert dataset.picture(len(dataset.items) - 1) is None
    (images / "8.png").write_bytes(b"torn")
    assert dataset.picture(1) is None


def test_without_its_source_a_store_has_no_pictures(store_of: Callable[..., Path]) -> None:
    assert open_dataset(store_of({"class": LABEL, "split": SPLIT}, source="gone")).picture(0) is None


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"class": LABEL}, {}, "has no column 'split'"),
        ({"split": SPLIT}, {}, "has no column 'class'"),
        ({"class": LABEL, "split": SPLIT}, {"target_rows": "targets"}, "has the split 'targets' .*'target'"),
        (
            {"class": LABEL, "split": SPLIT},
            {"unlabeled_rows": "target"},
            "both those whose split is 'target'",
        ),
        ({"class": LABEL, "split": ["a"] * 30}, {}, "say with --labeled-rows which rows are labeled"),
        ({"class": ["cat"] * 30, "split": SPLIT}, {}, "all have the class 'cat'; there have to be two"),
        ({"class": [None] * 29 + ["cat"], "split": SPLIT}, {}, "none of the 10 labeled rows .* or no label"),
        ({"class": (ROWS / 4).tolist(), "split": SPLIT}, {}, "fractional numbers"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    store_of: Callable[..., Path], columns: Mapping[str, Any], options: Mapping[str, str], said: str
) -> None:
    with pytest.raises(RequestError, match=said) as error:
        open_dataset(store_of(columns), **options)
    assert "\n" not in str(error.value)
