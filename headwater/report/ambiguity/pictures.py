"""Rows, means and differences as small pictures for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headwater.pixels import visible
from headwater.report.ambiguity.data import Picture

_LARGEST = 224
_LESS, _NONE, _MORE = (30, 110, 180), (243, 243, 240), (205, 85, 15)


def picture(pixels: NDArray[np.uint8], text: str) -> Picture:
    """Of bytes (h, w) or (h, w, 3); larger ones are made smaller."""
    image = Image.fromarray(pixels)
    if max(image.size) > _LARGEST:
        image.thumbnail((_LARGEST, _LARGEST))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(uri, image.width, image.height, text)


def image_picture(image: NDArray[np.float32], ends: tuple[float, float], text: str) -> Picture:
    """Of values (channels, h, w) between those that stand for black and white."""
    return picture(visible(image, ends), text)


def strongest(images: Sequence[NDArray[np.float32]]) -> float:
    """The size of a difference that all but the strongest of these (channels, h, w) stay below."""
    return max([float(np.quantile(np.abs(each.mean(axis=0)), 0.995)) for each in images], default=1.0)


def difference_picture(image: NDArray[np.float32], full: float, text: str) -> Picture:
    """Of differences (channels, h, w): blue where negative, orange where positive, fully so at `full`."""
    flat = image.mean(axis=0, dtype=np.float64) / max(full, 1e-12)
    strength = np.clip(np.abs(flat), 0, 1)[..., None]
    colour = np.where(flat[..., None] > 0, np.array(_MORE), np.array(_LESS))
    return picture(np.rint(np.array(_NONE) * (1 - strength) + colour * strength).astype(np.uint8), text)
