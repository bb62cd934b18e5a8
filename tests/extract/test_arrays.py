"""Arrays of images: their shapes, their value ranges, their labels, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.extract import extract_features
from headwater.extract.arrays import ArraySource
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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_in_0_to_1(tmp_path: Path, dtype: str) -> None:
    source = opened(tmp_path, (COLOUR / 255).astype(dtype))
    assert np.abs(rgb(source).astype(int) - COLOUR).max() <= (0 if dtype != np.float16 else 1)
    assert "stretched" not in source.name


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_0_to_255(tmp_path: Path, dtype: str) -> None:
    np.testing.assert_array_equal(rgb(opened(tmp_path, COLOUR.astype(dtype))), COLOUR)


def test_one_rule_holds_for_the_whole_array(tmp_path: Path) -> None:
    """A dark image among bright ones must stay dark: images decided one by one would both be white."""
    images = np.stack([np.full((5, 6), 1.0), np.full((5, 6), 255.0)])
    assert rgb(opened(tmp_path, images))[:, 0, 0, 0].tolist() == [1, 255]


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 2.0), (0.0, 16.0), (3.0, 99.0), (-0.1, 2.1), (-1.0, 1.0), (-3e4, 7e5), (0.0, 300.0)],
)
def test_any_other_range_is_stretched_and_nothing_clipped(tmp_path: Path, low: float, high: float) -> None:
    values = low + (high - low) * COLOUR.astype(float) / 255
    source = opened(tmp_path, values)
    np.testing.assert_array_equal(rgb(source), COLOUR)
    assert f"values from {values.min():g} to {values.max():g} stretched to 0..255" in source.name


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


def test_a_constant_array_outside_all_ranges(tmp_path: Path) -> None:
    assert (rgb(opened(tmp_path, np.full((2, 5, 6), -7.0))) == 0).all()


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


@pytest.mark.parametrize("name", ["X", "x", "data", "Images", "anything"])
def test_npz_images_under_any_name_when_alone(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "x.npz", **{name: GREY, "y": np.arange(6)})
    source = open_source(tmp_path / "x.npz")
    assert len(source.keys) == 6
    assert source.annotations == {"y": [0, 1, 2, 3, 4, 5]}


def test_npz_with_several_images_takes_the_known_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", masks=GREY, X=255 - GREY)
    np.testing.assert_array_equal(rgb(open_source(tmp_path / "x.npz"))[..., 0], 255 - GREY)


def saved(path: Path, **arrays: NDArray[np.generic]) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"left": GREY, "right": GREY},
            r"does not say which array holds the images \(left .*, right .*\); name one",
        ),
        ({"features": np.zeros((5, 9))}, r"no array of images.*features \(5, 9\).*store import"),
        ({"images": np.array([None, "x"], object)}, "pickled Python objects"),
        ({"images": GREY, "labels": np.array(["a", 1, 2, 3, 4, 5], object)}, "pickled Python objects"),
        ({}, "it holds nothing"),
    ],
)
def test_npz_that_is_refused(tmp_path: Path, arrays: dict[str, NDArray[np.generic]], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_source(saved(tmp_path / "x.npz", **arrays))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 9)), r"of shape \(5, 9\) is a table, not images.*store import"),
        (np.zeros(5), "is not images"),
        (np.zeros((2, 2, 2, 2, 2)), "is not images"),
        (np.zeros((0, 5, 5)), "holds no images"),
        (np.zeros((5, 0, 5)), "holds no images"),
        (np.zeros((20, 30, 3), np.uint8), r"one single image, not many; give it a first axis"),
        (np.zeros((5, 7, 9, 2)), "neither first nor last"),
        (np.zeros((5, 3, 9, 3)), "first or last"),
        (np.full((2, 5, 5), 300, np.uint16), "uint16 from 300 to 300, which no rule maps"),
        (np.full((2, 5, 5), -1, np.int32), "int32 from -1"),
        (np.full((2, 5, 5), np.nan), "no image without NaN"),
        (np.full((2, 5, 5), 1j), "complex128, not numbers"),
        (np.full((2, 5, 5), "a"), "not numbers"),
        (np.full((2, 5, 5), None), "pickled Python objects"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, array: NDArray[np.generic], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        opened(tmp_path, array)
    assert "\n" not in str(caught.value)


def test_a_malicious_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)  # type: ignore[return-value]

    import pickle

    (tmp_path / "x.npy").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(RequestError, match="pickled Python objects"):
        open_source(tmp_path / "x.npy")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_files_cut_short_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, np.zeros((50, 20, 20)))
    else:
        np.savez(path, images=np.random.default_rng(0).random((50, 20, 20)))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(RequestError, match=r"cannot be read as a NumPy file|pickled"):
        open_source(path)


def test_an_npz_of_other_files_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", images=GREY)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(RequestError, match=r"holds 'readme\.txt', which is no array; save it again"):
        open_source(path)


def test_flipped_bytes_in_an_npz_are_found(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", images=np.zeros((50, 20, 20), np.uint8))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(RequestError, match="cannot be read as a NumPy file"):
        open_source(path)


def test_the_range_is_found_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.pixels._BLOCK_BYTES", 1)
    images = np.zeros((7, 3, 5))
    images[6] = 255
    source = ArraySource(images, name="x")
    assert source.load(6).max() == 255
    images[2, 0, 0] = -255
    assert ArraySource(images, name="x").load(0).max() == 128


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_file_of_something_else_is_not_taken_for_a_pickle(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"x.{suffix}").write_bytes(b"just some text\n")
    with pytest.raises(RequestError, match="does not begin like one"):
        open_source(tmp_path / f"x.{suffix}")


def test_npz_labels_of_another_length_are_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", images=GREY, labels=np.arange(5), table=np.zeros((2, 2)))
    told = ("left out the array labels, with 5 values for 6 images",)
    assert extract_features(path, tmp_path / "s", backbone="pixels").notes == told
    assert extract_features(path, tmp_path / "s", backbone="pixels").notes == told


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.parquet"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal is put in place of the opening, since no permission holds for the superuser."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("pyarrow.parquet.read_table", refuse)
    with pytest.raises(RequestError, match=r"may not be read; check its permissions"):
        open_source(tmp_path / name)
