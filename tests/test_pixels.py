"""Arrays of images: where they and their channels are, which values are black and white, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.pixels import channels_last, choose_images, image_bytes, value_range, visible, visible_range

GREY = np.random.default_rng(0).integers(0, 256, (6, 9, 14), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (2, 9, 14, 3), dtype=np.uint8)
COLOUR[0, 0, 0], COLOUR[1, 0, 0] = 0, 255  # so that the whole range occurs


def as_bytes(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    images = channels_last(images, "x")
    ends = value_range(images, "x")
    return np.stack([image_bytes(image, ends) for image in images])


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY, GREY),
        (GREY[:, None], GREY),
        (GREY[..., None], GREY),
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR),
        (np.asfortranarray(COLOUR), COLOUR),
        (COLOUR.astype(np.int64), COLOUR),
        (COLOUR > 100, (COLOUR > 100) * 255),
        (np.concatenate([COLOUR, COLOUR[..., :1]], -1), np.concatenate([COLOUR, COLOUR[..., :1]], -1)),
    ],
)
def test_channels_come_last_and_bytes_stay(
    images: NDArray[np.generic], expected: NDArray[np.generic]
) -> None:
    found = as_bytes(images)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    assert all(image_bytes(image, None).flags.c_contiguous for image in channels_last(images, "x"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_in_0_to_1(dtype: str) -> None:
    found = as_bytes((COLOUR / 255).astype(dtype))
    assert np.abs(found.astype(int) - COLOUR).max() <= (0 if dtype != np.float16 else 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_0_to_255(dtype: str) -> None:
    np.testing.assert_array_equal(as_bytes(COLOUR.astype(dtype)), COLOUR)


def test_one_rule_holds_for_the_whole_array() -> None:
    """A dark image among bright ones must stay dark: images decided one by one would both be white."""
    images = np.stack([np.full((5, 6), 1.0), np.full((5, 6), 255.0)])
    assert as_bytes(images)[:, 0, 0].tolist() == [1, 255]


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 2.0), (0.0, 16.0), (3.0, 99.0), (-0.1, 2.1), (-1.0, 1.0), (-3e4, 7e5), (0.0, 300.0)],
)
def test_any_other_range_is_stretched_and_nothing_clipped(low: float, high: float) -> None:
    np.testing.assert_array_equal(as_bytes(low + (high - low) * COLOUR.astype(float) / 255), COLOUR)


def test_a_constant_array_outside_all_ranges() -> None:
    assert (as_bytes(np.full((2, 5, 6), -7.0)) == 0).all()


def test_images_with_nan_do_not_stretch_the_range_and_are_refused_alone() -> None:
    images = np.repeat(COLOUR / 255, 2, axis=0)
    images[1, 3, 4, 0] = np.nan
    images[3] = np.inf
    images[3, 0, 0, 0] = 1e9
    ends = value_range(images, "x")
    assert ends == (0.0, 1.0)
    for row in (0, 2):
        np.testing.assert_array_equal(image_bytes(images[row], ends), COLOUR[row // 2])
    for row in (1, 3):
        with pytest.raises(ValueError, match="not finite"):
            image_bytes(images[row], ends)


def test_the_range_is_found_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.pixels._BLOCK_BYTES", 1)
    images = np.zeros((7, 3, 5))
    images[6] = 255
    assert value_range(images, "x") == (0, 255)
    images[2, 0, 0] = -255
    assert value_range(images, "x") == (-255, 255)


@pytest.mark.parametrize("name", ["X", "x", "data", "Images", "anything"])
def test_images_are_found_under_any_name_when_alone(name: str) -> None:
    assert choose_images({"y": np.arange(6), name: GREY}, "x.npz") == name


def test_the_known_name_is_taken_among_several() -> None:
    assert choose_images({"masks": GREY, "X": GREY}, "x.npz") == "X"
    assert choose_images({"masks": GREY, "X": GREY, "Images": COLOUR}, "x.npz") == "Images"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"left": GREY, "right": GREY},
            r"does not say which array holds the images \(left .*, right .*\); name one",
        ),
        ({"features": np.zeros((5, 9))}, r"no array of images.*features \(5, 9\).*store import"),
        ({}, "it holds nothing"),
    ],
)
def test_files_that_do_not_say_where_their_images_are(
    arrays: dict[str, NDArray[np.generic]], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        choose_images(arrays, "x.npz")


@pytest.mark.parametrize(
    ("images", "message"),
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
    ],
)
def test_arrays_that_are_refused(images: NDArray[np.generic], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        as_bytes(images)
    assert "\n" not in str(caught.value)


def test_people_see_shares_of_white_as_they_are_and_sums_with_noise_stretched() -> None:
    random = np.random.default_rng(0)
    shares = random.random((600, 1, 4, 4)).astype(np.float32)
    assert visible_range(0.5 * shares) == (0, 1)
    sums = 2 * shares
    sums[0, 0, 0, :2] = -50, 90  # noise that is hardly ever there
    low, high = visible_range(sums)
    assert -0.01 < low < 0.1
    assert 1.9 < high < 2.01
    grey = visible(np.array([[[0.0, 1.0], [2.0, 9.0]]], np.float32), (0, 2))
    assert grey.tolist() == [[0, 128], [255, 255]]
    two = np.stack([np.zeros((2, 3)), np.ones((2, 3))]).astype(np.float32)
    assert visible(two, (0, 1)).tolist() == [[0, 0, 0]] * 2
    colours = visible(np.arange(24, dtype=np.float32).reshape(4, 2, 3), (0, 255))
    assert colours[1, 2].tolist() == [5, 11, 17]
