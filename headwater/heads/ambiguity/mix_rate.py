"""The share of rows of kinds that the labeled set never shows, and whether there are any, from scores.

This is learning from positive and unlabeled rows: labeled rows are a sample of the ordinary kinds, others a
mixture (1 - m) ordinary + m unseen. Of any set A of rows P_other(A) ≤ (1 - m) P_ordinary(A) + m, so that
m ≥ (P_other(A) - P_ordinary(A)) / (1 - P_ordinary(A)), and the best A makes the two equal where some
rows are surely new (Blanchard et al. 2010; Garg et al. 2021, who bin by a classifier as here by a score).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from headwater.heads.ambiguity.bounds import FEWEST
from headwater.heads.ambiguity.novelty import Folds, Scores

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

_CUTS = 16
_DRAWS = 400


@dataclass(frozen=True)
class MixRate:
    """A share between 0 and 1 with an interval from `low` to `high` for it."""

    share: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Cut:
    """Where a measure of novelty is cut: rows that score `at` or more are called unseen."""

    scores: Scores
    at: float

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """Labeled rows beyond the cut, (n,)."""
        return np.asarray(self.scores.labeled >= self.at)

    @property
    def rest(self) -> NDArray[np.bool_]:
        """Other rows beyond the cut, (r,)."""
        return np.asarray(self.scores.rest >= self.at)


@dataclass(frozen=True, eq=False)
class Strata:
    """The class that each labeled (n,) and other row (r,) is most like, which balances are held fixed by."""

    labeled: Codes
    rest: Codes


def permutation_p_value(
    measures: Sequence[Scores], strata: Strata, folds: Folds, *, draws: int = _DRAWS, seed: int = 0
) -> float:
    """The p-value of all measures together: how often chance makes other rows seem this much newer.

    Labeled and other rows trade places at random within folds and within rows most like one class, which
    changes nothing if labeled rows are a fair sample of every class. The statistic is the largest signed
    deviance over measures and cuts, so that looking at many is accounted for.
    """
    is_rest = np.concatenate([np.zeros(len(strata.labeled), bool), np.ones(len(strata.rest), bool)])
    both = np.concatenate([strata.labeled, strata.rest]), np.concatenate([folds.labeled, folds.rest])
    groups = np.unique(np.stack(both), axis=1, return_inverse=True)[1].ravel()
    random = np.random.default_rng(seed)
    drawn = np.empty((draws + 1, len(is_rest)), dtype=bool)
    drawn[0] = is_rest
    for group in np.unique(groups):
        mine = np.flatnonzero(groups == group)
        drawn[1:, mine] = random.permuted(np.broadcast_to(is_rest[mine], (draws, len(mine))), axis=1)
    share = np.bincount(groups, weights=is_rest) / np.bincount(groups)
    found = np.max([_deviance(each, drawn, share[groups]) for each in measures], axis=0)
    return float((1 + (found[1:] >= found[0] - 1e-9).sum()) / (draws + 1))


def best_cut(measures: Sequence[Scores], strata: Strata, *, level: float = 0.9) -> Cut:
    """The measure and cut that prove the largest share of unseen rows at this level."""
    found = []
    for number, cut in enumerate(Cut(each, at) for each in measures for at in cuts(each)):
        if int(cut.rest.sum()) < min(FEWEST, len(cut.rest)):
            continue
        found.append((mix_rate(cut.labeled, cut.rest, strata, level=level).low, -number, cut))
    if not found:
        return Cut(measures[0], float(measures[0].rest.max()))
    return max(found, key=lambda each: each[:2])[2]


def cuts(scores: Scores) -> Floats:
    """Places to cut at: after the first few, a few more, … of the highest and lowest rows of either sort.

    At most half of the labeled rows lie beyond a cut: shares of what few are left on the other side would
    rest on hardly any rows.
    """
    places = np.unique(np.concatenate([_spread_out(scores.rest), _spread_out(scores.labeled)]))
    return places[places > np.median(scores.labeled)] if len(scores.labeled) else places


def _spread_out(values: Floats) -> Floats:
    """Values whose ranks from either end grow in equal ratios."""
    ordered = np.sort(values)
    ranks = np.unique(np.geomspace(1, max(1, len(ordered) / 2), _CUTS).astype(np.int64)) - 1
    return np.concatenate([ordered[ranks], ordered[::-1][ranks]])


def mix_rate(
    labeled: NDArray[np.bool_],
    rest: NDArray[np.bool_],
    strata: Strata,
    *,
    level: float = 0.9,
    among: NDArray[np.bool_] | None = None,
) -> MixRate:
    """The share of unseen kinds among other rows, told by which labeled (n,) and other rows (r,) a cut takes.

    `among` takes some of the other rows only. What ordinary rows have beyond the cut is taken from labeled
    rows, weighted by the classes that the other rows are like. The interval is made of
    Clopper-Pearson intervals of both shares, each at `level` on one side.
    """
    mine = np.ones(len(rest), dtype=bool) if among is None else among
    beyond, total = int(rest[mine].sum()), int(mine.sum())
    share = beyond / max(total, 1)
    ordinary, effective = _ordinary(labeled, strata, mine)
    low_share, high_share = _interval(share * total, total, level)
    low_ordinary, high_ordinary = _interval(ordinary * effective, effective, level)
    return MixRate(
        _above(share, ordinary), _above(low_share, high_ordinary), _above(high_share, low_ordinary)
    )


def _ordinary(labeled: NDArray[np.bool_], strata: Strata, mine: NDArray[np.bool_]) -> tuple[float, float]:
    """The share of ordinary rows beyond the cut, and of how many independent rows it is known."""
    classes = int(max(strata.labeled.max(), strata.rest.max())) + 1
    sizes = np.bincount(strata.labeled, minlength=classes)
    wanted = np.bincount(strata.rest[mine], minlength=classes) * (sizes > 0)
    if not wanted.any():
        wanted = sizes
    weights = wanted / wanted.sum()
    shares = np.bincount(strata.labeled, weights=labeled, minlength=classes) / np.maximum(sizes, 1)
    known = float(1 / (weights**2 / np.maximum(sizes, 1)).sum())
    return float(weights @ shares), known


def _above(share: float, ordinary: float) -> float:
    return max(0.0, (share - ordinary) / (1 - ordinary)) if ordinary < 1 else 0.0


def _interval(count: float, total: float, level: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share, of counts that weights may have made fractions."""
    low = float(betaincinv(count, total - count + 1, 1 - level)) if count > 0 else 0.0
    high = float(betaincinv(count + 1, total - count, level)) if count < total else 1.0
    return low, high


def _deviance(scores: Scores, drawn: NDArray[np.bool_], share: Floats) -> Floats:
    """The largest signed root of the deviance over cuts, for each drawing (draws, n + r)."""
    both = np.concatenate([scores.labeled, scores.rest])
    # Cuts must not depend on which rows are the labeled ones, or drawings would not be alike.
    ordered = np.sort(both)[::-1]
    ranks = np.geomspace(min(FEWEST, len(both)), len(both), _CUTS + 1).astype(np.int64)[:-1]
    at = np.unique(ordered[ranks - 1])[::-1]
    place = np.argsort(-both, kind="stable")
    ends = np.searchsorted(-both[place], -at, side="right")
    counts = np.cumsum(drawn[:, place], axis=1, dtype=np.int32)[:, ends - 1].astype(np.float64)
    expected = np.cumsum(share[place])[ends - 1]
    left, left_expected = ends - counts, ends - expected
    deviance = counts * np.log(np.maximum(counts, 1e-300) / expected)
    deviance += left * np.log(np.maximum(left, 1e-300) / np.maximum(left_expected, 1e-300))
    signed = np.sign(counts - expected) * np.sqrt(2 * np.maximum(deviance, 0))
    return np.asarray(signed.max(axis=1))
