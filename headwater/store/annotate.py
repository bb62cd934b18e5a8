"""Adding columns to a store by key, dropping them, and saying which are levels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.store.annotations import ANNOTATIONS, quote, write_annotations
from headwater.store.columns import Column, column_from_values
from headwater.store.files import remove_leftovers
from headwater.store.keys import difference, show_key, show_keys
from headwater.store.lock import holding
from headwater.store.reader import Store, open_store

LOCK = "annotations"
_WAIT = 30.0


def annotate(
    path: str | os.PathLike[str],
    table: Mapping[str, Sequence[Any]],
    *,
    key: str = "path",
    by: str | None = None,
    replace: bool = False,
    allow_missing: bool = False,
) -> list[str]:
    """Add every column of `table` but `key`, which joins it to the store's rows; returns the columns' names.

    `key` holds row keys, or with `by` values of that column of the store, such as species: every row then
    gets what the table says of its value, and the table may have values that no row has.

    RequestError for keys that the store does not have, for rows that the table leaves out (unless
    `allow_missing`, which gives them missing values) and for columns that exist (unless `replace`). An
    annotation is added whole or not at all.
    """
    if key not in table:
        raise RequestError(
            f"the table has no column {key!r} to join by; it has "
            f"{', '.join(map(repr, table))}; name one as the key"
        )
    names = [name for name in table if name != key]
    if not names:
        raise RequestError(f"the table has no column besides {key!r}; there is nothing to add")
    keys = [value if isinstance(value, str) else str(value) for value in _plain(table[key])]
    for name in names:
        quote(name)
        if len(table[name]) != len(keys):
            raise RequestError(f"the column {name!r} has {len(table[name])} values for {len(keys)} keys")
    with _changing(path) as (store, columns):
        if by is None:
            rows = _match(store, keys, allow_missing=allow_missing)
        else:
            rows = _match_values(store, store.annotations[by], keys, allow_missing=allow_missing)
        added = {name: column_from_values(name, table[name]).take(rows) for name in names}
        _add(store, columns, added, replace=replace)
    return names


def add_columns(path: str | os.PathLike[str], added: Sequence[Column], *, replace: bool = False) -> None:
    """Add columns that are aligned with the store's rows already.

    RequestError for another length, and for columns that are there already unless `replace`.
    """
    with _changing(path) as (store, columns):
        for column in added:
            quote(column.name)
            if column.values.shape != (len(store),):
                raise RequestError(
                    f"the column {column.name!r} has {len(column)} values for {len(store)} rows"
                )
        _add(store, columns, {column.name: column for column in added}, replace=replace)


def drop_annotations(path: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Remove columns; RequestError, and nothing removed, when one of them is not there."""
    with _changing(path) as (store, columns):
        have = ", ".join(columns) or "none"
        for name in dict.fromkeys(names):
            if name not in columns:
                raise RequestError(f"{store.path} has no column {name!r} to drop; it has {have}")
            del columns[name]
        levels = [name for name in store.annotations.levels if name in columns]
        write_annotations(store.path / ANNOTATIONS, store.plan, columns, levels)


def set_levels(path: str | os.PathLike[str], levels: Sequence[str]) -> None:
    """Remember which columns are the levels of one taxonomy, from the root; none: forget them.

    RequestError for a column that is not there or of real numbers, and for one named twice.
    """
    with _changing(path) as (store, columns):
        check_levels(store, levels)
        write_annotations(store.path / ANNOTATIONS, store.plan, columns, levels)


def check_levels(store: Store, levels: Sequence[str]) -> None:
    """RequestError where these columns cannot be levels, see `set_levels`."""
    columns = store.annotations
    for name in levels:
        if name not in columns:
            have = ", ".join(columns) or "none"
            raise RequestError(f"{store.path} has no column {name!r} for a level; it has {have}")
        if columns[name].kind == "float":
            raise RequestError(f"the column {name!r} holds real numbers, and a level is a column of names")
    if len(set(levels)) < len(levels):
        raise RequestError(f"a level is named twice in {', '.join(levels)}; name each once, from the root")


@contextmanager
def _changing(path: str | os.PathLike[str]) -> Iterator[tuple[Store, dict[str, Column]]]:
    """The store and its columns, with no one else changing them meanwhile."""
    store = open_store(path, unfinished=True)
    if store.packed:
        raise RequestError(
            f"{store.path} is a packed file, which is never changed; unpack it with "
            f"`headwater store import {store.path} --out FOLDER` and annotate the folder"
        )
    with holding(store.path, LOCK, wait=_WAIT):
        remove_leftovers(store.path, (ANNOTATIONS,))
        yield store, dict(store.annotations.items())


def _add(store: Store, columns: dict[str, Column], added: Mapping[str, Column], *, replace: bool) -> None:
    there = [name for name in added if name in columns]
    if there and not replace:
        nouns, they, new = ("column", "it", "one") if len(there) == 1 else ("columns", "they", "ones")
        raise RequestError(
            f"{store.path} has the {nouns} {', '.join(map(repr, there))} already; say that {they} may be "
            f"replaced (--replace), or rename the new {new}"
        )
    levels = store.annotations.levels
    write_annotations(store.path / ANNOTATIONS, store.plan, {**columns, **added}, levels)


def _plain(values: Sequence[Any]) -> Sequence[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values


def _match(store: Store, keys: list[str], *, allow_missing: bool) -> NDArray[np.int64]:
    """For every row of the store its place in `keys`, -1 where it has none."""
    place = _places(keys)
    known: list[str] = store.keys.tolist()
    there = set(known)
    unknown = [key for key in keys if key not in there]
    if unknown:
        raise RequestError(
            f"{len(unknown):,} of the table's {len(keys):,} keys are not in {store.path}: "
            f"{show_keys(unknown)}{difference(unknown, known)}; correct or remove those lines"
        )
    rows = np.array([place.get(key, -1) for key in known], dtype=np.int64)
    left = np.flatnonzero(rows < 0)
    if len(left) and not allow_missing:
        raise RequestError(
            f"the table leaves out {len(left):,} of the {len(store):,} rows of {store.path}: "
            f"{show_keys([known[row] for row in left.tolist()])}; "
            "add them, or allow missing values (--allow-missing)"
        )
    return rows


def _match_values(
    store: Store, column: Column, values: list[str], *, allow_missing: bool
) -> NDArray[np.int64]:
    """For every row of the store the place of its value in `values`, -1 where it has none."""
    place = _places(values)
    known = column.texts()
    rows = np.array([-1 if value is None else place.get(value, -1) for value in known], dtype=np.int64)
    left = {value for value in known if value is not None and value not in place}
    if left and (rows < 0).all():
        theirs = f"the table has {show_keys(values, 1)}" if values else "the table has no line"
        hint = difference(values, sorted(left))
        raise RequestError(
            f"no value in column {column.name!r} of {store.path} is a key of the table: the column has "
            f"{show_keys(sorted(left), 1)}, {theirs}{hint}; name the column of the table that holds such "
            "values as its key (--key COL), or the column of the store that holds the table's keys (--by COL)"
        )
    if left and not allow_missing:
        raise RequestError(
            f"the table leaves out {len(left):,} of the values in column {column.name!r} of {store.path}: "
            f"{show_keys(sorted(left))}; add them, or allow missing values (--allow-missing)"
        )
    return rows


def _places(keys: list[str]) -> dict[str, int]:
    place = {key: number for number, key in enumerate(keys)}
    if len(place) != len(keys):
        seen: set[str] = set()
        twice = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RequestError(
            f"the table has the key {show_key(twice)} more than once; keep one line for each key"
        )
    return place
