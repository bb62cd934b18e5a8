"""The taxonomy that a store's columns hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.store import Annotations, Column
from headwater.taxonomy.build import from_codes
from headwater.taxonomy.tree import LEVELS, Taxonomy


def levels_of(annotations: Annotations) -> tuple[str, ...]:
    """The columns that are levels, from the root: those remembered, or the seven if all are there."""
    if annotations.levels:
        return annotations.levels
    return LEVELS if all(level in annotations for level in LEVELS) else ()


def stored_tree(annotations: Annotations) -> tuple[Taxonomy, NDArray[np.int64]]:
    """The tree of a store's levels, and each row's node (rows,); RequestError where it has none."""
    levels = levels_of(annotations)
    if not levels:
        raise RequestError(
            "the store has no levels of a taxonomy; name the columns that are, from the root, with "
            "`headwater store annotate STORE --levels COL,COL`"
        )
    return from_codes({name: _codes(annotations[name]) for name in levels})


def _codes(column: Column) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """As in tasks, -1 is no name in a column of whole numbers."""
    codes, names = column.codes()
    return (np.where(column.values == -1, -1, codes) if column.kind == "int" else codes), names
