"""Pictures of target rows for people, from the arrays themselves or from what a store was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from headwater.members import is_archive_name
from headwater.pixels import scale_to_bytes

Pictured = Callable[[int], NDArray[np.uint8] | None]

_SEEN_ROWS, _TAIL = 256, 0.002


def array_pictures(images: NDArray[np.float32]) -> Pictured:
    """Pictures of images (n, channels, h, w): grey, or the first three channels as red, green and blue.

    Values within [0, 1] are shares of white. Any others are stretched so that all but the outermost 0.4 % of
    them, which noise makes, lie between black and white.
    """
    seen = images[:: max(1, len(images) // _SEEN_ROWS)]
    low, high = float(seen.min()), float(seen.max())
    black, white = (0.0, 1.0) if low >= 0 and high <= 1 else np.quantile(seen, (_TAIL, 1 - _TAIL)).tolist()

    def picture(row: int) -> NDArray[np.uint8]:
        shown = scale_to_bytes(images[row], black, white)
        if len(shown) < 3:
            return np.ascontiguousarray(shown[0])
        return np.ascontiguousarray(shown[:3].transpose(1, 2, 0))

    return picture


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
