"""Which target row to ask about next: measures score rows, strategies choose by them.

A measure is a plain function of what the hypotheses say and how far each is believed; what answers do to
beliefs is `beliefs`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

# Rows scored at least this share of the best score are as good; among them the most typical is asked about.
_AS_GOOD = 0.9
# Rows among which similarity is measured.
_COMPARED = 2000
# So many equally good rows are compared when a batch is chosen.
_CANDIDATES = 200

Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Scores (t,) of rows, from what hypotheses expect (hypotheses, t, classes) and beliefs (hypotheses,)."""


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, shares * np.log(shares), 0.0)
    return np.asarray(-terms.sum(axis=-1))


def expected_information(committee: NDArray[np.float64], beliefs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mutual information, in nats, of a row's answer and which hypothesis is right (Houlsby et al. 2011)."""
    mean = np.einsum("r,rtk->tk", beliefs, committee)
    return np.asarray(_entropy(mean) - np.einsum("r,rt->t", beliefs, _entropy(committee)))


def vote_entropy(committee: NDArray[np.float64], beliefs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy, in nats, of the hypotheses' votes weighed by belief (Dagan and Engelson 1995)."""
    votes = np.eye(committee.shape[2])[committee.argmax(axis=2)]
    return _entropy(np.einsum("r,rtk->tk", beliefs, votes))


def pairwise_distance(committee: NDArray[np.float64], beliefs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over pairs of the L1 distance of what they expect (Lee et al. 2023); beliefs say who is in it."""
    mine = committee[beliefs > 0]
    return np.asarray(np.abs(mine[:, None] - mine[None]).sum(axis=(0, 1, 3)) / 2)


def pairwise_disagreement(
    committee: NDArray[np.float64], beliefs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean over pairs of the probability that the two answer differently (Pagliardini et al. 2023)."""
    mine = committee[beliefs > 0]
    if len(mine) < 2:
        return np.zeros(committee.shape[1])
    total = mine.sum(axis=0)
    agree = ((total**2).sum(axis=1) - (mine**2).sum(axis=(0, 2))) / (len(mine) * (len(mine) - 1))
    return np.asarray(1 - agree)


def joint_information(
    committee: NDArray[np.float64], beliefs: NDArray[np.float64], batch: list[int]
) -> float:
    """Mutual information, in nats, of all answers to a batch and which hypothesis is right, exactly."""
    given = np.ones((1, len(beliefs)))
    for item in batch:  # one row for each series of answers so far
        given = (given[:, None] * committee[:, item].T[None]).reshape(-1, len(beliefs))
    mean = given @ beliefs
    return float(_entropy(mean) - _entropy(given.T) @ beliefs)


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
    good = np.flatnonzero(open_rows & (scores >= _AS_GOOD * best))
    return int(good[typicality(features, good, seed).argmax()])


def choose_batch(
    committee: NDArray[np.float64],
    beliefs: NDArray[np.float64],
    features: NDArray[np.float32],
    size: int,
    asked: Collection[int] = (),
) -> list[int]:
    """Rows for one round of answers, each chosen for what it adds to the information of those before."""
    batch: list[int] = []
    scores = expected_information(committee, beliefs)
    open_rows = np.ones(len(scores), dtype=bool)
    open_rows[list(asked)] = False
    good = np.flatnonzero(open_rows & (scores > 1e-12))
    patterns = np.unique(committee[:, good].argmax(axis=2), axis=1, return_inverse=True)[1].ravel()
    ranked: list[int] = []
    for pattern in np.unique(patterns):
        mine = good[patterns == pattern]
        mine = mine[scores[mine] >= _AS_GOOD * scores[mine].max()]
        ranked.extend(mine[np.argsort(-typicality(features, mine))][:size].tolist())
    ranked = sorted(ranked, key=lambda item: -scores[item])[:_CANDIDATES]
    while ranked and len(batch) < size:
        gains = [joint_information(committee, beliefs, [*batch, item]) for item in ranked]
        batch.append(ranked.pop(int(np.argmax(gains))))
    return batch
