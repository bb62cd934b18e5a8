"""Accuracy by node of the tree that the groups are leaves of: which families and orders a head is bad at.

Right is what is right at the classes' level, as everywhere. How a tree is built is the taxonomy's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.heads.measures.accuracy import GroupAccuracy, plain
from headwater.heads.tasks.hierarchy import Hierarchy

_LISTED = 10  # worst nodes of each level in plain data


@dataclass(frozen=True, eq=False)
class LevelAccuracy:
    """One level: for every node that has rows its `name`, path, groups that have rows, rows and right rows.

    `parents` are the names right above, "" for roots.
    """

    level: str
    names: tuple[str, ...]
    paths: tuple[str, ...]
    parents: tuple[str, ...]
    groups: NDArray[np.int64]
    count: NDArray[np.int64]
    correct: NDArray[np.int64]

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """Lowest accuracy first, and of equals the one with most rows, which is the surest.

        Nodes of a single group say what the group says, and are left out where there are others.
        """
        order = np.lexsort((-self.count, self.correct / self.count))
        several = self.groups[order] > 1
        return order[several] if several.any() else order

    def worst_places(self, most: int) -> list[int]:
        """The places in `names` of the nodes of lowest accuracy, lowest first."""
        places: list[int] = self._order[:most].tolist()
        return places

    def node(self, place: int) -> GroupAccuracy:
        """The node at a place in `names`."""
        return GroupAccuracy(self.names[place], int(self.count[place]), int(self.correct[place]))

    def worst(self, most: int) -> list[tuple[GroupAccuracy, str, int]]:
        """The nodes of lowest accuracy, lowest first: each with its parent's name and how many groups."""
        return [
            (self.node(place), self.parents[place], int(self.groups[place]))
            for place in self.worst_places(most)
        ]

    def plain(self, level: float | None, most: int = _LISTED) -> dict[str, Any]:
        """Plain data for JSON: the worst nodes, with intervals at `level` unless that is None."""
        places = self.worst_places(most)
        found = plain([self.node(place) for place in places], level)
        for each, place in zip(found, places, strict=True):
            each.update(path=self.paths[place], groups=int(self.groups[place]))
        return {"nodes": len(self.names), "worst": found}


def by_levels(
    hierarchy: Hierarchy, count: NDArray[np.float64], correct: NDArray[np.float64]
) -> tuple[LevelAccuracy, ...]:
    """Every level above the groups, from the root, from rows and right rows (groups,) of each group.

    A level at which every node is a group by itself says no more than the groups do, and is left out.
    """
    tree = hierarchy.tree
    known = hierarchy.node >= 0
    own = np.zeros((len(tree), 3))
    values = np.stack([count > 0, count, correct], axis=1)
    np.add.at(own, hierarchy.node[known], values[known])
    total = tree.up(own).astype(np.int64)
    found = []
    for number, level in enumerate(tree.level_names, start=1):
        nodes = np.flatnonzero((tree.level == number) & (total[:, 1] > 0))
        inner = ~np.isin(nodes, hierarchy.node)
        if not inner.any():
            continue
        groups, rows, right = total[nodes].T
        found.append(
            LevelAccuracy(
                level=level,
                names=tuple(tree.called(nodes)),
                paths=tuple(tree.paths[node] for node in nodes.tolist()),
                parents=tuple(
                    tree.names[above] if above >= 0 else "" for above in tree.parent[nodes].tolist()
                ),
                groups=groups,
                count=rows,
                correct=right,
            )
        )
    return tuple(found)
