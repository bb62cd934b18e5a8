"""Whether readings that fit the labels contradict each other on rows that labeled rows kept apart are not of.

Rows may be unlike the labeled ones without that: a picture with more noise is still of its class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from headwater.heads.ambiguity.bounds import FEWEST, WORSE
from headwater.heads.ambiguity.dealing import dealt
from headwater.heads.ambiguity.leftover import leftover
from headwater.heads.ambiguity.margins import leads, ridge_scores
from headwater.heads.ambiguity.partitions import Partition, self_consistent

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

BALANCED = 0.5
"""Readings contradict each other if their shares of the classes, on rows they differ on, overlap this much.

Where rows are merely new, readings that call them all one class, each another, fit the labels as well.
"""

_PARTS = (1.0, 0.3, 0.1)  # of the rows, the most doubtful ones, among which contradictions are sought
_FOLDS = 2
_STARTS = 48
_LEVEL = 0.05
_SETTLED = 1e-6  # from this chance on nothing is left to look for
_ANCHORS = 0.1  # of the rows at most have their class given, where readings of all rows are sought
_FIXED = 30  # rows of a class may, however few rows there are
_RARE = 0.03  # of the starts
_SAME = 0.995  # readings that agree on more of the rows are one
_DOUBTFUL = 300  # rows at least: among fewer, heads read much into noise
_SURE = 0.5  # of the lead that the classes of labeled rows have
_COMPONENTS = 256
_ALIKE = 0.75
# Rows that are looked at: more make it no surer.
_LABELED, _REST, _TESTED = 4_000, 20_000, 3_000


@dataclass(frozen=True, eq=False)
class Contradiction:
    """Readings that contradict each other, and how often chance would make rows seem as new.

    `p_value` is the test's, times the number of tests: 1 where there is no contradiction. `balance` is how
    much the readings' shares of the classes overlap on rows they differ on, from 0 to 1. `labeled` (n,) are
    labeled rows that, kept apart, readings differed on; `rest` (r,) the other rows that they do. `said`
    (readings, rows in `rest`) are class codes, the two that contradict each other most first; `fits`
    (readings,) their accuracy on labeled rows. `view` says which features tell. `looked_at` (r,) are the
    rows that it was sought among, a sample where there are many. `is_whole`: all of these were looked at
    alike; else readings may differ on further ones.
    """

    p_value: float
    balance: float
    labeled: NDArray[np.bool_]
    rest: NDArray[np.bool_]
    said: Codes
    fits: NDArray[np.float64]
    view: str
    looked_at: NDArray[np.bool_]
    is_whole: bool


@dataclass(frozen=True, eq=False)
class _View:
    """Features (n + r, dim) by name, and the labels (n,) of the first rows."""

    name: str
    rows: Floats
    labels: Codes


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


@dataclass(frozen=True, eq=False)
class _Dispute:
    """How often chance would make rows in dispute seem as new.

    `taken` are labeled rows in dispute; `pair` are readings that know half of the labels.
    """

    view: _View
    part: float
    p_value: float
    mass: float
    taken: Codes
    pair: _Pair


def contradiction(views: Mapping[str, Floats], labels: Codes, *, seed: int = 0) -> Contradiction | None:
    """Seek readings that contradict each other, in features (n + r, dim) of labeled and other rows, by name.

    Columns stand in the order of their variance; the first 256 are looked at. Half of the labeled rows at a
    time are kept apart, and taken for other rows in all that follows: readings are found, and the two that
    contradict each other on most rows. If labeled rows are a fair sample of all, those kept apart are among
    the rows in dispute as often as any, which a hypergeometric test judges. Doubtful rows are looked at by
    themselves only where all rows together do not settle it. Where no two readings stand by themselves, what
    one leaves of the labels may be a second, too faint for that. Classes of fewer than four labeled rows are
    left out with these: they can neither be kept apart nor make the others' labels clear. None where there
    are too few rows, or no two readings contradict each other.
    """
    n = len(labels)
    random = np.random.default_rng(seed)
    ours = _some(np.arange(n), _LABELED, random)
    common = np.flatnonzero(np.bincount(labels[ours]) >= 2 * _FOLDS)
    ours = ours[np.isin(labels[ours], common)]
    codes = np.where(np.isin(labels, common), np.searchsorted(common, labels), -1)
    known = [
        _View(name, rows[:, :_COMPONENTS], codes) for name, rows in views.items() if (rows != rows[0]).any()
    ]
    if not known or len(common) < 2 or len(known[0].rows) - n < 2 * FEWEST:
        return None
    rest = _some(np.arange(n, len(known[0].rows)), _REST, random)
    folds = dealt(codes[ours], _FOLDS, random)
    kept = [(ours[folds != fold], ours[folds == fold]) for fold in range(_FOLDS)]
    found = _standing(known, ours, kept, rest, seed)
    if found is None or found.p_value > _LEVEL:
        found = _faint(known, ours, rest, seed) or found
    return None if found is None else replace(found, said=common[found.said])


def _standing(
    known: Sequence[_View], ours: Codes, kept: Sequence[tuple[Codes, Codes]], rest: Codes, seed: int
) -> Contradiction | None:
    """Readings each of which foretells itself."""
    n = len(known[0].labels)
    found: list[_Dispute] = []
    for part in _PARTS:
        found += [each for view in known if (each := _dispute(view, kept, rest, part, seed)) is not None]
        if found and min(each.p_value for each in found) < _SETTLED:
            break
    if not found:
        return None
    tests = len(known) * len(_PARTS)
    least = max(0.01 / tests, min(each.p_value for each in found))
    best = max((each for each in found if each.p_value <= least), key=lambda each: each.mass)
    # All labels together may show less than half of them did.
    pair = _sought(best.view, ours, rest, best.part, seed) or best.pair
    differ = pair.differ[pair.differ >= n]
    said, fits = _distinct(pair, differ)
    return Contradiction(
        p_value=min(1.0, best.p_value * tests),
        balance=pair.balance,
        labeled=np.isin(np.arange(n), best.taken),
        rest=np.isin(np.arange(n, len(best.view.rows)), differ),
        said=said,
        fits=fits,
        view=best.view.name,
        looked_at=np.isin(np.arange(n, len(best.view.rows)), rest),
        is_whole=best.part == 1,
    )


def _faint(known: Sequence[_View], ours: Codes, rest: Codes, seed: int) -> Contradiction | None:
    """A reading that foretells itself, and one that is left of the labels when it is taken away."""
    n, used = len(known[0].labels), np.concatenate([ours, rest])
    every = np.arange(len(known[0].rows))
    found = [
        (left, view)
        for view in known
        if (left := leftover(view.rows[used], view.labels[ours], seed=seed)) is not None
    ]
    for left, view in sorted(found, key=lambda each: each[0].p_value):
        said = np.stack([left.first[left.rest], left.second[left.rest]])
        balance = _balance(said[0], said[1])
        if said.shape[1] >= FEWEST and balance >= BALANCED:
            p_value = min(1.0, left.p_value * len(known))
            return Contradiction(
                p_value=p_value,
                balance=balance,
                labeled=np.isin(every[:n], ours[left.labeled]),
                rest=np.isin(every[n:], rest[left.rest]),
                said=said,
                fits=1 - np.array(left.errors),
                view=view.name,
                looked_at=np.isin(every[n:], rest),
                is_whole=False,
            )
    return None


def _dispute(
    view: _View, kept: Sequence[tuple[Codes, Codes]], rest: Codes, part: float, seed: int
) -> _Dispute | None:
    """Whether rows in dispute, of a part of the rows, are like labeled rows kept apart."""
    n = len(view.labels)
    some = rest if part < 1 else _some(rest, _TESTED, np.random.default_rng(seed))
    held, seen = 0, []
    for fold, (fixed, apart) in enumerate(kept):
        pair = _sought(view, fixed, np.concatenate([apart, some]), part, seed + fold)
        if pair is not None:
            held += len(apart)
            seen.append(pair)
    if not seen:
        return None
    taken = np.concatenate([pair.differ[pair.differ < n] for pair in seen])
    others = int(np.mean([(pair.differ >= n).sum() for pair in seen]))
    p_value = float(hypergeom.cdf(len(taken), held + len(some), held, len(taken) + others))
    mass = float(np.mean([pair.mass for pair in seen])) * len(rest) / len(some)
    return _Dispute(view, part, p_value, mass, taken, max(seen, key=lambda pair: pair.mass))


def _sought(view: _View, fixed: Codes, free: Codes, part: float, seed: int) -> _Pair | None:
    """The pair of readings that contradict each other on most of the free rows, or of the most doubtful."""
    if part < 1:
        return _opposed(view, fixed, _doubtful(view, fixed, free, part), seed)
    # Were labels known of more rows, what all features together say would draw every reading to itself.
    classes = int(view.labels.max()) + 1
    most = max(_FIXED * classes, round(_ANCHORS * len(free)))
    return _opposed(view, _dealt_out(fixed, view.labels[fixed], most, seed), free, seed)


def _opposed(view: _View, fixed: Codes, free: Codes, seed: int) -> _Pair | None:
    """Of readings of the free rows, the pair that contradicts each other on most of them."""
    used, labels = np.concatenate([fixed, free]), view.labels
    known = np.arange(len(fixed)), labels[fixed]
    found = self_consistent(view.rows[used], known, starts=_STARTS, same=_SAME, seed=seed)
    found = [each for each in found if each.found >= _RARE * _STARTS]
    least = min((each.error for each in found), default=0.0)
    found = [each for each in found if each.error <= least + WORSE]
    said = [each.scores[len(fixed) :].argmax(axis=1) for each in found]
    leading = [leads(each.scores).clip(max=1) for each in found]
    best: _Pair | None = None
    for i, j in np.argwhere(np.tri(len(found), k=-1, dtype=bool)).tolist():
        differ = said[i] != said[j]
        if differ.sum() < FEWEST:
            continue
        balance = _balance(said[i][differ], said[j][differ])
        lead = np.minimum(leading[i], leading[j])
        mass = float(balance * lead[len(fixed) :][differ].sum())
        sure = float(lead[len(fixed) :][differ].mean() / max(lead[: len(fixed)].mean(), 1e-9))
        if balance >= BALANCED and sure >= _SURE and (best is None or mass > best.mass):
            best = _Pair(free[differ], balance, mass, found[j], found[i], found, free)
    return best


def _balance(first: Codes, second: Codes) -> float:
    """How much two readings' shares of the classes overlap on rows (rows,) that they differ on."""
    most = 1 + max(first.max(initial=0), second.max(initial=0))
    shares = [np.bincount(each, minlength=most) for each in (first, second)]
    return float(np.minimum(*shares).sum() / max(len(first), 1))


