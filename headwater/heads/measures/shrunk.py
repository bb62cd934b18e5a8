"""The worst-K area of heads where groups have hardly any rows: accuracies drawn towards those of parents.

One row of a species says little about it, but thirty of its family do. This is for choosing among heads; the
area that is reported is of the accuracies as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.heads.measures.tail import worst_area
from headwater.heads.tasks.hierarchy import Hierarchy

STRENGTH = 10.0
"""The rows that a parent's accuracy counts as in its children's."""


def shrunk_areas(
    hierarchy: Hierarchy, judged: NDArray[np.bool_], by_group: NDArray[np.float64], count: ArrayLike
) -> NDArray[np.float64]:
    """The worst-K area (heads,) of shrunk accuracies, over the groups that are `judged` (groups,).

    `by_group` (heads, groups) are accuracies as they are, of `count` (groups,) rows. A node's is
    (right + s·parent's)/(rows + s), from the roots down, s being `STRENGTH`; roots are drawn towards that of
    all rows. A group without rows here has its parent's. NaN where no group with a node has rows, and for
    heads whose accuracies are NaN.
    """
    tree, node = hierarchy.tree, hierarchy.node
    rows = np.asarray(count, dtype=np.float64)
    placed = (node >= 0) & (rows > 0)
    wanted = judged & (node >= 0)
    if not placed.any() or not wanted.any():
        return np.full(len(by_group), np.nan)
    at_node = np.zeros((len(tree), 1 + len(by_group)))
    np.add.at(at_node[:, 0], node[placed], rows[placed])
    np.add.at(at_node[:, 1:], node[placed], (by_group[:, placed] * rows[placed]).T)
    below = tree.up(at_node)
    total, right = below[:, :1], below[:, 1:]
    rates = np.empty_like(right)
    roots = tree.parent < 0
    everywhere = right[roots].sum(axis=0) / total[roots].sum()
    for number in range(1, int(tree.level.max()) + 1):
        nodes = np.flatnonzero(tree.level == number)
        above = tree.parent[nodes]
        parents = np.where((above >= 0)[:, None], rates[above], everywhere)
        rates[nodes] = (right[nodes] + STRENGTH * parents) / (total[nodes] + STRENGTH)
    found = worst_area(np.ascontiguousarray(rates[node[wanted]].T))
    return np.where(np.isnan(everywhere), np.nan, found)
