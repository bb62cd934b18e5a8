"""Patches of the same images gathered in several ways, encoded once: bound to places, free of them, by tile.

Encoding is nearly all of the work, and the same for every way; the features are those of `patches.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.extract.components import Images, batches
from headwater.extract.patches import PatchNetwork, PatchSettings, fit_tiles, fit_together, one_by_one

BOUND, FREE, TILES = "bound", "free", "tiles"
_TILES = 2


def patch_views(
    parts: Sequence[Images],
    *,
    fit_on: Images,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Features by name, each (rows of all parts, dim), of float images (n, channels, height, width).

    `free` is there only where an image has several tiles, and `tiles` (rows, 2, dim), which holds each tile's
    own features, only where there are two. The dictionary is learned from `fit_on`.
    RequestError as `fit_patches` says.
    """
    bound, free = fit_together(fit_on, [PatchSettings(), PatchSettings(free=True)], seed=seed, device=device)
    networks = {BOUND: bound, FREE: free} if max(bound.tiles) > 1 else {BOUND: bound}
    if bound.tiles[0] * bound.tiles[1] == _TILES:
        networks[TILES] = fit_tiles(bound, fit_on, seed)
    return _encoded(networks, parts, device, progress or (lambda done, of: None))


def _encoded(
    networks: Mapping[str, PatchNetwork],
    parts: Sequence[Images],
    device: str | torch.device,
    told: Callable[[int, int], None],
) -> dict[str, NDArray[np.float32]]:
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
