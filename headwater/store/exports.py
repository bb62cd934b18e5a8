"""A store's good rows for other tools: npz, parquet, and the npz layout of last-layer retraining scripts.

Failed rows are left out of every export.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from headwater.errors import RequestError
from headwater.store.columns import Column
from headwater.store.files import refuse_unwritable, replacing
from headwater.store.reader import Store, open_store

FORMATS = ("npz", "parquet", "dfr")
_BLOCK_ROWS = 8192


def export(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002 - the word that users type
    *,
    target: str | None = None,
    groups: Sequence[str] = (),
    split: str = "split",
) -> int:
    """Write the good rows of a store to one file; returns how many.

    `npz`: arrays `features`, `keys` and one per column (whole numbers with missing values as float, missing
    text as ""). `parquet`: columns `path`, `features` (lists of float32) and one per column. `dfr`: for each
    value of the column `split` the arrays `embeddings_`, `y_`, `p_`, `g_` and `keys_`, where y are codes of
    `target`, p codes of `groups`, and g = y·(number of p) + p. The format follows the file's ending when it
    is not given. RequestError when `out` exists or columns are wanting.
    """
    target_file = Path(out)
    chosen = format or {".npz": "npz", ".parquet": "parquet"}.get(target_file.suffix.lower())
    if chosen not in FORMATS:
        raise RequestError(
            f"no format {format or target_file.suffix!r} to export to; choose npz, parquet or dfr"
        )
    if target_file.exists():
        raise RequestError(f"{target_file} exists already; choose another name or delete it")
    refuse_unwritable(target_file)
    if not target_file.parent.is_dir():
        raise RequestError(f"there is no folder {target_file.parent} to write into; make it first")
    store = open_store(path)
    rows = np.flatnonzero(store.ok)
    with replacing(target_file) as temporary:
        if chosen == "npz":
            _write_npz(temporary, _arrays(store, rows))
        elif chosen == "parquet":
            _write_parquet(temporary, store, rows)
        else:
            if target is None or not groups:
                raise RequestError("the dfr layout needs a target column and group columns; name them")
            rows = _with_values(store, rows, [target, *groups, split])
            _write_npz(temporary, _dfr_arrays(store, rows, target, groups, split))
    return len(rows)


Blocks = Callable[[], Iterator[NDArray[Any]]]
Streamed = tuple[tuple[int, ...], np.dtype[Any], Blocks]


def _features(store: Store, rows: NDArray[np.int64]) -> Streamed:
    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, len(rows), _BLOCK_ROWS):
            yield store.features[rows[start : start + _BLOCK_ROWS]]

    return (len(rows), store.dim), store.dtype, blocks


def _whole(array: NDArray[Any]) -> Streamed:
    return array.shape, array.dtype, lambda: iter([np.ascontiguousarray(array)])


def _texts(values: Sequence[str]) -> NDArray[Any]:
    return np.array(list(values), dtype=np.str_) if len(values) else np.empty(0, "U1")


def _values(column: Column) -> NDArray[Any]:
    if column.kind == "category":
        return _texts([text or "" for text in column.texts()])
    if column.kind == "int" and column.missing.any():
        return np.where(column.missing, np.nan, column.values.astype(np.float64))
    return column.values


def _arrays(store: Store, rows: NDArray[np.int64]) -> dict[str, Streamed]:
    arrays = {"features": _features(store, rows), "keys": _whole(_texts(store.keys[rows].tolist()))}
    for name, column in store.annotations.items():
        if name in arrays:
            raise RequestError(
                f"the column {name!r} has the name of an array of the export; rename or drop it"
            )
        arrays[name] = _whole(_values(column.take(rows)))
    return arrays


def _with_values(store: Store, rows: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
    kept = rows
    for name in names:
        kept = kept[~store.annotations[name].missing[kept]]
    if not len(kept):
        raise RequestError(
            f"no good row of {store.path} has a value in each of {', '.join(map(repr, names))}"
        )
    return kept


def _dfr_arrays(
    store: Store, rows: NDArray[np.int64], target: str, groups: Sequence[str], split: str
) -> dict[str, Streamed]:
    y, _ = store.annotations[target].codes()
    places = np.stack([store.annotations[name].codes()[0][rows] for name in groups], axis=1)
    distinct, inverse = np.unique(places, axis=0, return_inverse=True)
    p = np.full(len(store), -1, np.int64)
    p[rows] = inverse.reshape(-1)
    g = y * len(distinct) + p
    codes, names = store.annotations[split].codes()
    arrays: dict[str, Streamed] = {}
    for code, name in enumerate(names):
        chosen = rows[codes[rows] == code]
        if len(chosen):
            arrays[f"embeddings_{name}"] = _features(store, chosen)
            arrays |= {
                f"{short}_{name}": _whole(all_[chosen]) for short, all_ in (("y", y), ("p", p), ("g", g))
            }
            arrays[f"keys_{name}"] = _whole(_texts(store.keys[chosen].tolist()))
    return arrays


def _write_npz(path: Path, arrays: dict[str, Streamed]) -> None:
    """Like `numpy.savez`, but block by block, so that the features never stand in memory whole."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, (shape, dtype, blocks) in arrays.items():
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, header)
                for block in blocks():
                    file.write(np.ascontiguousarray(block).tobytes())


def _write_parquet(path: Path, store: Store, rows: NDArray[np.int64]) -> None:
    columns = {name: column.take(rows) for name, column in store.annotations.items()}
    taken = next((name for name in columns if name in ("path", "features")), None)
    if taken is not None:
        raise RequestError(f"the column {taken!r} has the name of a column of the export; rename or drop it")
    keys = [key.encode("utf-8", "surrogateescape") for key in store.keys[rows].tolist()]
    raw = any(not _is_utf8(key) for key in keys)
    schema = pa.schema(
        [
            ("path", pa.binary() if raw else pa.string()),
            ("features", pa.list_(pa.float32(), store.dim)),
            *((name, _arrow_type(column)) for name, column in columns.items()),
        ]
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(rows), _BLOCK_ROWS):
            stop = min(start + _BLOCK_ROWS, len(rows))
            flat = pa.array(store.features[rows[start:stop]].astype(np.float32).reshape(-1))
            arrays = [
                pa.array(keys[start:stop], pa.binary()).cast(schema.field("path").type),
                pa.FixedSizeListArray.from_arrays(flat, store.dim),
                *(_arrow_values(column.take(np.arange(start, stop))) for column in columns.values()),
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _arrow_type(column: Column) -> pa.DataType:
    return {"category": pa.string(), "int": pa.int64(), "float": pa.float64()}[column.kind]


def _arrow_values(column: Column) -> pa.Array:
    if column.kind == "category":
        texts = [
            None if t is None else t.encode("utf-8", "backslashreplace").decode() for t in column.texts()
        ]
        return pa.array(texts, pa.string())
    return pa.array(column.values, _arrow_type(column), mask=column.missing)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
