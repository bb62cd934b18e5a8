"""The taxonomy that a store's columns hold."""

from __future__ import annotations

from headwater.store import Annotations
from headwater.taxonomy.tree import LEVELS


def levels_of(annotations: Annotations) -> tuple[str, ...]:
    """The columns that are levels, from the root: those remembered, or the seven if all are there."""
    if annotations.levels:
        return annotations.levels
    return LEVELS if all(level in annotations for level in LEVELS) else ()
