"""Taxonomies from what people have: columns, folder names, a list of edges, a table of species."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.store import tables
from headwater.taxonomy.tree import LEVELS, Taxonomy

NOT_NAMED_SO = (
    "is not named like 00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris "
    "(a number and the seven levels from kingdom to species)"
)
_TAXON = re.compile(r"\d+_([A-Z][^_]*)" + r"_([^_]+)" * 5 + r"_(.+)", re.DOTALL)


def from_columns(
    columns: Mapping[str, Sequence[str | None]], *, one_parent: str | None = None
) -> tuple[Taxonomy, NDArray[np.int64]]:
    """The tree of rows whose names at each level stand in columns, and each row's node (rows,).

    `columns`: values by level name, from the root; None or "" where a row has no name at that level, which is
    then passed over. A row without any name has node -1. One name under two parents is two nodes, as the
    wasps and the conifers called Agathis are. Not so at the level `one_parent`, if given, where most names
    there begin with their parent's, as species' do and epithets do not: below one root such a name has one
    parent.

    Raises RequestError for no level, columns of different lengths and a name of that level with two parents
    that may have one.
    """
    return from_codes({level: _coded(values) for level, values in columns.items()}, one_parent=one_parent)


def from_codes(
    columns: Mapping[str, tuple[NDArray[np.int64], Sequence[str]]], *, one_parent: str | None = None
) -> tuple[Taxonomy, NDArray[np.int64]]:
    """The same from columns of codes (rows,) into names, -1 where a row has none."""
    if not columns:
        raise RequestError(
            "a taxonomy needs at least one level; name the columns of its levels, from the root"
        )
    lengths = {name: len(codes) for name, (codes, _) in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise RequestError(f"the columns of a taxonomy must have equally many rows, not {said}")
    rows = next(iter(lengths.values()))
    at = np.full(rows, -1, dtype=np.int64)
    parents, levels = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    names: list[str] = []
    count = 0
    for number, (code, known) in enumerate(columns.values(), start=1):
        present = np.flatnonzero(code >= 0)
        pairs = (at[present] + 1) * max(1, len(known)) + code[present]
        unique, place = np.unique(pairs, return_inverse=True)
        parent, name = unique // max(1, len(known)) - 1, unique % max(1, len(known))
        at[present] = count + place
        parents.append(parent)
        levels.append(np.full(len(unique), number))
        names.extend(known[each] for each in name)
        count += len(unique)
    tree = Taxonomy(np.concatenate(parents), np.concatenate(levels), tuple(names), tuple(columns))
    _refuse_two_parents(tree, one_parent)
    return tree, at


def from_folders(folders: Sequence[str]) -> tuple[Taxonomy, NDArray[np.int64]]:
    """The tree of folders named `00000_Animalia_…_Lumbricus_terrestris`, and each folder's node.

    A species is called by genus and epithet, since epithets repeat. RequestError names the first folder that
    is not named so, and a species found under two parents.
    """
    columns: dict[str, list[str | None]] = {level: [] for level in LEVELS}
    for folder in folders:
        names = names_in(folder)
        if names is None:
            raise RequestError(f"the folder {folder!r} {NOT_NAMED_SO}")
        for level, name in zip(LEVELS, names, strict=True):
            columns[level].append(name)
    return from_columns(columns, one_parent="species")


def names_in(folder: str) -> tuple[str, ...] | None:
    """The seven names in `00000_Animalia_…_Lumbricus_terrestris`, the last one genus and epithet; or None."""
    match = _TAXON.fullmatch(folder)
    if match is None:
        return None
    *upper, epithet = match.groups()
    return (*upper, f"{upper[-1]} {epithet.replace('_', ' ')}")


def from_edges(
    edges: Iterable[tuple[str, str | None]], level_names: Sequence[str] = ()
) -> tuple[Taxonomy, dict[str, int]]:
    """The tree of (child, parent) pairs, parent None or "" for a root, and each name's node.

    Here names identify: each has one parent. A parent that is no child of anything is a root. Levels are
    depths, called `level_names` or `level 1`, `level 2`, ….

    Raises RequestError for a name with two parents, a cycle, and fewer level names than levels.
    """
    pairs = list(edges)
    children, parents = [child for child, _ in pairs], [parent or None for _, parent in pairs]
    code, known = _coded([*children, *parents])
    child, above = code[: len(pairs)], code[len(pairs) :]
    if (child < 0).any():
        raise RequestError(
            f"edge {int((child < 0).argmax()) + 1} has no child; each is a pair (child, parent)"
        )
    parent = np.full(len(known), -1, dtype=np.int64)
    parent[child] = above
    if (clash := parent[child] != above).any():
        which = int(clash.argmax())
        one, other = (
            known[node] if node >= 0 else "no parent" for node in (above[which], parent[child[which]])
        )
        raise RequestError(
            f"{children[which]!r} has two parents, {one!r} and {other!r}; each name may have one"
        )
    depth = _depths(parent, known)
    order = np.argsort(depth, kind="stable")
    place = np.empty(len(known), dtype=np.int64)
    place[order] = np.arange(len(known))
    sorted_parent = np.where(parent[order] >= 0, place[parent[order]], -1)
    deepest = int(depth.max(initial=0))
    called = tuple(level_names) or tuple(f"level {number}" for number in range(1, deepest + 1))
    if len(called) < deepest:
        raise RequestError(f"the edges make {deepest} levels, but only {len(called)} level names were given")
    names = tuple(known[node] for node in order)
    return Taxonomy(sorted_parent, depth[order], names, called), dict(zip(known, place.tolist(), strict=True))


def _depths(parent: NDArray[np.int64], known: Sequence[str]) -> NDArray[np.int64]:
    """Depth from 1, by doubling the distance looked up; RequestError where a line never ends."""
    end = len(parent)  # stands above all roots and above itself
    above = np.append(np.where(parent >= 0, parent, end), end)
    steps = np.append(np.ones(end, dtype=np.int64), 0)
    for _ in range(max(1, end).bit_length() + 1):
        if (above == end).all():
            return steps[:-1]
        steps = steps + steps[above]
        above = above[above]
    node = int((above[:-1] != end).argmax())
    # A node that leads into a cycle need not lie on it: after as many steps as there are nodes, one does.
    for _ in range(end):
        node = int(parent[node])
    cycle = [node]
    while (following := int(parent[cycle[-1]])) != node and len(cycle) < 6:
        cycle.append(following)
    said = " under ".join(known[each] for each in [*cycle, following])
    raise RequestError(f"the edges go in a circle: {said}; a taxonomy is a tree")


def read_table(path: str | Path, levels: Sequence[str] = ()) -> tuple[Taxonomy, NDArray[np.int64]]:
    """The tree of a CSV, TSV or Parquet table with a row for each species, and each row's node.

    `levels`: its columns from the root; all of them, in their order, if none are named. RequestError for a
    column that is missing and for a species with two parents.
    """
    table = tables.read_table(path)
    named = list(levels) or list(table)
    if missing := [name for name in named if name not in table]:
        raise RequestError(f"{path} has no column {missing[0]!r}; it has {', '.join(table)}")
    columns = {name: [None if cell is None else str(cell) for cell in table[name]] for name in named}
    return from_columns(columns, one_parent=named[-1])


def _coded(values: Sequence[str | None]) -> tuple[NDArray[np.int64], list[str]]:
    """A code per value into the distinct ones, by the alphabet; -1 for None and ""."""
    encoded = pa.array(values, type=pa.string()).dictionary_encode()
    found: list[str] = encoded.dictionary.to_pylist()
    order = sorted(range(len(found)), key=found.__getitem__)
    if order and found[order[0]] == "":
        order = order[1:]
    rank = np.full(len(found) + 1, -1, dtype=np.int64)  # the last stands for null
    rank[order] = np.arange(len(order))
    indices = encoded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    return rank[indices], [found[each] for each in order]


def _plain(name: str) -> str:
    """A name's letters and digits, however they are parted."""
    return "".join(filter(str.isalnum, name)).casefold()


def _refuse_two_parents(tree: Taxonomy, level: str | None) -> None:
    """RequestError for a name of `level`, if any, with two parents; see `from_columns`."""
    if level is None:
        return
    nodes = np.flatnonzero(tree.level == tree.level_number(level))
    full = sum(_plain(tree.names[node]).startswith(_plain(tree.names[tree.parent[node]])) for node in nodes)
    if 2 * full < len(nodes):
        return
    often = Counter(tree.names[node] for node in nodes.tolist())
    nodes = np.array([node for node in nodes.tolist() if often[tree.names[node]] > 1], dtype=np.int64)
    root = nodes.copy()
    while (inner := tree.parent[root] >= 0).any():
        root[inner] = tree.parent[root[inner]]
    first: dict[tuple[str, int], int] = {}
    for node, below in zip(nodes.tolist(), root.tolist(), strict=True):
        name = tree.names[node]
        if (other := first.setdefault((name, below), node)) != node:
            one, two = (tree.path(tree.parent[each]) for each in (other, node))
            raise RequestError(
                f"the {level} {name!r} stands under two parents, {one!r} and {two!r}; correct one, or give"
                " each a name of its own"
            )
