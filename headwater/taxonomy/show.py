"""A taxonomy as rows of a listing, down to a level, with how much lies below each node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from headwater.printable import counted
from headwater.taxonomy.tree import Taxonomy


@dataclass(frozen=True)
class TreeRow:
    """A node of the listing: how many nodes stand above it, and what lies at it and below.

    `leaves`: nodes without children, itself not counted. `node` is -1 for a row that stands for `more`
    siblings, the smaller ones, together.
    """

    node: int
    above: int
    images: int
    leaves: int
    more: int = 0


def homonyms(taxonomy: Taxonomy) -> list[list[int]]:
    """The nodes of every name that stands at several places of one level, from the root down."""
    places: dict[tuple[int, str], list[int]] = {}
    for node, key in enumerate(zip(taxonomy.level.tolist(), taxonomy.names, strict=True)):
        places.setdefault(key, []).append(node)
    several = [nodes for nodes in places.values() if len(nodes) > 1]
    return sorted(several, key=lambda nodes: int(taxonomy.level[nodes[0]]))


def describe_homonyms(taxonomy: Taxonomy) -> str:
    """How many names stand at several places, and where the first one does; empty where none does."""
    found = homonyms(taxonomy)
    if not found:
        return ""
    first = found[0]
    level, name = taxonomy.level_names[taxonomy.level[first[0]] - 1], taxonomy.names[first[0]]
    under = [taxonomy.path(int(taxonomy.parent[node])) or "no parent" for node in first]
    more = len(under) - 2
    said = " and ".join(under) if not more else f"{', '.join(under[:2])} and {more:,} more"
    return (
        f"{counted(len(found), 'name')} {'stands' if len(found) == 1 else 'stand'} in several places, which "
        f"are nodes of their own{': ' if len(found) == 1 else ', such as '}the {level} {name!r} under {said}"
    )


def tree_rows(
    taxonomy: Taxonomy, counts: ArrayLike, depth: int | str, most: int | None = None
) -> list[TreeRow]:
    """The nodes down to level `depth`, each before those below it, siblings by their images.

    `counts` (nodes,): images at each node itself. Of more than `most` children of one node the smaller ones
    are summed up in one row; None: all are listed.
    """
    deepest = taxonomy.level_number(depth)
    images = taxonomy.up(counts).astype(np.int64)
    leaves = taxonomy.up(taxonomy.is_leaf).astype(np.int64) - taxonomy.is_leaf
    rows: list[TreeRow] = []
    todo = [TreeRow(-1, -1, 0, 0)]
    while todo:
        at = todo.pop()
        if at.above >= 0:
            rows.append(at)
        if at.more:
            continue
        below = taxonomy.children(at.node)
        shown = below[taxonomy.level[below] <= deepest]
        largest = shown[np.argsort(-images[shown], kind="stable")]
        rest = largest[most:] if most is not None else largest[:0]
        found = [
            TreeRow(node, at.above + 1, int(images[node]), int(leaves[node]))
            for node in largest[: len(largest) - len(rest)].tolist()
        ]
        if len(rest):
            under = int(leaves[rest].sum() + taxonomy.is_leaf[rest].sum())
            found.append(TreeRow(-1, at.above + 1, int(images[rest].sum()), under, len(rest)))
        todo.extend(reversed(found))
    return rows
