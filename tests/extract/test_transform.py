"""Crops equal torchvision's own presets bit for bit; augmented views depend on their seed alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision import models, transforms
from torchvision.transforms import functional
from torchvision.transforms._presets import ObjectDetection

from headwater.errors import RequestError
from headwater.extract.augmentation import RESIZED_CROP, PaddedCrop
from headwater.extract.decode import decode
from headwater.extract.preprocessings import PREPROCESSINGS, find_preprocessing
from headwater.extract.transform import (
    _LARGEST_RESIZED,
    Preprocessing,
    preprocessing_of,
    view_seed,
)

from .pictures import encode, smooth


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def normalised(crop: NDArray[np.uint8], preprocessing: Preprocessing) -> torch.Tensor:
    """What the model makes of a crop, by torchvision's own arithmetic."""
    batch = functional.convert_image_dtype(torch.from_numpy(crop).permute(2, 0, 1), torch.float)
    return functional.normalize(batch, list(preprocessing.mean), list(preprocessing.std))


V1 = models.ResNet50_Weights.IMAGENET1K_V1
V2 = models.ResNet50_Weights.IMAGENET1K_V2


@pytest.mark.parametrize("weights", [V1, V2], ids=["resize 256", "resize 232"])
@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 700), width=st.integers(1, 700))
@example(height=224, width=224)
@example(height=256, width=256)
@example(height=375, width=500)
@example(height=500, width=333)
@example(height=257, width=255)
@example(height=225, width=1000)
@example(height=1, width=64)
@example(height=1, width=502)
@example(height=502, width=1)
def test_crops_equal_torchvisions_preset(weights: models.ResNet50_Weights, height: int, width: int) -> None:
    pixels = noise(height, width)
    preprocessing = preprocessing_of(weights)
    crop = preprocessing.apply(pixels)
    assert crop.shape == (224, 224, 3)
    assert crop.dtype == np.uint8
    assert crop.flags.c_contiguous
    found, expected = normalised(crop, preprocessing), weights.transforms()(Image.fromarray(pixels))
    if height * width * (preprocessing.resize / min(height, width)) ** 2 < _LARGEST_RESIZED:
        assert torch.equal(found, expected)
    else:  # only the part that is kept is made, whose place Pillow takes in single precision: a grey level
        assert torch.allclose(found, expected, rtol=0, atol=1.01 / 255 / min(preprocessing.std))


@pytest.mark.parametrize(
    "weights",
    [
        models.EfficientNet_B0_Weights.IMAGENET1K_V1,  # bicubic
        models.EfficientNet_B3_Weights.IMAGENET1K_V1,  # crop 300 of 320
        models.Inception_V3_Weights.IMAGENET1K_V1,  # crop 299 of 342
        models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1,  # crop 384 of 384, bicubic
        models.Swin_V2_T_Weights.IMAGENET1K_V1,  # crop 256 of 260
        models.MobileNet_V3_Small_Weights.IMAGENET1K_V1,
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(375, 500), (613, 320), (90, 77), (384, 384)])
def test_other_presets(weights: models.WeightsEnum, size: tuple[int, int]) -> None:
    pixels = noise(*size)
    preprocessing = preprocessing_of(weights)
    expected = weights.transforms()(Image.fromarray(pixels))
    assert torch.equal(normalised(preprocessing.apply(pixels), preprocessing), expected)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(100, 90), (64, 256), (31, 300), (48, 48)])
@pytest.mark.parametrize(
    ("resize", "crop"), [(64, 48), ((64, 100), 48), ((40, 80), (48, 30)), (64, (64, 20))]
)
def test_every_filter_and_crop_equals_resizing_first_and_cropping_then(
    interpolation: str, size: tuple[int, int], resize: int | tuple[int, int], crop: int | tuple[int, int]
) -> None:
    pixels = noise(*size)
    expected = functional.resize(
        Image.fromarray(pixels),
        [resize] if isinstance(resize, int) else list(resize),
        functional.InterpolationMode(interpolation),
    )
    expected = functional.center_crop(expected, [crop, crop] if isinstance(crop, int) else list(crop))
    made = Preprocessing(resize, crop, interpolation).apply(pixels)  # type: ignore[arg-type]
    np.testing.assert_array_equal(made, np.asarray(expected))


def test_every_torchvision_classification_weight_has_a_preprocessing() -> None:
    checked = 0
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            preset = weights.transforms()
            preprocessing = preprocessing_of(weights)
            assert preprocessing.size == tuple(preset.crop_size * 2)[:2]
            assert preprocessing.interpolation == preset.interpolation.value
            assert preprocessing.describe()["mean"] == preset.mean
            checked += 1
    assert checked > 80


def test_presets_for_other_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="ObjectDetection is no torchvision preset for image classification"):
        preprocessing_of(ObjectDetection())


