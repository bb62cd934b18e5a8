"""Arrays of images: their shapes, their value ranges, their labels, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.extract import extract_features
from headwater.extract.decode import decode
from headwater.extract.rows import ReadError
from headwater.extract.sources import Source, open_source

from .pictures import smooth

GREY = np.stack([smooth(9, 14)[..., k] for k in range(3)] * 2)  # (6, 9, 14)
COLOUR = np.stack([smooth(9, 14), 255 - smooth(9, 14)])  # (2, 9, 14, 3)


def opened(tmp_path: Path, array: NDArray[np.generic]) -> Source:
    np.save(tmp_path / "x.npy", array)
    return open_source(tmp_path / "x.npy")


def rgb(source: Source) -> NDArray[np.uint8]:
    return np.stack([decode(source.load(row)).pixels for row in range(len(source.keys))])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (GREY, np.repeat(GREY[..., None], 3, -1)),
        (GREY[:, None], np.repeat(GREY[..., None], 3, -1)),
        (GREY[..., None], np.repeat(GREY[..., None], 3, -1)),
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR),
        (np.asfortranarray(COLOUR), COLOUR),
        (COLOUR.astype(np.int64), COLOUR),
        (COLOUR.astype(np.uint16), COLOUR),
        (COLOUR > 100, (COLOUR > 100) * 255),
        (np.concatenate([COLOUR, np.full((2, 9, 14, 1), 255, np.uint8)], -1), COLOUR),
        (np.concatenate([COLOUR, np.zeros((2, 9, 14, 1), np.uint8)], -1), np.full_like(COLOUR, 255)),
    ],
)
def test_shapes_and_types(tmp_path: Path, array: NDArray[np.generic], expected: NDArray[np.generic]) -> None:
    source = opened(tmp_path, array)
    assert list(source.keys) == [str(row) for row in range(len(array))]
    np.testing.assert_array_equal(rgb(source), expected)


def test_a_range_that_is_stretched_is_named(tmp_path: Path) -> None:
    source = opened(tmp_path, COLOUR.astype(float) / 255 * 4 - 1)
    np.testing.assert_array_equal(rgb(source), COLOUR)
    assert source.name.endswith("x.npy (values from -1 to 3 stretched to 0..255)")
    for known in (COLOUR / 255, COLOUR.astype(float)):
        source = opened(tmp_path, known)
        np.testing.assert_array_equal(rgb(source), COLOUR)
        assert source.name.endswith("x.npy")


def test_rows_with_nan_fail_alone_and_do_not_stretch_the_range(tmp_path: Path) -> None:
    values = np.repeat(COLOUR / 255, 2, axis=0)
    values[1, 3, 4, 0] = np.nan
    values[3] = np.inf
    values[3, 0, 0, 0] = 1e9
    source = opened(tmp_path, values)
    for row in (0, 2):
        np.testing.assert_array_equal(decode(source.load(row)).pixels, COLOUR[row // 2])
    for row in (1, 3):
        with pytest.raises(ReadError, match="not finite"):
            source.load(row)


def test_npy_is_mapped_not_read(tmp_path: Path) -> None:
    with (tmp_path / "big.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (1_000_000, 200, 200)}
        )
        file.truncate(file.tell() + 1_000_000 * 200 * 200)  # 40 GB of holes
    source = open_source(tmp_path / "big.npy")
    assert len(source.keys) == 1_000_000
    assert (source.load(999_999) == 0).all()  # type: ignore[union-attr]


def test_an_array_in_memory() -> None:
    source = open_source(COLOUR)
    np.testing.assert_array_equal(rgb(source), COLOUR)


def test_npz_with_labels(tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "x.npz",
        images=COLOUR,
        labels=np.array([3, 1], np.uint8),
        is_train=np.array([True, False]),
        names=np.array(["a\u00e9", ""]),
        raw=np.array([b"x", b"\xff"]),
        weight=np.array([0.5, np.nan], np.float32),
        classes=np.array(["cat", "dog", "cow"]),
        version=np.array(3),
        table=np.zeros((2, 2)),
    )
    source = open_source(tmp_path / "x.npz")
    np.testing.assert_array_equal(rgb(source), COLOUR)
    annotations = dict(source.annotations)
    weight = annotations.pop("weight")
    assert (weight[0], weight[1] != weight[1]) == (0.5, True)
    assert annotations == {
        "labels": [3, 1],
        "is_train": [1, 0],
        "names": ["a\u00e9", ""],
        "raw": ["x", "\\xff"],
    }


def test_npz_images_are_found_when_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", anything=GREY, y=np.arange(6))
    source = open_source(tmp_path / "x.npz")
    assert len(source.keys) == 6
    assert source.annotations == {"y": [0, 1, 2, 3, 4, 5]}


def test_npz_with_several_images_takes_the_known_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", masks=GREY, X=255 - GREY)
    np.testing.assert_array_equal(rgb(open_source(tmp_path / "x.npz"))[..., 0], 255 - GREY)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.zeros((5, 9))}, r"x\.npz. has no array of images.*store import"),
        ({"images": np.zeros((5, 7, 9, 2))}, r"x\.npz, images of shape .* neither first nor last"),
        ({"images": np.full((2, 5, 5), -1, np.int32)}, r"x\.npz, images holds int32 from -1"),
        ({"images": GREY, "labels": np.array([None] * 6, object)}, "pickled Python objects"),
    ],
)
def test_a_refusal_names_the_file(
    tmp_path: Path, arrays: dict[str, NDArray[np.generic]], message: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(RequestError, match=message) as caught:
        open_source(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)


def test_npz_labels_of_another_length_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=GREY, labels=np.arange(5), table=np.zeros((2, 2)))
    told = ("left out the array labels, with 5 values for 6 images",)
    assert extract_features(path, tmp_path / "s", backbone="pixels").notes == told
    assert extract_features(path, tmp_path / "s", backbone="pixels").notes == told
