"""Map-style data sets: torch's, torchvision's and plain objects; and what `open_source` makes of anything."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import Normalize, ToTensor

from headwater.errors import RequestError
from headwater.extract.arrays import ArraySource
from headwater.extract.datasets import DatasetSource
from headwater.extract.decode import decode
from headwater.extract.rows import ReadError
from headwater.extract.sources import Source, open_source

from .pictures import encode, exif, smooth

PICTURE = smooth(9, 14)


class Items(Dataset[Any]):
    """A data set of given items that counts how often each is loaded."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        self.items = items
        self.loaded: list[int] = []
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        self.loaded.append(index)
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


def pixels(source: Source, row: int) -> np.ndarray[Any, Any]:
    return decode(source.load(row)).pixels


FLOAT = torch.from_numpy(PICTURE).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(PICTURE), PICTURE),
        (Image.fromarray(PICTURE[..., 0]), np.repeat(PICTURE[..., :1], 3, -1)),
        (Image.fromarray(np.dstack([PICTURE, np.zeros((9, 14), np.uint8)])), np.full_like(PICTURE, 255)),
        (PICTURE, PICTURE),
        (PICTURE[..., 0], np.repeat(PICTURE[..., :1], 3, -1)),
        (PICTURE.transpose(2, 0, 1), PICTURE),
        (torch.from_numpy(PICTURE).permute(2, 0, 1), PICTURE),
        (torch.from_numpy(PICTURE), PICTURE),
        (FLOAT, PICTURE),
        (FLOAT[:1], np.repeat(PICTURE[..., :1], 3, -1)),
        (FLOAT[0], np.repeat(PICTURE[..., :1], 3, -1)),
        (FLOAT.double().numpy(), PICTURE),
        (FLOAT.requires_grad_(), PICTURE),
        (
            torch.from_numpy(PICTURE[:3]).permute(2, 0, 1),
            PICTURE[:3],
        ),  # three rows high: still channels first
        ((Image.fromarray(PICTURE), 1, "more"), PICTURE),
        ([PICTURE, 1], PICTURE),
    ],
)
def test_items(image: Any, expected: np.ndarray[Any, Any]) -> None:
    source = open_source(Items([image, image]))
    assert list(source.keys) == ["0", "1"]
    np.testing.assert_array_equal(pixels(source, 1), expected)


def test_an_opened_file_is_taken_as_the_data_set_gives_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(PICTURE, "PNG", exif=exif(6)))
    np.testing.assert_array_equal(pixels(open_source(Items([Image.open(tmp_path / "a.png")])), 0), PICTURE)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (ValueError("truncated\nrecord 7"), "the data set raised ValueError: truncated record 7"),
        (None, "NoneType, not an image"),
        ({"image": PICTURE}, "dict, not an image"),
        ((), "NoneType, not an image"),
        (Normalize([0.5] * 3, [0.2] * 3)(FLOAT.detach()), r"not within \[0, 1\]; leave normalisation out"),
        (FLOAT.detach() * float("nan"), "floats run from nan to nan"),
        (torch.zeros(3, 9, 14, dtype=torch.int64), "int64; give uint8, or floats"),
    ],
)
def test_items_that_fail_are_rows_with_a_reason(item: Any, reason: str) -> None:
    source = open_source(Items([PICTURE, item]))
    np.testing.assert_array_equal(pixels(source, 0), PICTURE)
    with pytest.raises(ReadError, match=reason):
        source.load(1)


def annotations(items: list[Any], **attributes: Any) -> dict[str, Any]:
    return dict(open_source(Items(items, **attributes)).annotations)


def test_labels() -> None:
    assert annotations([PICTURE, PICTURE]) == {}
    assert annotations([(PICTURE, 3), (PICTURE, 1)]) == {"target": [3, 1]}
    assert annotations([(PICTURE, 1), (PICTURE, 0)], classes=["cat", "dog"]) == {"class": ["dog", "cat"]}
    assert annotations([(PICTURE, 2), (PICTURE, 0)], classes=["cat", "dog"]) == {"target": [2, 0]}
    assert annotations([(PICTURE, "dog"), (PICTURE, "cat")]) == {"class": ["dog", "cat"]}
    assert annotations([(PICTURE, torch.tensor(3)), (PICTURE, np.int64(1))]) == {"target": [3, 1]}
    assert annotations([(PICTURE, 0.5), (PICTURE, torch.tensor(1.5))]) == {"target": [0.5, 1.5]}
    assert annotations([(PICTURE, True), (PICTURE, None)]) == {"target": [1, None]}
    assert annotations([(PICTURE, 1), ValueError()]) == {"target": [1, None]}
    assert annotations([(PICTURE, torch.zeros(4)), (PICTURE, torch.zeros(4))]) == {}


def test_labels_met_while_loading_are_not_loaded_again() -> None:
    items = Items([(PICTURE, k) for k in range(5)])
    source = open_source(items)
    for row in (3, 1, 0):
        source.load(row)
    assert source.annotations == {"target": [0, 1, 2, 3, 4]}
    assert sorted(items.loaded) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("attribute", ["targets", "labels"])
