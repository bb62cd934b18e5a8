"""The store's columns as a run wants them: tables joined, levels named, a split drawn, where needed.

A column that is as this run left it may be made anew; one that its user made only where the file says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headwater.errors import RequestError
from headwater.store import Column, Store, add_columns, column_from_values, open_store, read_table
from headwater.store.annotate import Draft, annotate
from headwater.store.splits import plan_split
from headwater.taxonomy import annotate_edges, name_levels
from headwater.workflow.config import Annotate, Asked, Split
from headwater.workflow.record import Record, column_digest

_WAY_OUT = "`replace: true`, or rename it"


def annotate_store(asked: Asked, place: Path, record: Record) -> list[str]:
    """Add the tables' columns and name the levels; what was done, in words, [] where nothing was to do."""
    done: list[str] = []
    for number, section in enumerate(asked.config.annotate):
        with asked.at("annotate", number):
            levels: Sequence[str] = section.levels
            if section.table is not None and section.edges:
                joined, levels = _climb(section, section.table, place, record)
                done += joined
            elif section.table is not None:
                done += _join(section, section.table, place, record)
            if levels and tuple(levels) != open_store(place).annotations.levels:
                name_levels(place, levels)
                done.append(f"levels {', '.join(levels)}")
    return done


def _join(section: Annotate, file: Path, place: Path, record: Record) -> list[str]:
    table = read_table(file, key=section.joins)
    store = open_store(place)
    wanted = [name for name in table if name != section.joins]
    if section.joins in table and wanted:
        held = _held(store, section, table)
        wanted = [name for name in wanted if name not in held]
    # Where the table is not fit to be joined, annotating says why.
    there = [name for name in wanted if name in store.annotations]
    _refuse_foreign(store, there, record, replace=section.replace, way_out=_WAY_OUT)
    if wanted or section.joins not in table:
        annotate(
            place,
            {name: table[name] for name in table if name == section.joins or name in wanted},
            key=section.joins,
            by=section.by,
            replace=True,
            allow_missing=section.allow_missing,
        )
        _remember(open_store(place), wanted, record)
    return [f"{', '.join(wanted)} of {file}"] if wanted else []


def _climb(section: Annotate, file: Path, place: Path, record: Record) -> tuple[list[str], Sequence[str]]:
    """Add the levels that a table of edges makes, where they are not there already; they, from the root."""
    store = open_store(place)
    assert section.by is not None
    draft = Draft(store)
    added, tree = annotate_edges(
        draft,
        file,
        by=section.by,
        levels=section.levels,
        replace=True,
        allow_missing=section.allow_missing,
    )
    there = [name for name in added if name in store.annotations]
    held = [name for name in there if draft.columns[name].texts() == store.annotations[name].texts()]
    wanted = [name for name in added if name not in held]
    other = [name for name in there if name not in held]
    _refuse_foreign(store, other, record, replace=section.replace, way_out=_WAY_OUT)
    if wanted:
        add_columns(place, [draft.columns[name] for name in wanted], replace=True)
        _remember(open_store(place), wanted, record)
    return [f"{', '.join(wanted)} of {file}"] if wanted else [], tree.level_names


def _held(store: Store, section: Annotate, table: Mapping[str, Sequence[Any]]) -> list[str]:
    """The table's columns that the store has already, with the very values; [] where they do not match up."""
    place = {str(key): row for row, key in enumerate(table[section.joins])}
    if len(place) < len(table[section.joins]):
        return []
    if section.by is None:
        keys: list[str | None] = store.keys.tolist()
        if not place.keys() <= set(keys):
            return []
    elif section.by in store.annotations:
        keys = store.annotations[section.by].texts()
    else:
        return []
    rows = np.array([-1 if key is None else place.get(key, -1) for key in keys], dtype=np.int64)
    if (rows < 0).any() and not section.allow_missing:
        return []
    return [
        name
        for name in table
        if name in store.annotations
        and column_from_values(name, table[name]).take(rows).texts() == store.annotations[name].texts()
    ]


def draw_split(asked: Asked, place: Path, record: Record) -> tuple[bool, str]:
    """Draw the split where the file says how, and it is not there; whether it was drawn, and words for it."""
    section: Split = asked.config.split
    store = open_store(place)
    with asked.at("split"):
        given = section.column in store.annotations and _foreign(store, section.column, record)
        if not section.shares or (asked.contest and given):
            _check_there(store, section.column)
            return False, f"column {section.column!r} as it is"
        drawn, column = plan_split(
            store, section.shares, stratify=section.stratify, seed=section.seed, column=section.column
        )
        parts = ", ".join(f"{name} {count:,}" for name, count in drawn.counts.items())
        if section.column in store.annotations:
            if column_digest(store.annotations[section.column]) == column_digest(column):
                return False, f"{parts}, as before"
            _refuse_foreign(
                store,
                [section.column],
                record,
                replace=section.replace,
                way_out="`replace: true`, name another `column`, or leave the shares out to use it",
            )
        add_columns(place, [column], replace=True)
        _remember(open_store(place), [section.column], record)
        lacking = {name: count for name, count in drawn.strata_without.items() if count and drawn.strata > 1}
        said = "; ".join(
            f"{count:,} of {drawn.strata:,} strata have no row in {name}" for name, count in lacking.items()
        )
        return True, parts + (f"; {said}" if said else "")


def _check_there(store: Store, column: str) -> None:
    if column not in store.annotations:
        have = ", ".join(store.annotations.names) or "none"
        raise RequestError(
            f"the store has no split column {column!r} (it has {have}); say how to draw it, such as "
            "`split: {train: 0.8, val: 0.1, test: 0.1}`"
        )


def _foreign(store: Store, name: str, record: Record) -> bool:
    its = record.made.get(_key(store, name), {}).get("sha256")
    return its != column_digest(store.annotations[name])


def _refuse_foreign(store: Store, names: list[str], record: Record, *, replace: bool, way_out: str) -> None:
    """RequestError for columns that are there, hold other values, and were not made by this run."""
    foreign = [] if replace else [name for name in names if _foreign(store, name, record)]
    if foreign:
        raise RequestError(
            f"{store.path} has the column {', '.join(map(repr, foreign))} already, with values that this run "
            f"did not give it; say {way_out}"
        )


def _remember(store: Store, names: list[str], record: Record) -> None:
    for name in names:
        column: Column = store.annotations[name]
        record.remember(_key(store, name), "", None, sha256=column_digest(column))


def _key(store: Store, name: str) -> str:
    return f"column {name} of {store.path.name}"
