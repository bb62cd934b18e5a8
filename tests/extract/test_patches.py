"""Patch features against versions of the same definitions in plain NumPy loops, and what they promise."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.extract import PatchSettings, extract_features, fit_patches, patch_features, pixel_features
from headwater.extract.components import principal_directions
from headwater.extract.patches import PatchNetwork
from headwater.store import open_store

Images = NDArray[np.float32]
SMALL = PatchSettings(size=4, atoms=9, cells=2, components=20)


@pytest.fixture(autouse=True)
def small_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.extract.patches._PATCHES", 3_000)


def images(rows: int = 40, channels: int = 1, height: int = 12, width: int = 24, seed: int = 0) -> Images:
    """Smooth noise, each with a strength and a level of its own."""
    random = np.random.default_rng(seed)
    raw = random.normal(size=(rows, channels, height + 2, width + 2))
    smooth = raw[..., :-2, :-2] + raw[..., 1:-1, 1:-1] + raw[..., 2:, 2:]
    return (smooth * random.uniform(0.2, 2, (rows, 1, 1, 1)) + random.normal(size=(rows, 1, 1, 1))).astype(
        np.float32
    )


def products_by_hand(network: PatchNetwork, image: Images) -> NDArray[np.float64]:
    """(tiles down, tiles across, 2, cells, cells, atoms): patch by patch and region by region."""
    size, cells, atoms = network.settings.size, network.settings.cells, network.settings.atoms
    (down, across), (_, height, width) = network.tiles, image.shape
    filters = network.filters.double().numpy()
    sums = np.zeros((down, across, 2, cells, cells, atoms))
    counts = np.zeros((down, across, 1, cells, cells, 1))
    for row in range(0, height - size + 1, network.settings.stride):
        for column in range(0, width - size + 1, network.settings.stride):
            patch = image[:, row : row + size, column : column + size].astype(np.float64).ravel()
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + float(network.contrast))
            value = patch @ filters - network.offset.double().numpy()
            y = int((row + size / 2) / height * down * cells)
            x = int((column + size / 2) / width * across * cells)
            region = (y // cells, x // cells, slice(None), y % cells, x % cells)
            threshold = float(network.threshold)
            sums[region] += np.maximum(np.stack([value, -value]) - threshold, 0)
            counts[region] += 1
    return sums / counts


@pytest.mark.parametrize(("channels", "stride"), [(1, 1), (3, 2)])
def test_pooled_products_are_what_patch_by_patch_gives(channels: int, stride: int) -> None:
    some = images(channels=channels)
    network = fit_patches(some, settings=replace(SMALL, stride=stride))
    pooled = network.pooled(torch.from_numpy(some[:3]))[:, : network.block_widths[0]]
    for image, ours in zip(some, pooled, strict=False):
        by_hand = products_by_hand(network, image).transpose(0, 1, 3, 4, 2, 5).ravel()
        np.testing.assert_allclose(ours, by_hand, atol=2e-5)
        assert (by_hand > 0).mean() > 0.3  # the comparison is not one of zeros


def test_mirrored_tiles_have_the_same_features_where_that_is_promised() -> None:
    some = images(rows=60)
    turned = np.concatenate([some[..., 11::-1], some[..., :11:-1]], axis=3)  # each tile in its own place
    network = fit_patches(some, settings=replace(SMALL, mirrored=True))
    plain = fit_patches(some, settings=SMALL)
    first, second = (network(torch.from_numpy(each)) for each in (some, turned))
    # Patches that lie across the seam are others.
    assert float((first - second).norm()) < 0.4 * float(first.norm())
    one = np.ascontiguousarray(some[..., :12])
    alone = fit_patches(one, settings=replace(SMALL, mirrored=True))
    flipped = torch.from_numpy(one).flip(3)
    torch.testing.assert_close(alone(torch.from_numpy(one)), alone(flipped), atol=1e-4, rtol=1e-4)
    changed = plain(torch.from_numpy(some)) - plain(torch.from_numpy(turned))
    assert float(changed.norm()) > 0.6 * float(plain(torch.from_numpy(some)).norm())


def test_few_directions_of_many_are_those_of_all() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((400, 300)) * np.exp(-0.03 * np.arange(300))
    rows = torch.from_numpy((rows - rows.mean(axis=0)).astype(np.float32))
    for given in (rows, rows.T.contiguous() - rows.T.mean(dim=0)):
        ours = principal_directions(given, 40).double()
        torch.testing.assert_close(ours.T @ ours, torch.eye(40).double(), atol=1e-4, rtol=0)
        kept = (given.double() @ ours).square().sum(dim=0)
        values = torch.linalg.svdvals(given.double())[:40] ** 2
        torch.testing.assert_close(kept, values, rtol=1e-2, atol=0)
    flat = rows[:, :20] @ rows[:20, :]
    assert not principal_directions(flat - flat.mean(dim=0), 40)[:, 21:].any()


def test_pixels_and_energies_are_means_over_squares() -> None:
    some = images(height=14, width=28)
    network = fit_patches(some, settings=SMALL)
    block = network.pooled(torch.from_numpy(some[:2]))[:, network.block_widths[0] :].numpy()
    pixels = block[:, : network.block_widths[1]].reshape(2, 2, 7, 7)
    energies = block[:, network.block_widths[1] :].reshape(2, 2, 2, 2)
    for k in range(2):
        for tile in range(2):
            half = some[k, 0, :, 14 * tile : 14 * tile + 14]
            np.testing.assert_allclose(
                pixels[k, tile], half.reshape(7, 2, 7, 2).mean(axis=(1, 3)), rtol=1e-4, atol=1e-5
            )
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
    inner = np.lib.stride_tricks.sliding_window_view(some[0, 0], (3, 3))
    residual = np.pad(np.abs((inner * kernel).sum(axis=(2, 3))), 1, mode="edge")
    first = np.log(residual[:7, :7].mean() + float(network.noise))
    assert energies[0, 0, 0, 0] == pytest.approx(first, rel=1e-4)


def test_whitened_patches_are_white_where_the_floor_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no floors and atoms along the axes, products with filters are whitened patches."""
    monkeypatch.setattr("headwater.extract.patches._WHITENING_FLOOR", 1e-9)
    some = images(rows=200)
    settings = PatchSettings(size=3, atoms=30, cells=1)
    network = fit_patches(some, settings=settings)
    patches = network.normalised_patches(torch.from_numpy(some)).reshape(-1, 9).numpy()
    values = patches @ network.filters.numpy() - network.offset.numpy()
    # A unit vector times white patches has mean 0 and variance 1; one direction, the mean, is not white.
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=0.15)


