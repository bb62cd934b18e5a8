"""What is in a store, as one plain dictionary for people and scripts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from headwater.store.columns import Column
from headwater.store.reader import Store, open_store


def info(path: str | os.PathLike[str], *, top: int = 10) -> dict[str, Any]:
    """Plan, rows, failed rows, columns with their most frequent values, and runs; of an unfinished store too.

    `top`: how many values of a column, and how many failed rows, are listed.
    """
    store = open_store(path, unfinished=True)
    plan = store.plan
    failed = store.errors
    missing_rows = sum(stop - start for start, stop in map(plan.shard_range, store.missing_shards))
    return {
        "path": str(store.path),
        "packed": store.packed,
        "finished": not store.missing_shards,
        "rows": len(store),
        "failed_rows": len(failed),
        "missing_rows": missing_rows,
        "dim": plan.dim,
        "dtype": plan.dtype,
        "views": plan.views,
        "shards": plan.shards,
        "missing_shards": store.missing_shards,
        "bytes": _bytes(store),
        "fingerprint": plan.fingerprint,
        "source": plan.source,
        "recipe": dict(plan.recipe),
        "details": dict(plan.details),
        "failed": [{"key": store.keys[row], "error": error} for row, error in failed[:top]],
        "levels": list(store.annotations.levels),
        "columns": [describe(column, top) for column in store.annotations.values()],
        "runs": store.runs,
    }


def describe(column: Column, top: int) -> dict[str, Any]:
    """A column's kind, missing values, and its most frequent values with their rows, or its range."""
    present = column.values[~column.missing]
    found: dict[str, Any] = {
        "name": column.name,
        "kind": column.kind,
        "missing": int(column.missing.sum()),
        "distinct": len(np.unique(present)),
    }
    if column.kind == "float" or (column.kind == "int" and found["distinct"] > 100):
        if len(present):
            found |= {"least": present.min().item(), "greatest": present.max().item()}
        return found
    codes, names = column.codes()
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    order = np.argsort(-counts, kind="stable")[:top]
    found["values"] = [{"value": names[code], "rows": int(counts[code])} for code in order if counts[code]]
    return found


def _bytes(store: Store) -> int:
    path = Path(store.path)
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.iterdir() if entry.is_file())
