"""The reading that answers point to where they refute another: rows of its classes that labels never show.

Where a reading is wrong, what is meant differs from it on rows that labels do not show. Within a class of
the refuted reading these rows lie apart from labeled ones, even if no head tells what is meant from all
rows at once, as in sums of two images. Where one row in ten is crossed, or fewer, they are not found so.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.partitions import Partition, RidgeHead, reading_of
from headwater.heads.ambiguity.problem import Problem, Reading

Codes = NDArray[np.int64]
Floats = NDArray[np.float32]

_ROUNDS = 30
# The share of a class' rows without labels that is called crossed to begin with; self-training mends it.
_CROSSED = 0.5
# Of so few of these rows it is the refuted reading still.
_FEW = 0.02


def crossed_readings(problem: Problem, views: Mapping[str, Floats], refuted: Codes) -> list[Reading]:
    """A reading of two classes for each of the `views` (n + m + t, dim) that is not the `refuted` one.

    `refuted` (m + t,) are its class codes of rows that are not labeled. Labels say nothing of which class
    else is meant: of more than two none is made, nor where no such row is of a class, or hardly any is
    crossed.
    """
    n = len(problem.labeled)
    codes = np.concatenate([problem.labels, refuted])
    if len(problem.classes) != 2 or len(np.unique(refuted)) != 2:
        return []
    found = {name: _crossed(rows, codes, n) for name, rows in views.items()}
    targets = len(problem.target)
    return [
        reading_of(
            f"a linear head in each class, on {name}",
            each,
            n,
            targets,
            each.codes != codes,
            is_nonlinear=True,
        )
        for name, each in found.items()
        if (each.codes[n:] != refuted).mean() > _FEW
    ]


def _crossed(rows: Floats, codes: Codes, labeled: int) -> Partition:
    """The partition that differs from `codes` on crossed rows."""
    told = codes.copy()
    scores = np.empty((len(rows), 2), dtype=np.float32)
    for each in (0, 1):
        mine = np.flatnonzero(codes == each)
        crossed, foretold = _apart(rows[mine], mine < labeled)
        told[mine[crossed]] = 1 - each
        scores[mine, each], scores[mine, 1 - each] = foretold.T
    corners = np.eye(2, dtype=np.float32)[told]
    return Partition(
        codes=told,
        scores=scores,
        squared_error=float(((scores - corners) ** 2).mean()),
        error=float((scores[:labeled].argmax(axis=1) != codes[:labeled]).mean()),
        found=1,
    )


def _apart(rows: Floats, is_labeled: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Floats]:
    """Which rows of a class are crossed, and scores (rows, 2) of not being so and being so.

    It begins with a head that tells labeled rows from others, whose scores rank rows by how likely they are
    to be of a kind that labels do not show (Elkan and Noto 2008); then every row is what a head of all
    others foretells, until none changes.
    """
    head = RidgeHead(np.ascontiguousarray(rows))
    scores = head.foretell((~is_labeled).astype(np.float32)[:, None, None])[:, 0, 0]
    crossed = (scores > np.quantile(scores[~is_labeled], 1 - _CROSSED)) & ~is_labeled
    for _ in range(_ROUNDS):
        foretold = head.foretell(np.stack([~crossed, crossed], axis=1).astype(np.float32)[:, :, None])[
            :, :, 0
        ]
        now = (foretold.argmax(axis=1) == 1) & ~is_labeled
        if (now == crossed).all():
            break
        crossed = now
    return crossed, foretold
