"""Arrays of items brought to one layout and one scale: where channels are, what is finite, what is alike.

Opening files is done elsewhere; every refusal here names the file that it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.printable import counted

_MOST_CHANNELS = 4
_BLOCK_BYTES = 1 << 25
_LEAST, _MOST = 1e-12, 1e12
_BYTES_BEGIN, _UNIT_ENDS = 127.5, 2.5
"""An array of images with values above the first holds bytes; one with none above the second does not."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What one look at every number of an array tells: its ends, and a 64-bit hash of each row (n,)."""

    low: float
    high: float
    hashes: NDArray[np.uint64]


def common_layout(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """The arrays, by file, as float32: images (n, channels, h, w), or vectors (n, dim), all of one shape.

    An array that is laid out so already is not copied. Arrays without rows take the others' shape.

    Raises:
        RequestError: they hold no numbers or numbers too large, have other axes than items do, differ in the
            shape of their items, or do not tell which axis has the channels.
    """
    for name, array in arrays.items():
        _check_kind(name, array)
    filled = {name: array for name, array in arrays.items() if len(array)}
    first, *others = filled
    for name in others:
        if filled[name].shape[1:] != filled[first].shape[1:]:
            raise RequestError(
                f"the items differ in shape: {name} has {_shape(filled[name])} and {first} has "
                f"{_shape(filled[first])}; save all of them alike"
            )
    order = _order(first, filled[first])
    found = {name: _float32(name, order(array)) for name, array in filled.items()}
    none = found[first][:0]
    return {name: found.get(name, none) for name in arrays}


def survey(name: str, items: NDArray[np.float32]) -> Survey:
    """Look at every number once; RequestError where some are not finite, with how many rows and which."""
    hashes = np.empty(len(items), dtype=np.uint64)
    low, high, bad = np.inf, -np.inf, []
    for start in range(0, len(items), _block(items)):
        block = items[start : start + _block(items)]
        smallest, largest = float(block.min()), float(block.max())
        if not np.isfinite(smallest) or not np.isfinite(largest):  # NaN spreads to both ends
            finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
            bad += (start + np.flatnonzero(~finite)).tolist()
        low, high = min(low, smallest), max(high, largest)
        for row, item in enumerate(block, start):
            hashes[row] = xxhash.xxh3_64_intdigest(item)
    if bad:
        raise RequestError(
            f"{name} holds NaN or infinity in {len(bad):,} of its {counted(len(items), 'row')}, the first of "
            f"them row {bad[0]}; mend those rows, or leave them out"
        )
    return Survey(low, high, hashes)


def common_scale(
    items: Mapping[str, NDArray[np.float32]], surveys: Mapping[str, Survey]
) -> dict[str, NDArray[np.float32]]:
    """Images with bytes divided by 255, all alike; vectors and images of other values as they are.

    Where no square of a value would be a normal float32, a power of two brings all of them near one.
    RequestError where some files hold bytes and others shares of one.
    """
    seen = {name: found for name, found in surveys.items() if len(items[name])}
    size = max(max(abs(found.low), abs(found.high)) for found in seen.values())
    if not _LEAST < size < _MOST:
        return {name: np.ldexp(array, -int(np.frexp(size)[1])) for name, array in items.items()}
    if next(iter(items.values())).ndim != 4:
        return dict(items)
    largest = max(seen, key=lambda name: seen[name].high)
    if not _BYTES_BEGIN < seen[largest].high <= 255:
        return dict(items)
    small = [name for name, found in seen.items() if 0 < found.high <= _UNIT_ENDS]
    if small:
        raise RequestError(
            f"the images differ in scale: {largest} has values up to {seen[largest].high:g} and {small[0]} "
            f"only up to {seen[small[0]].high:g}; save all of them alike"
        )
    if min(found.low for found in seen.values()) < 0:
        return dict(items)
    return {name: array / np.float32(255) for name, array in items.items()}


def _block(items: NDArray[np.float32]) -> int:
    return max(1, _BLOCK_BYTES // max(1, items[:1].nbytes))


def _check_kind(name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in "buif":
        raise RequestError(f"{name} holds {array.dtype}, and items are numbers; save it as float32 or uint8")
    if array.ndim == 0 or (len(array) and (array.ndim > 4 or array.size == 0)):
        raise RequestError(
            f"{name} has the shape {array.shape}; items are vectors (n, dim) or images (n, h, w), "
            "(n, channels, h, w) or (n, h, w, channels)"
        )


def _shape(array: NDArray[Any]) -> str:
    return " x ".join(map(str, array.shape[1:])) or "one number"


def _order(name: str, array: NDArray[Any]) -> Any:
    """What brings such an array to (n, dim) or (n, channels, h, w)."""
    if array.ndim == 1:
        return lambda given: given[:, None]
    if array.ndim == 2:
        return lambda given: given
    if array.ndim == 3:
        return lambda given: given[:, None]
    first, last = array.shape[1], array.shape[3]
    if first <= _MOST_CHANNELS and first < last:
        return lambda given: given
    if last <= _MOST_CHANNELS and last < first:
        return lambda given: given.transpose(0, 3, 1, 2)
    raise RequestError(
        f"{name} has items of {_shape(array)}, which does not tell where the channels are: 1 to "
        f"{_MOST_CHANNELS} of them, first or last, and fewer than the sides have pixels"
    )


def _float32(name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype == np.float32 and array.flags.c_contiguous and array.dtype.isnative:
        return np.asarray(array)
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        _check_overflow(name, array, found)
    return found


def _check_overflow(name: str, array: NDArray[Any], found: NDArray[np.float32]) -> None:
    for start in range(0, len(found), _block(found)):
        part = slice(start, start + _block(found))
        lost = np.isinf(found[part]) & np.isfinite(array[part])
        if lost.any():
            raise RequestError(
                f"{name} holds {array[part][lost].flat[0]:g}, too large a number for float32; scale it down"
            )
