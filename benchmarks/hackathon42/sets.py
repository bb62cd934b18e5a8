"""The hackathon42 sets by id: sizes, and how items are composed; `make` is the one door to all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.hackathon42.digits import Deck, Images, load_digits
from benchmarks.hackathon42.generated import Codes, Generated, balanced_rate, draw_cells
from headwater.heads.ambiguity.problem import Problem

NOISE = 0.1  # standard deviation, of a range of 1
FLAT = (0.25, 0.75)  # the two flat colours of 4 and 5
LEVELS = (0.1, 0.3)  # the two noise levels of 8
DIM = 0.5  # of a dimmed image in the identifiable variants of 6 and 7
LOW = 0.1  # the mix rate of 5
SPLITS = ("labeled", "unlabeled", "target")


@dataclass(frozen=True)
class Published:
    """A set as published: its name, the labels as given, rows of labeled, unlabeled and target, points."""

    name: str
    classes: tuple[int, ...]
    sizes: tuple[int, int, int]
    shape: tuple[int, ...]
    points: int
    dtype: str = "float64"


PUBLISHED = {
    0: Published("toy_dataset", (0, 1), (500, 500, 500), (2,), 1),
    1: Published("mnist_cc", (0, 1), (1267, 3798, 1267), (1, 28, 56), 1),
    2: Published("mnist_constant_image", (0, 2), (1188, 3564, 1188), (1, 28, 56), 1),
    3: Published("mnist_constant_image_random_row", (0, 3), (1206, 3614, 1206), (1, 28, 56), 2),
    4: Published("mnist_uniform_color_random_row", (0, 4), (1177, 3528, 1177), (1, 28, 56), 1),
    5: Published("mnist_uniform_color_low_mix_rate", (0, 5), (1135, 3402, 1134), (1, 28, 56), 2),
    6: Published("mnist_sum", (0, 6), (1184, 3552, 1184), (1, 28, 28), 1),
    7: Published(
        "mnist_sum_bis", (0, 7), (812, 2437, 812), (1, 28, 28), 1
    ),  # withdrawn; a third of the digits
    8: Published("mnist_sum_noise_level", (0, 8), (1178, 3530, 1178), (1, 28, 28), 2),
    12: Published("mnist_mysterious", (1, 2), (889, 3809, 381), (1, 28, 56), 3),
    13: Published("mnist_mysterious", (1, 3), (900, 3861, 387), (1, 28, 56), 3),
    23: Published("mnist_embed", (2, 3), (1209, 3626, 1209), (99,), 3),
    456: Published("mnist_embed", (4, 5, 6), (1718, 5153, 1718), (99,), 4),
    888: Published("vehicle_animal", (0, 1), (10000, 20000, 20000), (3, 32, 64), 8, "float32"),
}


@dataclass(frozen=True)
class Composition:
    """What composing the items of a split needs: the digits, the randomness of this split, the classes."""

    deck: Deck
    random: np.random.Generator
    classes: tuple[int, ...]

    def digits(self, split: str, codes: Codes) -> Images:
        """An image of the digit of each class code, (rows, 28, 28)."""
        return self.deck.take(split, np.asarray(self.classes)[codes])

    def constants(self, codes: Codes) -> Images:
        """The one fixed image of each class code, (rows, 28, 28)."""
        return np.stack([self.deck.constant(digit) for digit in self.classes])[codes]

    def noisy(self, images: Images, level: float | NDArray[np.float64] = NOISE) -> Images:
        """The images with a channel axis, and Gaussian noise; nothing is clipped."""
        noise = self.random.standard_normal(images.shape, dtype=np.float32)
        scale = np.asarray(level, dtype=np.float32).reshape(-1, *(1,) * (images.ndim - 1))
        return np.asarray(images + noise * scale)[:, None]


def beside(left: Images, right: Images) -> Images:
    """Two images side by side, (rows, 28, 56)."""
    return np.concatenate([left, right], axis=2)


def _pairs(make: Composition, split: str, cells: Codes) -> Images:
    return make.noisy(beside(make.digits(split, cells[:, 0]), make.digits(split, cells[:, 1])))


def _constant(make: Composition, split: str, cells: Codes) -> Images:
    return make.noisy(beside(make.digits(split, cells[:, 0]), make.constants(cells[:, 1])))


def _swapped(make: Composition, first: Images, second: Images) -> Images:
    swap = make.random.random(len(first)) < 0.5
    return np.where(swap[:, None, None], beside(second, first), beside(first, second))


def _constant_swapped(make: Composition, split: str, cells: Codes) -> Images:
    return make.noisy(_swapped(make, make.digits(split, cells[:, 0]), make.constants(cells[:, 1])))


def _flat_swapped(make: Composition, split: str, cells: Codes) -> Images:
    digits = make.digits(split, cells[:, 0])
    flat = np.asarray(FLAT, dtype=np.float32)[cells[:, 1]]
    return make.noisy(_swapped(make, digits, np.broadcast_to(flat[:, None, None], digits.shape)))


def _sum(make: Composition, split: str, cells: Codes) -> Images:
    return make.noisy(summed(make, split, cells, 1.0))


def _sum_dimmed(make: Composition, split: str, cells: Codes) -> Images:
    return make.noisy(summed(make, split, cells, DIM))


def summed(make: Composition, split: str, cells: Codes, last: float) -> Images:
    """The images of all features added, the last one times `last`, (rows, 28, 28), without noise."""
    strengths = (*(1.0,) * (cells.shape[1] - 1), last)
    parts = [np.float32(s) * make.digits(split, cells[:, f]) for f, s in enumerate(strengths)]
    return np.asarray(sum(parts[1:], parts[0]), dtype=np.float32)


def _noise_level(make: Composition, split: str, cells: Codes) -> Images:
    return make.noisy(make.digits(split, cells[:, 0]), np.asarray(LEVELS)[cells[:, 1]])


# How items are composed, the features' names, and which is meant (None: a coin decides).
COMPOSED: dict[tuple[int, str | None], tuple[Callable[..., Images], tuple[str, ...], int | None]] = {
    (1, None): (_pairs, ("left", "right"), None),
    (2, None): (_constant, ("digit", "constant image"), 0),
    (3, None): (_constant_swapped, ("digit", "constant image"), 0),
    (4, None): (_flat_swapped, ("digit", "colour"), 0),
    (5, None): (_flat_swapped, ("digit", "colour"), 0),
    (6, None): (_sum, ("first", "second"), None),
    (6, "dimmed"): (_sum_dimmed, ("bright", "dimmed"), None),
    (7, None): (_sum, ("first", "second", "third"), None),
    # The two bright ones cannot be told apart, so that only the dimmed one can be meant.
    (7, "dimmed"): (_sum_dimmed, ("bright", "bright too", "dimmed"), 2),
    (8, None): (_noise_level, ("digit", "noise level"), 0),
}


def make(
    id: int,  # noqa: A002 - the sets' own word
    seed: int = 0,
    *,
    mix_rate: float | None = None,
    family: str | None = None,
    variant: str | None = None,
    digits: str | Path | None = None,
    meant: int | None = None,
    size: float = 1.0,
) -> Generated:
    """Generate set `id` with `seed`.

    `mix_rate` is that of the unlabeled set; without it cells are equally many, and 0.1 are crossed in 5. The
    target's cells are equally many, always. `family` names the hidden feature of 12 and 13; without it the
    seed draws one. `variant="dimmed"` makes 6 and 7 identifiable. `digits` names an npz of digits. `meant` is
    the number of the feature that labels are about, where the set leaves it to a coin. `size` scales the
    numbers of rows.
    """
    published = PUBLISHED[id]
    random = np.random.default_rng([42, id, seed])
    coin = float(random.random())
    rows = [max(4, round(each * size)) for each in published.sizes]
    if id == 0:
        return _toy(published, rows, random, mix_rate, _meant(coin, 2, None, meant))
    compose, features, fixed = COMPOSED[id, variant]
    images, labels = load_digits(digits)
    shares = dict(zip(SPLITS, (float(each) for each in rows), strict=True))
    making = Composition(Deck(images, labels, shares, random), random, published.classes)
    cells = _cells(id, random, rows, mix_rate, (len(published.classes), len(features)))
    items = [compose(making, split, each) for split, each in zip(SPLITS, cells, strict=True)]
    which = _meant(coin, len(features), fixed, meant)
    return assemble(id, published, items, cells, features=features, meant=which)


def _meant(coin: float, features: int, fixed: int | None, asked: int | None) -> int:
    if fixed is not None:
        return fixed
    return int(coin * features) if asked is None else asked


def _cells(
    id: int,  # noqa: A002
    random: np.random.Generator,
    rows: list[int],
    mix_rate: float | None,
    sorts: tuple[int, int],
) -> list[Codes]:
    balanced = balanced_rate(*sorts)
    rate = (LOW if id == 5 else balanced) if mix_rate is None else mix_rate
    return [draw_cells(random, n, r, *sorts) for n, r in zip(rows, (0.0, rate, balanced), strict=True)]


def assemble(
    id: int,  # noqa: A002
    published: Published,
    items: list[Images],
    cells: list[Codes],
    *,
    features: tuple[str, ...],
    meant: int,
) -> Generated:
    """The generated set of three splits' items and cells."""
    problem = Problem(items[0], cells[0][:, meant], items[1], items[2], published.classes)
    return Generated(
        id,
        published.name,
        problem,
        cells[2][:, meant],
        cells[2],
        cells[1],
        features,
        meant,
        published.dtype,
    )


def _toy(
    published: Published,
    rows: list[int],
    random: np.random.Generator,
    mix_rate: float | None,
    meant: int,
) -> Generated:
    """Points of the square [-1, 1]²; a feature is the sign of a coordinate, labeled rows have equal signs."""
    cells = _cells(0, random, rows, mix_rate, (2, 2))
    items = [(random.random(c.shape) * (2 * c - 1)).astype(np.float32) for c in cells]
    return assemble(
        0, published, items, cells, features=("first coordinate", "second coordinate"), meant=meant
    )
