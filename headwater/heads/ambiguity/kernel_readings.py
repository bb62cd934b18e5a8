"""Readings by kernel ridge heads on the tiles of one role, with landmarks for all rows (Nyström's method).

Which tiles play which role is found in `roles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import scipy
import scipy.sparse.csgraph
import scipy.special
from numpy.typing import NDArray

from headwater.heads.ambiguity.problem import Reading
from headwater.heads.ambiguity.roles import ROLES

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

_LANDMARKS = 2_000
_PENALTIES = np.geomspace(1e-5, 1e-3, 5)  # per known row
_FOLDS = 4
_ASKED = 1_000  # target rows whose nearest labeled ones are looked for
_NEARER = 0.05  # of them are nearer to a labeled row than that
_NOTHING = 1e-6
_CHUNK = 4_096  # rows


def role_readings(
    views: Mapping[str, Floats],
    labels: Codes,
    targets: int,
    *,
    answers: Mapping[int, int] | None = None,
    seed: int = 0,
) -> list[Reading]:
    """A reading by each role's tiles among the views; what else there is in these is left alone.

    Features are (n + m + t, dim) of labeled, unlabeled and target rows, the last `targets` of which are the
    target's; `labels` (n,) are class codes, and `answers` (target row → class code) count as labels.
    """
    items = np.array(sorted(answers or {}), dtype=np.int64)
    said = np.array([(answers or {})[int(item)] for item in items], dtype=np.int64)
    codes = np.concatenate([labels, said])
    readings = []
    for name in ROLES:
        if name in views:
            rows = _evened(views[name])
            known = np.concatenate([np.arange(len(labels)), len(rows) - targets + items])
            kinds = _kinds(rows, len(labels), targets)
            kinds = np.concatenate([kinds, kinds.max() + 1 + np.arange(len(items))])
            head = _KernelHead(rows, known, np.random.default_rng(seed))
            shares, error = head.foretell(codes, kinds)
            unlabeled, target = shares[len(labels) : -targets], shares[-targets:]
            readings.append(Reading(unlabeled, target, error, f"kernel head on {name}", is_nonlinear=True))
    return readings


def _evened(rows: Floats) -> Floats:
    """Features halfway to equal variance: what tells classes apart is seldom what varies the most."""
    return np.asarray(rows / np.sqrt(rows.std(axis=0) + np.float32(1e-12)), dtype=np.float32)


def _kinds(rows: Floats, labeled: int, targets: int) -> Codes:
    """Which labeled rows, the first ones, show the same thing, such as one photograph twice: a code of each.

    Rows that are nearer to each other than nearly any target row, the last ones, is to a labeled one: as
    long as one of them is known, another is no example of how well a head does on rows it never saw. Where
    that joins so many that some fold would hold all of a kind, target rows lie further off for another
    reason, such as noise, and every row is of its own kind.
    """
    known, random = rows[:labeled], np.random.default_rng(0)
    asked = len(rows) - targets + np.sort(random.permutation(targets)[:_ASKED])
    nearest = np.array([each.min() for each in _distances(rows[asked], known)])
    least = np.quantile(nearest, _NEARER)
    pairs = [np.flatnonzero(each < least) for each in _distances(known, known)]
    ends = np.concatenate(pairs)
    starts = np.repeat(np.arange(labeled), [len(each) for each in pairs])
    links = scipy.sparse.coo_array((np.ones(len(ends)), (starts, ends)), shape=(labeled, labeled))
    _, codes = scipy.sparse.csgraph.connected_components(links, directed=False)
    if np.bincount(codes).max() > labeled / _FOLDS:
        return np.arange(labeled)
    return np.asarray(codes, dtype=np.int64)


class _KernelHead:
    """Ridge heads on Gaussian kernels of rows (rows, dim), of which some are known, by Nyström's method."""

    def __init__(self, rows: Floats, known: Codes, random: np.random.Generator) -> None:
        self._rows = rows
        self._landmarks = rows[np.sort(random.permutation(known)[:_LANDMARKS])]
        self._width = 2 * float(rows.var(axis=0, dtype=np.float64).sum()) + 1e-12
        among = _kernels(self._landmarks, self._landmarks, self._width).astype(np.float64)
        among[np.diag_indices(len(among))] += _NOTHING
        self._factor = np.linalg.cholesky(among)
        kernels = _kernels(rows[known], self._landmarks, self._width)
        mapped = scipy.linalg.solve_triangular(self._factor, kernels.T.astype(np.float64), lower=True).T
        self._centre = mapped.mean(axis=0)
        self._known = np.asarray(mapped - self._centre, dtype=np.float32)

    def foretell(self, codes: Codes, kinds: Codes) -> tuple[Floats, float]:
        """Probabilities (rows, classes), and how often heads err on known rows that they were not shown.

        The penalty is what keeping known rows apart wants, kinds of them as a whole.
        """
        corners = np.eye(int(codes.max()) + 1, dtype=np.float32)[codes]
        mean = corners.mean(axis=0)
        wanted, x = corners - mean, self._known
        fold_of = np.random.default_rng(0).permutation(int(kinds.max()) + 1)[kinds] % _FOLDS
        parts = [x[fold_of == fold] for fold in range(_FOLDS)]
        products = [part.T @ part for part in parts]
        moved = [part.T @ wanted[fold_of == fold] for fold, part in enumerate(parts)]
        product, all_moved = np.sum(products, axis=0), np.sum(moved, axis=0)
        least, error, best = np.inf, np.nan, 0.0
        for penalty in _PENALTIES:
            held_out = np.empty_like(wanted)
            for fold, part in enumerate(parts):
                head = _ridge(
                    product - products[fold], all_moved - moved[fold], penalty * (len(x) - len(part))
                )
                held_out[fold_of == fold] = part @ head
            squared_error = float(((held_out - wanted) ** 2).mean())
            if squared_error < least:
                error = float(((held_out + mean).argmax(axis=1) != codes).mean())
                least, best = squared_error, float(penalty)
        head = _ridge(product, all_moved, best * len(x)).astype(np.float64)
        on_landmarks = scipy.linalg.solve_triangular(self._factor, head, lower=True, trans="T")
        chunks = np.array_split(self._rows, 1 + len(self._rows) // _CHUNK)
        scores = np.concatenate([_kernels(c, self._landmarks, self._width) @ on_landmarks for c in chunks])
        odds = (scores - self._centre @ head + mean) / max(least, _NOTHING)
        return np.asarray(scipy.special.softmax(odds, axis=1), dtype=np.float32), error


def _ridge(product: Floats, moved: Floats, penalty: float) -> Floats:
    penalised = product.copy()
    penalised[np.diag_indices(len(product))] += np.float32(penalty)
    factor = scipy.linalg.cho_factor(penalised, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(scipy.linalg.cho_solve(factor, moved, check_finite=False), dtype=np.float32)


def _kernels(rows: Floats, landmarks: Floats, width: float) -> Floats:
    """Gaussian kernels (rows, landmarks) of squared distances over `width`."""
    distances = (rows**2).sum(axis=1)[:, None] + (landmarks**2).sum(axis=1) - 2 * rows @ landmarks.T
    return np.asarray(np.exp(-distances.clip(min=0) / np.float32(width)), dtype=np.float32)


def _distances(rows: Floats, others: Floats) -> Iterator[Floats]:
    """Squared distances (others,) of each of the rows to the others."""
    squares = (others**2).sum(axis=1)
    for part in np.array_split(rows, 1 + len(rows) // _CHUNK):
        yield from squares + (part**2).sum(axis=1)[:, None] - 2 * part @ others.T
