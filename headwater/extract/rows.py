"""What a row hands from its source to the decoder, and the error by which it says why it has no pixels.

Nothing here opens, lists or decodes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Raw = bytes | NDArray[np.uint8]
"""An encoded picture as bytes, or pixels as uint8: (h, w) grey, or (h, w, c) with c = 1, 3 or 4 (RGBA)."""

MAX_PIXELS = 178_956_970
"""The most pixels one picture may have; above it Pillow, too, refuses a picture as a decompression bomb."""


class RowError(Exception):
    """One row cannot become pixels. It fails alone, with `reason`; the other rows of the job go on.

    The reason names no path of this machine, so that the same fault leaves the same bytes in every store.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ReadError(RowError):
    """The bytes of a row could not be had: missing, not permitted, not a file."""


class DecodeError(RowError):
    """The bytes of a row are not one whole picture that can be decoded."""
