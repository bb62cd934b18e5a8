"""A data set's images through the extraction room: in order, once, and only where they are images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headwater.ambiguity import Dataset, open_dataset
from headwater.ambiguity.features import Extraction, ProblemImages, extract
from headwater.errors import RequestError
from headwater.heads.ambiguity.problem import Problem

CPU = torch.device("cpu")


def test_features_come_in_the_problem_s_order_and_are_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dataset = open_dataset(folder)
    told: list[tuple[int, int]] = []
    found = extract(
        dataset, Extraction("pixels"), CPU, lambda now: told.append((now.rows_done, now.rows_total))
    )
    assert found.shape == (120, 3072)
    assert told[-1] == (120, 120)
    (kept,) = (tmp_path / "cache" / "headwater" / "ambiguity").iterdir()
    assert kept.name == f"{dataset.content[:16]}-pixels.store"
    whole = np.concatenate([dataset.problem.labeled, dataset.problem.unlabeled, dataset.problem.target])
    means = whole.mean(axis=(1, 2, 3))
    assert np.corrcoef(found.mean(axis=1), means)[0, 1] > 0.99
    told.clear()
    again = extract(dataset, Extraction("pixels"), CPU, lambda now: told.append((1, 1)))
    np.testing.assert_array_equal(again, found)
    assert not told  # nothing was left to do
    elsewhere = Extraction("pixels", store=tmp_path / "mine.store")
    np.testing.assert_array_equal(extract(dataset, elsewhere, CPU), found)


def test_weights_of_one_name_and_other_values_have_a_store_of_their_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def stop(source: object, place: Path, **rest: object) -> None:
        asked.append(place)
        raise RequestError("seen")

    monkeypatch.setattr("headwater.extract.extract_features", stop)
    dataset = open_dataset(folder)
    for number in (0, 1, 0):
        weights = tmp_path / str(number) / "mine.pth"
        weights.parent.mkdir(exist_ok=True)
        weights.write_bytes(bytes([number]))
        with pytest.raises(RequestError, match="seen"):
            extract(dataset, Extraction("resnet18", str(weights)), CPU)
    assert asked[0] == asked[2] != asked[1]


def test_vectors_take_no_backbone(tmp_path: Path, made: Callable[..., dict[str, NDArray[Any]]]) -> None:
    for name, array in made().items():
        flat = array.reshape(len(array), -1) if name.startswith("X") else array
        np.save(tmp_path / f"{name}.npy", flat)
    with pytest.raises(RequestError, match="are vectors, which no backbone takes"):
        extract(open_dataset(tmp_path), Extraction("pixels"), CPU)


def test_all_images_become_bytes_by_one_rule() -> None:
    images = np.linspace(0, 2, 3 * 2 * 3 * 4 * 5, dtype=np.float32).reshape(3, 2, 3, 4, 5)
    problem = Problem(images[0], np.array([0, 1]), images[1], images[2], (0, 1))
    source = ProblemImages(
        Dataset(Path("sums"), problem, "ab" * 32, np.arange(2), 2, picture=lambda row: None)
    )
    assert source.keys == ["labeled/0", "labeled/1", "unlabeled/0", "unlabeled/1", "target/0", "target/1"]
    expected = np.rint(images.reshape(6, 3, 4, 5).transpose(0, 2, 3, 1) * 127.5)
    np.testing.assert_allclose(np.stack([source.load(row) for row in range(6)]), expected, atol=1)
    assert source.load(0).dtype == np.uint8
