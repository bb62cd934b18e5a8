"""What a shard file holds and how one is written; a packed store's file holds the same datasets for all rows.

Which rows stand in which shard is the plan's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.store.plan import FORMAT, Plan
from headwater.store.sealed import new_dataset, tagged, text_dtype, writing_sealed

ROW_OK = 0
ROW_FAILED = 1

ERROR_BYTES = 512
ERROR_CHUNK = 16


@dataclass(frozen=True)
class ShardRows:
    """One whole shard of n rows, as handed to the writer.

    `features` (n, dim) and `augmented` (views, n, dim; None when the plan has no views) in the plan's dtype;
    `status` (n,) uint8, 0 where the row is good; `error` one text per row, "" where good; `width` and
    `height` (n,) int32 of the upright image, 0 where unknown.
    """

    features: NDArray[Any]
    augmented: NDArray[Any] | None
    status: NDArray[np.uint8]
    error: Sequence[str]
    width: NDArray[np.int32]
    height: NDArray[np.int32]


def shard_name(shard: int) -> str:
    """The file name of a shard."""
    return f"shard-{shard:05d}.h5"


def shard_number(name: str) -> int | None:
    """The shard that has this file name, or None for another file."""
    digits = name.removeprefix("shard-").removesuffix(".h5")
    return int(digits) if digits.isascii() and digits.isdigit() and name == shard_name(int(digits)) else None


def dataset_layout(plan: Plan, rows: int) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of every dataset in a file of `rows` rows, in the order in which they are written."""
    layout: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        "features": ((rows, plan.dim), plan.feature_dtype)
    }
    if plan.views:
        layout["augmented"] = ((plan.views, rows, plan.dim), plan.feature_dtype)
    layout["key"] = ((rows,), text_dtype(plan.key_bytes))
    layout["status"] = ((rows,), np.dtype("u1"))
    layout["width"] = ((rows,), np.dtype("<i4"))
    layout["height"] = ((rows,), np.dtype("<i4"))
    layout["error"] = ((rows,), text_dtype(ERROR_BYTES))
    return layout


def create_dataset(file: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
    """Create one of a shard's datasets, empty.

    All are contiguous but `error`, whose chunks take room only where a row failed.
    """
    if name == "error" and shape[0] > 0:
        return new_dataset(file, name, shape=shape, dtype=dtype, chunks=(min(ERROR_CHUNK, shape[0]),))
    return new_dataset(file, name, shape=shape, dtype=dtype)


def write_shard(path: Path, plan: Plan, shard: int, keys: Sequence[bytes], rows: ShardRows) -> None:
    """Write one shard whole.

    RequestError when the arrays do not fit the plan, HeadwaterError when the disk refuses.
    """
    start, stop = plan.shard_range(shard)
    arrays = checked_arrays(plan, stop - start, rows)
    with writing_sealed(path, "shard") as file:
        file.attrs["format"] = np.int32(FORMAT)
        file.attrs["fingerprint"] = np.bytes_(plan.fingerprint)
        file.attrs["shard"] = np.int32(shard)
        file.attrs["first_row"] = np.int64(start)
        for name, (shape, dtype) in dataset_layout(plan, stop - start).items():
            dataset = create_dataset(file, name, shape, dtype)
            if name == "key":
                dataset[...] = np.array(keys, dtype=f"S{plan.key_bytes}").astype(dtype)
            elif name == "error":
                write_errors(dataset, rows.error)
            elif 0 not in shape:
                dataset[...] = arrays[name]


def checked_arrays(plan: Plan, count: int, rows: ShardRows) -> dict[str, NDArray[Any]]:
    """The arrays of a shard of `count` rows, contiguous; RequestError naming the first that does not fit."""
    arrays: dict[str, NDArray[Any]] = {"features": rows.features}
    if rows.augmented is not None or plan.views:
        if rows.augmented is None or not plan.views:
            raise RequestError(f"the plan has {plan.views} augmented views and the rows handed over disagree")
        arrays["augmented"] = rows.augmented
    arrays |= {"status": rows.status, "width": rows.width, "height": rows.height}
    layout = dataset_layout(plan, count)
    for name, array in arrays.items():
        shape, dtype = layout[name]
        if array.shape != shape or array.dtype != dtype:
            raise RequestError(
                f"a shard's {name} must be {dtype} of shape {shape}, "
                f"and this is {array.dtype} of shape {array.shape}"
            )
    if len(rows.error) != count:
        raise RequestError(f"a shard of {count} rows was handed {len(rows.error)} error texts")
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def write_errors(dataset: h5py.Dataset, errors: Sequence[str], first: int = 0) -> None:
    """Write the error texts of the rows from `first` on; chunks of rows without an error are not touched."""
    for start in range(0, len(errors), ERROR_CHUNK):
        part = errors[start : start + ERROR_CHUNK]
        if any(part):
            values = np.array([_cut(text) for text in part], dtype=f"S{ERROR_BYTES}")
            dataset[first + start : first + start + len(part)] = tagged(values, text_dtype(ERROR_BYTES))


def _cut(text: str) -> bytes:
    """The text's UTF-8, cut between characters; NULs and lone surrogates become visible escapes."""
    raw = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace")
    if len(raw) <= ERROR_BYTES:
        return raw
    return raw[: ERROR_BYTES - 3].decode("utf-8", "ignore").encode() + "…".encode()
