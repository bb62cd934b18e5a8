"""Which target rows to ask about, one by one or several together, for what answers are expected to tell.

That is a plain function of what the hypotheses say and how far each is believed; what answers do to beliefs
is `beliefs`' business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

# Rows scored at least this share of the best score are as good; among them the most typical is asked about.
_AS_GOOD = 0.9
# Rows among which similarity is measured, and of how many at most.
_COMPARED = 2000
_MEASURED = 5000
# So many rows are compared when a batch is chosen.
_CANDIDATES = 200
# Rows that add less than this to a batch's information, in nats, add about as much as each other.
_LITTLE = 0.02
# All series of answers are gone through where there are so many at most, else so many of them are drawn.
_GONE_THROUGH = 10_000
_DRAWS = 4_000


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, shares * np.log(shares), 0.0)
    return np.asarray(-terms.sum(axis=-1))


def expected_information(committee: NDArray[np.float64], beliefs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mutual information, in nats, of a row's answer and which hypothesis is right (Houlsby et al. 2011)."""
    mean = np.einsum("r,rtk->tk", beliefs, committee)
    return np.asarray(_entropy(mean) - np.einsum("r,rt->t", beliefs, _entropy(committee)))


def joint_information(
    committee: NDArray[np.float64], beliefs: NDArray[np.float64], batch: list[int]
) -> float:
    """Mutual information, in nats, of all answers to a batch and which hypothesis is right.

    Where there are too many series of answers to go through, it is estimated from draws of them.
    """
    if committee.shape[2] ** len(batch) > _GONE_THROUGH:
        return _drawn_information(committee, beliefs, batch)
    given = np.ones((1, len(beliefs)))
    for item in batch:  # one row for each series of answers so far
        given = (given[:, None] * committee[:, item].T[None]).reshape(-1, len(beliefs))
    mean = given @ beliefs
    return float(_entropy(mean) - _entropy(given.T) @ beliefs)


def _drawn_information(
    committee: NDArray[np.float64], beliefs: NDArray[np.float64], batch: list[int]
) -> float:
    random = np.random.default_rng(len(batch))  # the same draws for all batches that are compared
    right = random.choice(len(beliefs), _DRAWS, p=beliefs)
    given = np.ones((_DRAWS, len(beliefs)))
    for item in batch:
        totals = committee[:, item].cumsum(axis=1)
        codes = (random.random((_DRAWS, 1)) * totals[right, -1:] >= totals[right]).sum(axis=1)
        given *= committee[:, item, codes].T
    return float(np.log(given[np.arange(_DRAWS), right] / (given @ beliefs)).mean())


def typicality(features: NDArray[np.float32], among: NDArray[np.int64], seed: int = 0) -> NDArray[np.float64]:
    """How much the rows `among` resemble one another, (among,): the mean of a Gaussian of their distances.

    Its width is the median distance. High in the middle of a large cluster, low for outliers.
    """
    sample = among
    if len(among) > _COMPARED:
        sample = np.random.default_rng(seed).choice(among, _COMPARED, replace=False)
    x, y = features[among].astype(np.float64), features[sample].astype(np.float64)
    square = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None] - 2 * x @ y.T
    square = np.maximum(square, 0)
    width = float(np.median(square)) / 8
    if width <= 0:
        return np.ones(len(among))
    return np.asarray(np.exp(-square / (2 * width)).mean(axis=1))


def _some(rows: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """All of the rows (r,), or as many drawn as are measured."""
    if len(rows) <= _MEASURED:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, _MEASURED, replace=False))


def choose(
    scores: NDArray[np.float64],
    features: NDArray[np.float32],
    asked: Collection[int] = (),
    seed: int = 0,
) -> int | None:
    """The row to ask about: of those scored about as high as the best, the one most like the others.

    None where nothing is left that scores above zero. No row of `asked` is chosen.
    """
    open_rows = np.ones(len(scores), dtype=bool)
    open_rows[list(asked)] = False
    best = float(scores[open_rows].max(initial=0.0))
    if best <= 1e-12:
        return None
    good = _some(np.flatnonzero(open_rows & (scores >= _AS_GOOD * best)), seed)
    return int(good[typicality(features, good, seed).argmax()])


def choose_batch(
    committee: NDArray[np.float64],
    beliefs: NDArray[np.float64],
    features: NDArray[np.float32],
    size: int,
    asked: Collection[int] = (),
) -> list[int]:
    """Rows for one round of answers, each chosen for what it adds to the information of those before.

    Of rows that add about as much, one that hypotheses say other things of than of those chosen: if none of
    the hypotheses is right, more of such rows show it.
    """
    batch: list[int] = []
    scores = expected_information(committee, beliefs)
    open_rows = np.ones(len(scores), dtype=bool)
    open_rows[list(asked)] = False
    good = np.flatnonzero(open_rows & (scores > 1e-12))
    votes = committee[:, good].argmax(axis=2)
    patterns = np.unique(votes, axis=1, return_inverse=True)[1].ravel()
    ranked: list[tuple[int, int]] = []
    for pattern in np.unique(patterns).tolist():
        mine = good[patterns == pattern]
        mine = _some(mine[scores[mine] >= _AS_GOOD * scores[mine].max()])
        ranked.extend((item, pattern) for item in mine[np.argsort(-typicality(features, mine))][:size])
    ranked = sorted(ranked, key=lambda each: -scores[each[0]])[:_CANDIDATES]
    seen: Counter[int] = Counter()
    known = 0.0
    while ranked and len(batch) < size:
        gains = [joint_information(committee, beliefs, [*batch, item]) for item, _ in ranked]
        least = max(gains) - max((1 - _AS_GOOD) * (max(gains) - known), _LITTLE)
        near = [place for place, gain in enumerate(gains) if gain >= least]
        chosen = min(near, key=lambda place: (seen[ranked[place][1]], -gains[place]))
        known = gains[chosen]
        item, pattern = ranked.pop(chosen)
        seen[pattern] += 1
        batch.append(int(item))
    return batch
