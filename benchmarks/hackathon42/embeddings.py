"""The embeddings of sets 23 and 456: 99 units of a small network that names both digits of a pair.

It learns from pairs of all ten digits, of all digit images at hand, as whoever publishes embeddings of MNIST
would; a solver sees the 99 numbers alone.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from benchmarks.hackathon42.digits import load_digits
from headwater.extract.compiling import cache_folder

UNITS = 99
PAIRS = 12_000  # of each pass, drawn anew
PASSES = 10
BATCH = 100


def train_embedding(seed: int, digits: str | Path | None, noise: float) -> nn.Sequential:
    """A network from images (rows, 1, 28, 56) to units (rows, 99), by `seed`; ten seconds on one core.

    It is learned once, and kept in the user's cache.
    """
    images, labels = load_digits(digits)
    content = hashlib.sha256(repr((seed, noise, PAIRS, PASSES, BATCH)).encode())
    content.update(images.tobytes() + labels.tobytes())
    cache = cache_folder() / "hackathon42"
    kept = cache / f"embedding-{content.hexdigest()[:16]}.pt"
    trunk = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 11, UNITS),
        nn.ReLU(),
    )
    if kept.exists():
        trunk.load_state_dict(torch.load(kept, weights_only=True))
    else:
        _learn(trunk, images, labels, noise, np.random.default_rng([99, seed]))
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as unfinished:
            torch.save(trunk.state_dict(), unfinished)
        Path(unfinished.name).replace(kept)
    return trunk.eval().requires_grad_(requires_grad=False)


def _learn(
    trunk: nn.Sequential,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    noise: float,
    random: np.random.Generator,
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(random.integers(2**31)))
        both = nn.Linear(UNITS, 20)
        for layer in trunk:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.reset_parameters()
        steps = torch.optim.Adam([*trunk.parameters(), *both.parameters()], lr=1e-3)
        for _ in range(PASSES):
            rows = random.integers(0, len(images), (2, PAIRS))
            for some in np.split(rows, PAIRS // BATCH, axis=1):
                pairs = np.concatenate([images[some[0]], images[some[1]]], axis=2)
                x = torch.from_numpy(pairs)[:, None].float() / 255
                logits = both(trunk(x + noise * torch.randn_like(x))).reshape(-1, 10, 2)
                steps.zero_grad()
                functional.cross_entropy(logits, torch.from_numpy(labels[some].T)).backward()
                steps.step()


def embed(trunk: nn.Sequential, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The units of images (rows, 1, 28, 56), (rows, 99)."""
    return np.concatenate([trunk(block).numpy() for block in torch.from_numpy(images).split(1_000)])