def test_atoms_are_where_patches_are() -> None:
    """Images of stripes in two directions: some atoms are stripes of each, of either sign."""
    random = np.random.default_rng(0)
    wave = np.sin(np.arange(16) * 2 * np.pi / 4 + random.uniform(0, 6, (60, 1)))
    some = np.repeat(wave[:, None, None, :], 16, axis=2).astype(np.float32)
    some[::2] = some[::2].swapaxes(2, 3)
    network = fit_patches(some, settings=PatchSettings(size=4, atoms=8, cells=1))
    products = network.pooled(torch.from_numpy(some))[:, : network.block_widths[0]].numpy()
    across, along = products[::2], products[1::2]
    within = np.linalg.norm(across - across.mean(axis=0), axis=1).mean()
    between = np.linalg.norm(across.mean(axis=0) - along.mean(axis=0))
    assert between > 3 * within


@pytest.mark.parametrize("free", [False, True])
def test_halves_may_change_places_exactly_where_that_is_promised(free: bool) -> None:
    some = images()
    some[:, :, :, 12:] = images(seed=1)[:, :, :, 12:] * 3
    swapped = np.concatenate([some[..., 12:], some[..., :12]], axis=3)
    network = fit_patches(some, settings=PatchSettings(size=4, atoms=9, cells=2, free=free))
    first, second = (network.pooled(torch.from_numpy(each)) for each in (some, swapped))
    widths = network.block_widths
    # Patches and residuals that lie across the seam are others, so only pixels agree exactly.
    pixels = slice(widths[0], widths[0] + widths[1])
    assert np.allclose(first[:, pixels], second[:, pixels], atol=1e-5) is free
    apart = float((first - second).norm() / (first - first.mean(dim=0)).norm())
    assert (apart < 0.35) is free


def test_swapping_halves_changes_nothing_where_the_seam_is_even() -> None:
    some = images(width=24)
    some[..., :4] = some[..., -4:] = some[..., 8:16] = 0  # no patch holds something of both halves
    swapped = np.concatenate([some[..., 12:], some[..., :12]], axis=3)
    network = fit_patches(some, settings=PatchSettings(size=4, atoms=9, cells=1, free=True))
    # One region per tile is not symmetric to the pixel: patches that start in the left half end in the right.
    first, second = (network.pooled(torch.from_numpy(each)).numpy() for each in (some, swapped))
    products = slice(0, 2 * 2 * 9)
    assert np.abs(first - second)[:, products].max() < 0.35 * first[:, products].std(axis=0).max()


