"""Which features a data set's rows have beside their own values, and a backbone's, kept in a store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headwater.ambiguity.cache_bound import make_room, note_use
from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.view_cache import kept_views
from headwater.ambiguity.views import Views, image_views
from headwater.errors import RequestError
from headwater.pixels import byte_range, image_bytes
from headwater.store import open_store

if TYPE_CHECKING:
    import torch

    from headwater.extract import Progress


@dataclass(frozen=True)
class Extraction:
    """Which features: those of `backbone` with `weights`, kept in the store at `store`.

    Where `store` is None it is a place in the user's cache, found again by the images' content, until others
    that were used later need the room (`cache_bound.BYTES`).
    """

    backbone: str
    weights: str | None = None
    store: Path | None = None


def features_of(
    dataset: Dataset,
    asked: Extraction | str | None,
    *,
    seed: int,
    device: torch.device,
    cache: Path | None = None,
    extracting: Callable[[Progress], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Views:
    """Those of the backbone that was asked for, else what is learned from the images; none of vectors.

    What is learned from the images is kept in the folder `cache`, if there is one, and read back from it.
    RequestError as `extract` says.
    """
    if isinstance(asked, str):
        asked = Extraction(asked)
    if asked is not None:
        return {asked.backbone: extract(dataset, asked, device, extracting)}
    if not dataset.problem.are_images:
        return {}
    make = partial(image_views, dataset.problem, seed=seed, device=device, progress=progress)
    return make() if cache is None else kept_views(cache, dataset, seed, make)


def user_cache() -> Path:
    """The folder in the user's cache for what `features_of` keeps."""
    from headwater.extract.compiling import cache_folder  # noqa: PLC0415

    return cache_folder() / "views"


def extract(
    dataset: Dataset,
    asked: Extraction,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
) -> NDArray[np.float32]:
    """Features (n + m + t, dim) of labeled, unlabeled and target images; those there are already are read.

    RequestError where the rows are no images, or the backbone cannot be had.
    """
    from headwater.extract import extract_features  # noqa: PLC0415

    if not dataset.problem.are_images:
        what = "features already" if dataset.recipe is not None else "vectors"
        raise RequestError(f"the rows of {dataset.name} are {what}, which no backbone takes; leave it out")
    place = store_of(dataset, asked)
    extract_features(
        ProblemImages(dataset),
        place,
        backbone=asked.backbone,
        weights=asked.weights,
        device=str(device),
        strict=True,
        progress=progress,
    )
    if asked.store is None:
        note_use(place)
        make_room(place)
    return np.asarray(open_store(place).features[:], dtype=np.float32)


def store_of(dataset: Dataset, asked: Extraction) -> Path:
    """The store that keeps the features of a data set's images."""
    return asked.store or _cached(dataset, asked)


class ProblemImages:
    """A problem's images as a source of extraction: labeled, unlabeled, then target ones, by their numbers.

    Grey values, or three channels, as bytes by the rule for arrays (`pixels.byte_range`), one for all.
    """

    skipped = 0

    def __init__(self, dataset: Dataset) -> None:
        problem = dataset.problem
        self._parts = (problem.labeled, problem.unlabeled, problem.target)
        self._starts = np.cumsum([0, *map(len, self._parts)])
        self._ends = byte_range(
            min(float(part.min()) for part in self._parts), max(float(part.max()) for part in self._parts)
        )
        self.name = str(dataset.place)
        self.annotations: Mapping[str, Sequence[Any]] = {}
        self.keys: Sequence[str] = dataset.keys

    def load(self, row: int) -> NDArray[np.uint8]:
        """One image, uint8 (h, w) or (h, w, 3)."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        image = self._parts[part][row - self._starts[part]]
        return image_bytes(image[0] if len(image) < 3 else image[:3].transpose(1, 2, 0), self._ends)


def _cached(dataset: Dataset, asked: Extraction) -> Path:
    from headwater.extract.compiling import cache_folder  # noqa: PLC0415

    weights = "" if asked.weights is None else f"-{_name_of(Path(asked.weights))}"
    name = f"{dataset.content[:16]}-{asked.backbone}{weights}".replace(os.sep, "-").replace(":", "-")
    return cache_folder() / "ambiguity" / f"{name}.store"


def _name_of(weights: Path) -> str:
    """The name of weights, and of a file's what is in it, too: files of one name may differ."""
    if not weights.is_file():
        return weights.name
    read = hashlib.sha256()
    with weights.open("rb") as file:
        while block := file.read(1 << 20):
            read.update(block)
    return f"{weights.name}-{read.hexdigest()[:16]}"
