"""Patches of the same images gathered in several ways, encoded once: bound to places, free of them, by tile.

Encoding is nearly all of the work, and the same for every way; the features are those of `patches.py`. Where
tiles turn out to be photographs, each is encoded by itself, and with more care.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.extract.components import Images, batches, some_images
from headwater.extract.patches import (
    PatchNetwork,
    PatchSettings,
    fit_patches,
    fit_tiles,
    fit_together,
    one_by_one,
)

Floats = NDArray[np.float32]
Told = Callable[[int, int], None]

BOUND, FREE, TILES = "bound", "free", "tiles"
PHOTOGRAPHS = PatchSettings(atoms=512, cells=2, stride=2, mirrored=True)
"""How tiles are encoded whose mirror images look like them: what is seen from all sides takes more atoms."""

_TILES = 2
_LOOKED_AT = 600  # images whose mirror images are compared with them
_COMPARED = 64  # leading features by which they are
_PENALTY = 0.1  # of the mean eigenvalue
_KNOWN_APART = 0.6  # of images that a head tells from their mirror images; by chance it is half of them


def patch_views(
    parts: Sequence[Images],
    *,
    fit_on: Images,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Told | None = None,
    by_themselves: Callable[[Floats], bool] = lambda tiles: False,
) -> dict[str, Floats]:
    """Features by name, each (rows of all parts, dim), of float images (n, channels, height, width).

    `free` is there only where an image has several tiles. Where there are two, `by_themselves` is asked, of
    features (images, 2, dim) of the tiles of some images, whether each tile's own features are wanted:
    `tiles` (rows, 2, dim). If tiles look as their mirror images do, too, all views are made of tiles encoded
    as `PHOTOGRAPHS`. What is learned is learned from `fit_on`. RequestError as `fit_patches` says.
    """
    told = progress or (lambda done, of: None)
    wanted = [PatchSettings(), PatchSettings(free=True)]
    (bound, free), seen = fit_together(fit_on, wanted, seed=seed, device=device)
    if max(bound.tiles) == 1:
        return _encoded({BOUND: bound}, parts, device, told)
    networks = {BOUND: bound, FREE: free}
    if bound.tiles[0] * bound.tiles[1] == _TILES:
        single = fit_tiles(bound, seen)
        with torch.no_grad():
            given = [single.projected(single.gathered(one_by_one(part))).cpu().numpy() for part in seen]
        tiles = np.concatenate(given).reshape(-1, _TILES, single.dim)
        if by_themselves(tiles):
            networks[TILES] = single
            some = some_images(fit_on, np.random.default_rng(seed))[:_LOOKED_AT]
            if _look_the_same_mirrored(single, _cut(some, bound.tiles), device):
                return _of_tiles(parts, fit_on, bound, seed, told)
    return _encoded(networks, parts, device, told)


def _encoded(
    networks: Mapping[str, PatchNetwork],
    parts: Sequence[Images],
    device: str | torch.device,
    told: Told,
) -> dict[str, Floats]:
    first = next(iter(networks.values()))
    count = sum(map(len, parts))
    found = {
        name: np.empty((count, _TILES, each.dim) if name == TILES else (count, each.dim), dtype=np.float32)
        for name, each in networks.items()
    }
    done = 0
    for part in parts:
        for _, batch in batches(part):
            told(done, count)
            with torch.no_grad():
                blocks = first.by_tile(torch.from_numpy(batch).to(device))
                for name, network in networks.items():
                    given = one_by_one(blocks) if name == TILES else blocks
                    features = network.projected(network.gathered(given)).cpu().numpy()
                    found[name][done : done + len(batch)] = features.reshape(found[name][: len(batch)].shape)
            done += len(batch)
    told(count, count)
    return found


def _of_tiles(
    parts: Sequence[Images], fit_on: Images, whole: PatchNetwork, seed: int, told: Told
) -> dict[str, Floats]:
    """The views of images whose tiles are photographs, each tile encoded by itself."""
    device = whole.filters.device
    network = fit_patches(_cut(fit_on, whole.tiles), settings=PHOTOGRAPHS, seed=seed, device=device)
    count = sum(map(len, parts))
    tiles = np.empty((count, _TILES, network.dim), dtype=np.float32)
    done = 0
    for part in parts:
        for _, batch in batches(part):
            told(done, count)
            with torch.no_grad():
                features = network(torch.from_numpy(_cut(batch, whole.tiles)).to(device)).cpu().numpy()
            tiles[done : done + len(batch)] = features.reshape(len(batch), _TILES, -1)
            done += len(batch)
    told(count, count)
    # By turns, so that leading features are those of either tile.
    bound = tiles[:, :, : network.dim // _TILES].transpose(0, 2, 1).reshape(count, -1)
    return {BOUND: bound, FREE: tiles.sum(axis=1), TILES: tiles}


def _look_the_same_mirrored(network: PatchNetwork, tiles: Images, device: str | torch.device) -> bool:
    """Whether a head cannot tell tiles (n, channels, height, width) from their mirror images.

    It is a ridge head of the differences of the two, learned from one half of the tiles and tried on the
    other one.
    """
    with torch.no_grad():
        shown = torch.from_numpy(tiles).to(device)
        features = (network(shown) - network(shown.flip(3)))[:, :_COMPARED].double().cpu().numpy()
    half = len(features) // 2
    learned, tried = features[:half], features[half:]
    product = learned.T @ learned
    product[np.diag_indices(len(product))] += _PENALTY * np.trace(product) / len(product) + 1e-12
    return bool((tried @ np.linalg.solve(product, learned.sum(axis=0)) > 0).mean() < _KNOWN_APART)


def _cut(images: Images, tiles: tuple[int, int]) -> Images:
    """The tiles of images (n, channels, height, width), image after image: (n * tiles, channels, h, w)."""
    down, across = tiles
    rows, channels, height, width = images.shape
    high, wide = height // down, width // across
    whole = images[:, :, : high * down, : wide * across].reshape(rows, channels, down, high, across, wide)
    split = whole.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels, high, wide)
    return np.ascontiguousarray(split, dtype=np.float32)
