"""Handwritten digits as taxa: a task with real images whose species are sorts of a digit.

A digit leaning so far and drawn so thickly is a species, the lean its genus, the digit its family; digits of
like strokes make a phylum. The phyla are invented, and of unequal size, as those of nature are. Nothing is
measured here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from headwater.heads.tasks.task import Task

PHYLA = {"round": (0, 3, 6, 8, 9), "bent": (2, 5), "straight": (1, 7), "crossed": (4,)}
PARTS = 4  # of a digit by its lean, and of each of these by its thickness
VAL, TEST = 5, 40  # images of a species
MOST = 300  # of a species on train


def digits_task(place: str | Path, seed: int) -> Task:
    """The task from an npz of `images` (rows, 28, 28) and `labels` (rows,): phyla apart, species as groups.

    A species has 40 images on test, 5 on val, and 1 to 300 of the others on train.
    """
    with np.load(place) as stored:
        images, labels = stored["images"], stored["labels"].astype(np.int64)
    lean, thick = _lean(images), images.mean(axis=(1, 2), dtype=np.float64)
    genus = labels * PARTS + _quantile(lean, labels)
    species = genus * PARTS + _quantile(thick, genus)
    random = np.random.default_rng(seed)
    kept, split = [], []
    for each in np.unique(species):
        rows = random.permutation(np.flatnonzero(species == each))
        left = len(rows) - VAL - TEST
        train = min(left, int(np.exp(random.uniform(0, np.log(MOST)))))
        kept.append(rows[: TEST + VAL + train])
        split += ["test"] * TEST + ["val"] * VAL + ["train"] * train
    index = np.concatenate(kept)
    phylum = {digit: name for name, those in PHYLA.items() for digit in those}
    return Task.from_arrays(
        _features(images[index]),
        "phylum",
        ["species"],
        split,
        levels={
            "phylum": [phylum[digit] for digit in labels[index].tolist()],
            "family": [f"digit {digit}" for digit in labels[index].tolist()],
            "genus": [f"digit {each // PARTS} lean {each % PARTS}" for each in genus[index].tolist()],
            "species": [f"species {each:03d}" for each in species[index].tolist()],
        },
    )


def _lean(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far a digit's ink moves sideways for each row down, (rows,)."""
    ink = images.astype(np.float64)
    down, across = np.mgrid[: images.shape[1], : images.shape[2]]
    mass = ink.sum(axis=(1, 2))
    x = across - ((ink * across).sum(axis=(1, 2)) / mass)[:, None, None]
    y = down - ((ink * down).sum(axis=(1, 2)) / mass)[:, None, None]
    return np.asarray((ink * x * y).sum(axis=(1, 2)) / (ink * y**2).sum(axis=(1, 2)))


def _quantile(value: NDArray[np.float64], within: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of PARTS equal parts, by value, of those of the same code each is in, (rows,)."""
    order = np.lexsort((value, within))
    counts = np.bincount(within)
    starts = counts.cumsum() - counts
    part = np.empty(len(value), dtype=np.int64)
    part[order] = (np.arange(len(order)) - starts[within[order]]) * PARTS // counts[within[order]]
    return part


def _features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Fixed random convolutions, rectified and pooled twice, (rows, 512): a backbone that learned nothing."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 128, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(7),
        nn.Flatten(),
    ).requires_grad_(requires_grad=False)
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            layer.weight.copy_(
                torch.randn(layer.weight.shape, generator=generator) / layer.weight[0].numel() ** 0.5
            )
            assert layer.bias is not None
            layer.bias.zero_()
    pixels = torch.from_numpy(images)[:, None].float() / 255
    return np.concatenate([network(block).numpy() for block in pixels.split(1_000)]).astype(np.float32)
