"""A set like 999 of composed pictures: a photographed subject on a texture, as a pretrained backbone sees it.

The subjects are CIFAR-10's, which `CIFAR` in the environment names; the textures are drawn.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

import headwater
from benchmarks.hackathon42.digits import Deck
from benchmarks.hackathon42.generated import Codes, Generated, draw_cells
from benchmarks.hackathon42.photographs import ANIMALS, VEHICLES, load_photographs
from headwater.extract.compiling import cache_folder
from headwater.heads.ambiguity.problem import Problem

Pictures = NDArray[np.uint8]

SIZES = 600, 800, 600  # of the contest's set only the kind is known
SUBJECTS = ANIMALS[0], VEHICLES[1]
SIDE, SUBJECT = 96, 64
BACKBONE = "efficientnet_lite0"
NAMES = ("labeled", "unlabeled", "target")


def composed(
    random: np.random.Generator, rates: Sequence[float | None], meant: int, size: float
) -> Generated:
    """Bird or automobile against stripes or clouds, as features (rows, 1280) of the backbone."""
    images, codes = load_photographs()
    sizes = [max(8, round(each * size)) for each in SIZES]
    deck = Deck(images, codes, dict(zip(NAMES, map(float, sizes), strict=True)), random)
    kinds = np.array([(*ANIMALS, *VEHICLES).index(each) for each in SUBJECTS])
    cells = [draw_cells(random, *each) for each in zip(sizes, rates, strict=True)]
    pictures = [
        compose(deck.take(name, kinds[each[:, 0]]), each[:, 1], random)
        for name, each in zip(NAMES, cells, strict=True)
    ]
    rows = np.split(embed(np.concatenate(pictures)), np.cumsum(sizes)[:-1])
    problem = Problem(rows[0], cells[0][:, meant], rows[1], rows[2], (0, 1))
    features = " or ".join(SUBJECTS), "stripes or clouds"
    return Generated(
        999, "composed", problem, cells[2][:, meant], cells[2], cells[1], features, meant, "float32"
    )


def compose(subjects: NDArray[np.floating], textures: Codes, random: np.random.Generator) -> Pictures:
    """Pictures (rows, 96, 96, 3) of subjects (rows, 3, 32, 32), in [0, 1], anywhere on textures of a kind."""
    made = np.empty((len(subjects), SIDE, SIDE, 3), dtype=np.uint8)
    for row, (subject, texture) in enumerate(zip(subjects, textures, strict=True)):
        made[row] = _texture(int(texture), random)
        large = Image.fromarray((subject.transpose(1, 2, 0) * 255).round().astype(np.uint8))
        top, left = random.integers(0, SIDE - SUBJECT + 1, 2)
        scaled = np.asarray(large.resize((SUBJECT, SUBJECT), Image.Resampling.BICUBIC))
        made[row, top : top + SUBJECT, left : left + SUBJECT] = scaled
    return made


def _texture(kind: int, random: np.random.Generator) -> Pictures:
    """Stripes (0) or clouds (1), of two colours at random."""
    if kind == 0:
        angle, wide = random.random() * np.pi, random.uniform(5, 10)
        down, across = np.mgrid[:SIDE, :SIDE]
        plane = np.sin((np.cos(angle) * down + np.sin(angle) * across) * 2 * np.pi / wide)
    else:
        plane = gaussian_filter(random.standard_normal((SIDE, SIDE)), random.uniform(3, 6), mode="wrap")
    ranks = (plane - plane.min()) / np.ptp(plane)
    low, high = random.random((2, 3))
    return np.asarray((low + ranks[..., None] * (high - low)) * 255, dtype=np.uint8)


def embed(pictures: Pictures) -> NDArray[np.float32]:
    """Features (rows, dim) of pictures (rows, height, width, 3); extracted once, then kept in a cache."""
    name = hashlib.sha256(BACKBONE.encode() + pictures.tobytes()).hexdigest()[:16]
    place = cache_folder() / "hackathon42" / f"composed-{name}.store"
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pictures.npy"
        np.save(source, pictures)
        headwater.extract_features(source, out=place, backbone=BACKBONE)
    return np.asarray(headwater.open_store(place).features[:], dtype=np.float32)