def test_a_picture_smaller_than_the_crop_is_padded_as_torchvision_does() -> None:
    pixels = noise(31, 50)
    crop = Preprocessing(resize=None, crop=(64, 61)).apply(pixels)
    expected = np.asarray(functional.center_crop(Image.fromarray(pixels), [64, 61]))
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize("size", [(28, 56), (300, 200), (64, 64), (7, 9)])
def test_resizing_to_a_given_size_keeps_everything(size: tuple[int, int]) -> None:
    pixels = noise(*size)
    crop = Preprocessing(resize=(28, 56), crop=None).apply(pixels)
    np.testing.assert_array_equal(crop, np.asarray(functional.resize(Image.fromarray(pixels), [28, 56])))
    if size == (28, 56):
        np.testing.assert_array_equal(crop, pixels)


@pytest.mark.parametrize(("height", "width"), [(3, 1200), (1200, 3), (1, 30_000), (40_000, 1)])
def test_a_sliver_needs_no_giant_picture(height: int, width: int) -> None:
    pixels = np.repeat(
        np.repeat(smooth(1 if height < width else 60, 60 if height < width else 1), 1, 0), 1, 1
    )
    pixels = np.asarray(Image.fromarray(pixels).resize((width, height)))
    crop = Preprocessing().apply(pixels)
    assert crop.shape == (224, 224, 3)
    if 256 * max(height, width) / min(height, width) * 256 < 2e8:
        expected = V1.transforms()(Image.fromarray(pixels))
        assert (normalised(crop, Preprocessing()) - expected).abs().max() < 1.01 / 255 / 0.224


def test_a_decoded_picture_and_its_pixels_give_the_same() -> None:
    decoded = decode(encode(noise(300, 400), "JPEG"))
    preprocessing = Preprocessing()
    np.testing.assert_array_equal(preprocessing.apply(decoded), preprocessing.apply(decoded.pixels))
    np.testing.assert_array_equal(preprocessing.augment(decoded, 5), preprocessing.augment(decoded.pixels, 5))


def test_applying_changes_neither_the_picture_nor_an_earlier_crop() -> None:
    pixels = noise(224, 224)
    preprocessing = Preprocessing(resize=None, crop=224)
    crop = preprocessing.apply(pixels)
    crop[:] = 0
    np.testing.assert_array_equal(pixels, noise(224, 224))
    decoded = decode(encode(pixels, "PNG"))
    preprocessing.apply(decoded)[:] = 0
    np.testing.assert_array_equal(decoded.pixels, pixels)


@pytest.mark.parametrize(
    "wrong",
    [
        {"resize": 256, "crop": None},
        {"resize": None, "crop": None},
        {"resize": 0},
        {"crop": (224, -1)},
        {"interpolation": "cubic"},
        {"std": (0.2, 0.0, 0.2)},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"resize|crop|interpolation|std"):
        Preprocessing(**wrong)  # type: ignore[arg-type]


def test_the_description_tells_preprocessings_apart() -> None:
    described = [
        str(p.describe())
        for p in (
            Preprocessing(),
            Preprocessing(resize=232),
            Preprocessing(crop=(224, 225)),
            Preprocessing(interpolation="bicubic"),
            Preprocessing(mean=(0.5, 0.5, 0.5)),
            Preprocessing(std=(0.5, 0.5, 0.5)),
        )
    ]
    assert len(set(described)) == len(described)


def test_a_view_is_torchvisions_resized_crop_of_some_region() -> None:
    """The view must be one of the regions that could be drawn, found by search, flipped or not."""
    pixels = noise(12, 10)
    view = Preprocessing(resize=8, crop=8).augment(pixels, seed=view_seed("a.jpg", 1))
    image = Image.fromarray(pixels)
    found = 0
    for top in range(12):
        for left in range(10):
            for height in range(1, 13 - top):
                for width in range(1, 11 - left):
                    region = functional.resized_crop(image, top, left, height, width, [8, 8])
                    same = any(
                        np.array_equal(view, turned)
                        for turned in (np.asarray(region), np.asarray(region)[:, ::-1])
                    )
                    found += same
                    if same:
                        assert 0.5 < width / height < 2
    assert found == 1


def test_views_depend_on_key_and_number_alone() -> None:
    pixels, preprocessing = noise(100, 150), Preprocessing(resize=64, crop=48)
    keys = [f"{k}.jpg" for k in range(20)]
    views = {(key, k): preprocessing.augment(pixels, view_seed(key, k)) for key in keys for k in (1, 2)}
    again = {
        (key, k): preprocessing.augment(pixels, view_seed(key, k)) for k in (2, 1) for key in reversed(keys)
    }
    for name, view in views.items():
        assert view.shape == (48, 48, 3)
        np.testing.assert_array_equal(view, again[name])
    assert len({view.tobytes() for view in views.values()}) == 40


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=8), st.text(max_size=8), st.integers(1, 9), st.integers(1, 9))
def test_seeds_differ_with_key_and_view(key: str, other: str, view: int, another: int) -> None:
    assert (view_seed(key, view) == view_seed(other, another)) == ((key, view) == (other, another))


def test_keys_that_are_no_utf8_have_seeds() -> None:
    assert view_seed("\udcff.jpg", 1) != view_seed("\udcfe.jpg", 1)


