"""Arrays of images: which array holds them, where their channels are, which values are black and white.

Opening files is the rooms' business: extraction reads images by these rules, and a report shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError

IMAGE_NAMES = ("images", "image", "x", "data", "arr_0")
"""Names, in any letter case, of the images among other arrays in an .npz file; the first one wins."""

CHANNELS = (1, 3, 4)
"""How many channels an image may have: grey, RGB, RGBA."""

_BLOCK_BYTES = 1 << 26
_SEEN_IMAGES, _TAIL = 256, 0.002


def choose_images(arrays: Mapping[str, NDArray[Any]], shown: str) -> str:
    """Which of a file's arrays holds its images: the one of three or four axes, or the one so named.

    RequestError, with the file as `shown`, when none does, or several may (see `IMAGE_NAMES`).
    """
    candidates = [member for member, array in arrays.items() if array.ndim in (3, 4)]
    if len(candidates) > 1:
        by_name = {member.lower(): member for member in candidates}
        candidates = [by_name[name] for name in IMAGE_NAMES if name in by_name][:1] or candidates
    if len(candidates) == 1:
        return candidates[0]
    shapes = ", ".join(f"{member} {array.shape}" for member, array in arrays.items()) or "nothing"
    if candidates:
        raise RequestError(
            f"{shown} does not say which array holds the images ({shapes}); name one of them 'images'"
        )
    raise RequestError(
        f"{shown} has no array of images, of three or four axes (it holds {shapes}); features made elsewhere"
        " come in by `headwater store import`"
    )


def channels_last(images: NDArray[Any], name: str) -> NDArray[Any]:
    """A view of shape (n, h, w) or (n, h, w, channels) of images with their channels anywhere.

    RequestError, with the array as `name`, when its shape or its kind of numbers is not that of images.
    """
    shown = f"{name} of shape {images.shape}"
    if images.dtype.kind not in "buif":
        raise RequestError(f"{shown} holds {images.dtype}, not numbers; images are uint8 or float")
    if images.ndim == 2:
        raise RequestError(
            f"{shown} is a table, not images of (n, h, w) or with channels; features made elsewhere come in"
            " by `headwater store import`"
        )
    if images.ndim not in (3, 4):
        raise RequestError(f"{shown} is not images of (n, h, w), (n, h, w, channels) or (n, channels, h, w)")
    if images.size == 0:
        raise RequestError(f"{shown} holds no images")
    if images.ndim == 3:
        if images.shape[2] in CHANNELS:
            raise RequestError(
                f"{shown} looks like one single image, not many; give it a first axis with array[None]"
            )
        return images
    first, last = images.shape[1] in CHANNELS, images.shape[3] in CHANNELS
    if first == last:
        what = (
            "may have its channels first or last"
            if first
            else "has 1, 3 or 4 channels neither first nor last"
        )
        raise RequestError(f"{shown} {what}; save it as (n, h, w, channels) with sides longer than 4 pixels")
    images = images.transpose(0, 2, 3, 1) if first else images
    return images[..., 0] if images.shape[3] == 1 else images


def value_range(images: NDArray[Any], name: str) -> tuple[float, float] | None:
    """The values that stand for black and white, found by reading all; None where they are bytes already.

    RequestError for integers beyond 0..255, and where no image is free of NaN and infinity.
    """
    if images.dtype == np.uint8:
        return None
    if images.dtype.kind == "b":
        return 0.0, 1.0
    low, high = np.inf, -np.inf
    step = max(1, _BLOCK_BYTES // max(1, images[0].nbytes))
    for start in range(0, len(images), step):
        block = images[start : start + step]
        finite = np.isfinite(block).all(axis=tuple(range(1, block.ndim)))
        if finite.any():
            good = block if finite.all() else block[finite]
            low, high = min(low, float(good.min())), max(high, float(good.max()))
    if images.dtype.kind in "iu":
        if low < 0 or high > 255:
            raise RequestError(
                f"{name} holds {images.dtype} from {low:g} to {high:g}, which no rule maps to 0..255; scale"
                " it and save it as uint8"
            )
        return None
    if low > high:
        raise RequestError(f"{name} holds no image without NaN or infinity")
    return byte_range(low, high)


def byte_range(low: float, high: float) -> tuple[float, float]:
    """Which values of a float image stand for black and white, told from its lowest and highest value.

    Values within [0, 1] are shares of white. Values within [0, 255] whose highest is above the middle, 127.5,
    are bytes already. Any other range, such as [0, 2] or [-1, 1], is stretched from its lowest value (black)
    to its highest (white), so that nothing is clipped.
    """
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= 0 and 127.5 < high <= 255:
        return 0.0, 255.0
    return low, high


def visible_range(images: NDArray[np.float32]) -> tuple[float, float]:
    """Which values of float images (n, channels, h, w) people see as black and white, from a sample of them.

    Values within [0, 1] are shares of white. Any others are stretched so that all but the outermost 0.4 % of
    them, which noise makes, lie between black and white.
    """
    seen = images[:: max(1, len(images) // _SEEN_IMAGES)]
    if float(seen.min()) >= 0 and float(seen.max()) <= 1:
        return 0.0, 1.0
    black, white = np.quantile(seen, (_TAIL, 1 - _TAIL))
    return float(black), float(white)


def visible(image: NDArray[np.float32], ends: tuple[float, float]) -> NDArray[np.uint8]:
    """Values (channels, h, w) between black and white, uint8 (h, w), or (h, w, 3) of the first three."""
    shown = scale_to_bytes(image, *ends)
    return np.ascontiguousarray(shown[0] if len(shown) < 3 else shown[:3].transpose(1, 2, 0))


def scale_to_bytes(values: NDArray[np.generic], black: float, white: float) -> NDArray[np.uint8]:
    """Map `black` to 0 and `white` to 255 linearly, rounded to the nearest; the shape stays."""
    scaled = (values.astype(np.float64) - black) * (255.0 / (white - black) if white > black else 0.0)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def image_bytes(image: NDArray[Any], ends: tuple[float, float] | None) -> NDArray[np.uint8]:
    """One image of an array as bytes of the same shape, by the `value_range` of the whole array.

    ValueError where it holds NaN or infinity.
    """
    if ends is None:
        return np.ascontiguousarray(image, dtype=np.uint8)
    if not np.isfinite(image).all():
        raise ValueError("the image holds values that are not finite (NaN or infinity)")
    return np.ascontiguousarray(scale_to_bytes(image, *ends))
