"""Whether readings that fit the labels contradict each other on rows that labeled rows kept apart are not of.

Rows may be unlike the labeled ones without that: a picture with more noise is still of its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from headwater.heads.ambiguity.bounds import FEWEST, WORSE
from headwater.heads.ambiguity.partitions import Partition, self_consistent
from headwater.heads.methods.clusters import principal

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

BALANCED = 0.5
"""Readings contradict each other if their shares of the classes, on rows they differ on, overlap this much.

Where rows are merely new, readings that call them all one class, each another, fit the labels as well.
"""

_PARTS = (1.0, 0.3, 0.1)  # of the rows, the most doubtful ones, among which contradictions are sought
_FOLDS = 2
_STARTS = 64
_RARE = 0.03  # of the starts
_SAME = 0.995  # readings that agree on more of the rows are one
_DOUBTFUL = 300  # rows at least: among fewer, heads read much into noise
_SURE = 0.5  # of the lead that the classes of labeled rows have
_COMPONENTS = 256
_DOUBTED = 64  # leading components that a plain head tells doubtful rows by
_RIDGE = 0.01
_ALIKE = 0.75
# Rows that are looked at: more make it no surer.
_LABELED, _REST = 4_000, 20_000


@dataclass(frozen=True, eq=False)
class Contradiction:
    """Readings that contradict each other, and how often chance would make rows seem as new.

    `chance` is the p-value, times the number of tests: 1 where there is no contradiction. `balance` is how
    much the readings' shares of the classes overlap on rows they differ on, from 0 to 1. `labeled` (n,) are
    labeled rows that, kept apart, readings differed on; `rest` (r,) the other rows that they do. `said`
    (readings, rows in `rest`) are class codes, the two that contradict each other most first; `fits`
    (readings,) their accuracy on labeled rows. `view` says which features tell.
    """

    chance: float
    balance: float
    labeled: NDArray[np.bool_]
    rest: NDArray[np.bool_]
    said: Codes
    fits: NDArray[np.float64]
    view: str


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two readings of the `free` rows: those that `differ`, by number, and all readings found with them."""

    differ: Codes
    balance: float
    mass: float
    first: Partition
    second: Partition
    found: list[Partition]
    free: Codes


def contradiction(views: Mapping[str, Floats], labels: Codes, *, seed: int = 0) -> Contradiction | None:
    """Seek readings that contradict each other, in features (n + r, dim) of labeled and other rows, by name.

    Half of the labeled rows at a time are kept apart, and taken for other rows in all that follows: readings
    are found, and the two that contradict each other on most rows. If labeled rows are a fair sample of all,
    those kept apart are among the rows in dispute as often as any, which a hypergeometric test judges. None
    where there are too few rows, or no two readings contradict each other.
    """
    n = len(labels)
    random = np.random.default_rng(seed)
    ours = _some(np.arange(n), _LABELED, random)
    sizes = np.bincount(labels[ours])
    known = {name: rows for name, rows in views.items() if (rows != rows[0]).any()}
    if not known or sizes.min() < 2 * _FOLDS or len(next(iter(known.values()))) - n < 2 * FEWEST:
        return None
    rest = _some(np.arange(n, len(next(iter(known.values())))), _REST, random)
    folds = _dealt(labels[ours], random)
    leading = {name: principal(rows, _COMPONENTS, seed) for name, rows in known.items()}
    tests = [(name, part) for name in leading for part in _PARTS]
    found: list[tuple[float, float, str, NDArray[np.bool_], _Pair]] = []
    for name, part in tests:
        rows = leading[name]
        kept = [(ours[folds != fold], ours[folds == fold]) for fold in range(_FOLDS)]
        pairs = [
            (len(apart), _opposed(rows, labels, fixed, free, seed + fold))
            for fold, (fixed, apart) in enumerate(kept)
            for free in [_doubtful(rows, labels, fixed, np.concatenate([apart, rest]), part)]
        ]
        seen = [(held, pair.differ) for held, pair in pairs if pair is not None]
        if not seen:
            continue
        whole = _opposed(rows, labels, ours, _doubtful(rows, labels, ours, rest, part), seed)
        if whole is None:
            continue
        held = sum(each for each, _ in seen)
        taken = np.concatenate([differ[differ < n] for _, differ in seen])
        others = int(np.mean([(differ >= n).sum() for _, differ in seen]))
        chance = float(hypergeom.cdf(len(taken), held + len(rest), held, len(taken) + others))
        is_taken = np.zeros(n, dtype=bool)
        is_taken[taken] = True
        found.append((min(1.0, chance * len(tests)), whole.mass, name, is_taken, whole))
    if not found:
        return None
    sure = [each for each in found if each[0] <= max(0.01, min(found, key=lambda one: one[0])[0])]
    chance, _, name, taken, pair = max(sure, key=lambda each: each[1])
    is_rest = np.zeros(len(leading[name]), dtype=bool)
    is_rest[pair.differ] = True
    every = [each[4] for each in found if each[4].mass > 0]
    said, fits = _distinct(pair, every)
    return Contradiction(min(each[0] for each in found), pair.balance, taken, is_rest[n:], said, fits, name)


