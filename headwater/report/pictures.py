"""Thumbnails of a store's rows from the images it was made from, where those are still at hand."""

from __future__ import annotations

import base64
import io
import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SIDE = 168  # shown at 112 pixels, sharp enough for a phone's screen
_QUALITY = 72
_MANIFESTS = (".csv", ".tsv", ".parquet")
_MOST_PIXELS = 60_000_000  # a larger picture is not worth its time for a thumbnail


class Pictures:
    """Finds a row's picture by its key. `note` says why there are none, empty when there may be."""

    def __init__(self, source: str | os.PathLike[str]) -> None:
        place = Path(source)
        self._folder: Path | None = None
        self._arrays: NDArray[np.generic] | None = None
        self.note = ""
        if place.is_dir():
            self._folder = place
        elif place.is_file() and place.suffix.lower() in _MANIFESTS:
            self._folder = place.parent
        elif place.is_file() and place.suffix.lower() in (".npy", ".npz"):
            self._arrays = _images_in(place)
        if self._folder is None and self._arrays is None:
            self.note = (
                "The images are not at hand, so none is shown: there is no folder, manifest or array file at "
                "the place that the store names. Give it with --images."
            )

    def thumbnail(self, key: str) -> str | None:
        """A square `data:` URI of the row's picture, None when it cannot be read."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                return _encoded(self._open(key))
        # What Pillow raises on a file that is no picture, is torn, or lies about its size.
        except (OSError, ValueError, SyntaxError, IndexError, Image.DecompressionBombError):
            return None

    def _open(self, key: str) -> Image.Image:
        if self._arrays is not None:
            return Image.fromarray(_bytes(np.asarray(self._arrays[int(key)])))
        if self._folder is None:
            raise FileNotFoundError(key)
        picture = Image.open(self._folder / key)
        if picture.width * picture.height > _MOST_PIXELS:
            raise ValueError("the picture is too large for a thumbnail")
        picture.draft("RGB", (2 * SIDE, 2 * SIDE))
        return ImageOps.exif_transpose(picture)


def _encoded(picture: Image.Image) -> str:
    square = ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    square.save(file, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _images_in(path: Path) -> NDArray[np.generic] | None:
    """The array of images in the file: the only one with three or four axes."""
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, mmap_mode="r"))
        with np.load(path) as file:
            names = [name for name in file.files if file[name].ndim in (3, 4)]
            return np.asarray(file[names[0]]) if len(names) == 1 else None
    except (OSError, ValueError):
        return None


def _bytes(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """One image of any layout and range as uint8, grey (h, w) or colour (h, w, 3)."""
    if image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[2] not in (1, 3, 4):
        image = image.transpose(1, 2, 0)
    if image.ndim == 3:
        image = image[..., 0] if image.shape[2] == 1 else image[..., :3]
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    values = image.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    low, high = (
        (0.0, 1.0) if low >= 0 and high <= 1 else (0.0, 255.0) if low >= 0 and high <= 255 else (low, high)
    )
    return np.rint((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
