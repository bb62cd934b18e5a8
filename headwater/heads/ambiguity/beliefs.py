"""Which reading of the labels is believed: like-minded ones as one hypothesis, and Bayes' rule on answers.

Where readings come from, which rows are asked about and what is made of the beliefs is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.problem import Reading

# Belief, before any answer, that none of the readings is the one that is meant.
NONE_PRIOR = 0.2
# No reading is taken to err less often than this: the labels themselves may be wrong.
LEAST_ERROR = 0.01
# Where no rows were kept apart to count errors on, and a reading stands alone, this is assumed.
UNKNOWN_ERROR = 0.05
# Readings are compared on at most so many disputed rows.
_COMPARED = 2000


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """Readings that say the same, as one: `unlabeled` (m, classes) and `target` (t, classes) are their mean.

    `members` are places in the list of readings. `error` is how often it is taken to be wrong about a
    disputed row if it is the one that is meant.
    """

    name: str
    members: tuple[int, ...]
    unlabeled: NDArray[np.float32]
    target: NDArray[np.float32]
    error: float

    def expects(self, items: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float64]:
        """Probabilities (items, classes) of an oracle's answers if this is what the labels mean."""
        given = self.target[items].astype(np.float64)
        return np.asarray((1 - self.error) * given + self.error / given.shape[1])


def disputed(readings: Sequence[Reading]) -> NDArray[np.bool_]:
    """The target rows (t,) about which not all readings say the same."""
    said = np.stack([reading.target.argmax(axis=1) for reading in readings])
    return np.asarray((said != said[0]).any(axis=0))


def disagreement(readings: Sequence[Reading], seed: int = 0) -> NDArray[np.float64]:
    """Share of disputed target rows that two readings read differently, (readings, readings)."""
    rows = np.flatnonzero(disputed(readings))
    if len(rows) > _COMPARED:
        rows = np.random.default_rng(seed).choice(rows, _COMPARED, replace=False)
    if not len(rows):
        return np.zeros((len(readings), len(readings)))
    same = np.zeros((len(readings), len(readings)))
    said = np.stack([reading.target[rows].argmax(axis=1) for reading in readings])
    for code in range(readings[0].target.shape[1]):
        votes = (said == code).astype(np.float32)
        same += votes @ votes.T
    return np.asarray(1 - same / len(rows), dtype=np.float64)


def hypotheses(readings: Sequence[Reading], *, apart: float = 0.25, seed: int = 0) -> list[Hypothesis]:
    """Groups of readings that differ on less than a share `apart` of disputed rows, on average; largest
    first.

    A hypothesis' error is the larger of its members' error on labeled rows kept apart and their disagreement
    with their own majority on disputed rows, which are harder than labeled ones.
    """
    groups = _linked(disagreement(readings, seed), apart)
    rows = disputed(readings)
    found: list[Hypothesis] = []
    for members in sorted(groups, key=lambda group: (-len(group), group)):
        mine = [readings[place] for place in members]
        target = np.asarray(np.mean([each.target for each in mine], axis=0, dtype=np.float64))
        known = [each.error for each in mine if np.isfinite(each.error)]
        error = float(np.mean(known)) if known else UNKNOWN_ERROR
        if len(mine) > 1 and rows.any():
            majority = target[rows].argmax(axis=1)
            split = np.mean([each.target[rows].argmax(axis=1) != majority for each in mine])
            error = max(error, float(split))
        found.append(
            Hypothesis(
                name=f"{chr(ord('A') + len(found) % 26)}{len(found) // 26 or ''}",
                members=tuple(members),
                unlabeled=np.asarray(np.mean([each.unlabeled for each in mine], axis=0), dtype=np.float32),
                target=target.astype(np.float32),
                error=float(np.clip(error, LEAST_ERROR, 0.5)),
            )
        )
    return found


def _linked(distance: NDArray[np.float64], apart: float) -> list[list[int]]:
    """Average-linkage groups that lie less than `apart` from each other."""
    from scipy.cluster.hierarchy import fcluster, linkage  # noqa: PLC0415  (slow to import)
    from scipy.spatial.distance import squareform  # noqa: PLC0415

    if len(distance) == 1:
        return [[0]]
    codes = fcluster(linkage(squareform(distance, checks=False), "average"), apart, "distance")
    return [np.flatnonzero(codes == code).tolist() for code in np.unique(codes)]


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Beliefs `held` (hypotheses,) and `none`, that no hypothesis is right; together they are 1.

    `fit` is the probability of answers as bad as these, or worse, if the best hypothesis were right.
    """

    held: NDArray[np.float64]
    none: float
    fit: float

    @property
    def best(self) -> int:
        """The hypothesis that is believed most."""
        return int(self.held.argmax())


def prior(found: Sequence[Hypothesis], none: float = NONE_PRIOR) -> NDArray[np.float64]:
    """What is believed before any answer, (hypotheses + 1,): every reading the same; last: none of them."""
    counts = np.array([len(each.members) for each in found], dtype=np.float64)
    return np.append((1 - none) * counts / counts.sum(), none)


def believe(
    found: Sequence[Hypothesis], answers: Mapping[int, int], start: NDArray[np.float64] | None = None
) -> Beliefs:
    """Beliefs after answers (target row → class code), by Bayes' rule; `start` (hypotheses + 1,) before them.

    If no hypothesis is right, every answer is as likely as any other.
    """
    items = np.array(list(answers), dtype=np.int64)
    codes = np.array(list(answers.values()), dtype=np.int64)
    n_classes = found[0].target.shape[1]
    given = np.stack([each.expects(items)[np.arange(len(items)), codes] for each in found])
    log = np.append(np.log(given).sum(axis=1), -len(items) * np.log(n_classes))
    log += np.log(prior(found) if start is None else start)
    shares = np.exp(log - log.max())
    shares /= shares.sum()
    best = int(shares[:-1].argmax())
    return Beliefs(shares[:-1], float(shares[-1]), _tail(found[best].expects(items), codes))


def _tail(expected: NDArray[np.float64], codes: NDArray[np.int64]) -> float:
    """Probability of answers no likelier than these, by going through all that could have been given."""
    values: NDArray[np.float64] = np.zeros(1)
    shares: NDArray[np.float64] = np.ones(1)
    for row in expected:
        values = (values[:, None] + np.log(row)[None, :]).ravel()
        shares = (shares[:, None] * row[None, :]).ravel()
        values, place = np.unique(np.round(values, 9), return_inverse=True)
        shares = np.asarray(np.bincount(place.ravel(), weights=shares), dtype=np.float64)
    seen = float(np.log(expected[np.arange(len(codes)), codes]).sum())
    return float(min(1.0, shares[values <= seen + 1e-6].sum()))
