"""The worst-K area of heads where groups have hardly any rows: accuracies drawn towards those of parents.

One row of a species says little about it, but thirty of its family do. This is for choosing among heads; the
area that is reported is of the accuracies as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.heads.measures.tail import area_of, worst_shares
from headwater.taxonomy import Taxonomy

STRENGTH = 10.0
"""The rows that a parent's accuracy counts as in its children's."""


@dataclass(frozen=True, eq=False)
class Shrinking:
    """Groups as `nodes` (groups,) of a tree, -1 for one that has none, and which of them are `judged`."""

    tree: Taxonomy
    nodes: NDArray[np.int64]
    judged: NDArray[np.bool_]

    def areas(self, by_group: NDArray[np.float64], count: ArrayLike) -> NDArray[np.float64]:
        """The worst-K area (heads,) of shrunk accuracies, from accuracies (heads, groups) and rows (groups,).

        A node's accuracy is (right + s·parent's)/(rows + s), from the roots down, s being `STRENGTH`; roots
        are drawn towards that of all rows. A group without rows here has its parent's. NaN where no group
        with a node has rows, and for heads whose accuracies are NaN.
        """
        rows = np.asarray(count, dtype=np.float64)
        placed = (self.nodes >= 0) & (rows > 0)
        wanted = self.judged & (self.nodes >= 0)
        if not placed.any() or not wanted.any():
            return np.full(len(by_group), np.nan)
        at_node = np.zeros((len(self.tree), 1 + len(by_group)))
        np.add.at(at_node[:, 0], self.nodes[placed], rows[placed])
        np.add.at(at_node[:, 1:], self.nodes[placed], (by_group[:, placed] * rows[placed]).T)
        below = self.tree.up(at_node)
        total, right = below[:, :1], below[:, 1:]
        rates = np.empty_like(right)
        roots = self.tree.parent < 0
        everywhere = right[roots].sum(axis=0) / total[roots].sum()
        for number in range(1, int(self.tree.level.max()) + 1):
            nodes = np.flatnonzero(self.tree.level == number)
            above = self.tree.parent[nodes]
            parents = np.where((above >= 0)[:, None], rates[above], everywhere)
            rates[nodes] = (right[nodes] + STRENGTH * parents) / (total[nodes] + STRENGTH)
        found = area_of(worst_shares(np.ascontiguousarray(rates[self.nodes[wanted]].T)))
        return np.where(np.isnan(everywhere), np.nan, found)
