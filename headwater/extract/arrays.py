"""Images in .npy and .npz files, or in one array in memory, as a source.

Encoded pictures are decode.py's business; the rule for the range of floats is `modes.byte_range`.
"""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.extract.modes import byte_range, scale_to_bytes
from headwater.extract.rows import ReadError
from headwater.store import show_key

IMAGE_NAMES = ("images", "image", "x", "data", "arr_0")
"""Names, in any letter case, of the images among other arrays in an .npz file; the first one wins."""

_CHANNELS = (1, 3, 4)
_NPY, _ZIP, _PICKLE = b"\x93NUMPY", b"PK", b"\x80"
_BLOCK_BYTES = 1 << 26

_log = logging.getLogger(__name__)


class ArraySource:
    """The images of one array, keyed by their decimal row numbers.

    Shapes: (n, h, w), or with 1, 3 or 4 channels (grey, RGB, RGBA) in front of or behind height and width.
    uint8 is taken as it is, bool as black and white, other integers when all lie in 0..255. Floats are mapped
    to bytes by one rule for the whole array (`modes.byte_range`): from [0, 1], from [0, 255], or from lowest
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
        self._images = _with_channels_last(images, name)
        self._range = _value_range(self._images, name)
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
        image = self._images[row]
        if self._range is None:
            return np.ascontiguousarray(image, dtype=np.uint8)
        if not np.isfinite(image).all():
            raise ReadError("the image holds values that are not finite (NaN or infinity)")
        return scale_to_bytes(image, *self._range)


def open_arrays(path: Path) -> ArraySource:
    """Open images in an .npy file (memory-mapped) or .npz file (read whole); nothing is ever unpickled.

    In an .npz file the images are the one array with three or four axes, or the one named like `IMAGE_NAMES`
    among several. Every one-dimensional array of the same length becomes an annotation under its own name.

    Raises:
        RequestError: the file is damaged, holds Python objects, or does not say which array holds the images.
    """
    name = str(path)
    shown = show_key(name)
    try:
        _check_beginning(path, shown)
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return ArraySource(loaded, name=name)
        with loaded:
            arrays = {member: loaded[member] for member in loaded.files}
    except PermissionError as error:
        raise RequestError(f"{shown} may not be read; check its permissions") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if any(word in str(error) for word in ("pickle", "Object arrays", "Python objects")):
            raise RequestError(
                f"{shown} holds pickled Python objects, which can run code when they are read; save it again"
                " as plain numbers or text (array.astype(...))"
            ) from error
        raise RequestError(f"{shown} cannot be read as a NumPy file ({error}); save it again") from error
    images = _choose_images(arrays, shown)
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


def _check_beginning(path: Path, shown: str) -> None:
    """NumPy takes any file that it does not know for a pickle, and would say so of a text."""
    with path.open("rb") as file:
        beginning = file.read(len(_NPY))
    if beginning and not beginning.startswith((_NPY, _ZIP, _PICKLE)):
        raise RequestError(
            f"{shown} cannot be read as a NumPy file (it does not begin like one); save it with "
            "numpy.save or numpy.savez"
        )


def _choose_images(arrays: Mapping[str, NDArray[Any]], shown: str) -> str:
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


def _column(array: NDArray[Any]) -> Sequence[Any]:
    if array.dtype.kind == "S":
        return [value.decode("utf-8", "backslashreplace") for value in array.tolist()]
    if array.dtype.kind == "b":
        array = array.astype(np.int64)
    values: list[Any] = array.tolist()
    return values


def _with_channels_last(images: NDArray[Any], name: str) -> NDArray[Any]:
    """A view of shape (n, h, w) or (n, h, w, channels)."""
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
        if images.shape[2] in _CHANNELS:
            raise RequestError(
                f"{shown} looks like one single image, not many; give it a first axis with array[None]"
            )
        return images
    first, last = images.shape[1] in _CHANNELS, images.shape[3] in _CHANNELS
    if first == last:
        what = (
            "may have its channels first or last"
            if first
            else "has 1, 3 or 4 channels neither first nor last"
        )
        raise RequestError(f"{shown} {what}; save it as (n, h, w, channels) with sides longer than 4 pixels")
    images = images.transpose(0, 2, 3, 1) if first else images
    return images[..., 0] if images.shape[3] == 1 else images


def _value_range(images: NDArray[Any], name: str) -> tuple[float, float] | None:
    """The values that stand for black and white, found by reading all; None where they are bytes already."""
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
