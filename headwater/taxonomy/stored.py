"""The taxonomy that a store's columns hold."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.store import Annotations
from headwater.store.labels import labels_in
from headwater.taxonomy.build import from_codes
from headwater.taxonomy.tree import LEVELS, Taxonomy


def levels_of(annotations: Annotations) -> tuple[str, ...]:
    """The store's columns that are levels, from the root."""
    return levels_among(annotations, annotations.levels)


def levels_among(columns: Container[str], remembered: Sequence[str]) -> tuple[str, ...]:
    """The columns that are levels, from the root: those remembered, or the seven if all are there."""
    return tuple(remembered) or (LEVELS if all(level in columns for level in LEVELS) else ())


def stored_tree(annotations: Annotations) -> tuple[Taxonomy, NDArray[np.int64]]:
    """The tree of a store's levels, and each row's node (rows,); RequestError where it has none."""
    levels = levels_of(annotations)
    if not levels:
        raise RequestError(
            "the store has no levels of a taxonomy; name the columns that are, from the root, with "
            "`headwater store annotate STORE --levels COL,COL`"
        )
    return from_codes({name: labels_in(name, annotations[name]) for name in levels})
