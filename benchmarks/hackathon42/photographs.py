"""The sets made of photographs: 888 of small ones side by side, and one like 999 of a backbone's features.

`CIFAR` in the environment names a tar of `{train,test}/{class}/*.jpg` of CIFAR-10, which 888 is made of.
`PACS` names an npz of `features`, `category` and `domain`, which the set like 999 is made of.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.hackathon42.generated import Generated, draw_cells
from benchmarks.pacs import PAIRS
from headwater.errors import RequestError
from headwater.heads.ambiguity.problem import Problem

Features = tuple[NDArray[np.float32], NDArray[np.str_], NDArray[np.str_]]

ANIMALS, VEHICLES = ("bird", "cat"), ("airplane", "automobile")
CATEGORIES = ("dog", "elephant", "giraffe", "guitar", "horse", "person")
DOMAINS = ("photo", "art_painting", "cartoon", "sketch")


def load_photographs() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The small photographs, (rows, 3, 32, 32), and codes of bird, cat, airplane, automobile, (rows,)."""
    place = os.environ.get("CIFAR")
    if not place:
        raise RequestError("set 888 is made of CIFAR-10's photographs: name a tar of them in CIFAR")
    return _read_tar(place)


@lru_cache(maxsize=1)
def _read_tar(place: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    wanted = {name: code for code, name in enumerate((*ANIMALS, *VEHICLES))}
    images, codes = [], []
    with tarfile.open(place) as stored:
        for member in sorted(stored, key=lambda each: each.name):
            path = PurePosixPath(member.name)
            opened = stored.extractfile(member) if path.parent.name in wanted else None
            if opened is not None:
                pixels = np.asarray(Image.open(io.BytesIO(opened.read())).convert("RGB"))
                images.append(pixels.transpose(2, 0, 1))
                codes.append(wanted[path.parent.name])
    return np.stack(images), np.array(codes)


@lru_cache(maxsize=1)
def load_features() -> Features:
    """Features (rows, dim) of a backbone trained on other photographs, the category and domain of each."""
    place = os.environ.get("PACS")
    if not place:
        raise RequestError("the set like 999 is made of features of PACS: name an npz of them in PACS")
    with np.load(place) as stored:
        return (
            stored["features"].astype(np.float32),
            stored["category"].astype(str),
            stored["domain"].astype(str),
        )


def like_999(random: np.random.Generator, rates: Sequence[float | None], meant: int) -> Generated:
    """Category against domain of pictures, two of each by the seed; 999 allows a pretrained backbone.

    The smallest cell's c pictures make 0.6 c labeled, c unlabeled and 0.8 c target rows.
    """
    stored = load_features()
    categories, domains = (tuple(random.permutation(each)[:2].tolist()) for each in (CATEGORIES, DOMAINS))
    cells = _cells(stored, categories, domains)
    smallest = min(len(each) for each in cells.values())
    sizes = 2 * int(0.3 * smallest), smallest, 4 * int(0.2 * smallest)
    return _pictures(random, stored, cells, (categories, domains), (sizes, rates, meant))


def correlated(name: str, seed: int, stored: Features | None = None) -> Generated:
    """The task `name` of the benchmark `pacs` with complete correlation: crossed pictures are unlabeled.

    160 labeled pictures, 200 unlabeled ones and 200 targets, the latter two with equally many of each cell;
    the category is meant.
    """
    categories, domains = PAIRS[name]
    stored = load_features() if stored is None else stored
    cells = _cells(stored, categories, domains)
    random = np.random.default_rng([42, 999, seed])
    return _pictures(random, stored, cells, (categories, domains), ((160, 200, 200), (0.0, None, None), 0))


def _cells(
    stored: Features, categories: Sequence[str], domains: Sequence[str]
) -> dict[tuple[int, int], NDArray[np.int64]]:
    _, category, domain = stored
    return {
        (c, d): np.flatnonzero((category == categories[c]) & (domain == domains[d]))
        for c in range(2)
        for d in range(2)
    }


def _pictures(
    random: np.random.Generator,
    stored: Features,
    rows: dict[tuple[int, int], NDArray[np.int64]],
    names: tuple[Sequence[str], Sequence[str]],
    made: tuple[Sequence[int], Sequence[float | None], int],
) -> Generated:
    """Splits of the sizes and mix rates of `made` of the cells' rows; no picture is in two splits."""
    sizes, rates, meant = made
    left = {cell: random.permutation(each) for cell, each in rows.items()}
    cells = [draw_cells(random, *each) for each in zip(sizes, rates, strict=True)]
    items = []
    for each in cells:
        index = np.empty(len(each), dtype=np.int64)
        for cell in left:
            at = np.flatnonzero((each == cell).all(axis=1))
            index[at], left[cell] = left[cell][: len(at)], left[cell][len(at) :]
        items.append(stored[0][index])
    problem = Problem(items[0], cells[0][:, meant], items[1], items[2], (0, 1))
    features = tuple(" or ".join(each) for each in names)
    return Generated(
        999, "pictures", problem, cells[2][:, meant], cells[2], cells[1], features, meant, "float32"
    )
