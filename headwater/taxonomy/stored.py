"""The taxonomy that a store's columns hold, and how they come to hold one."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.store import Annotations, Column, read_table
from headwater.store.annotate import Draft, changing
from headwater.store.labels import labels_in
from headwater.taxonomy.build import from_codes, from_edges
from headwater.taxonomy.tree import LEVELS, Taxonomy

_EDGE = ("child", "parent")
_KEY = "\0value"  # a name that no column can have


def levels_of(annotations: Annotations) -> tuple[str, ...]:
    """The store's columns that are levels, from the root."""
    return levels_among(annotations, annotations.levels)


def levels_among(columns: Container[str], remembered: Sequence[str]) -> tuple[str, ...]:
    """The columns that are levels, from the root: those remembered, or the seven if all are there."""
    return tuple(remembered) or (LEVELS if all(level in columns for level in LEVELS) else ())


def stored_tree(annotations: Annotations) -> tuple[Taxonomy, NDArray[np.int64]]:
    """The tree of a store's levels, and each row's node (rows,); RequestError where it has none."""
    levels = levels_of(annotations)
    if not levels:
        raise RequestError(
            "the store has no levels of a taxonomy; name the columns that are, from the root, with "
            "`headwater store annotate STORE --levels COL,COL`"
        )
    return _tree(annotations, levels)


def _tree(columns: Mapping[str, Column], levels: Sequence[str]) -> tuple[Taxonomy, NDArray[np.int64]]:
    return from_codes({name: labels_in(name, columns[name]) for name in levels}, one_parent=levels[-1])


def name_levels(place: str | os.PathLike[str] | Draft, levels: Sequence[str]) -> Taxonomy:
    """Remember which columns of a store, or of a draft of its columns, are levels; the tree they make.

    `levels` are named from the root. A name under several parents is as many nodes, or at the last level
    refused, see `from_columns`.

    RequestError, and nothing remembered, for no levels, columns that cannot be, and such a name.
    """
    if not isinstance(place, Draft):
        with changing(place) as draft:
            return name_levels(draft, levels)
    if not levels:
        raise RequestError("no level is named; name the columns that are levels, from the root")
    place.set_levels(levels)
    return _tree(place.columns, levels)[0]


def annotate_edges(
    place: str | os.PathLike[str] | Draft,
    file: str | os.PathLike[str],
    *,
    by: str,
    levels: Sequence[str] = (),
    replace: bool = False,
    allow_missing: bool = False,
) -> tuple[list[str], Taxonomy]:
    """Make levels of a table of edges: the columns added to a store or a draft, and the tree they make.

    The table has columns `child` and `parent`, whose cell is empty at a root, and each name one parent. Every
    row of the store stands where its value of column `by` does. Levels count from the root, called `levels`
    or `level 1`, `level 2`, …; where lines are of different lengths some rows have none at the last.

    RequestError for edges that make no tree, for values that they lack (unless `allow_missing`), for another
    number of names than of levels, and for columns that exist (unless `replace`); nothing is added then.
    """
    if not isinstance(place, Draft):
        with changing(place) as draft:
            return annotate_edges(
                draft, file, by=by, levels=levels, replace=replace, allow_missing=allow_missing
            )
    table = read_table(file, key=_EDGE)
    if missing := [name for name in _EDGE if name not in table]:
        raise RequestError(
            f"{os.fspath(file)} has no column {missing[0]!r}; a table of edges has child and parent"
        )
    tree, node_of = from_edges(zip(table["child"], table["parent"], strict=True))
    known = [value for value in labels_in(by, place.column(by))[1] if value in node_of]
    nodes = np.array([node_of[value] for value in known], dtype=np.int64)
    depth = int(tree.level[nodes].max(initial=0))
    if not depth:
        raise RequestError(f"{os.fspath(file)} has no value of column {by!r}; name another by --by")
    names = list(levels) or [f"level {number}" for number in range(1, depth + 1)]
    if len(names) != depth:
        raise RequestError(
            f"the edges make {depth} levels down to the values of {by!r}, and {len(names)} are named"
            f" ({', '.join(names)}); name each, from the root"
        )
    lines = {name: tree.ancestors(nodes, number).tolist() for number, name in enumerate(names, start=1)}
    columns = {name: [tree.names[at] if at >= 0 else None for at in line] for name, line in lines.items()}
    if by in columns and columns.pop(by) != known:
        raise RequestError(
            f"the values of {by!r} lie at several levels of the edges, so it is none of them; give the last"
            " another name"
        )
    if columns:
        place.join({_KEY: known, **columns}, key=_KEY, by=by, replace=replace, allow_missing=allow_missing)
    return list(columns), name_levels(place, names)
