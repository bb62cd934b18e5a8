"""A tree of taxa as a topologically sorted parent array with names; building one is `build`'s business."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import RequestError

LEVELS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
"""The seven levels of the iNaturalist layout, from the root."""

SEPARATOR = "_"
"""Joins the names of a path, as the folder names of the iNaturalist layout do; class order depends on it."""


def level_number(names: Sequence[str], level: int | str) -> int:
    """The number, from 1, of one of the levels of these names; RequestError if there is no such level.

    A number may be given as text where no level is called so.
    """
    if isinstance(level, str):
        if level in names:
            return names.index(level) + 1
        if not level.isdecimal():
            raise RequestError(f"the taxonomy has no level {level!r}; its levels are {', '.join(names)}")
        level = int(level)
    if not 1 <= level <= len(names):
        raise RequestError(
            f"level {level} is out of range; the levels are 1 to {len(names)}: {', '.join(names)}"
        )
    return level


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """`parent` (nodes,) is below each node's own number, -1 for roots; `level` (nodes,) counts from 1.

    `names` (nodes,) are the nodes' own; nodes of one name in different places, homonyms, differ by their
    path. `level_names` has a name for each level. A level may be skipped, and leaves may lie at any.

    Raises RequestError for arrays of which that is not true.
    """

    parent: NDArray[np.int64]
    level: NDArray[np.int64]
    names: tuple[str, ...]
    level_names: tuple[str, ...]

    def __post_init__(self) -> None:
        parent, level = self.parent, self.level
        if not len(parent) == len(level) == len(self.names):
            raise RequestError(
                f"a taxonomy needs a parent, a level and a name for each node, not"
                f" {len(parent):,}, {len(level):,} and {len(self.names):,} of them"
            )
        if (parent >= np.arange(len(parent))).any() or (parent < -1).any():
            node = int(((parent >= np.arange(len(parent))) | (parent < -1)).argmax())
            raise RequestError(
                f"node {node} has the parent {parent[node]}; parents must come before their children, and be "
                "-1 for roots"
            )
        inner = parent >= 0
        if (level < 1).any() or (level > len(self.level_names)).any():
            raise RequestError(
                f"levels must be from 1 to {len(self.level_names)}, the number of level names, not"
                f" {level.min()} to {level.max()}"
            )
        if (level[inner] <= level[parent[inner]]).any():
            raise RequestError("every node of a taxonomy must lie at a level below its parent's")

    def __len__(self) -> int:
        return len(self.parent)

    def __repr__(self) -> str:
        return f"Taxonomy({self.describe()})"

    def describe(self) -> str:
        """Nodes by level for people, such as `3 kingdom, 13 phylum`."""
        counts = np.bincount(self.level, minlength=len(self.level_names) + 1)[1:]
        return ", ".join(f"{n:,} {name}" for n, name in zip(counts, self.level_names, strict=True))

    def level_number(self, level: int | str) -> int:
        """The number, from 1, of a level given by number or name; RequestError if there is no such level."""
        return level_number(self.level_names, level)

    @cached_property
    def paths(self) -> list[str]:
        """The names from the root to each node, joined."""
        found: list[str] = []
        for name, above in zip(self.names, self.parent.tolist(), strict=True):
            found.append(f"{found[above]}{SEPARATOR}{name}" if above >= 0 else name)
        return found

    def path(self, node: int) -> str:
        """The names from the root to `node`, joined."""
        names = []
        while node >= 0:
            names.append(self.names[node])
            node = int(self.parent[node])
        return SEPARATOR.join(reversed(names))

    def nodes_at(self, level: int | str) -> NDArray[np.int64]:
        """The nodes (count,) of a level, by the alphabet of their paths: the order of classes."""
        return self.by_path(np.flatnonzero(self.level == self.level_number(level)))

    def by_path(self, nodes: ArrayLike) -> NDArray[np.int64]:
        """These nodes (count,) by the alphabet of their paths."""
        return np.array(sorted(np.asarray(nodes).tolist(), key=self.paths.__getitem__), dtype=np.int64)

    def called(self, nodes: ArrayLike) -> list[str]:
        """What to call these nodes (count,), no two the same: a name, or where several share it the path."""
        wanted = np.asarray(nodes, dtype=np.int64).tolist()
        often = Counter(self.names[node] for node in wanted)
        return [self.names[node] if often[self.names[node]] == 1 else self.paths[node] for node in wanted]

    @cached_property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Which nodes (nodes,) have none below them."""
        leaf = np.ones(len(self), dtype=bool)
        leaf[self.parent[self.parent >= 0]] = False
        return leaf

    def within(self, nodes: ArrayLike, level: int | str) -> NDArray[np.int64]:
        """Each of `nodes` (n,), or the first above it that is not below `level`; -1 where there is none."""
        wanted = self.level_number(level)
        at: NDArray[np.int64] = np.array(nodes, dtype=np.int64)
        while (deep := (at >= 0) & (self.level[at] > wanted)).any():
            at[deep] = self.parent[at[deep]]
        return at

    def part(self, nodes: ArrayLike) -> tuple[Taxonomy, NDArray[np.int64]]:
        """The tree of these nodes and all above them, and every node's number in it (nodes,), or -1."""
        kept = np.zeros(len(self), dtype=bool)
        kept[np.asarray(nodes, dtype=np.int64)] = True
        for each in reversed(self._by_level):
            above = self.parent[each[kept[each]]]
            kept[above[above >= 0]] = True
        number = np.where(kept, np.cumsum(kept) - 1, -1)
        chosen = np.flatnonzero(kept)
        above = self.parent[chosen]
        parent = np.where(above >= 0, number[above], -1)
        names = tuple(self.names[node] for node in chosen.tolist())
        return Taxonomy(parent, self.level[chosen], names, self.level_names), number

    def ancestors(self, nodes: ArrayLike, level: int | str) -> NDArray[np.int64]:
        """The node at `level` above each of `nodes` (n,), or itself; -1 where its line has none there."""
        wanted, at = self.level_number(level), self.within(nodes, level)
        at[(at >= 0) & (self.level[at] < wanted)] = -1
        return at

    def up(self, values: ArrayLike) -> NDArray[np.float64]:
        """Sums over subtrees: values (nodes, …) of the nodes alone to those of all that lies below them."""
        sums = np.array(values, dtype=np.float64)
        for nodes in reversed(self._by_level):
            inner = nodes[self.parent[nodes] >= 0]
            np.add.at(sums, self.parent[inner], sums[inner])
        return sums

    def down(self, share: ArrayLike, own: ArrayLike, mass: float = 1.0) -> NDArray[np.float64]:
        """Let `mass` run from the roots down; what each node keeps for itself, (nodes,).

        `share` (nodes,) >= 0 is a node's claim on its parent's mass beside its siblings'; roots are siblings.
        `own` (nodes,) >= 0 is the claim of what lies at a node itself beside its children's. Where no one
        below has a claim, the mass stays with the node that has it.
        """
        share, own = np.asarray(share, dtype=np.float64), np.asarray(own, dtype=np.float64)
        inner = self.parent >= 0
        claims = own + np.bincount(self.parent[inner], weights=share[inner], minlength=len(self))
        held = np.zeros(len(self))
        total = share[~inner].sum()
        if total > 0:
            held[~inner] = mass * share[~inner] / total
        for nodes in self._by_level[1:]:
            below = nodes[self.parent[nodes] >= 0]
            above = self.parent[below]
            with np.errstate(invalid="ignore", divide="ignore"):
                part = np.where(claims[above] > 0, share[below] / claims[above], 0.0)
            held[below] = held[above] * part
        kept = np.divide(own, claims, out=np.ones(len(self)), where=claims > 0)
        out: NDArray[np.float64] = held * kept
        return out

    @cached_property
    def _by_level(self) -> list[NDArray[np.int64]]:
        order = np.argsort(self.level, kind="stable")
        return list(np.split(order, np.cumsum(np.bincount(self.level)[1:])[:-1])) if len(self) else []

    @cached_property
    def _family(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.argsort(self.parent, kind="stable")
        return order, np.searchsorted(self.parent[order], np.arange(-1, len(self) + 1))

    def children(self, node: int) -> NDArray[np.int64]:
        """The nodes right below `node`; those of -1 are the roots."""
        order, starts = self._family
        return order[starts[node + 1] : starts[node + 2]]
