"""Views of patches that are encoded once are those that each way gives by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headwater.extract.patch_views import _cut, _look_the_same_mirrored, patch_views
from headwater.extract.patches import PatchSettings, fit_patches, patch_features


@pytest.mark.parametrize("width", [12, 24])
def test_views_are_the_features_of_each_way_alone(width: int) -> None:
    images = np.random.default_rng(0).random((40, 1, 12, width), dtype=np.float32)
    told: list[tuple[int, int]] = []
    views = patch_views(
        [images[:15], images[15:]], fit_on=images, seed=3, progress=lambda done, of: told.append((done, of))
    )
    assert list(views) == (["bound", "free"] if width == 24 else ["bound"])
    for name, features in views.items():
        alone = patch_features(images, settings=PatchSettings(free=name == "free"), seed=3)
        np.testing.assert_allclose(features, alone, atol=1e-5)
    assert told[0] == (0, 40)
    assert told[-1] == (40, 40)


def _images(leaning: bool) -> NDArray[np.float32]:
    """Noise, which looks the same mirrored, or noise that grows to the right within either half."""
    images = np.random.default_rng(0).random((90, 1, 12, 24), dtype=np.float32)
    return images * np.tile(np.linspace(0, 1, 12, dtype=np.float32), 2) if leaning else images


@pytest.mark.parametrize("leaning", [False, True])
def test_tiles_have_features_of_their_own(leaning: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.extract.patches._PATCHES", 4_000)
    photographs = PatchSettings(size=4, atoms=16, cells=2, stride=2, mirrored=True, components=40)
    monkeypatch.setattr("headwater.extract.patch_views.PHOTOGRAPHS", photographs)
    images = _images(leaning)
    other = images.copy()
    other[:, :, :, -5:] = other[:, :, :, :5]
    asked: list[tuple[int, ...]] = []

    def wanted(tiles: NDArray[np.float32]) -> bool:
        asked.append(tiles.shape)
        return True

    views, changed = (
        patch_views([each[:20], each[20:]], fit_on=images, seed=3, by_themselves=wanted)
        for each in (images, other)
    )
    assert asked[0][:2] == (90, 2)
    tiles, moved = views["tiles"], np.abs(views["tiles"] - changed["tiles"]).mean(axis=(0, 2))
    assert tiles.shape[:2] == (90, 2)
    assert moved[0] < 0.3 * moved[1]
    if leaning:
        return
    # Photographs: tiles are encoded by themselves, and all views are made of them.
    assert moved[0] < 1e-5
    halves = np.concatenate([images[..., :12], images[..., 12:]])
    network = fit_patches(_cut(images, (1, 2)), settings=photographs, seed=3)
    alone = network(torch.from_numpy(halves)).numpy()
    np.testing.assert_allclose(tiles, np.stack([alone[:90], alone[90:]], axis=1), atol=1e-4)
    np.testing.assert_allclose(views["free"], alone[:90] + alone[90:], atol=1e-4)
    np.testing.assert_allclose(views["bound"][:, 1::2], alone[90:, :20], atol=1e-4)


def test_tiles_are_mirrored_only_where_that_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.extract.patches._PATCHES", 4_000)
    same = []
    for leaning in (False, True):
        tiles = _cut(_images(leaning), (1, 2))
        network = fit_patches(tiles, settings=PatchSettings(size=4, atoms=16, components=40))
        same.append(_look_the_same_mirrored(network, tiles, "cpu"))
    assert same == [True, False]


def test_images_are_cut_into_tiles_row_by_row() -> None:
    images = np.arange(2 * 1 * 4 * 6, dtype=np.float32).reshape(2, 1, 4, 6)
    cut = _cut(images, (2, 3))
    assert cut.shape == (12, 1, 2, 2)
    np.testing.assert_array_equal(cut[4, 0], images[0, 0, 2:, 2:4])
    np.testing.assert_array_equal(cut[11, 0], images[1, 0, 2:, 4:])
