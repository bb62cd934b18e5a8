"""Sets that are not ambiguous though unlabeled rows are unlike labeled ones: new sorts of rows in a class.

Rows are vectors of independent normal values; the class alone moves the first one of labeled rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.hackathon42.generated import Codes, Generated
from headwater.heads.ambiguity.problem import Problem

SIZES = (400, 1200, 400)  # labeled, unlabeled and target rows
COLUMNS = 24
APART = 5.0  # classes, in standard deviations
NEW = 3.0  # how far rows of another sort lie from others of their class
TILT = 1.5  # how far a class as a whole is moved, in a direction of its own


@dataclass(frozen=True)
class Change:
    """Of which classes there is another sort of rows, its share of labeled rows and of others."""

    classes: tuple[int, ...]
    labeled: float
    others: float


CHANGES: dict[str, Change | None] = {
    "new sort in a class": Change((1,), 0.0, 0.5),
    "new sorts in both classes": Change((0, 1), 0.0, 0.5),
    "sort of 5 % grows to 50 %": Change((1,), 0.05, 0.5),
    "sort of 20 % grows to 80 %": Change((1,), 0.2, 0.8),
    "sort of 50 % shrinks to 5 %": Change((1,), 0.5, 0.05),
    "class elsewhere": None,
}
"""By name; None for a class of which all other rows are moved alike."""


def with_new_sorts(name: str, seed: int, size: float = 1.0) -> Generated:
    """Rows of two classes, the others changed as `name` says; `size` scales the numbers of rows."""
    change = CHANGES[name]
    random = np.random.default_rng([42, list(CHANGES).index(name), seed])
    tilt = random.standard_normal(COLUMNS)
    tilt *= TILT / np.linalg.norm(tilt)
    items, codes = [], []
    for part, rows in enumerate(round(size * each) for each in SIZES):
        classes = random.integers(0, 2, rows)
        values = random.standard_normal((rows, COLUMNS))
        values[:, 0] += APART * classes
        if change is None:
            values[(classes == 1) & (part > 0)] += tilt
        else:
            share = change.others if part else change.labeled
            for code in change.classes:
                values[(classes == code) & (random.random(rows) < share), 1 + code] += NEW
        items.append(values.astype(np.float32))
        codes.append(classes.astype(np.int64))
    problem = Problem(items[0], codes[0], items[1], items[2], (0, 1))
    cells: list[Codes] = [np.stack([each, each], axis=1) for each in codes]
    return Generated(0, name, problem, codes[2], cells[2], cells[1], ("class", "class"), 0)
