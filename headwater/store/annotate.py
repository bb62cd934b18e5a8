"""Adding columns to a store by key, dropping them, and saying which are levels: together, or not at all."""

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
    with changing(path) as draft:
        return draft.join(table, key=key, by=by, replace=replace, allow_missing=allow_missing)


def add_columns(path: str | os.PathLike[str], added: Sequence[Column], *, replace: bool = False) -> None:
    """Add columns that are aligned with the store's rows already.

    RequestError for another length, and for columns that are there already unless `replace`.
    """
    with changing(path) as draft:
        for column in added:
            quote(column.name)
            if column.values.shape != (len(draft.store),):
                raise RequestError(
                    f"the column {column.name!r} has {len(column)} values for {len(draft.store)} rows"
                )
        draft.add({column.name: column for column in added}, replace=replace)


def drop_annotations(path: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Remove columns; RequestError, and nothing removed, when one of them is not there."""
    with changing(path) as draft:
        draft.drop(names)


def set_levels(path: str | os.PathLike[str], levels: Sequence[str]) -> None:
    """Remember which columns are the levels of one taxonomy, from the root; none: forget them.

    RequestError for a column that is not there or of real numbers, and for one named twice.
    """
    with changing(path) as draft:
        draft.set_levels(levels)


class Draft:
    """A store's columns while they change: what is asked of it is checked at once, and written by `changing`.

    `columns` by name; `levels`, those that are levels of one taxonomy, from the root.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.columns: dict[str, Column] = dict(store.annotations.items())
        self.levels: tuple[str, ...] = store.annotations.levels

    def join(
        self,
        table: Mapping[str, Sequence[Any]],
        *,
        key: str = "path",
        by: str | None = None,
        replace: bool = False,
        allow_missing: bool = False,
    ) -> list[str]:
        """Add the columns of a table, see `annotate`."""
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
        if by is None:
            rows = _match(self.store, keys, allow_missing=allow_missing)
        else:
            rows = _match_values(self.store, self.column(by), keys, allow_missing=allow_missing)
        added = {name: column_from_values(name, table[name]).take(rows) for name in names}
        self.add(added, replace=replace)
        return names

    def column(self, name: str) -> Column:
        """One of the columns; RequestError where it is not there."""
        if name not in self.columns:
            have = f"it has {', '.join(self.columns)}" if self.columns else "it has none"
            raise RequestError(f"the store has no column {name!r}; {have}")
        return self.columns[name]

    def add(self, added: Mapping[str, Column], *, replace: bool = False) -> None:
        """Add columns of as many values as the store has rows; RequestError see `add_columns`."""
        there = [name for name in added if name in self.columns]
        if there and not replace:
            nouns, they, new = ("column", "it", "one") if len(there) == 1 else ("columns", "they", "ones")
            raise RequestError(
                f"{self.store.path} has the {nouns} {', '.join(map(repr, there))} already; say that {they} "
                f"may be replaced (--replace), or rename the new {new}"
            )
        self.columns.update(added)

    def drop(self, names: Iterable[str]) -> None:
        """Remove columns; RequestError where one is not there."""
        have = ", ".join(self.columns) or "none"
        for name in dict.fromkeys(names):
            if name not in self.columns:
                raise RequestError(f"{self.store.path} has no column {name!r} to drop; it has {have}")
            del self.columns[name]
        self.levels = tuple(name for name in self.levels if name in self.columns)

    def set_levels(self, levels: Sequence[str]) -> None:
        """Say which columns are levels; RequestError see the function `set_levels`."""
        for name in levels:
            if name not in self.columns:
                have = ", ".join(self.columns) or "none"
                raise RequestError(f"{self.store.path} has no column {name!r} for a level; it has {have}")
            if self.columns[name].kind == "float":
                raise RequestError(
                    f"the column {name!r} holds real numbers, and a level is a column of names"
                )
        if len(set(levels)) < len(levels):
            raise RequestError(
                f"a level is named twice in {', '.join(levels)}; name each once, from the root"
            )
        self.levels = tuple(levels)


@contextmanager
def changing(path: str | os.PathLike[str]) -> Iterator[Draft]:
    """A draft of a store's columns, written when the block ends; no one else changes them meanwhile.

    Nothing is written where the block ends by an error: several changes are made together or not at all.
    """
    store = open_store(path, unfinished=True)
    if store.packed:
        raise RequestError(
            f"{store.path} is a packed file, which is never changed; unpack it with "
            f"`headwater store import {store.path} --out FOLDER` and annotate the folder"
        )
    with holding(store.path, LOCK, wait=_WAIT):
        remove_leftovers(store.path, (ANNOTATIONS,))
        draft = Draft(store)
        yield draft
        write_annotations(store.path / ANNOTATIONS, store.plan, draft.columns, draft.levels)


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
