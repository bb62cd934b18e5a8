"""Images in .npy and .npz files, or in one array in memory, as a source.

Encoded pictures are decode.py's business; the rules for shapes and ranges are those of `headwater.pixels`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.extract.rows import ReadError
from headwater.pixels import channels_last, choose_images, image_bytes, value_range
from headwater.store import read_arrays, show_key

_log = logging.getLogger(__name__)


class ArraySource:
    """The images of one array, keyed by their decimal row numbers.

    Shapes: (n, h, w), or with 1, 3 or 4 channels (grey, RGB, RGBA) in front of or behind height and width.
    uint8 is taken as it is, bool as black and white, other integers when all lie in 0..255. Floats are mapped
    to bytes by one rule for the whole array (`pixels.byte_range`): from [0, 1], from [0, 255], or from lowest
    to highest value. A row that holds NaN or infinity fails, and does not count for the range.
    """

    skipped = 0

    def __init__(
        self,
        images: NDArray[Any],
        *,
        name: str,
        annotations: Mapping[str, Sequence[Any]] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self._images = channels_last(images, name)
        self._range = value_range(self._images, name)
        self.annotations: Mapping[str, Sequence[Any]] = annotations or {}
        self.notes = tuple(notes)
        self.keys: Sequence[str] = [str(row) for row in range(len(images))]
        self.name = name
        if self._range not in (None, (0.0, 1.0), (0.0, 255.0)):
            black, white = self._range or (0.0, 0.0)
            self.name = f"{name} (values from {black:g} to {white:g} stretched to 0..255)"
            _log.info("%s", self.name)

    def load(self, row: int) -> NDArray[np.uint8]:
        """One image, uint8 (h, w) or (h, w, channels); ReadError when it holds NaN or infinity."""
        try:
            return image_bytes(self._images[row], self._range)
        except ValueError as error:
            raise ReadError(str(error)) from error


def open_arrays(path: Path) -> ArraySource:
    """Open images in an .npy file (memory-mapped) or .npz file (read whole); nothing is ever unpickled.

    In an .npz file the images are the one array with three or four axes, or the one named like `IMAGE_NAMES`
    among several. Every one-dimensional array of the same length becomes an annotation under its own name.

    Raises:
        RequestError: the file is damaged, holds Python objects, or does not say which array holds the images.
    """
    name = str(path)
    shown = show_key(name)
    arrays = read_arrays(path)
    if isinstance(arrays, np.ndarray):
        return ArraySource(arrays, name=name)
    images = choose_images(arrays, shown)
    columns = {
        member: _column(array)
        for member, array in arrays.items()
        if array.ndim == 1 and len(array) == len(arrays[images]) and array.dtype.kind in "biufUS"
    }
    unused = sorted(set(arrays) - {images} - set(columns))
    if unused:
        _log.info(
            "%s: left out %s, which are no columns of %d rows", shown, ", ".join(unused), len(arrays[images])
        )
    notes = [
        f"left out the array {member}, with {len(arrays[member]):,} values for {len(arrays[images]):,} images"
        for member in unused
        if arrays[member].ndim == 1 and len(arrays[member]) != len(arrays[images])
    ]
    return ArraySource(arrays[images], name=f"{name}, {images}", annotations=columns, notes=notes)


def _column(array: NDArray[Any]) -> Sequence[Any]:
    if array.dtype.kind == "S":
        return [value.decode("utf-8", "backslashreplace") for value in array.tolist()]
    if array.dtype.kind == "b":
        array = array.astype(np.int64)
    values: list[Any] = array.tolist()
    return values
