"""A taxonomy as lines of text, down to a level, with how much lies below each node."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from headwater.taxonomy.tree import Taxonomy

_MOST = 40  # children of one node that are listed before the rest is summed up


def tree_lines(taxonomy: Taxonomy, counts: ArrayLike, depth: int | str) -> list[str]:
    """One line per node down to level `depth`, indented by level: name, images below, leaves below.

    `counts` (nodes,): images at each node itself. Of more than 40 children of one node the largest are shown.
    """
    deepest = taxonomy.level_number(depth)
    images = taxonomy.up(counts).astype(np.int64)
    leaf = np.ones(len(taxonomy), dtype=bool)
    leaf[taxonomy.parent[taxonomy.parent >= 0]] = False
    leaves = taxonomy.up(leaf).astype(np.int64)
    lines: list[str] = []

    def add(node: int, indent: int) -> None:
        children = taxonomy.children(node)
        if node >= 0:
            below = f", {leaves[node]:,} {_last(taxonomy)}" if len(children) else ""
            lines.append(f"{'  ' * indent}{taxonomy.names[node]}  {images[node]:,} images{below}")
        shown = children[taxonomy.level[children] <= deepest]
        largest = shown[np.argsort(-images[shown], kind="stable")]
        for child in largest[:_MOST]:
            add(int(child), indent + 1)
        if rest := largest[_MOST:].tolist():
            lines.append(f"{'  ' * (indent + 1)}… {len(rest):,} more, {images[rest].sum():,} images")

    add(-1, -1)
    return lines


def _last(taxonomy: Taxonomy) -> str:
    return taxonomy.level_names[-1] if taxonomy.level_names else "leaves"
