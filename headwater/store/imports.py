"""Making a store from features that were computed elsewhere, or from a packed store.

Reading other tools' files is `foreign.py`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.store.annotate import add_columns, set_levels
from headwater.store.files import explained_reading
from headwater.store.foreign import Foreign, read_foreign
from headwater.store.keys import show_key
from headwater.store.packed import check_part
from headwater.store.plan import DTYPES, Plan
from headwater.store.reader import Store, open_store
from headwater.store.sealed import read_seal
from headwater.store.shard import ROW_FAILED, ROW_OK, ShardRows
from headwater.store.writer import StoreWriter

_SHARD_BYTES = 1 << 26


@dataclass(frozen=True)
class ImportReport:
    """What an import made: rows, those whose features were not finite, columns, and what it did not use."""

    path: Path
    rows: int
    failed: int
    columns: tuple[str, ...]
    left_out: tuple[str, ...]
    already_done: bool


def import_features(
    source: str | os.PathLike[str], out: str | os.PathLike[str], *, dtype: str | None = None
) -> ImportReport:
    """Make a store at `out` from an .npz, .npy or parquet file of features, or from a packed store.

    Arrays and columns beside the features become annotations; arrays `embeddings_SPLIT`, `y_SPLIT`,
    `g_SPLIT`, `p_SPLIT` become the rows of all splits with columns `split`, `y`, `g`, `p`. float16 stays
    float16, everything else becomes float32, unless `dtype` says otherwise. Rows with infinite values or NaN
    become failed rows. RequestError when the file holds no features or `out` holds something else; repeating
    an import does nothing.
    """
    path = Path(source)
    if path.is_dir():
        raise RequestError(f"{path} is a folder; give a .npz, .npy or .parquet file, or a packed store")
    if not path.is_file():
        raise RequestError(f"there is no file at {path} to import; check the path")
    found = read_foreign(path)
    if found is not None:
        return _write(path, out, found, dtype)
    with explained_reading(path):
        packed = read_seal(path) is not None or h5py.is_hdf5(path)
    if not packed:
        raise RequestError(
            f"{show_key(str(path))} is neither a .npz, .npy or .parquet file of features nor a packed store; "
            "save the features as one of these"
        )
    if dtype is not None:
        raise RequestError("a packed store keeps its own dtype; leave --dtype out")
    return _unpack(open_store(path), Path(out))


def _write(source: Path, out: str | os.PathLike[str], found: Foreign, dtype: str | None) -> ImportReport:
    features = found.features
    if len(features) == 0:
        raise RequestError(f"{show_key(str(source))} holds 0 rows of features; give a file that has some")
    chosen = dtype or ("float16" if features.dtype == np.float16 else "float32")
    if chosen not in DTYPES:
        raise RequestError(f"features are stored as float16 or float32, not as {chosen!r}; choose one")
    rows_per_shard = max(1, _SHARD_BYTES // (features.shape[1] * np.dtype(chosen).itemsize))
    hashed = hashlib.sha256()
    for block in _blocks(features, rows_per_shard):
        hashed.update(np.ascontiguousarray(block).data if block.size else b"")
    recipe = {"imported": {"sha256": hashed.hexdigest(), "dtype": str(features.dtype)}}
    plan = Plan.for_keys(
        found.keys,
        recipe=recipe,
        dim=features.shape[1],
        dtype=chosen,
        rows_per_shard=rows_per_shard,
        source=str(source),
        details={"imported_from": source.name},
    )
    with StoreWriter(out, plan, found.keys) as writer:
        already_done = not writer.missing and bool(open_store(out).runs)
        failed = 0
        for shard in list(writer.missing):
            start, stop = writer.plan.shard_range(shard)
            rows = _rows(source, features[start:stop], chosen)
            failed += int(rows.status.sum())
            writer.write(shard, rows)
        if not already_done:
            writer.finish({"job": "import", "source": str(source), "rows": plan.rows, "failed": failed})
    store = open_store(out)
    new = [column for name, column in found.columns.items() if name not in store.annotations]
    if new:
        add_columns(out, new)
    failed = int((~store.ok).sum())
    return ImportReport(Path(out), len(store), failed, tuple(found.columns), found.left_out, already_done)


def _blocks(features: NDArray[Any], rows: int) -> Iterator[NDArray[Any]]:
    for start in range(0, len(features), rows):
        yield features[start : start + rows]


def _rows(source: Path, block: NDArray[Any], dtype: str) -> ShardRows:
    finite = np.isfinite(block).all(axis=1)
    with np.errstate(over="ignore"):
        features = np.where(finite[:, None], block, 0).astype(dtype)
    if not np.isfinite(features).all():
        raise RequestError(
            f"{source} holds values up to {np.abs(block[finite]).max():g}, which {dtype} cannot hold; "
            "import as float32"
        )
    zero = np.zeros(len(block), np.int32)
    return ShardRows(
        features=features,
        augmented=None,
        status=np.where(finite, ROW_OK, ROW_FAILED).astype(np.uint8),
        error=["" if good else "the imported features were not finite" for good in finite.tolist()],
        width=zero,
        height=zero,
    )


def _unpack(store: Store, out: Path) -> ImportReport:
    keys = store.keys.tolist()
    names = ["features", "status", "width", "height", *(["augmented"] if store.views else [])]
    errors = dict(store.errors)
    with StoreWriter(out, store.plan, keys) as writer:
        if writer.plan != store.plan:
            raise RequestError(f"{out} holds another store of the same recipe; choose a new folder")
        already_done = not writer.missing
        for part, arrays in store.part_arrays(names):
            check_part(part)
            for shard in list(writer.missing):
                start, stop = store.plan.shard_range(shard)
                rows = slice(start, stop)
                writer.write(
                    shard,
                    ShardRows(
                        features=arrays["features"][rows],
                        augmented=arrays["augmented"][:, rows] if store.views else None,
                        status=arrays["status"][rows],
                        error=[errors.get(row, "") for row in range(start, stop)],
                        width=arrays["width"][rows],
                        height=arrays["height"][rows],
                    ),
                )
        if not already_done:
            for run in store.runs:
                writer.record(run)
            writer.finish({"job": "unpack", "source": str(store.path), "rows": len(store)})
    made = open_store(out)
    if not made.annotations and store.annotations:
        add_columns(out, list(store.annotations.values()))
        if store.annotations.levels:
            set_levels(out, store.annotations.levels)
    return ImportReport(out, len(store), len(errors), store.annotations.names, (), already_done)