def _opposed(rows: Floats, labels: Codes, fixed: Codes, free: Codes, seed: int) -> _Pair | None:
    """Of readings of the free rows, the pair that contradicts each other on most of them."""
    used = np.concatenate([fixed, free])
    known = np.arange(len(fixed)), labels[fixed]
    found = self_consistent(rows[used], known, starts=_STARTS, same=_SAME, seed=seed)
    found = [each for each in found if each.found >= _RARE * _STARTS]
    least = min((each.error for each in found), default=0.0)
    found = [each for each in found if each.error <= least + WORSE]
    said = [each.scores[len(fixed) :].argmax(axis=1) for each in found]
    leads = [_lead(each.scores) for each in found]
    best: _Pair | None = None
    for i, j in np.argwhere(np.tri(len(found), k=-1, dtype=bool)).tolist():
        differ = said[i] != said[j]
        if differ.sum() < FEWEST:
            continue
        shares = [np.bincount(each[differ], minlength=int(labels.max()) + 1) for each in (said[i], said[j])]
        balance = float(np.minimum(*shares).sum() / differ.sum())
        lead = np.minimum(leads[i], leads[j])
        mass = float(balance * lead[len(fixed) :][differ].sum())
        sure = float(lead[len(fixed) :][differ].mean() / max(lead[: len(fixed)].mean(), 1e-9))
        if balance >= BALANCED and sure >= _SURE and (best is None or mass > best.mass):
            best = _Pair(free[differ], balance, mass, found[j], found[i], found, free)
    return best


def _doubtful(rows: Floats, labels: Codes, fixed: Codes, free: Codes, part: float) -> Codes:
    """The share of the free rows that a ridge head of the fixed ones is least sure of.

    A row that one feature says one class of, and another another, is where such a head, which goes by both,
    leads least.
    """
    if part == 1:
        return free
    leading = rows[:, :_DOUBTED].astype(np.float64)
    leading -= leading[fixed].mean(axis=0)
    ones = np.full((len(leading), 1), np.sqrt((leading[fixed] ** 2).mean() + 1e-30))
    leading = np.column_stack([leading, ones])
    square = leading[fixed].T @ leading[fixed]
    square[np.diag_indices(len(square))] += _RIDGE * np.trace(square) / len(square)
    head = np.linalg.solve(square, leading[fixed].T @ np.eye(int(labels.max()) + 1)[labels[fixed]])
    order = np.argsort(_lead(leading[free] @ head), kind="stable")
    return np.sort(free[order[: max(_DOUBTFUL, round(part * len(free)))]])


def _lead(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """How far the foremost class leads the next, at most 1."""
    ordered = np.sort(scores, axis=1)
    return np.asarray(np.minimum(ordered[:, -1] - ordered[:, -2], 1), dtype=np.float64)


def _distinct(pair: _Pair, every: list[_Pair]) -> tuple[Codes, NDArray[np.float64]]:
    """Readings of the rows in dispute that differ: the pair's own, then others, those foretold best first."""
    others = [(each, one) for each in every for one in each.found]
    others.sort(key=lambda each: each[1].spread)
    kept: list[tuple[Codes, float]] = []
    for each, reading in [(pair, pair.first), (pair, pair.second), *others]:
        place = np.searchsorted(each.free, pair.differ)
        if (np.take(each.free, place, mode="clip") != pair.differ).any():
            continue  # it says nothing of some of the rows
        codes = reading.scores[len(reading.scores) - len(each.free) :].argmax(axis=1)[place]
        if all((codes == other).mean() <= _ALIKE for other, _ in kept):
            kept.append((codes, 1 - reading.error))
    return np.array([codes for codes, _ in kept], dtype=np.int64), np.array([fit for _, fit in kept])


def _dealt(labels: Codes, random: np.random.Generator) -> Codes:
    """The fold of each row, each class dealt out evenly."""
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = np.arange(len(labels)) % _FOLDS
    return folds


def _some(rows: Codes, most: int, random: np.random.Generator) -> Codes:
    return rows if len(rows) <= most else np.sort(random.permutation(rows)[:most])
