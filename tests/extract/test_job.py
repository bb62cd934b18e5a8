"""Whole jobs: right features at right keys, failed rows, errors, interrupts, full disks, what is reported."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from headwater.errors import HeadwaterError, RequestError
from headwater.extract import (
    Backbone,
    Preprocessing,
    extract_features,
    register_backbone,
    unregister_backbone,
)
from headwater.extract.transform import view_seed
from headwater.store import StoreWriter, open_store

from .tiny import BROKEN, TINY, by_hand, run, stop


def test_every_key_has_its_own_features_around_broken_files(images: Path, tmp_path: Path) -> None:
    report = run(images, tmp_path / "s", rows_per_shard=5, dtype="float32")
    store = open_store(tmp_path / "s")
    keys = store.keys.tolist()
    assert sorted(keys) == sorted(str(p.relative_to(images)) for p in images.rglob("*.png"))
    assert {key for key, _ in report.failed} == BROKEN == {keys[row] for row, _ in store.errors}
    reasons = dict(report.failed)
    assert "empty" in reasons["dog/02.png"]
    assert "folder" in reasons["cat/07.png"]
    assert store.ok.tolist() == [key not in BROKEN for key in keys]
    for row, key in enumerate(keys):
        if key in BROKEN:
            assert not store.features[row : row + 1].any()
            assert store.sizes[row].tolist() == [0, 0]
        else:
            np.testing.assert_allclose(store.features[row], by_hand(images / key), rtol=1e-4, atol=1e-5)
            assert tuple(store.sizes[row]) == Image.open(images / key).size


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_the_batch_size_and_the_shards_do_not_move_rows(images: Path, tmp_path: Path, batch: int) -> None:
    run(images, tmp_path / "a", dtype="float32")
    run(images, tmp_path / "b", dtype="float32", batch_size=batch, rows_per_shard=4, workers=3)
    a, b = open_store(tmp_path / "a"), open_store(tmp_path / "b")
    assert a.keys.tolist() == b.keys.tolist()
    assert a.fingerprint == b.fingerprint
    np.testing.assert_allclose(np.asarray(a.features), np.asarray(b.features), rtol=1e-5, atol=1e-6)


def test_views_are_the_networks_answer_to_the_augmented_pictures(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "s", views=2, dtype="float32", rows_per_shard=6)
    run(images, tmp_path / "plain", dtype="float32")
    store = open_store(tmp_path / "s")
    np.testing.assert_allclose(
        np.asarray(store.features), np.asarray(open_store(tmp_path / "plain").features), rtol=1e-5, atol=1e-6
    )
    key = "dog/04.png"
    row = int(store.rows_of([key])[0])
    picture = np.asarray(Image.open(images / key).convert("RGB"))
    for view in (1, 2):
        crop = TINY.preprocessing.augment(picture, view_seed(key, view))
        Image.fromarray(crop).save(tmp_path / "crop.png")
        np.testing.assert_allclose(
            store.augmented(view)[row], by_hand(tmp_path / "crop.png"), rtol=1e-4, atol=1e-5
        )
    assert not np.allclose(store.augmented(1)[row], store.augmented(2)[row])


def test_an_interrupt_ends_every_thread_and_keeps_whole_shards(images: Path, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "s", rows_per_shard=4, progress=stop)
    assert set(threading.enumerate()) <= before
    assert open_store(tmp_path / "s", unfinished=True).missing_shards
    assert not run(images, tmp_path / "s", rows_per_shard=4).already_done


def test_a_second_job_on_the_same_store_names_the_holder(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "s")
    store = open_store(tmp_path / "s")
    with (
        StoreWriter(tmp_path / "s", store.plan, store.keys.tolist()),
        pytest.raises(HeadwaterError) as caught,
    ):
        run(images, tmp_path / "s")
    assert f"process {os.getpid()}" in str(caught.value)
    assert caught.value.exit_code == 1


def test_all_rows_failed_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / f"images/{number}.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(HeadwaterError, match="none of the 3 images"):
        run(tmp_path / "images", tmp_path / "s")


def test_features_too_large_for_float16_fail_their_row_only(tmp_path: Path) -> None:
    class Loud(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) * 200_000

    loud = Backbone(
        "loud", Loud, Preprocessing(resize=4, crop=4, mean=(0, 0, 0), std=(1, 1, 1)), dim=3, layer=None
    )
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8), "white").save(tmp_path / "images/loud.png")
    Image.new("RGB", (8, 8), (25, 25, 25)).save(tmp_path / "images/quiet.png")
    report = extract_features(tmp_path / "images", tmp_path / "s", backbone=loud)
    assert report.failed == [("loud.png", "a feature is too large for float16 or not a number")]
    store = open_store(tmp_path / "s")
    np.testing.assert_allclose(
        store.features[int(store.rows_of(["quiet.png"])[0])], 200_000 * 25 / 255, rtol=1e-3
    )
    assert extract_features(tmp_path / "images", tmp_path / "t", backbone=loud, dtype="float32").failed == []
    (tmp_path / "images/quiet.png").unlink()
    with pytest.raises(HeadwaterError, match=r"none of the 1 images has features.*--dtype float32"):
        extract_features(tmp_path / "images", tmp_path / "u", backbone=loud)


FULL = """
import resource, sys
from headwater.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
main()
"""


def test_a_full_disk_is_one_sentence_and_the_job_goes_on_when_there_is_room(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(24):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(images / f"{number:02d}.png")
    command = [
        "extract",
        str(images),
        "--out",
        str(tmp_path / "s"),
        "--backbone",
        "pixels",
        "--rows-per-shard",
        "8",
    ]
    limited = subprocess.run(
        [sys.executable, "-c", FULL, "30000", *command],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert limited.returncode == 1, limited.stderr
    errors = [line for line in limited.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, limited.stderr
    assert "Traceback" not in limited.stderr
    assert "file size limit" in errors[0]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    report = extract_features(images, tmp_path / "s", backbone="pixels", rows_per_shard=8)
    assert not report.already_done
    store = open_store(tmp_path / "s")
    reds = np.asarray(store.features)[:, :1024].mean(1) * 255
    np.testing.assert_allclose(reds, np.arange(24), atol=0.02)


def test_a_target_that_cannot_be_written_is_one_sentence(images: Path) -> None:
    with pytest.raises(HeadwaterError) as caught:
        run(images, Path("/proc/headwater.store"))
    assert "/proc" in str(caught.value)


def test_an_error_in_any_stage_ends_the_job_at_once(images: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from headwater.extract import pipeline

    before = set(threading.enumerate())
    cases: list[tuple[Any, str]] = [
        (pipeline, "decode"),
        (Preprocessing, "apply"),
        (StoreWriter, "write"),
        (pipeline.Pipeline, "_places"),
    ]
    for number, (owner, name) in enumerate(cases):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _explode)
            with pytest.raises(ZeroDivisionError):
                run(images, tmp_path / f"s{number}", rows_per_shard=2)
        assert set(threading.enumerate()) <= before


def _explode(*_: object, **__: object) -> None:
    raise ZeroDivisionError


def test_the_run_record_tells_how_it_was(images: Path, tmp_path: Path) -> None:
    report = run(images, tmp_path / "s")
    (record,) = open_store(tmp_path / "s").runs
    assert json.loads(json.dumps(record)) == record
    assert record["rows"] == 11
    assert record["device"] == "cpu"
    assert record["engine"] == "eager"
    assert record["precision"] == "float32" or "bf16" in record["machine"]["instruction_sets"]
    assert set(record["rates"]) == {"source", "decode", "backbone", "writer"} == set(report.rates)
    assert all(rate > 0 for rate in record["rates"].values())
    assert record["slowest"] == min(record["rates"], key=record["rates"].get) == report.slowest
    assert 0 < record["seconds"] <= report.seconds
    assert record["machine"]["versions"]["torch"] == torch.__version__


def test_progress_ends_at_the_total_and_names_the_slowest_stage(images: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    run(images, tmp_path / "s", rows_per_shard=4, progress=seen.append)
    assert seen[-1].rows_done == seen[-1].rows_total == 11
    assert seen[-1].slowest in seen[-1].rates
    assert [p.rows_done for p in seen] == sorted(p.rows_done for p in seen)


def test_a_registered_backbone_works_by_name_and_names_cannot_be_taken_twice(
    images: Path, tmp_path: Path
) -> None:
    register_backbone(TINY)
    try:
        run(images, tmp_path / "s", backbone="tiny")
        for taken in ("tiny", "resnet50", "pixels"):
            with pytest.raises(RequestError, match="already"):
                register_backbone(lambda: TINY, name=taken)
    finally:
        unregister_backbone("tiny")


@pytest.mark.parametrize(
    "wrong",
    [
        {"views": -1},
        {"batch_size": 0},
        {"workers": 0},
        {"rows_per_shard": 0},
        {"dtype": "float64"},
        {"precision": "int8"},
        {"compile": "maybe"},
        {"device": "tpu"},
        {"device": "cuda:99"},
    ],
)
def test_a_wrong_setting_is_a_wrong_request(images: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        run(images, tmp_path / "s", **wrong)
    assert str(next(iter(wrong.values()))) in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_interrupting_the_command_stops_it_within_seconds(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(8_000):
        (images / f"{number:05d}.png").symlink_to(tmp_path / "one.png")
    Image.new("RGB", (400, 400)).save(tmp_path / "one.png")
    command = [sys.executable, "-m", "headwater", "extract", str(images), "--out", str(tmp_path / "s")]
    process = subprocess.Popen([*command, "--backbone", "pixels"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()  # the first line of progress: it is at work
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "stopped by the user" in errors
    assert "Traceback" not in errors


def test_a_backbone_of_another_width_than_it_says_is_refused_before_a_store_is_begun(
    images: Path, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="'tiny' says dim=5, but its features have 32 numbers"):
        run(images, tmp_path / "s", backbone=replace(TINY, dim=5))
    assert not (tmp_path / "s").exists()