def _doubtful(view: _View, fixed: Codes, free: Codes, part: float) -> Codes:
    """The share of the free rows that a ridge head of the fixed ones is least sure of.

    A row that one feature says one class of, and another another, is where such a head, which goes by both,
    leads least.
    """
    used = np.concatenate([fixed, free])
    scores = ridge_scores(view.rows[used], np.arange(len(fixed)), view.labels[fixed])
    order = np.argsort(leads(scores[len(fixed) :]).clip(max=1), kind="stable")
    return np.sort(free[order[: max(_DOUBTFUL, round(part * len(free)))]])


def _distinct(pair: _Pair, differ: Codes) -> tuple[Codes, NDArray[np.float64]]:
    """Readings of the rows in dispute that differ: the pair's own, then others, those foretold best first."""
    place = np.searchsorted(pair.free, differ)
    kept: list[tuple[Codes, float]] = []
    for reading in [pair.first, pair.second, *sorted(pair.found, key=lambda each: each.squared_error)]:
        codes = reading.scores[len(reading.scores) - len(pair.free) :].argmax(axis=1)[place]
        if all((codes == other).mean() <= _ALIKE for other, _ in kept):
            kept.append((codes, 1 - reading.error))
    return np.array([codes for codes, _ in kept], dtype=np.int64), np.array([fit for _, fit in kept])


def _dealt_out(rows: Codes, labels: Codes, most: int, seed: int) -> Codes:
    """At most so many of the rows, of every class the same share."""
    if len(rows) <= most:
        return rows
    order = np.random.default_rng(seed).permutation(len(rows))
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(rows[order[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]])


def _some(rows: Codes, most: int, random: np.random.Generator) -> Codes:
    return rows if len(rows) <= most else np.sort(random.permutation(rows)[:most])
