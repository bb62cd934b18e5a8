"""How far the foremost class of rows leads the next, and a plain ridge head to tell it by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

_LEADING = 64  # components that the ridge head goes by
_RIDGE = 0.01  # of the mean eigenvalue
_TORN = 0.3  # rows whose foremost class leads by less lie between classes


def leads(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """How far the foremost class leads the next, (rows,), in scores or probabilities (rows, classes)."""
    ordered = np.sort(scores, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2], dtype=np.float64)


def torn_share(scores: NDArray[np.floating]) -> float:
    """The share of rows that lie between classes, by scores or probabilities (rows, classes)."""
    return float((leads(scores) < _TORN).mean())


def ridge_scores(rows: Floats, fixed: Codes, codes: Codes) -> NDArray[np.float64]:
    """Scores (rows, classes) of rows (rows, dim) by a ridge head of the `fixed` ones, of these class codes.

    `dim` features are in the order of their variance; the first 64 count. A fixed row is judged by the head
    of all others of them. A row that one feature says one class of, and another another, is where such a
    head, which goes by both, leads least.
    """
    x = rows[:, :_LEADING].astype(np.float64)
    x -= x[fixed].mean(axis=0)
    x = np.column_stack([x, np.full(len(x), np.sqrt((x[fixed] ** 2).mean() + 1e-30))])
    known = x[fixed]
    square = known.T @ known
    square[np.diag_indices(len(square))] += _RIDGE * np.trace(square) / len(square)
    corners = np.eye(int(codes.max()) + 1)[codes]
    solved = np.linalg.solve(square, known.T)
    scores = x @ (solved @ corners)
    own = np.einsum("nd,dn->n", known, solved)[:, None]
    scores[fixed] = (scores[fixed] - own * corners) / (1 - own)
    return np.asarray(scores)