def test_components_hold_what_variance_there_is() -> None:
    some = images(rows=60)
    wide = fit_patches(some, settings=PatchSettings(size=4, atoms=9, cells=2, components=60))
    features = wide(torch.from_numpy(some)).double().numpy()
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-5)
    covariance = features.T @ features
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-3 * covariance.max())
    assert np.all(np.diff(np.diag(covariance)) <= 1e-6)
    # Three sorts of numbers, each of total variance one.
    assert np.trace(covariance) / len(some) == pytest.approx(3, rel=1e-3)


def test_pixel_features_are_principal_components() -> None:
    some = images(rows=50, height=5, width=6)
    ours = pixel_features(some, components=4)
    rows = some.reshape(50, -1).astype(np.float64)
    left, values, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    expected = left[:, :4] * values[:4]
    expected *= np.sign((expected * ours).sum(axis=0))
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_more_components_than_there_can_be_are_zero() -> None:
    assert not pixel_features(images(rows=5, height=4, width=4), components=5)[:, 4:].any()


def test_same_seed_same_features_and_another_seed_others() -> None:
    some = images()
    first, again = (patch_features(some, settings=SMALL, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, patch_features(some, settings=SMALL, seed=2))


def test_features_are_learned_from_what_they_are_to_be_learned_from() -> None:
    some, others = images(), images(seed=5)
    together = patch_features(some, fit_on=others, settings=SMALL)
    alone = np.concatenate(
        [patch_features(part, fit_on=others, settings=SMALL) for part in (some[:7], some[7:])]
    )
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_grey_in_three_channels_is_grey() -> None:
    some = images()
    thrice = np.repeat(some, 3, axis=1)
    np.testing.assert_allclose(
        patch_features(thrice, settings=SMALL), patch_features(some, settings=SMALL), atol=1e-5
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.zeros((3, 1, 12, 12), np.float32), "even surfaces"),
        (np.full((3, 1, 12, 12), np.nan, np.float32), "NaN"),
        (np.zeros((3, 12, 12), np.float32), "not shape"),
        (np.zeros((0, 1, 12, 12), np.float32), "not shape"),
        (np.zeros((3, 1, 3, 30), np.float32), "smaller than a patch"),
    ],
)
def test_images_that_hold_no_patches(wrong: Images, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        patch_features(wrong, settings=SMALL)


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RequestError, match=r"pip install 'headwater\[cpu\]'"):
        patch_features(images(), settings=SMALL)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(RequestError, match="one shape"):
        patch_features(images(), fit_on=images(width=20), settings=SMALL)


@pytest.mark.parametrize("name", ["patches", "patches-free", "pixels-pca"])
def test_as_a_backbone(name: str, tmp_path: Path) -> None:
    some = images()
    report = extract_features(some, tmp_path / "a.store", backbone=name, dtype="float32", compile="off")
    assert report.rows == 40
    assert not report.failed
    features = np.asarray(open_store(tmp_path / "a.store").features)
    low, high = some.min(), some.max()
    values = (np.rint((some - low) / (high - low) * 255) / 255).astype(np.float32)
    make = pixel_features if name == "pixels-pca" else patch_features
    settings = {"settings": PatchSettings(free=True)} if name == "patches-free" else {}
    expected = make(np.repeat(values, 3, axis=1), **settings)  # type: ignore[operator]
    # Stretched values differ in their last bits; signs of components that mean nothing may differ.
    apart = np.abs(features @ features.T - expected @ expected.T).max()
    assert apart < 1e-3 * np.abs(expected @ expected.T).max()
    assert extract_features(
        some, tmp_path / "a.store", backbone=name, dtype="float32", compile="off"
    ).already_done


def test_the_fingerprint_is_that_of_the_images(tmp_path: Path) -> None:
    some, others = images(rows=12), images(rows=12, seed=1)
    extract_features(some, tmp_path / "a.store", backbone="patches", compile="off")
    extract_features(others, tmp_path / "b.store", backbone="patches", compile="off")
    prints = [open_store(tmp_path / f"{name}.store").plan.fingerprint for name in "ab"]
    assert prints[0] != prints[1]
    with pytest.raises(RequestError, match="weights_sha256"):
        extract_features(others, tmp_path / "a.store", backbone="patches", compile="off")
    with h5py.File(tmp_path / "a.store" / "index.h5") as stored:
        assert stored["features"].shape[0] == 12