def test_labels_that_the_data_set_lists_cost_no_loading(attribute: str) -> None:
    items = Items([(PICTURE, 9)] * 3, classes=["a", "b"], **{attribute: torch.tensor([1, 0, 1])})
    assert open_source(items).annotations == {"class": ["b", "a", "b"]}
    assert open_source(Subset(items, [1, 2])).annotations == {"class": ["a", "b"]}
    assert items.loaded == []


def test_a_target_transform_is_respected() -> None:
    items = Items([(PICTURE, 9)] * 2, targets=[1, 0], target_transform=lambda y: y)
    assert open_source(items).annotations == {"target": [9, 9]}


def test_torchvision_data_sets(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/2.png", "dog/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(PICTURE, "PNG"))
    source = open_source(ImageFolder(tmp_path))
    assert source.annotations == {"class": ["cat", "dog", "dog"]} == open_source(tmp_path).annotations
    np.testing.assert_array_equal(pixels(source, 2), PICTURE)
    tensors = open_source(ImageFolder(tmp_path, transform=ToTensor()))
    np.testing.assert_array_equal(pixels(tensors, 0), PICTURE)
    fake = FakeData(4, (3, 20, 30), 5)
    np.testing.assert_array_equal(pixels(open_source(fake), 1), np.asarray(fake[1][0]))


def test_a_tensor_data_set() -> None:
    source = open_source(TensorDataset(torch.stack([FLOAT.detach()] * 3), torch.arange(3)))
    np.testing.assert_array_equal(pixels(source, 2), PICTURE)
    assert source.annotations == {"target": [0, 1, 2]}


def test_many_threads_load_at_once() -> None:
    items = Items([(np.full((3, 5), k, np.uint8), k) for k in range(200)])
    source = open_source(items)
    wrong: list[int] = []

    def work(first: int) -> None:
        for row in range(first, 200, 4):
            if (source.load(row) != row).any():  # type: ignore[union-attr]
                wrong.append(row)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert source.annotations["target"] == list(range(200))
    assert len(items.loaded) == 200


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([PICTURE])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Stream(), "cannot read images from a Stream"),
        (Items([]), "holds no images"),
        ({"a": PICTURE}, "a mapping is no data set"),
        (None, "cannot read images from a NoneType"),
        (7, "cannot read images from a int"),
        ("nowhere/at/all", "there is no 'nowhere/at/all'"),
        ("two\nlines", r"there is no 'two\\nlines'"),
        ("x" * 5000, "cannot look at"),
        ("nul\0", r"there is no 'nul\\x00'"),
        ("", "an empty name"),
    ],
)
def test_what_is_no_source(source: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        open_source(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["notes.txt", "birds.h5", "noending", "images.rar"])
def test_files_of_another_kind(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(RequestError, match=r"is no source of images: give a folder, a manifest \(\.csv"):
        open_source(tmp_path / name)


def test_a_path_column_is_for_manifests_only(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(PICTURE, "PNG"))
    with pytest.raises(RequestError, match="a path column is for CSV and Parquet manifests"):
        open_source(tmp_path, path_column="path")
    with pytest.raises(RequestError, match="a path column is for CSV and Parquet manifests"):
        open_source(Items([PICTURE]), path_column="path")


def test_a_folder_named_like_a_file_is_a_folder(tmp_path: Path) -> None:
    for name in ("x.csv", "y.npz"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(encode(PICTURE, "PNG"))
        assert list(open_source(tmp_path / name).keys) == ["a.png"]


def test_paths_of_any_type_and_sources_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encode(PICTURE, "PNG"))
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, str(tmp_path), os.fsencode(tmp_path), "."):
        source = open_source(path)
        np.testing.assert_array_equal(pixels(source, 0), PICTURE)
        assert open_source(source) is source
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pixels(source, 0), PICTURE)


def test_arrays_and_tensors_are_taken_as_arrays() -> None:
    stack = np.stack([PICTURE.astype(float) * 2 / 255] * 2)  # [0, 2]: an item alone would be refused
    for source in (open_source(stack), open_source(torch.from_numpy(stack))):
        assert isinstance(source, ArraySource)
        np.testing.assert_array_equal(pixels(source, 1), PICTURE)


def test_every_kind_keeps_the_protocol(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(PICTURE, "PNG"))
    (tmp_path / "m.csv").write_text("path\na.png\n")
    np.save(tmp_path / "x.npy", PICTURE[None])
    for what in (tmp_path, tmp_path / "m.csv", tmp_path / "x.npy", Items([PICTURE])):
        source = open_source(what)
        assert isinstance(source, Source)
        assert len(source.keys) == 1
        assert all(len(column) == 1 for column in source.annotations.values())
        assert isinstance(source.skipped, int)
        assert source.name
    assert isinstance(source, DatasetSource)


def test_a_class_instead_of_a_data_set_is_refused() -> None:
    with pytest.raises(RequestError, match=r"the class Items, not a data set.*Items\(\.\.\.\)"):
        open_source(Items)
