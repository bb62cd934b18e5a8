"""A store's taxonomy on the terminal and as JSON, down to a level, with counts."""

# ruff: noqa: PLC0415 - rooms load when a command runs

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from headwater.cli.console import console, print_note
from headwater.printable import counted, escaped

if TYPE_CHECKING:
    from headwater.taxonomy import Taxonomy, TreeRow

_MOST = 40  # children of one node that are listed before the rest is summed up


@dataclass(frozen=True)
class Shown:
    """What is shown of a taxonomy: the nodes down to a level, in order, and the images that have none."""

    tree: Taxonomy
    rows: list[TreeRow]
    without: int


def read_tree(store: Path, depth: str, *, whole: bool) -> Shown:
    """A store's taxonomy down to a level with its good images counted; not `whole`: long families are cut.

    RequestError for a store without levels, and for a level that is not there.
    """
    from headwater.store import open_store
    from headwater.taxonomy import stored_tree, tree_rows

    opened = open_store(store, unfinished=True)
    tree, node = stored_tree(opened.annotations)
    node = node[opened.ok]
    counts = np.bincount(node[node >= 0], minlength=len(tree))
    return Shown(tree, tree_rows(tree, counts, depth, most=None if whole else _MOST), int((node < 0).sum()))


def print_tree(shown: Shown) -> None:
    """Print nodes with their images, and how many nodes without children lie below."""
    tree = shown.tree
    table = Table(title="taxonomy", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column(escaped(tree.level_names[-1]), justify="right", overflow="fold")
    for row in shown.rows:
        name = f"… {row.more:,} more" if row.more else escaped(tree.names[row.node])
        below = f"{row.leaves:,}" if row.leaves else ""
        table.add_row(Text("  " * row.above + name), f"{row.images:,}", below)
    console().print(table)
    print_note(f"all levels: {escaped(tree.describe())}; recipe, columns and runs: without --depth")
    if shown.without:
        print_note(f"{counted(shown.without, 'image')} without a place in the taxonomy")


def tree_record(shown: Shown) -> dict[str, Any]:
    """The same as plain data: nodes with their children."""
    tree = shown.tree
    return {
        "levels": [
            {"name": name, "nodes": int((tree.level == number).sum())}
            for number, name in enumerate(tree.level_names, start=1)
        ],
        "images_without": shown.without,
        "nodes": _nested(tree, shown.rows),
    }


def _nested(tree: Taxonomy, rows: Sequence[TreeRow]) -> list[dict[str, Any]]:
    roots: list[dict[str, Any]] = []
    line: list[list[dict[str, Any]]] = [roots]  # where nodes with so many above them go
    for row in rows:
        made: dict[str, Any] = {
            "name": tree.names[row.node],
            "level": tree.level_names[tree.level[row.node] - 1],
            "images": row.images,
            "leaves": row.leaves,
            "children": [],
        }
        line[row.above].append(made)
        line[row.above + 1 :] = [made["children"]]
    return roots
