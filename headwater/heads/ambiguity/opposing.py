"""Whether two plain heads fit the labels and contradict each other on given rows, as ambiguity has it.

Rows may be unlike the labeled ones without that: a picture with more noise is still of its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.feature_rows import FeatureRows, components
from headwater.heads.ambiguity.novelty import Folds, Scores

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

_RESTARTS = 8
_ROUNDS = 10
_RIDGE = 0.01
_FLOOR = 0.05  # columns of less than this share of the widest one's deviation are not blown up further
_MOST = 3000
# A column is familiar if hardly more of the rows lie beyond these quantiles of the labeled rows than labeled.
_EDGE = 0.005
_BEYOND = 0.05
# Heads of one reading agree on more of the rows than this.
_ALIKE = 0.75
# A reading may fit held-out labeled rows worse than a plain head does by this much.
_WORSE = 0.05


@dataclass(frozen=True, eq=False)
class Opposition:
    """What opposing heads came to.

    `contradiction` is the share of held-out rows that the two contradict each other on, or the share of
    held-out labeled rows that the worse of them fits, whichever is less: a half is chance for two classes.
    `said` (readings, rows) are the class codes that each distinct reading gives the rows, the one found most
    often first; `fits` (readings,) their accuracy on held-out labeled rows.
    """

    contradiction: float
    said: Codes
    fits: NDArray[np.float64]


def familiar(features: Sequence[FeatureRows], picked: NDArray[np.bool_], seed: int = 0) -> Floats | None:
    """Components of the columns in which the picked rows lie within what labeled rows show, (n + m + t, d).

    `picked` (m + t,) are unlabeled and target rows. Crossed rows combine what is known one by one in an
    unknown way; rows of another noise or brightness are unknown column by column, and no reading says what
    to make of that. None where no column is familiar.
    """
    parts = []
    for each in features:
        rest = np.concatenate([each.unlabeled, each.target])[picked]
        low, high = np.quantile(_some(each.labeled, seed), [_EDGE, 1 - _EDGE], axis=0)
        some = _some(rest, seed)
        known = ((some < low) | (some > high)).mean(axis=0) < _BEYOND
        if known.any():
            parts.append(components(each.all[:, known], seed))
    return np.column_stack(parts) if parts else None


def oppose(labeled: Floats, labels: Codes, rows: Floats, *, seed: int = 0) -> Opposition:
    """Seek pairs of linear heads that fit labeled rows (n, d) and contradict each other on `rows` (r, d).

    Both are least-squares heads on labeled rows and on `rows`, on which each is told to say what the other
    one does not, in turns until nothing changes, from a plain head and from random starts (in the spirit of
    Lee et al. 2023, DivDis). Rows are taken relative to their own mean, so that a head cannot contradict
    another by calling them all the same. Judged on halves that were held out.
    """
    classes = int(labels.max()) + 1
    random = np.random.default_rng(seed)
    ours, theirs = _alike(labeled, rows)
    folds = random.permutation(len(ours)) % 2, random.permutation(len(theirs)) % 2
    plain = np.mean([_plain_fit(ours, labels, classes, folds[0] == half) for half in range(2)])
    contradiction, found = -1.0, []
    foremost: list[tuple[Codes, float]] = []
    for start in range(_RESTARTS):
        direction = None if start == 0 else random.standard_normal((ours.shape[1], classes))
        fits, against = np.zeros(2), 0.0
        for half in range(2):
            kept, shown = folds[0] != half, folds[1] != half
            pair = _pair(ours[kept], labels[kept], theirs[shown], classes, direction)
            right = [(_said(ours[~kept], head) == labels[~kept]).mean() for head in pair]
            fits += np.asarray(right) / 2
            first, second = (_said(theirs[~shown], head) for head in pair)
            against += float((first != second).mean()) / 2
        pair = _pair(ours, labels, theirs, classes, direction)
        both = [(_said(theirs, head), float(fit)) for head, fit in zip(pair, fits, strict=True)]
        found += [each for each in both if each[1] >= plain - _WORSE]
        worth = min(float(fits.min()), against)
        if worth > contradiction:
            contradiction, foremost = worth, both
    # The pair that contradicts most is what the contradiction rests on, well as it may fit or not.
    said, fits = _distinct([*foremost, *found])
    return Opposition(contradiction, said.reshape(-1, len(rows)), fits)


def opposing_scores(
    labeled: Floats, labels: Codes, rest: Floats, picked: NDArray[np.bool_], folds: Folds, *, seed: int = 0
) -> Scores:
    """A measure of novelty: how much opposing heads, made for the picked of the other rows (r, d), differ.

    Where they say the same it is minus the smaller of their leads over the second class; where they do not,
    how much they would have to give in to agree. Each fold is judged by heads fitted to the other folds.
    """
    classes = int(labels.max()) + 1
    ours, theirs = _alike(labeled, rest[picked])
    mean, spread = labeled.mean(axis=0), _spread(labeled, rest[picked])
    every = _with_ones((rest - mean) / spread)
    random = np.random.default_rng(seed)
    out = np.zeros(len(labeled)), np.zeros(len(rest))
    for fold in np.unique(folds.labeled):
        kept, shown = folds.labeled != fold, folds.rest[picked] != fold
        if not shown.any():
            continue
        best, pair = -1.0, None
        for start in range(_RESTARTS):
            direction = None if start == 0 else random.standard_normal((ours.shape[1], classes))
            found = _pair(ours[kept], labels[kept], theirs[shown], classes, direction)
            fits = min(float((_said(ours[kept], head) == labels[kept]).mean()) for head in found)
            first, second = (_said(theirs[shown], head) for head in found)
            worth = min(fits, float((first != second).mean()))
            if worth > best:
                best, pair = worth, found
        assert pair is not None
        out[0][~kept] = _apart(ours[~kept], *pair)
        out[1][folds.rest == fold] = _apart(every[folds.rest == fold], *pair)
    return Scores("opposing heads", *out)


def _apart(rows: Floats, first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    one, two = rows @ first, rows @ second
    place = np.arange(len(rows))
    said, other = one.argmax(axis=1), two.argmax(axis=1)
    differ = (one[place, said] - one[place, other]) + (two[place, other] - two[place, said])
    leads = [np.diff(np.sort(each, axis=1)[:, -2:], axis=1)[:, 0] for each in (one, two)]
    return np.asarray(np.where(said == other, -np.minimum(*leads), differ))


def _spread(labeled: Floats, rows: Floats) -> Floats:
    spread = np.concatenate([labeled, rows]).std(axis=0)
    return np.asarray(np.sqrt(spread**2 + (_FLOOR * spread.max()) ** 2) + 1e-12)


def _alike(labeled: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """Both scaled alike, each relative to its own mean, with a column of ones."""
    spread = _spread(labeled, rows)
    return _with_ones((labeled - labeled.mean(axis=0)) / spread), _with_ones(
        (rows - rows.mean(axis=0)) / spread
    )


def _pair(
    labeled: Floats, labels: Codes, rows: Floats, classes: int, direction: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two opposing heads (d + 1, classes)."""
    weights = np.concatenate([np.full(len(labeled), 1 / len(labeled)), np.full(len(rows), 1 / len(rows))])
    both = np.concatenate([labeled, rows]).astype(np.float64)
    solver = np.linalg.solve(
        (both * weights[:, None]).T @ both + _RIDGE * np.eye(both.shape[1]), np.eye(both.shape[1])
    )
    solver = solver @ (both * weights[:, None]).T

    def head(codes: Codes) -> NDArray[np.float64]:
        return np.asarray(solver @ np.eye(classes)[np.concatenate([labels, codes])])

    if direction is None:
        only = labeled.astype(np.float64)
        square = only.T @ only / len(only) + _RIDGE * np.eye(only.shape[1])
        direction = np.linalg.solve(square, only.T @ np.eye(classes)[labels] / len(only))
    said = _said(rows, direction)
    first = second = direction
    for _ in range(_ROUNDS):
        second = head(_other(rows, second, said))
        first = head(_other(rows, first, _said(rows, second)))
        again = _said(rows, first)
        if (again == said).all():
            break
        said = again
    return first, second


