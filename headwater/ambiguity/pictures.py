"""Pictures of target rows for people, from the arrays themselves or from what a store was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from headwater.members import is_archive_name
from headwater.pixels import visible, visible_range

Pictured = Callable[[int], NDArray[np.uint8] | None]


def array_pictures(images: NDArray[np.float32]) -> Pictured:
    """Pictures of images (n, channels, h, w), by the rule for what people see (`pixels.visible_range`)."""
    ends = visible_range(images)
    return lambda row: visible(images[row], ends)


def store_pictures(source: str, keys: Sequence[str]) -> Pictured:
    """Pictures of a store's rows, by their place in `keys`, where the store's source is still at hand."""
    from headwater.report.pictures import Pictures  # noqa: PLC0415

    found: Pictures | None = None

    def picture(row: int) -> NDArray[np.uint8] | None:
        nonlocal found
        # An archive is read for the keys that are wanted, and all of them would be too much of it.
        if found is None or is_archive_name(source):
            found = Pictures(source, [keys[row]])
        image = found.picture(keys[row])
        return None if image is None else np.asarray(image)

    return picture
