"""The final head's file: what `headwater heads` makes of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater.ambiguity import Extraction, open_dataset
from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.head_file import check_head, write_head
from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.heads import evaluate, load_head
from headwater.heads.ambiguity.resolve import Resolution
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.store import Plan, ShardRows, StoreWriter, annotate, import_features
from tests.ambiguity.conftest import points, write

ROWS = 60
CODES = np.arange(ROWS) % 2
SPLIT = np.array(["train", "val", "test"])[np.arange(ROWS) // 2 % 3]
FEATURES = np.stack([2 * CODES - 1, np.arange(ROWS) % 5], axis=1).astype(np.float32)
# By the first feature, in the order of the classes' names: cat, then dog.
HEAD = LinearHead(
    np.array([[-1, 0], [1, 0]], dtype=np.float32), np.zeros(2, np.float32), Convergence(True, 3, 0.1, 0.0)
)


def resolved(rows: int, head: LinearHead | None = HEAD) -> Resolution:
    shares = np.full((rows, 2), 0.5)
    return Resolution(
        probabilities=shares,
        labels=np.zeros(rows, dtype=np.int64),
        settled=True,
        sentences=(),
        exchanges=(),
        beliefs={},
        unexplained=0.0,
        mix_rate=0.5,
        expected_accuracy=0.9,
        interval=(0.8, 1.0),
        before=shares,
        seconds={"questions": 2.0},
        head=head,
    )


def store(place: Path, split: Any = SPLIT) -> Path:
    keys = [f"{row}.png" for row in range(ROWS)]
    plan = Plan.for_keys(keys, recipe={"backbone": "pixels"}, dim=2, dtype="float32", source="")
    zeros = np.zeros(ROWS, dtype=np.int32)
    with StoreWriter(place, plan, keys) as writer:
        writer.write(0, ShardRows(FEATURES, None, zeros.astype("u1"), [""] * ROWS, zeros, zeros))
        writer.finish({})
    annotate(place, {"path": keys, "animal": np.where(CODES == 1, "dog", "cat").tolist(), "part": split})
    return place


def test_a_head_on_a_store_is_measured_on_it_by_the_columns_that_were_named(tmp_path: Path) -> None:
    place = store(tmp_path / "pets.store")
    opened = open_dataset(place, target="animal", split="part", unlabeled_rows="val")
    out = tmp_path / "new" / "head.safetensors"
    check_head(out, opened, None)
    write_head(out, opened, None, resolved(len(opened.problem.target)), answers=5, seed=4)
    head, info = load_head(out)
    np.testing.assert_array_equal(head.weight, HEAD.weight)
    assert (info.classes, info.target, info.split) == (("cat", "dog"), "animal", "part")
    assert (info.method, info.seed, info.choices["answers"]) == ("ambiguity", 4, 5)
    with pytest.warns(HeadwaterWarning, match="in sample"):  # rows of test were learned from
        assert evaluate(out, place, "test").overall == 1.0
    with pytest.raises(RequestError, match="exists already"):
        check_head(out, opened, None)


def test_a_head_is_measured_on_a_store_whose_parts_are_called_labeled_unlabeled_and_target(
    tmp_path: Path,
) -> None:
    called = np.array(["labeled", "unlabeled", "target"])
    place = store(tmp_path / "pets.store", called[np.arange(ROWS) // 2 % 3])
    opened = open_dataset(place, target="animal", split="part")
    out = tmp_path / "head.safetensors"
    write_head(out, opened, None, resolved(len(opened.problem.target)), answers=5, seed=4)
    assert load_head(out)[1].fitted_on == ("train", "unlabeled", "test")
    with pytest.warns(HeadwaterWarning, match="in sample"):
        report = evaluate(out, place)
    assert (report.overall, report.rows) == (1.0, ROWS // 3)


def test_a_head_on_vectors_takes_them_as_they_are(tmp_path: Path) -> None:
    opened = open_dataset(write(tmp_path / "points", points()))
    out = tmp_path / "head.safetensors"
    check_head(out, opened, None)
    write_head(out, opened, None, resolved(60), answers=2, seed=0)
    head, info = load_head(out)
    assert (head.predict(opened.problem.target) == (opened.problem.target[:, 0] > 0)).all()
    assert (info.classes, info.store_path, info.store_fingerprint) == (("0", "1"), "", "")
    assert info.train_counts == tuple(np.bincount(opened.problem.labels))


def test_a_head_on_vectors_is_measured_on_a_store_of_them(tmp_path: Path) -> None:
    made = points()
    opened = open_dataset(write(tmp_path / "points", made))
    out = tmp_path / "head.safetensors"
    write_head(out, opened, None, resolved(60), answers=2, seed=0)
    truth = np.where(np.arange(60) < 6, 1 - made["y_val"], made["y_val"])
    np.savez(tmp_path / "val.npz", features=made["X_val"], split=np.repeat("test", 60), **{"class": truth})
    import_features(tmp_path / "val.npz", tmp_path / "val.store")
    assert evaluate(out, tmp_path / "val.store", "test").overall == pytest.approx(0.9)


def test_what_could_not_be_used_again_is_refused(
    folder: Path, tmp_path: Path, made: Callable[..., Any]
) -> None:
    pictures = open_dataset(folder)
    with pytest.raises(RequestError, match=r"leave out --head, or name .* --backbone patches"):
        check_head(tmp_path / "head.safetensors", pictures, None)
    check_head(tmp_path / "head.safetensors", pictures, Extraction("patches"))
    with pytest.raises(RequestError, match=r"has to end in \.safetensors"):
        check_head(tmp_path / "head.bin", pictures, Extraction("patches"))
    opened: Dataset = open_dataset(write(tmp_path / "points", points()))
    with pytest.raises(HeadwaterError, match="nothing was answered"):
        write_head(tmp_path / "h.safetensors", opened, None, resolved(60, None), answers=0, seed=0)
    assert not (tmp_path / "h.safetensors").exists()