def test_the_drawn_views_have_the_documented_spread() -> None:
    """A picture whose pixel (y, x) holds (y, x): a view's corners tell the region it was cut from."""
    y, x = np.mgrid[0:200, 0:200].astype(np.uint8)
    pixels = np.stack([y, x, np.zeros_like(x)], axis=-1)
    preprocessing = Preprocessing(resize=50, crop=50, interpolation="nearest")
    areas, ratios, flips = [], [], 0
    for k in range(600):
        view = preprocessing.augment(pixels, view_seed("k", k)).astype(float)
        flipped = view[0, 0, 1] > view[0, -1, 1]
        flips += flipped
        across = abs(view[0, -1, 1] - view[0, 0, 1]) * 50 / 49
        down = (view[-1, 0, 0] - view[0, 0, 0]) * 50 / 49
        areas.append(across * down / 200**2)
        ratios.append(across / down)
    low, high = RESIZED_CROP.scale
    assert low - 0.02 < min(areas) < low + 0.05
    assert high - 0.2 < max(areas) < high + 0.02
    assert 0.70 < min(ratios) < 0.80
    assert 1.25 < max(ratios) < 1.42
    assert 0.42 < flips / 600 < 0.58
    assert abs(np.mean(np.log(ratios))) < 0.03


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (2, 5)])
def test_views_of_slivers(height: int, width: int) -> None:
    assert Preprocessing().augment(noise(height, width), 1).shape == (224, 224, 3)


# the contest's own


def contest(train: bool) -> transforms.Compose:
    """The contest's transform as its page states it; evaluation takes the centre, not a random place."""
    crop = transforms.RandomCrop(224, padding=4) if train else transforms.CenterCrop(224)
    normalise = transforms.Normalize((0.4556, 0.4714, 0.3700), (0.2370, 0.2318, 0.2431))
    return transforms.Compose([transforms.Resize(224), crop, transforms.ToTensor(), normalise])


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (224, 224), (50, 70), (224, 225)])
def test_the_contests_preprocessing_is_torchvisions(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, pixels = find_preprocessing("inat-contest"), noise(*size)
    image = Image.fromarray(pixels)
    assert torch.equal(normalised(ours.apply(pixels), ours), contest(train=False)(image))
    corners = set()
    for view in range(1, 9):
        seed = view_seed("a.jpg", view)
        across, down = functional.resize(image, 224).size
        top, left = PaddedCrop(4).corner(random.Random(seed).random, across, down, (224, 224))
        at = (top + 4, left + 4, 224, 224)
        monkeypatch.setattr(transforms.RandomCrop, "get_params", lambda *_, at=at: at)
        assert torch.equal(normalised(ours.augment(pixels, seed), ours), contest(train=True)(image))
        corners.add((top, left))
    assert len(corners) > 4


def test_corners_of_padded_crops_are_spread_as_torchvisions() -> None:
    draw = random.Random(3).random
    corners = [PaddedCrop(4).corner(draw, 230, 224, (224, 224)) for _ in range(4000)]
    tops, lefts = np.array(corners).T
    for drawn_at, least, most in ((tops, -4, 4), (lefts, -4, 10)):
        values, counts = np.unique(drawn_at, return_counts=True)
        assert values.tolist() == list(range(least, most + 1))
        expected = 4000 / len(values)
        assert np.all(abs(counts - expected) < 5 * np.sqrt(expected))


@pytest.mark.parametrize(("height", "width"), [(1, 30_000), (40_000, 2), (3, 90_000)])
def test_padded_crops_of_slivers(height: int, width: int) -> None:
    pixels = np.asarray(Image.fromarray(smooth(60, 60)).resize((width, height)))
    ours = find_preprocessing("INAT-contest")
    made = ours.augment(pixels, 7)
    assert made.shape == (224, 224, 3)
    across, down = ours._resized_size(width, height)
    top, left = PaddedCrop(4).corner(random.Random(7).random, across, down, (224, 224))
    black = (made == 0).all(axis=(1, 2) if across > down else (0, 2))
    start = top if across > down else left
    assert black[: max(-start, 0)].all()
    assert black[224 - max(start, 0) :].all()
    assert not black[max(-start, 0) : 224 - max(start, 0)].all()


def test_named_preprocessings_are_told_apart_and_unknown_names_answered() -> None:
    described = {str((p.describe(), p.augmentation.describe())) for p in PREPROCESSINGS.values()}
    assert len(described) == len(PREPROCESSINGS)
    assert PREPROCESSINGS["imagenet"] == preprocessing_of(V1)
    with pytest.raises(RequestError, match=r"no preprocessing 'inat' .did you mean 'inat-contest'"):
        find_preprocessing("inat")
    for wrong in ({"resize": 200}, {"resize": None}, {"resize": (300, 100)}):
        with pytest.raises(ValueError, match="padded by 4 does not hold"):
            Preprocessing(**{"crop": 224, "augmentation": PaddedCrop(4), **wrong})  # type: ignore[arg-type]
