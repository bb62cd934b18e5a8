"""The sets made of photographs: 888 of small ones side by side, and one like 999 of a backbone's features.

`CIFAR` in the environment names a tar of `{train,test}/{class}/*.jpg` of CIFAR-10, which 888 is made of.
`PACS` names an npz of `features`, `category` and `domain`, which the set like 999 is made of.
"""

from __future__ import annotations

import io
import os
import tarfile
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headwater.errors import RequestError

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
def load_features() -> tuple[NDArray[np.float32], NDArray[np.str_], NDArray[np.str_]]:
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


def cells_of_pictures(
    random: np.random.Generator, category: NDArray[np.str_], domain: NDArray[np.str_]
) -> tuple[dict[tuple[int, int], NDArray[np.int64]], tuple[str, str], tuple[str, str]]:
    """Two categories and two domains by the seed, and the rows of each of the four cells, in random order."""
    categories = tuple(str(each) for each in random.permutation(CATEGORIES)[:2])
    domains = tuple(str(each) for each in random.permutation(DOMAINS)[:2])
    rows = {
        (c, d): random.permutation(np.flatnonzero((category == categories[c]) & (domain == domains[d])))
        for c in range(2)
        for d in range(2)
    }
    return rows, (categories[0], categories[1]), (domains[0], domains[1])
