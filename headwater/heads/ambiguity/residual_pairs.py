"""Pairs of readings by linear heads, each on what the other leaves of the features, for data without gaps.

Where cells of features overlap, no partition is foretold much better than its neighbours, and self-training
slides to the strongest feature. Two heads that each get only what the other cannot foretell stay apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.problem import Reading

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

_PENALTY = 0.1  # of the mean eigenvalue
_TURNS = 8
_SELF_TRAINING = 6


def residual_pair(features: Floats, labels: Codes, targets: int, *, name: str = "features") -> list[Reading]:
    """Two readings of labels (n,) on rows (n + m + t, dim), the last `targets` of which are the target's.

    The first head begins as a self-trained one of all rows. Then by turns each head is fitted to the labels
    on the features less what is linear in the other's scores over the rows without labels. Where features
    are crossed as often as not, this takes the other feature away and leaves one's own.
    """
    corners = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]
    rows = np.asarray(features, dtype=np.float32)
    n = len(labels)
    first, first_held = _fitted(rows, corners)
    for _ in range(_SELF_TRAINING):
        told = np.eye(corners.shape[1], dtype=np.float32)[first[n:].argmax(axis=1)]
        first, _ = _fitted(rows, np.concatenate([corners, told]))
    second, second_held = first, first_held
    for _ in range(_TURNS):
        second, second_held = _fitted(_residual(rows, first, n), corners)
        first, first_held = _fitted(_residual(rows, second, n), corners)
    origin = f"linear head on {name} less the other's"
    return [
        _reading(first, first_held, corners, targets, origin),
        _reading(second, second_held, corners, targets, origin),
    ]


def _fitted(rows: Floats, wanted: Floats) -> tuple[Floats, Floats]:
    """Scores (rows, classes) by a ridge head of the first rows, and what it says of each of these unseen."""
    known = rows[: len(wanted)]
    centre, mean = known.mean(axis=0), wanted.mean(axis=0)
    x = (known - centre).astype(np.float64)
    product = x.T @ x
    product[np.diag_indices(len(product))] += _PENALTY * np.trace(product) / len(product)
    solved = np.linalg.solve(product, x.T)
    scores = (rows - centre) @ (solved @ (wanted - mean)).astype(np.float32) + mean
    own = (np.einsum("nd,dn->n", x, solved) + 1 / len(x))[:, None]
    held_out = (scores[: len(x)] - own * wanted) / (1 - own)
    return np.asarray(scores, dtype=np.float32), np.asarray(held_out, dtype=np.float32)


def _residual(rows: Floats, scores: Floats, first: int) -> Floats:
    """The rows less what is linear in the scores, by the rows from `first` on."""
    centred = (scores - scores[first:].mean(axis=0)).astype(np.float64)
    others = (rows[first:] - rows[first:].mean(axis=0)).astype(np.float64)
    slopes = np.linalg.pinv(centred[first:], rcond=1e-6) @ others
    return np.asarray(rows - centred @ slopes, dtype=np.float32)


def _reading(scores: Floats, held_out: Floats, corners: Floats, targets: int, origin: str) -> Reading:
    spread = max(float(((held_out - corners) ** 2).mean()), 1e-6)
    odds = scores[len(corners) :] / spread
    raised = np.exp(odds - odds.max(axis=1, keepdims=True))
    sure = np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float32)
    error = float((held_out.argmax(axis=1) != corners.argmax(axis=1)).mean())
    return Reading(unlabeled=sure[:-targets], target=sure[-targets:], error=error, origin=origin)
