"""Pictures as text: two pixels in every character cell, above each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.text import Text

_SHADES = " .:-=+*#%@"


def drawn(picture: NDArray[np.uint8], width: int, height: int, *, coloured: bool) -> Text:
    """The picture, uint8 (h, w) or (h, w, 3), in at most `width` columns and `height` lines.

    Small pictures grow by whole factors, large ones shrink. Without colours, brightness becomes letters.
    """
    cells = _fitted(picture, width, 2 * height)
    if len(cells) % 2:
        cells = np.concatenate([cells, cells[-1:]])
    text = Text(no_wrap=True, overflow="crop", end="")
    for top, bottom in zip(cells[::2], cells[1::2], strict=True):
        if coloured:
            for above, below in zip(top.tolist(), bottom.tolist(), strict=True):
                text.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        else:
            grey = (top.astype(float) + bottom).mean(axis=1) / 510
            text.append("".join(_SHADES[int(each)] for each in np.rint(grey * (len(_SHADES) - 1))))
        text.append("\n")
    return text


def _fitted(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The picture as uint8 (rows, columns, 3), of at most that size."""
    colours = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)
    rows, columns = colours.shape[:2]
    factor = min(width // columns, height // rows)
    if factor >= 1:
        return np.repeat(np.repeat(colours, factor, axis=0), factor, axis=1)
    share = min(width / columns, height / rows)
    size = (max(1, int(columns * share)), max(1, int(rows * share)))
    return np.asarray(Image.fromarray(colours).resize(size, Image.Resampling.BOX))
