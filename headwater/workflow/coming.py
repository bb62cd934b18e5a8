"""The columns that a run's store will have, as far as the file, the source and the tables tell.

What is trained on them is settings.py's business; adding them is columns.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.extract import hub
from headwater.heads.tasks.columns import SPLITS, CodedColumn, coded, split_names
from headwater.heads.tasks.levels import column_called, place
from headwater.printable import nearest
from headwater.store import Column, column_from_values, open_store, read_table
from headwater.store.annotate import Draft
from headwater.taxonomy import annotate_edges, levels_among, name_levels
from headwater.workflow.config import Annotate, Asked, Config
from headwater.workflow.features import Images, begun_store, finished_store
from headwater.workflow.record import Record

if TYPE_CHECKING:
    from headwater.store import Store

_EDGE = ("child", "parent")


@dataclass(frozen=True)
class Coming:
    """What the store will have: its columns' `names`, the `levels` among them, and augmented `views`.

    `values` (rows,) of the columns that the images bring, or joined tables; {} where the store is there
    already. `draft`: all columns, to be joined with tables as the store's will be; None where names are
    enough: nothing is to be joined, or the store is there and no table is of edges, which do not say their
    levels.
    """

    names: list[str]
    levels: tuple[str, ...] = ()
    views: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)
    draft: Draft | None = None

    @cached_property
    def level_values(self) -> dict[str, CodedColumn] | None:
        """The levels' columns; None where one is not among the `values`."""
        if any(name not in self.values for name in self.levels):
            return None
        return {name: coded(name, self.values[name]) for name in self.levels}

    def task_levels(self, config: Config) -> tuple[str, ...]:
        """The names of the levels of the tree over which the heads are trained, see `Task.tree`."""
        target, *groups = (
            column_called(each, self.names, self.levels) for each in (config.target, *config.groups)
        )
        below = [each for each in groups if each != target]
        if target not in self.levels:
            return (target, ", ".join(below) or "group")
        deepest = max(self.levels.index(each) for each in (target, *below) if each in self.levels)
        others = [each for each in below if each not in self.levels]
        return (*self.levels[: deepest + 1], *([", ".join(others)] if others else []))

    def classes(self, config: Config) -> tuple[str, ...] | None:
        """The classes of all images; None where their column is not among the `values`."""
        target = column_called(config.target, self.names, self.levels)
        if target in self.levels and self.level_values is not None:
            return place(self.level_values, target, []).target(None).names
        if target in self.values and target not in self.levels:
            column = coded(target, self.values[target])
            return column.only(np.ones(len(column.codes), dtype=bool)).names
        return None

    def splits(self, config: Config) -> list[str] | None:
        """The splits that will have rows; None where that is not known."""
        split = config.split
        if split.shares:
            return list(split.shares)
        if split.column not in self.values:
            return None
        found = split_names(coded(split.column, self.values[split.column]))
        return [name for name in SPLITS if name in found]


def coming_columns(asked: Asked, record: Record, images: Images) -> Coming | None:
    """RequestError, with its line, for a column that is named and will not be there, and levels that clash.

    None where the columns are only known once the source is fetched.
    """
    found = _held(asked, record, images)
    if found is None:
        for number, section in enumerate(asked.config.annotate):
            _read(asked, number, section)
        return None
    for number, section in enumerate(asked.config.annotate):
        found = _annotated(asked, number, section, found)
    found = Coming(found.names, levels_among(found.names, found.levels), found.views, found.values)
    split = asked.config.split
    for name in split.stratify:
        _refuse_absent(asked, name, found.names, "split", "stratify")
    if asked.config.fit is not None or asked.config.sweep is not None:
        _check_roles(asked, found)
    return found


def _held(asked: Asked, record: Record, images: Images) -> Coming | None:
    """What the store has, or the images bring, before tables are joined."""
    config = asked.config
    there = config.store or finished_store(asked, record)
    if there is not None:
        with asked.at("store"):
            opened = open_store(there)
        draft = Draft(opened) if any(each.edges for each in config.annotate) else None
        return Coming(list(opened.annotations), opened.annotations.levels, opened.views, draft=draft)
    section = config.extract
    assert section is not None
    if section.source.startswith(hub.SCHEME):
        return None
    with asked.at("extract", "source"):
        values = images.source.annotations
    names = list(values)
    begun = begun_store(asked, record)
    if begun is not None:
        names += [name for name in begun.annotations if name not in values]
        draft = Draft(begun) if any(each.edges for each in config.annotate) else None
        return Coming(names, begun.annotations.levels, section.views, values, draft)
    draft = _Promised.of(section.source, images).draft() if config.annotate else None
    return Coming(names, (), section.views, values, draft)


