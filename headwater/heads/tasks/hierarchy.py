"""The tree that a task's groups are leaves of; how a tree is built is the taxonomy's business."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """`node` (groups,): the node of `tree` that each group is, -1 for one that has none.

    `target_level` is the level, from 1, at which the classes lie: every group's ancestor there is its class.
    """

    tree: Taxonomy
    node: NDArray[np.int64]
    target_level: int


def two_levels(
    classes: Sequence[str], group_names: Sequence[str], class_of_group: ArrayLike, names: tuple[str, str]
) -> Hierarchy:
    """The tree of a task without any other: the classes, and below each of them its groups.

    `class_of_group` (groups,) is each group's class code, `names` what the two levels are called.
    """
    of_group = np.asarray(class_of_group, dtype=np.int64)
    count = len(classes)
    tree = Taxonomy(
        np.concatenate([np.full(count, -1, dtype=np.int64), of_group]),
        np.repeat(np.array([1, 2]), [count, len(of_group)]),
        (*classes, *group_names),
        names,
    )
    return Hierarchy(tree, count + np.arange(len(of_group)), 1)
