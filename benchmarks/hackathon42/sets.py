"""The hackathon42 sets by id: sizes, and how items are composed; `make` is the one door to all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks.hackathon42.composed import composed
from benchmarks.hackathon42.composition import NOISE, Composition, beside
from benchmarks.hackathon42.digits import Deck, Images, load_digits
from benchmarks.hackathon42.embeddings import embed, train_embedding
from benchmarks.hackathon42.generated import Codes, Generated, draw_cells
from benchmarks.hackathon42.hidden import FAMILIES, hidden
from benchmarks.hackathon42.photographs import ANIMALS, like_999, load_photographs
from headwater.ambiguity.scoring import SETS
from headwater.heads.ambiguity.problem import Problem

PHOTOGRAPH_NOISE = 0.05  # of 888, where 0.1 would hide what the small photographs show
FLAT = (0.25, 0.75)  # the two flat colours of 4 and 5
LEVELS = (0.1, 0.3)  # the two noise levels of 8
DIM = 0.5  # of a dimmed image in the identifiable variants of 6 and 7
LOW = 0.1  # the mix rate of 5
SPLITS = ("labeled", "unlabeled", "target")


@dataclass(frozen=True)
class Published:
    """A set as published: the labels as given, rows of labeled, unlabeled and target, an item's shape."""

    classes: tuple[int, ...]
    sizes: tuple[int, int, int]
    shape: tuple[int, ...]
    dtype: str = "float64"


PUBLISHED = {
    0: Published((0, 1), (500, 500, 500), (2,)),
    1: Published((0, 1), (1267, 3798, 1267), (1, 28, 56)),
    2: Published((0, 2), (1188, 3564, 1188), (1, 28, 56)),
    3: Published((0, 3), (1206, 3614, 1206), (1, 28, 56)),
    4: Published((0, 4), (1177, 3528, 1177), (1, 28, 56)),
    5: Published((0, 5), (1135, 3402, 1134), (1, 28, 56)),
    6: Published((0, 6), (1184, 3552, 1184), (1, 28, 28)),
    # Withdrawn; as many rows as threes can be made of the digits.
    7: Published((0, 7), (812, 2437, 812), (1, 28, 28)),
    8: Published((0, 8), (1178, 3530, 1178), (1, 28, 28)),
    12: Published((1, 2), (889, 3809, 381), (1, 28, 56)),
    13: Published((1, 3), (900, 3861, 387), (1, 28, 56)),
    23: Published((2, 3), (1209, 3626, 1209), (99,)),
    456: Published((4, 5, 6), (1718, 5153, 1718), (99,)),
    888: Published((0, 1), (10000, 20000, 20000), (3, 32, 64), "float32"),
}


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
    (23, None): (_pairs, ("left", "right"), None),
    (456, None): (_pairs, ("left", "right"), None),
}


def make(
    id: int,  # noqa: A002 - the sets' own word
    seed: int = 0,
    *,
    mix_rate: float | None = None,
    labeled_rate: float = 0.0,
    target_rate: float | None = None,
    family: str | None = None,
    variant: str | None = None,
    digits: str | Path | None = None,
    meant: int | None = None,
    size: float = 1.0,
) -> Generated:
    """Generate set `id` with `seed`.

    `mix_rate` is that of the unlabeled set; without it cells are equally many, and 0.1 are crossed in 5.
    `labeled_rate` and `target_rate` make sets that are not ambiguous: of labeled rows that tell the features
    apart, or of rows among which nothing is crossed. `family` names the hidden feature of 12 and 13; without
    it the seed draws one. `variant="dimmed"` makes 6 and 7 identifiable; `variant="composed"` makes 999 of
    photographs on textures, not of pictures in two styles. `digits` names an npz of digits.
    `meant` is the number of the feature that labels are about, where the set leaves it to a coin. `size`
    scales the numbers of rows (not of 999's pictures).
    """
    random = np.random.default_rng([42, id, seed])
    coin = float(random.random())
    low = LOW if id == 5 else None
    rates = labeled_rate, low if mix_rate is None else mix_rate, target_rate
    if id == 999:
        which = int(coin * 2) if meant is None else meant
        return composed(random, rates, which, size) if variant else like_999(random, rates, which)
    published = PUBLISHED[id]
    rows = [max(4, round(each * size)) for each in published.sizes]
    name = SETS[id].name
    features: tuple[str, ...] = ("first", "second")
    fixed: int | None = None
    if id == 888:
        features = ("animal", "vehicle")
    elif id in {12, 13}:
        family = family or FAMILIES[int(random.integers(len(FAMILIES)))]
        name, features = f"{name}: {family}", ("digit", family)
    elif id != 0:
        _, features, fixed = COMPOSED[id, variant]
    if variant:
        name = f"{name}: {variant}"
    which = fixed if fixed is not None else int(coin * len(features)) if meant is None else meant
    sorts = len(published.classes), len(features)
    cells = [draw_cells(random, *each, *sorts) for each in zip(rows, rates, strict=True)]
    if id == 0:
        # A feature is the sign of a coordinate of a point of the square [-1, 1]².
        items = [(random.random(c.shape) * (2 * c - 1)).astype(np.float32) for c in cells]
    elif id == 888:
        items = _photographs(random, cells)
    else:
        images, labels = load_digits(digits)
        making = Composition(Deck(images, labels, _shares(rows), random), random, published.classes)
        compose = partial(_hidden, family) if family else COMPOSED[id, variant][0]
        items = [compose(making, split, each) for split, each in zip(SPLITS, cells, strict=True)]
    if id in {23, 456}:
        items = _embedded(random, items, train_embedding(seed, digits, NOISE))
    problem = Problem(items[0], cells[0][:, which], items[1], items[2], published.classes)
    return Generated(
        id, name, problem, cells[2][:, which], cells[2], cells[1], features, which, published.dtype
    )


def _shares(rows: list[int]) -> dict[str, float]:
    return dict(zip(SPLITS, (float(each) for each in rows), strict=True))


def _hidden(family: str, making: Composition, split: str, cells: Codes) -> Images:
    return making.noisy(hidden(family, making, split, cells))


def _embedded(random: np.random.Generator, items: list[Images], trunk: nn.Sequential) -> list[Images]:
    units = [embed(trunk, each) for each in items]
    scale = np.float32(NOISE) * units[1].std(axis=0)
    return [each + scale * random.standard_normal(each.shape, dtype=np.float32) for each in units]


def _photographs(random: np.random.Generator, cells: list[Codes]) -> list[Images]:
    """An animal and a vehicle side by side, either on the left."""
    images, codes = load_photographs()
    deck = Deck(images, codes, _shares([len(each) for each in cells]), random)
    items = []
    for split, each in zip(SPLITS, cells, strict=True):
        made = np.empty((len(each), 3, 32, 64), dtype=np.float32)
        animal, vehicle = deck.take(split, each[:, 0]), deck.take(split, len(ANIMALS) + each[:, 1])
        left = (random.random(len(each)) < 0.5)[:, None, None, None]
        np.copyto(made[..., :32], np.where(left, animal, vehicle))
        np.copyto(made[..., 32:], np.where(left, vehicle, animal))
        for row in made:
            np.add(row, _faint(random, row.shape), out=row)
        items.append(made)
    return items


def _faint(random: np.random.Generator, shape: tuple[int, ...]) -> Images:
    return np.float32(PHOTOGRAPH_NOISE) * random.standard_normal(shape, dtype=np.float32)
