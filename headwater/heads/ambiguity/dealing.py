"""Rows dealt to folds, each class evenly; what folds are for is not decided here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dealt(codes: NDArray[np.int64], folds: int, random: np.random.Generator) -> NDArray[np.int64]:
    """The fold 0..folds-1 of each row of classes (rows,), at random: of like size, within classes, too."""
    found = np.empty(len(codes), dtype=np.int64)
    order = random.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    found[order] = np.arange(len(codes)) % folds
    return found
