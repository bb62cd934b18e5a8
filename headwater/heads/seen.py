"""Which rows a head has seen, in eight bytes each, so that they are known again in any store.

Rows lie elsewhere once a store is packed, sharded otherwise or grown, so each goes by its key and its first
features. What follows from rows that were seen is said in `checkpoint.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np
import xxhash
from numpy.typing import NDArray

from headwater.heads.tasks.task import Task

MOST = 1 << 17
"""Marks that a head file keeps of a split. Those of more rows are a sample by the keys' hashes, the same in
every store, so that a few rows shared by chance may be overlooked and not one in a thousand."""

_FEATURES = 32  # enough to tell images of the same key; few, so that most survive another device's rounding
_BLOCK = 1024


def seen_rows(task: Task, split: str) -> str:
    """The marks of a split's rows as a head file holds them; "" where the task has no store with keys."""
    marks = _marks(task, split, MOST)
    return "" if marks is None else base64.b64encode(marks.tobytes()).decode("ascii")


def splits_shared(task: Task, split: str, seen: Mapping[str, str]) -> list[str] | None:
    """Of the splits that a head has `seen`, those with rows of this task's split; None where none can tell.

    Rows that were renamed since count as others.
    """
    marks = _marks(task, split, None) if any(seen.values()) else None
    if marks is None:
        return None
    return [name for name, each in seen.items() if np.isin(marks_in(each), marks).any()]


def marks_in(held: str) -> NDArray[np.uint64]:
    """The marks that a head file holds as this text, (rows,); ValueError where it is damaged."""
    return np.frombuffer(base64.b64decode(held, validate=True), "<u8")


def _marks(task: Task, split: str, most: int | None) -> NDArray[np.uint64] | None:
    """A hash of the key in the upper half, of the features in the lower; (rows,) ascending, little-endian."""
    store = task.origin.store
    if store is None:
        return None
    name = (__name__, split, most)
    if name not in task.kept:
        rows = task.plain(split)
        keys = np.fromiter(
            (xxhash.xxh32_intdigest(key.encode("utf-8", "surrogateescape")) for key in store.keys[rows]),
            np.uint64,
            len(rows),
        )
        sample = np.argsort(keys, kind="stable")[:most]
        marks = keys[sample] << np.uint64(32) | _hashed_features(task, rows[sample])
        task.kept[name] = np.sort(marks).astype("<u8")
    found: NDArray[np.uint64] = task.kept[name]
    return found


def _hashed_features(task: Task, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    hashed = np.empty(len(rows), dtype=np.uint64)
    for first in range(0, len(rows), _BLOCK):
        block = np.asarray(task.features[rows[first : first + _BLOCK]])[:, :_FEATURES]
        with np.errstate(over="ignore"):
            rounded = block.astype("<f2") + np.float16(0)  # of the two zeros one
        hashed[first : first + len(block)] = [xxhash.xxh32_intdigest(row.tobytes()) for row in rounded]
    return hashed
