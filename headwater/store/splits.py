"""Drawing a split: which rows are for training, validation and test, seeded and stratified.

A split that is given is an annotation like any other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.store.annotate import add_columns
from headwater.store.columns import Column
from headwater.store.keys import encode_key
from headwater.store.reader import Store, open_store


@dataclass(frozen=True)
class DrawnSplit:
    """How a split came out: each part's rows, the number of strata, and how many of them each part lacks."""

    counts: Mapping[str, int]
    strata: int
    strata_without: Mapping[str, int]


def draw_split(
    path: str | os.PathLike[str],
    fractions: Mapping[str, float],
    *,
    stratify: Sequence[str] = (),
    seed: int = 0,
    column: str = "split",
    replace: bool = False,
) -> DrawnSplit:
    """Draw a split into the parts of `fractions` (which sum to 1) and add it as a column; see `plan_split`.

    RequestError where the column is there already, unless `replace`.
    """
    store = open_store(path)
    if column in store.annotations and not replace:
        raise RequestError(
            f"{store.path} has the column {column!r} already{_holding(store.annotations[column])}; give the "
            "drawn split another name (--column NAME, which `headwater heads` takes by --split NAME), or say "
            "that it may be replaced (--replace)"
        )
    drawn, parts = plan_split(store, fractions, stratify=stratify, seed=seed, column=column)
    add_columns(path, [parts], replace=replace)
    return drawn


def plan_split(
    store: Store,
    fractions: Mapping[str, float],
    *,
    stratify: Sequence[str] = (),
    seed: int = 0,
    column: str = "split",
) -> tuple[DrawnSplit, Column]:
    """The split that `draw_split` adds, as a column, without adding it.

    Every stratum, a combination of the `stratify` columns' values (missing is a value too), is divided on its
    own: a stratum of n rows gives each part ⌊n·fraction⌋ or one more, and the odd rows go where the parts as
    a whole are furthest behind. So a stratum smaller than the number of parts is missing from some of them;
    singletons fall to the parts in the parts' proportions. Which rows go where depends on the seed and the
    rows' keys only, not on their order. Failed rows get no part. RequestError for fractions that do not sum
    to 1 and unknown columns.
    """
    _check(fractions)
    rows = np.flatnonzero(store.ok)
    strata, count = _strata(store, stratify, rows)
    shuffled = rows[_shuffle(store, rows, strata, seed)]
    sizes = np.bincount(strata, minlength=count)
    shares = _shares(sizes, np.array(list(fractions.values()), dtype=np.float64))
    names = sorted(fractions)
    position = [names.index(name) for name in fractions]
    codes = np.full(len(store), -1, np.int32)
    codes[shuffled] = np.repeat(np.tile(np.array(position, np.int32), count), shares.reshape(-1))
    totals = dict(zip(fractions, shares.sum(axis=0).tolist(), strict=True))
    lacking = dict(zip(fractions, (shares == 0).sum(axis=0).tolist(), strict=True))
    return DrawnSplit(totals, count, lacking), Column(column, codes, tuple(names))


def _holding(column: Column) -> str:
    """What a column holds, in a word, where it splits nothing."""
    codes, names = column.codes()
    held = np.unique(codes[codes >= 0])
    return f", with nothing but {names[held[0]]!r} in it" if len(held) == 1 else ""


def _check(fractions: Mapping[str, float]) -> None:
    if not fractions or any(not name for name in fractions):
        raise RequestError("a split needs parts with names, for example train=0.7 val=0.1 test=0.2")
    bad = next((name for name, share in fractions.items() if not 0 < share <= 1), None)
    if bad is not None:
        raise RequestError(
            f"the part {bad!r} has the fraction {fractions[bad]}; it must lie above 0 and up to 1"
        )
    total = math.fsum(fractions.values())
    if abs(total - 1) > 1e-6:
        raise RequestError(f"the fractions of a split sum to {total:g}, and must sum to 1")


def _strata(store: Store, columns: Sequence[str], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """The stratum of each row, numbered in the order of the columns' sorted values, and their number."""
    if not columns or not len(rows):
        return np.zeros(len(rows), np.int64), 1
    codes = np.stack([store.annotations[name].codes()[0][rows] for name in columns], axis=1)
    distinct, numbers = np.unique(codes, axis=0, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64), len(distinct)


def _shuffle(
    store: Store, rows: NDArray[np.int64], strata: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """An order of `rows` by stratum, and within it by a hash of each row's key under the seed."""
    salt = seed % 2**64
    digests = b"".join(xxhash.xxh3_128_digest(encode_key(key), salt) for key in store.keys[rows].tolist())
    halves = np.frombuffer(digests, dtype=">u8").reshape(-1, 2)
    order: NDArray[np.int64] = np.lexsort((halves[:, 1], halves[:, 0], strata))
    return order


def _shares(sizes: NDArray[np.int64], fractions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows of each stratum for each part, shape (strata, parts)."""
    exact = sizes[:, None] * (fractions / fractions.sum())[None, :]
    shares: NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    behind = np.zeros(len(fractions))
    for stratum in range(len(sizes)):
        behind += exact[stratum] - shares[stratum]
        odd = int(sizes[stratum] - shares[stratum].sum())
        if odd:
            open_parts = exact[stratum] - shares[stratum] > 1e-9
            ranked = np.argsort(np.where(open_parts, -behind, np.inf), kind="stable")[:odd]
            shares[stratum, ranked] += 1
            behind[ranked] -= 1
    return shares