def _other(rows: Floats, head: NDArray[np.float64], taken: Codes) -> Codes:
    """What a head says of the rows if it may not say what is taken."""
    scores = rows @ head
    scores[np.arange(len(rows)), taken] = -np.inf
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def _said(rows: Floats, head: NDArray[np.float64]) -> Codes:
    return np.asarray((rows @ head).argmax(axis=1), dtype=np.int64)


def _plain_fit(rows: Floats, labels: Codes, classes: int, held: NDArray[np.bool_]) -> float:
    kept = rows[~held].astype(np.float64)
    square = kept.T @ kept / len(kept) + _RIDGE * np.eye(kept.shape[1])
    head = np.linalg.solve(square, kept.T @ np.eye(classes)[labels[~held]] / len(kept))
    return float((_said(rows[held], head) == labels[held]).mean())


def _distinct(found: Sequence[tuple[Codes, float]]) -> tuple[Codes, NDArray[np.float64]]:
    """Readings that differ, each told by the first of its like, the most often found first."""
    kept: list[tuple[Codes, list[float]]] = []
    for said, fit in found:
        like = next((fits for other, fits in kept if (other == said).mean() > _ALIKE), None)
        if like is None:
            kept.append((said, [fit]))
        else:
            like.append(fit)
    kept.sort(key=lambda each: -len(each[1]))
    said = np.array([each[0] for each in kept], dtype=np.int64)
    return said, np.array([float(np.mean(each[1])) for each in kept], dtype=np.float64)


def _with_ones(rows: Floats) -> Floats:
    return np.column_stack([rows, np.ones(len(rows), dtype=rows.dtype)]).astype(np.float32)


def _some(rows: Floats, seed: int) -> Floats:
    if len(rows) <= _MOST:
        return rows
    return rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:_MOST])]
