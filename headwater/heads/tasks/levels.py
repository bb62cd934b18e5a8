"""Classes and groups that are levels of one taxonomy: which nodes a task's rows, classes and groups are.

How a tree is built is the taxonomy's business; columns that are no levels are columns.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import RequestError
from headwater.heads.tasks.columns import (
    CodedColumn,
    Groups,
    coded,
    combine,
    refuse_single_rows,
    refuse_twins,
)
from headwater.heads.tasks.hierarchy import Hierarchy
from headwater.taxonomy import Taxonomy, from_codes, level_number

LevelsGiven = Mapping[str, ArrayLike] | Mapping[str, CodedColumn] | tuple[Taxonomy, ArrayLike]
"""Every row's names by level, from the root, None or "" for none; or a tree and each row's node."""


@dataclass(frozen=True, eq=False)
class Placed:
    """Rows in a taxonomy: `node` (rows,) of `tree`, -1 where a row has none, with the levels of a task.

    Below `group_level`, which is `target_level` where the groups are the classes, the tree does not reach.
    `group_levels` are the levels that were asked for as groups, below the classes'.
    """

    tree: Taxonomy
    node: NDArray[np.int64]
    target_level: int
    group_level: int
    group_levels: tuple[str, ...]

    def target(self, classes: Sequence[str] | None) -> CodedColumn:
        """Each row's class; the classes by the alphabet of their paths, called so where a name is not enough.

        `classes`: names that are wanted instead, where they are among the nodes' paths.
        """
        tree = self.tree
        nodes = tree.nodes_at(self.target_level)
        names = tree.called(nodes)
        if classes is not None:
            names = [
                tree.paths[node] if tree.paths[node] in classes else name
                for node, name in zip(nodes.tolist(), names, strict=True)
            ]
        refuse_twins(names, f"classes of level {self.level_name!r}")
        code = np.full(len(tree) + 1, -1, dtype=np.int64)  # the last entry serves node -1
        code[nodes] = np.arange(len(nodes))
        return CodedColumn(self.level_name, code[tree.ancestors(self.node, self.target_level)], tuple(names))

    @property
    def level_name(self) -> str:
        """What the level of the classes is called."""
        return self.tree.level_names[self.target_level - 1]

    def groups(self, rows: NDArray[np.bool_], below: Sequence[CodedColumn]) -> tuple[Groups, Hierarchy]:
        """The groups of some rows (all rows,), and the tree of these rows alone, whose leaves they are.

        A group is the last node of a row's line, at or below the classes' level; a row whose line ends where
        those of others go on has none. `below`: columns that divide them further, as one more level.
        """
        tree, number = self.tree.part(np.unique(self.node[rows & (self.node >= 0)]))
        tree = Taxonomy(tree.parent, tree.level, tree.names, self.tree.level_names[: self.group_level])
        number = np.append(number, -1)
        node = np.where(rows, number[self.node], -1)
        ends = tree.is_leaf & (tree.ancestors(np.arange(len(tree)), self.target_level) >= 0)
        node = np.where((node >= 0) & np.append(ends, False)[node], node, -1)
        leaves = tree.by_path(np.unique(node[node >= 0]))
        code = np.full(len(tree) + 1, -1, dtype=np.int64)
        code[leaves] = np.arange(len(leaves))
        column = CodedColumn("", code[node], tuple(tree.called(leaves)))
        domains = [column] if self.group_level > self.target_level else []
        if not below:
            codes = combine(domains)[0] if domains else np.where(rows, 0, -1)
            groups = Groups(column.codes, column.names, np.where(column.codes >= 0, codes, -1))
            return groups, Hierarchy(tree, leaves, self.target_level)
        codes, names = combine([column, *below])
        refuse_single_rows(codes, len(names) - len(leaves), below)
        of_leaf = np.zeros(len(names), dtype=np.int64)
        of_leaf[codes[codes >= 0]] = column.codes[codes >= 0]
        cut = [len(column.names[leaf]) + len(", ") for leaf in of_leaf.tolist()]
        grown = Taxonomy(
            np.concatenate([tree.parent, leaves[of_leaf]]),
            np.concatenate([tree.level, np.full(len(names), self.group_level + 1)]),
            (*tree.names, *(name[end:] for name, end in zip(names, cut, strict=True))),
            (*tree.level_names, ", ".join(each.name for each in below)),
        )
        alone = np.where(codes >= 0, combine([*domains, *below])[0], -1)
        return Groups(codes, names, alone), Hierarchy(
            grown, len(tree) + np.arange(len(names)), self.target_level
        )


def place(levels: LevelsGiven, target: str | int, groups: Sequence[str | int]) -> Placed:
    """Rows in the tree of their levels down to the deepest of `groups`, levels by name or number.

    RequestError for a level that is not there, a level of `groups` above `target`, and where rows are placed
    by the last of all levels for a name of it under two parents that may have one, see `from_columns`.
    """
    names = tuple(levels) if isinstance(levels, Mapping) else levels[0].level_names
    at = level_number(names, target)
    below: dict[int, str] = {}
    for group in groups:
        number = level_number(names, group)
        if number < at:
            lower = ", ".join(names[at:]) or "there is none"
            raise RequestError(
                f"the groups' level {names[number - 1]!r} lies above the target's, {names[at - 1]!r}; each "
                f"group must lie within one class, so take a level below it ({lower})"
            )
        if number > at:
            below[number] = names[number - 1]
    deepest, group_levels = max([at, *below]), tuple(below.values())
    if isinstance(levels, Mapping):
        columns = {name: _codes(name, levels[name]) for name in names[:deepest]}
        tree, node = from_codes(columns, one_parent=names[-1] if deepest == len(names) else None)
        return Placed(tree, node, at, deepest, group_levels)
    whole, given = levels[0], np.asarray(levels[1], dtype=np.int64)
    if ((given < -1) | (given >= len(whole))).any():
        wrong = given[(given < -1) | (given >= len(whole))][0]
        raise RequestError(f"a row has the node {wrong}, and the taxonomy has nodes 0 to {len(whole) - 1}")
    return Placed(whole, whole.within(given, deepest), at, deepest, group_levels)


def column_called(given: str | int, columns: Sequence[str], levels: Sequence[str]) -> str:
    """The column meant by a name, or by a level's number; RequestError for a number of no level."""
    if given in columns or not levels or not str(given).isdecimal():
        return str(given)
    return levels[level_number(levels, int(given)) - 1]


def asked_levels(target: Any, groups: Any) -> tuple[str | int, list[str | int]]:
    """The levels of the classes and of the groups; RequestError where these are no names or numbers."""
    several = [] if groups is None else [groups] if isinstance(groups, (str, int)) else list(groups)
    for each in (target, *several):
        if not isinstance(each, (str, int, np.integer)):
            raise RequestError(
                "with levels, target and groups are names or numbers of levels, and not"
                f" {type(each).__name__}; columns that are no levels become one below the others"
            )
    return target, several


def _codes(name: str, values: ArrayLike | CodedColumn) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    column = values if isinstance(values, CodedColumn) else coded(name, values)
    return column.codes, column.names
