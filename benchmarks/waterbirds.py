"""Synthetic features of the shape of Waterbirds: its group counts, and a background easier than the bird.

Only the generator lives here; the benchmarks that train on it are in files of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.heads.tasks.task import Task

# Rows of (bird, background): land land, land water, water land, water water; the published table.
COUNTS = {
    "train": (3498, 184, 56, 1057),
    "val": (467, 466, 133, 133),
    "test": (2255, 2255, 642, 642),
}
_RANK = 128  # directions in which features vary together
_BLOCK = 2048


@dataclass(frozen=True)
class Strength:
    """How far classes and backgrounds lie from the middle of their directions, in deviations of noise.

    `units`: the share of units that carry the bird; four times as many carry the background. Tuned so that
    plain and robust training differ as published for Waterbirds: the background is the easier of the two, and
    the bird alone suffices for the robust figure.
    """

    bird: float = 1.9
    background: float = 3.5
    units: float = 0.05


def waterbirds_like(
    *, dim: int = 2048, share: float = 1.0, seed: int = 0, strength: Strength | None = None
) -> Task:
    """A task with groups bird x background on `dim` rectified, correlated features, float16.

    `share` of every group's published rows, at least 8 of each; 1 gives 4,795 + 1,199 + 5,794 rows.
    """
    strength = strength or Strength()
    random = np.random.default_rng(seed)
    counts = {name: [max(8, round(share * n)) for n in each] for name, each in COUNTS.items()}
    bird = np.concatenate([np.repeat([0, 0, 1, 1], each) for each in counts.values()])
    place = np.concatenate([np.repeat([0, 1, 0, 1], each) for each in counts.values()])
    split = np.concatenate([np.repeat(name, sum(each)) for name, each in counts.items()])
    order = random.permutation(len(bird))
    bird, place, split = bird[order], place[order], split[order]
    return Task.from_arrays(
        _features(bird, place, dim, random, strength),
        np.array(["landbird", "waterbird"])[bird],
        {"background": np.array(["land", "water"])[place]},
        split,
        target_name="bird",
    )


def _features(
    bird: NDArray[np.int64],
    place: NDArray[np.int64],
    dim: int,
    random: np.random.Generator,
    strength: Strength,
) -> NDArray[np.float16]:
    """Rectified as by a network's last ReLU, on latent factors of a falling spectrum."""
    spectrum = np.arange(1, _RANK + 1) ** -0.5
    mixing = (spectrum[:, None] * random.standard_normal((_RANK, dim))).astype(np.float32)
    bird_direction = _sparse(dim, strength.units, random)
    place_direction = _sparse(dim, 4 * strength.units, random)
    level = (0.3 * random.standard_normal(dim) - 0.2).astype(np.float32)
    out = np.empty((len(bird), dim), dtype=np.float16)
    for first in range(0, len(bird), _BLOCK):
        rows = slice(first, min(first + _BLOCK, len(bird)))
        n = rows.stop - rows.start
        is_bird = (2 * bird[rows] - 1) * strength.bird + random.standard_normal(n)
        is_place = (2 * place[rows] - 1) * strength.background + random.standard_normal(n)
        block = random.standard_normal((n, _RANK), dtype=np.float32) @ mixing * np.float32(0.35)
        block += np.float32(0.6) * random.standard_normal((n, dim), dtype=np.float32)
        block += level
        block += is_bird[:, None].astype(np.float32) * bird_direction
        block += is_place[:, None].astype(np.float32) * place_direction
        out[rows] = np.maximum(block, 0)
    return out


def _sparse(dim: int, share: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Loadings of a direction that a `share` of the units carries, the same in length whatever the share."""
    carried = random.random(dim) < share
    loadings = np.where(carried, random.standard_normal(dim), 0) * 0.25 / np.sqrt(share)
    return loadings.astype(np.float32)
