"""Asking for a job again: it is done already, goes on, is refused, or gets back what was deleted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from headwater.errors import HeadwaterError, RequestError
from headwater.extract import (
    Preprocessing,
    extract_features,
)
from headwater.extract.augmentation import PaddedCrop
from headwater.store import annotate, drop_annotations, open_store

from .tiny import BROKEN, SIZE, build, by_hand, run, stop


def test_the_same_job_again_does_nothing_and_says_so(images: Path, tmp_path: Path) -> None:
    first = run(images, tmp_path / "s")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "s").glob("*.h5")}
    again = run(images, tmp_path / "s")
    assert not first.already_done
    assert again.already_done
    assert again.failed == first.failed
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "s").glob("*.h5")} == before
    assert len(open_store(tmp_path / "s").runs) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dtype": "float32"}, "dtype: float16 → float32"),
        ({"views": 1}, "views: 0 → 1"),
        ({"precision": "bfloat16"}, "compute: float32 → bfloat16"),
        ({"preprocessing": Preprocessing(resize=SIZE + 8, crop=SIZE)}, "preprocessing.resize: 24 → 32"),
        ({"backbone": "pixels", "weights": None}, "backbone: tiny → pixels"),
    ],
)
def test_another_recipe_in_the_same_place_is_refused_by_what_differs(
    images: Path, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    run(images, tmp_path / "s")
    with pytest.raises(RequestError) as caught:
        run(images, tmp_path / "s", **change)
    assert named in str(caught.value)


def test_how_views_are_drawn_counts_where_there_are_any(images: Path, tmp_path: Path) -> None:
    padded = Preprocessing(resize=SIZE, crop=SIZE, augmentation=PaddedCrop(2))
    run(images, tmp_path / "views", views=1)
    with pytest.raises(RequestError, match=r"augmentation\.name: random resized crop .* → padded crop"):
        run(images, tmp_path / "views", views=1, preprocessing=padded)
    run(images, tmp_path / "plain")
    assert run(images, tmp_path / "plain", preprocessing=padded).already_done
    contest = run(images, tmp_path / "named", preprocessing="inat-contest")
    assert open_store(contest.store).plan.recipe["preprocessing"]["mean"] == [0.4556, 0.4714, 0.37]


def test_other_weights_are_refused(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "s")
    torch.manual_seed(99)
    torch.save(build().state_dict(), tmp_path / "other.pth")
    with pytest.raises(RequestError, match="weights_sha256"):
        run(images, tmp_path / "s", weights=tmp_path / "other.pth")


def test_the_same_weights_from_a_file_are_the_same_job(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "s")
    torch.manual_seed(0)
    torch.save(
        {"model_state_dict": {f"module.{k}": v for k, v in build().state_dict().items()}}, tmp_path / "w.pth"
    )
    assert run(images, tmp_path / "s", weights=tmp_path / "w.pth").already_done


def test_strict_fails_and_names_files_and_the_job_can_go_on_once_they_are_mended(
    images: Path, tmp_path: Path
) -> None:
    with pytest.raises(HeadwaterError, match=r"^at least \S+ images? could not be read") as caught:
        run(images, tmp_path / "s", strict=True, rows_per_shard=4)
    assert any(key in str(caught.value) for key in BROKEN)
    with pytest.raises(HeadwaterError, match="not finished"):
        open_store(tmp_path / "s")
    (images / "cat/07.png").rmdir()
    for key in BROKEN:
        Image.new("RGB", (30, 30), "red").save(images / key)
    assert run(images, tmp_path / "s", strict=True, rows_per_shard=4).failed == []


def test_strict_on_a_finished_store_with_failed_rows_fails(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "s")
    with pytest.raises(HeadwaterError, match="3 images could not be read"):
        run(images, tmp_path / "s", strict=True)


def test_a_file_that_vanished_before_resuming_is_a_failed_row(images: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "s", rows_per_shard=4, progress=stop)
    (images / "dog/10.png").unlink()
    report = run(images, tmp_path / "s", rows_per_shard=4)
    assert dict(report.failed)["dog/10.png"] == "it has vanished since the job was planned"
    store = open_store(tmp_path / "s")
    row = int(store.rows_of(["dog/08.png"])[0])
    np.testing.assert_allclose(store.features[row], by_hand(images / "dog/08.png"), rtol=2e-3, atol=1e-3)


def test_annotations_of_the_source_are_there_and_a_users_own_are_kept(images: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "s", rows_per_shard=4, progress=stop)
    keys = open_store(tmp_path / "s", unfinished=True).keys.tolist()
    annotate(tmp_path / "s", {"path": keys, "class": ["mine"] * len(keys)})
    run(images, tmp_path / "s", rows_per_shard=4)
    assert open_store(tmp_path / "s").annotations["class"].categories == ("mine",)

    run(images, tmp_path / "t")
    column = open_store(tmp_path / "t").annotations["class"]
    assert [column.categories[code] for code in column.values] == [key.split("/")[0] for key in keys]
    drop_annotations(tmp_path / "t", ["class"])
    run(images, tmp_path / "t")
    assert "class" not in open_store(tmp_path / "t").annotations.names


def test_annotations_that_were_deleted_come_back_and_the_report_says_so(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "s")
    before = open_store(tmp_path / "s").annotations["class"].texts()
    (tmp_path / "s/annotations.h5").unlink()
    again = run(images, tmp_path / "s")
    assert again.already_done
    assert again.notes == ("the annotations were gone; added the source's columns again: class",)
    assert open_store(tmp_path / "s").annotations["class"].texts() == before
    assert run(images, tmp_path / "s").notes == ()


def test_a_data_set_without_labels_is_not_read_again_for_columns_that_it_never_had(tmp_path: Path) -> None:
    class Pictures:
        reads = 0

        def __len__(self) -> int:
            return 3

        def __getitem__(self, row: int) -> np.ndarray:
            self.reads += 1
            return np.full((8, 8, 3), row, np.uint8)

    extract_features(Pictures(), tmp_path / "s", backbone="pixels")
    again = Pictures()
    assert extract_features(again, tmp_path / "s", backbone="pixels").already_done
    assert again.reads == 0


def test_an_index_that_was_deleted_is_made_again(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "s")
    index = (tmp_path / "s/index.h5").read_bytes()
    (tmp_path / "s/index.h5").unlink()
    run(images, tmp_path / "s")
    assert (tmp_path / "s/index.h5").read_bytes() == index
    assert run(images, tmp_path / "s").already_done


@pytest.mark.parametrize("lost", ["index.h5", "shard-00001.h5"])
def test_columns_that_were_dropped_stay_away_when_a_lost_file_is_made_again(
    images: Path, tmp_path: Path, lost: str
) -> None:
    run(images, tmp_path / "s", rows_per_shard=4)
    drop_annotations(tmp_path / "s", ["class"])
    (tmp_path / "s" / lost).unlink()
    assert not run(images, tmp_path / "s", rows_per_shard=4).already_done
    assert "class" not in open_store(tmp_path / "s").annotations.names
    (tmp_path / "s" / lost).unlink()
    (tmp_path / "s/annotations.h5").unlink()
    run(images, tmp_path / "s", rows_per_shard=4)
    assert "class" in open_store(tmp_path / "s").annotations.names


def test_a_finished_store_on_a_read_only_disk_can_be_asked_for_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's answer is put in its place, since no permission holds for the superuser."""
    first = run(images, tmp_path / "s")
    store = tmp_path / "s"
    answer = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != store and answer(path, mode))
    there = {file: file.stat().st_mtime_ns for file in (store, *store.iterdir())}
    again = run(images, store)
    assert again.already_done
    assert again.failed == first.failed
    assert {file: file.stat().st_mtime_ns for file in (store, *store.iterdir())} == there
    with pytest.raises(RequestError, match="dtype: float16 → float32"):
        run(images, store, dtype="float32")
    Image.new("RGB", (30, 30)).save(images / "new.png")
    with pytest.raises(RequestError, match=r"planned without 1 of the rows now given: 'new\.png'"):
        run(images, store)


def test_columns_of_a_manifest_that_changed_since_are_named_and_not_taken(
    images: Path, tmp_path: Path
) -> None:
    manifest = images / "list.csv"
    manifest.write_text("path,label,size\ndog/00.png,a,1\ncat/01.png,b,2\n")
    assert run(manifest, tmp_path / "s").notes == ()
    assert run(manifest, tmp_path / "s").notes == ()
    manifest.write_text("path,label,size\ncat/01.png,b,2\ndog/00.png,b,1\n")
    (note,) = run(manifest, tmp_path / "s").notes
    assert "column label differs from the store's" in note
    assert "--replace" in note
    assert open_store(tmp_path / "s").annotations["label"].texts() == ["a", "b"]
