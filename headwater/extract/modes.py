"""Turns a loaded picture of any Pillow mode into RGB: grey, palette, alpha, CMYK, samples of over 8 bits.

Finding and opening the format is decode.py's business; which values are black and white is pixels.py's.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from headwater.extract.rows import DecodeError
from headwater.pixels import byte_range, scale_to_bytes

_WHITE = (255, 255, 255)


def to_rgb(
    picture: Image.Image, *, inverted: bool = False, bits: int = 16, unsigned: bool = False
) -> Image.Image:
    """The picture in mode RGB.

    Samples of 16 bits keep their high byte, which is exact for 8-bit pictures that were widened by shifting
    or by repeating the byte (times 257). In 32-bit integers and floats no value is white: `byte_range` rules.

    Args:
        picture: loaded; its `info` may hold a transparent colour or palette entry.
        inverted: the stored samples are to be inverted first (0 is white, or plain CMYK that was read as
            Adobe's).
        bits: significant bits of a mode I;16 sample, such as 12.
        unsigned: mode I holds unsigned 32-bit integers.

    Raises:
        DecodeError: a float picture holds NaN or infinity, or the mode has no way to RGB.
    """
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith(("I", "F")):
        return _wide_to_rgb(picture, inverted, bits, unsigned)
    if picture.mode == "CMYK":
        return (ImageChops.invert(picture) if inverted else picture).convert("RGB")
    if "transparency" in picture.info or picture.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return _over_white(picture)
    try:
        return picture.convert("RGB")
    except ValueError as error:
        raise DecodeError(f"colours of mode {picture.mode} cannot be converted to RGB") from error


def _wide_to_rgb(picture: Image.Image, inverted: bool, bits: int, unsigned: bool) -> Image.Image:
    values = np.asarray(picture)
    if picture.mode.startswith("I;16"):
        grey = (values >> (bits - 8)).astype(np.uint8)
        transparent = values == picture.info["transparency"] if "transparency" in picture.info else None
        if inverted:
            grey = 255 - grey
        if transparent is not None:
            grey = np.where(transparent, np.uint8(255), grey)
        return Image.fromarray(grey).convert("RGB")
    if picture.mode == "I" and unsigned:
        values = values.view(np.uint32)
    if not np.isfinite(values).all():
        raise DecodeError("it holds values that are not finite (NaN or infinity)")
    low, high = float(values.min()), float(values.max())
    black, white = byte_range(low, high) if picture.mode == "F" or high > 1 or low < 0 else (0.0, 255.0)
    grey = scale_to_bytes(values, black, white)
    return Image.fromarray(255 - grey if inverted else grey).convert("RGB")


def _over_white(picture: Image.Image) -> Image.Image:
    """Lay the picture over white by its alpha, each channel rounded to the nearest."""
    layer = picture.convert("RGBA")
    page = Image.new("RGB", layer.size, _WHITE)
    page.paste(layer.convert("RGB"), mask=layer.getchannel("A"))
    return page
