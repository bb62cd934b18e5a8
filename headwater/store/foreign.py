"""Features in other tools' files: .npz, .npy and parquet, read into one plain `Foreign`.

Making a store of them is `imports.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from headwater.errors import RequestError
from headwater.store.columns import Column, column_from_values
from headwater.store.numpy_files import read_arrays
from headwater.store.tables import arrow_values

FEATURE_NAMES = ("features", "embeddings", "X")
KEY_NAMES = ("keys", "key", "paths", "path")


@dataclass(frozen=True)
class Foreign:
    """Features (n, dim) with keys and columns, as found in a file; `left_out` names what was not used."""

    features: NDArray[Any]
    keys: Sequence[str]
    columns: Mapping[str, Column] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def read_foreign(path: Path) -> Foreign | None:
    """What an .npz, .npy or .parquet file holds, None for another ending; RequestError when it is no use."""
    ending = path.suffix.lower()
    if ending in (".npy", ".npz"):
        arrays = read_arrays(path)
        if isinstance(arrays, np.ndarray):
            features = _matrix(path, path.stem, arrays)
            return Foreign(features, _numbered(len(features)))
        splits = [name.removeprefix("embeddings_") for name in arrays if name.startswith("embeddings_")]
        return _from_splits(path, arrays, splits) if splits else _from_arrays(path, arrays)
    return _from_parquet(path) if ending in (".parquet", ".pq") else None


def _numbered(rows: int) -> list[str]:
    return [str(row) for row in range(rows)]


def _matrix(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim != 2 or array.dtype.kind not in "fiu" or array.shape[1] == 0:
        raise RequestError(
            f"{path} holds no features: {name} must be numbers of shape (rows, dim), "
            f"and it is {array.dtype} of shape {array.shape}"
        )
    return array


def _from_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> Foreign:
    named = [name for name in FEATURE_NAMES if name in arrays]
    matrices = [name for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind == "f"]
    if not named and len(matrices) != 1:
        shapes = (
            ", ".join(f"{name} {array.dtype}{array.shape}" for name, array in arrays.items()) or "nothing"
        )
        raise RequestError(
            f"{path} holds no single array of features; name it `features` (it holds {shapes})"
        )
    name = (named or matrices)[0]
    features = _matrix(path, name, arrays.pop(name))
    keys = _numbered(len(features))
    for key_name in KEY_NAMES:
        if key_name in arrays and arrays[key_name].shape == features.shape[:1]:
            keys = [_text(value) for value in arrays.pop(key_name).tolist()]
            break
    columns, left_out = _columns(arrays, len(features))
    return Foreign(features, keys, columns, left_out)


def _from_splits(path: Path, arrays: dict[str, NDArray[Any]], splits: list[str]) -> Foreign:
    parts = [_matrix(path, f"embeddings_{split}", arrays.pop(f"embeddings_{split}")) for split in splits]
    if len({part.shape[1] for part in parts}) != 1:
        raise RequestError(
            f"{path} holds splits of different dim: {[part.shape for part in parts]}; mend the file"
        )
    lengths = [len(part) for part in parts]
    columns = {"split": column_from_values("split", np.repeat(np.array(splits, object), lengths).tolist())}
    names = sorted({name.rpartition("_")[0] for name in arrays if name.rpartition("_")[2] in splits})
    keys = [f"{split}/{row}" for split, part in zip(splits, parts, strict=True) for row in range(len(part))]
    for name in names:
        found = [arrays.get(f"{name}_{split}") for split in splits]
        if any(array is not None and array.shape != (n,) for array, n in zip(found, lengths, strict=True)):
            continue
        for split in splits:
            arrays.pop(f"{name}_{split}", None)
        values: list[Any] = []
        for array, length in zip(found, lengths, strict=True):
            values += [None] * length if array is None else [_text(v) for v in array.tolist()]
        if name == "keys" and None not in values:
            keys = values
        else:
            columns[name] = column_from_values(name, values)
    return Foreign(np.concatenate(parts), keys, columns, tuple(arrays))


def _columns(arrays: dict[str, NDArray[Any]], rows: int) -> tuple[dict[str, Column], tuple[str, ...]]:
    fitting = {
        name: array
        for name, array in arrays.items()
        if array.shape == (rows,) and array.dtype.kind in "biufUS"
    }
    columns = {
        name: column_from_values(
            name, array if array.dtype.kind in "biuf" else [_text(v) for v in array.tolist()]
        )
        for name, array in fitting.items()
    }
    return columns, tuple(name for name in arrays if name not in fitting)


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _from_parquet(path: Path) -> Foreign:
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"{path} cannot be read as parquet: {error}") from None
    names: list[str] = list(table.column_names)
    used = _feature_columns(path, table)
    features = _stacked(path, table, used)
    keys = _numbered(len(features))
    key_name = next((name for name in KEY_NAMES if name in names and name not in used), None)
    if key_name is not None:
        keys = arrow_values(table.column(key_name), key_name, text=True)
        if None in keys:
            raise RequestError(f"{path} has rows whose {key_name} is null; every row needs a key")
    columns, left_out = {}, []
    for name in names:
        if name in used or name == key_name:
            continue
        if pa.types.is_nested(table.column(name).type):
            left_out.append(name)
        else:
            columns[name] = column_from_values(name, arrow_values(table.column(name), name))
    return Foreign(features, keys, columns, tuple(left_out))


def _feature_columns(path: Path, table: pa.Table) -> list[str]:
    """The one column of lists, or the longest run of number columns `NAME0, NAME1, …` (or from 1)."""
    lists = [
        column.name
        for column in table.schema
        if pa.types.is_fixed_size_list(column.type)
        or pa.types.is_list(column.type)
        or pa.types.is_large_list(column.type)
    ]
    named = [name for name in lists if name in (*FEATURE_NAMES, "embedding", "feature")]
    if len(lists) == 1 or named:
        return (named or lists)[:1]
    runs: dict[str, dict[int, str]] = {}
    for column in table.schema:
        stem = column.name.rstrip("0123456789")
        digits = column.name[len(stem) :]
        if digits and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            runs.setdefault(stem, {})[int(digits)] = column.name
    whole = [
        run for run in runs.values() if len(run) > 1 and max(run) - min(run) + 1 == len(run) and min(run) <= 1
    ]
    if not whole:
        raise RequestError(
            f"{path} holds no features: it needs a column of lists named `features`, "
            "or number columns f0, f1, f2, …"
        )
    longest = max(whole, key=len)
    return [longest[number] for number in sorted(longest)]


def _stacked(path: Path, table: pa.Table, names: list[str]) -> NDArray[Any]:
    columns = [table.column(name).combine_chunks() for name in names]
    nested = pa.types.is_nested(columns[0].type)
    if any(column.null_count for column in columns) and nested:
        raise RequestError(f"{path} has rows whose {names[0]} is null; leave those rows out")
    if not nested:
        return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)
    lists = columns[0]
    if pa.types.is_fixed_size_list(lists.type):
        dims = {int(lists.type.list_size)}
    else:
        dims = set(lists.value_lengths().to_pylist())
    if len(dims) != 1:
        raise RequestError(
            f"{path} has rows of {names[0]} with {len(dims)} different lengths; all must have one dim"
        )
    (dim,) = dims
    flat = lists.flatten()
    if flat.null_count:
        raise RequestError(f"{path} has nulls inside {names[0]}; write NaN, or leave those rows out")
    return _matrix(path, names[0], flat.to_numpy(zero_copy_only=False).reshape(len(lists), dim))