def _annotated(asked: Asked, number: int, section: Annotate, held: Coming) -> Coming:
    """The columns with those of a table, and the levels that it brings."""
    names, levels, values = list(held.names), section.levels, dict(held.values)
    spot = ("annotate", number)
    if section.by is not None:
        _refuse_absent(asked, section.by, names, *spot, "by", role="to join by")
    if section.table is not None:
        table = _read(asked, number, section)
        added = list(levels) if section.edges else [name for name in table if name != section.joins]
        names += [name for name in added if name not in names]
        values = {name: column for name, column in values.items() if name not in added}
    for name in section.levels:
        _refuse_absent(asked, name, names, *spot, "levels", role="for a level")
    if len(set(levels)) < len(levels):
        raise asked.error(
            (*spot, "levels"), f"a level is named twice in {', '.join(levels)}; name each once, from the root"
        )
    if held.draft is not None:
        with asked.at(*spot):
            _try(section, held.draft)
        if section.levels and not section.edges:
            with asked.at(*spot, "levels"):
                name_levels(held.draft, section.levels)
        columns = dict(held.draft.columns)
        return Coming(list(columns), held.draft.levels, held.views, columns, held.draft)
    return Coming(names, tuple(levels) or held.levels, held.views, values)


def _read(asked: Asked, number: int, section: Annotate) -> dict[str, list[Any]]:
    """A section's table, {} where it has none; RequestError where it lacks the columns that join it."""
    if section.table is None:
        return {}
    with asked.at("annotate", number, "table"):
        table = read_table(section.table, key=_EDGE if section.edges else section.joins)
    for name in _EDGE if section.edges else (section.joins,):
        if name not in table:
            key = "table" if section.edges else "key" if section.key else "by" if section.by else "table"
            raise asked.error(
                ("annotate", number, key),
                f"{str(section.table)!r} has no column {name!r} to join by{nearest(name, table)}",
            )
    return table


def _try(section: Annotate, draft: Draft) -> None:
    """Do to a draft what the section asks for; RequestError where its table does not fit the rows."""
    before, added = dict(draft.columns), list[str]()
    if section.table is not None and section.edges and section.by is not None:
        given, levels, missing = section.table, section.levels, section.allow_missing
        added, _ = annotate_edges(
            draft, given, by=section.by, levels=levels, replace=True, allow_missing=missing
        )
    elif section.table is not None:
        table = read_table(section.table, key=section.joins)
        if len(table) > 1:
            added = draft.join(
                table, key=section.joins, by=section.by, replace=True, allow_missing=section.allow_missing
            )
    # What stands in a store may be the run's own; what the images bring is not.
    store: Any = draft.store
    brought: Mapping[str, Column] = store.annotations if isinstance(store, _Promised) else {}
    other = [
        name
        for name in added
        if name in brought
        and before[name] is brought[name]
        and before[name].texts() != draft.columns[name].texts()
    ]
    if other and not section.replace:
        raise RequestError(
            f"the images bring {', '.join(map(repr, other))} already, with other values; say "
            "`replace: true`, or rename the table's"
        )


class _Columns(dict[str, Column]):
    """Columns that no store has yet, and which of them are levels."""

    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Promised:
    """What a draft of a store's columns asks of the store: that of images which are not extracted yet."""

    path: str
    keys: NDArray[np.object_]
    annotations: _Columns

    @classmethod
    def of(cls, place: str, images: Images) -> _Promised:
        source = images.source
        keys = np.empty(len(source.keys), dtype=object)
        keys[:] = list(source.keys)
        columns = _Columns(
            {name: column_from_values(name, values) for name, values in source.annotations.items()}
        )
        columns.levels = levels_among(columns, ())
        return cls(place, keys, columns)

    def __len__(self) -> int:
        return len(self.keys)

    def draft(self) -> Draft:
        return Draft(cast("Store", self))


def _refuse_absent(asked: Asked, name: str, names: list[str], *spot: str | int, role: str = "for it") -> None:
    if name not in names:
        raise asked.error(spot, f"there will be no column {name!r} {role}{nearest(name, names)}")


def _check_roles(asked: Asked, found: Coming) -> None:
    """The target, the groups and the split must be there, and groups that are levels below the target's."""
    config = asked.config
    names, levels = found.names, found.levels
    for key, name in (("target", config.target), *(("groups", each) for each in config.groups)):
        with asked.at(key):
            column = column_called(name, names, levels)
        _refuse_absent(asked, column, names, key)
    target = column_called(config.target, names, levels)
    below = [column_called(each, names, levels) for each in config.groups]
    with asked.at("groups" if config.groups else "target"):
        if target in levels and found.level_values is not None:
            place(found.level_values, target, [name for name in below if name in levels])
    if not config.split.shares and config.split.column not in names:
        have = ", ".join(names) or "none"
        raise asked.error(
            ("split",),
            f"there will be no split column {config.split.column!r}, only {have}; say how to draw one, "
            "such as `split: {train: 0.8, val: 0.1, test: 0.1}`",
        )
    part, section = ("fit", config.fit) if config.fit is not None else ("sweep", config.sweep)
    if section is not None and section.views and not found.views:
        raise asked.error(
            (part, "views"), "the store has no augmented views to train on; extract some with `views`"
        )
