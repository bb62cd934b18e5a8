"""Which reading of the labels is believed: like-minded ones as one hypothesis, and Bayes' rule on answers.

Where readings come from, which rows are asked about and what is made of the beliefs is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.problem import Reading

# Belief, before any answer, that none of the readings is the one that is meant.
NONE_PRIOR = 0.2
# Whenever answers contradict all readings and new ones are trained, the rest of the belief shrinks by this.
LOST_BELIEF = 0.6
# No reading is taken to err less often than this on a row that is asked about: people who answer do, too.
LEAST_ERROR = 0.04
# Where no rows were kept apart to count errors on, and a reading stands alone, this is assumed.
UNKNOWN_ERROR = 0.05
# Hypotheses that are believed less than this are refuted.
REFUTED = 0.01
TORN = 0.01
"""A reading that leaves this share more rows than labeled ones between its classes goes by several things."""
# Readings are compared on at most so many disputed rows.
_COMPARED = 2000
_ROUNDS = 5
# No reading is weighed as if it differed from the consensus less often.
_LEAST_SPLIT = 0.01
# Nor as if its scores were nearer to their classes.
_LEAST_SQUARED_ERROR = 1e-4
# Plausibility falls by this power of e per nat between a hypothesis' shares of classes and those of labels.
_UNBALANCED = 20.0
# Of fewer target rows, shares of classes are chance's: unlabeled rows are counted with them.
_COUNTED = 50
# It falls by this power of e, too, per share of disputed rows that lie between its classes.
_TORN = 20.0
# Readings that are by this less plausible than one of the same mind have no say beside it.
_OUTDONE = 0.01
# All series of answers are gone through where there are so many at most, else so many of them are drawn.
_GONE_THROUGH = 100_000
_DRAWS = 20_000
# Series of answers whose log probabilities differ by less are as likely.
_TIED = 1e-6


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """Readings that say the same, as one: `unlabeled` (m, classes) and `target` (t, classes) are their mean.

    The mean weighs them by how far they share the others' opinion. `members` are places in the list of
    readings. `error` is how often the hypothesis is taken to be wrong about a disputed row if it is the one
    that is meant. `foretold` is what members that were trained without its answer say of a row (classes,).
    `plausible` is what a reading's share of the belief before any answer is multiplied by. `noise` is the
    part of the error that its probabilities do not allow for themselves; None: all of it. `falls_between`:
    all members leave rows between their classes, as what goes by several things does.
    """

    name: str
    members: tuple[int, ...]
    unlabeled: NDArray[np.float32]
    target: NDArray[np.float32]
    error: float
    foretold: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)
    plausible: float = 1.0
    noise: float | None = None
    falls_between: bool = False

    def expects(self) -> NDArray[np.float64]:
        """Probabilities (t, classes) of an oracle's answers if this is what the labels mean."""
        return self._allowing(self.target.astype(np.float64))

    def expected(self, items: Sequence[int]) -> NDArray[np.float64]:
        """The same of rows that were answered, (items, classes), by members that did not know the answers.

        Equal shares where all of them did: agreeing with what one was trained on is no evidence.
        """
        given = [self.foretold.get(item, self.target[item]) for item in items]
        return self._allowing(np.array(given, dtype=np.float64).reshape(len(items), self.target.shape[1]))

    def _allowing(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        noise = self.error if self.noise is None else self.noise
        return np.asarray((1 - noise) * shares + noise / shares.shape[1])


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


def hypotheses(
    readings: Sequence[Reading],
    *,
    knows: Sequence[frozenset[int]] = (),
    balance: NDArray[np.float64] | None = None,
    apart: float = 0.25,
    seed: int = 0,
) -> list[Hypothesis]:
    """Groups of readings that differ on less than a share `apart` of disputed rows on average, largest first.

    `knows` are the target rows whose answers each reading was trained on; nothing: none. `balance` (classes,)
    are the classes' shares of labeled rows, which other rows are expected to have, too (as by Lee et al.
    2023): the less alike a hypothesis' shares, the less plausible it is; None: all are as plausible. Less
    plausible are also those that cut through rows, instead of between them; beside ones of the same mind that
    do not, readings that do are left out. A hypothesis' error is the larger of its members' error on labeled
    rows kept apart and their disagreement with their own mean on disputed rows, which are harder.
    """
    knows = knows or [frozenset()] * len(readings)
    groups = _linked(disagreement(readings, seed), apart)
    rows = disputed(readings)
    found: list[Hypothesis] = []
    groups = [_outstanding(group, readings) for group in groups]
    for members in sorted(groups, key=lambda group: (-len(group), group)):
        mine = [readings[place] for place in members]
        shares = consensus(mine, rows)
        split = _split(mine, shares, rows)
        known = [each.error for each in mine if np.isfinite(each.error)]
        error = max(float(np.mean(known)) if known else UNKNOWN_ERROR, split)
        target = np.tensordot(shares, [each.target for each in mine], 1).astype(np.float32)
        found.append(
            Hypothesis(
                name=f"{chr(ord('A') + len(found) % 26)}{len(found) // 26 or ''}",
                members=tuple(members),
                unlabeled=np.tensordot(shares, [each.unlabeled for each in mine], 1).astype(np.float32),
                target=target,
                error=float(np.clip(error, LEAST_ERROR, 0.5)),
                noise=float(np.clip(_unsaid(target[rows], error), LEAST_ERROR, 0.5)),
                foretold=_foretold(mine, [knows[place] for place in members]),
                plausible=_whole(shares, mine)
                * (1.0 if balance is None else _balanced(shares, mine, balance)),
                falls_between=all(each.torn > TORN for each in mine),
            )
        )
    return found


def consensus(mine: Sequence[Reading], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights (readings,) of readings that mean the same, for their mean; `rows` (t,) are those in dispute.

    Where all were measured there, the weight is the precision of the scores. Elsewhere it is the log odds of
    being right, if the others' consensus is, which is what it would be if errors were independent (Dawid and
    Skene 1979, one rate for all classes).
    """
    squared_errors = np.array([each.squared_error for each in mine])
    if np.isfinite(squared_errors).all():
        precisions = 1 / np.maximum(squared_errors, _LEAST_SQUARED_ERROR)
        return np.asarray(precisions / precisions.sum(), dtype=np.float64)
    shares: NDArray[np.float64] = np.full(len(mine), 1 / len(mine))
    if len(mine) == 1 or not rows.any():
        return shares
    given = np.stack([each.target[rows] for each in mine])
    said = given.argmax(axis=2)
    for _ in range(_ROUNDS):
        errors = (said != np.tensordot(shares, given, 1).argmax(axis=1)).mean(axis=1)
        errors = np.clip(errors, _LEAST_SPLIT, 0.5)
        shares = np.log(given.shape[2] * (1 - errors) / errors)
        shares /= shares.sum()
    return shares


def _split(mine: Sequence[Reading], shares: NDArray[np.float64], rows: NDArray[np.bool_]) -> float:
    """How often readings differ from their mean by these weights, on average."""
    if len(mine) == 1 or not rows.any():
        return 0.0
    given = np.stack([each.target[rows] for each in mine])
    together = np.tensordot(shares, given, 1).argmax(axis=1)
    return float(shares @ (given.argmax(axis=2) != together).mean(axis=1))


def _unsaid(shares: NDArray[np.float32], error: float) -> float:
    """The part of an error that probabilities (rows, classes) do not allow for themselves."""
    if not len(shares):
        return error
    sure, chance = float(shares.max(axis=1).mean()), 1 / shares.shape[1]
    return float(min(error, (sure - (1 - error)) / max(sure - chance, 1e-9)))


def _whole(weights: NDArray[np.float64], mine: Sequence[Reading]) -> float:
    return float(np.exp(-_TORN * (weights @ [each.torn for each in mine])))


def _outstanding(members: list[int], readings: Sequence[Reading]) -> list[int]:
    """Without those that cut through many rows, where others of the same mind do not."""
    plausible = np.exp(-_TORN * np.array([readings[place].torn for place in members]))
    return [
        place for place, share in zip(members, plausible, strict=True) if share >= _OUTDONE * plausible.max()
    ]


def _balanced(weights: NDArray[np.float64], mine: Sequence[Reading], balance: NDArray[np.float64]) -> float:
    told = [each.target for each in mine]
    if len(told[0]) < _COUNTED:
        told = [np.concatenate([each.target, each.unlabeled]) for each in mine]
    if len(told[0]) < _COUNTED:
        return 1.0
    said = np.tensordot(weights, [each.mean(axis=0) for each in told], 1)
    said = np.maximum(said / said.sum(), 1e-6)
    known = balance > 0
    distance = float((balance[known] * np.log(balance[known] / said[known])).sum())
    return float(np.exp(-_UNBALANCED * max(distance, 0.0)))


def _foretold(mine: Sequence[Reading], knows: Sequence[frozenset[int]]) -> dict[int, NDArray[np.float64]]:
    n_classes = mine[0].target.shape[1]
    found = {}
    for item in frozenset[int]().union(*knows):
        free = [each.target[item] for each, known in zip(mine, knows, strict=True) if item not in known]
        found[item] = np.mean(free, axis=0) if free else np.full(n_classes, 1 / n_classes)
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

    `fit` is the probability of answers as bad as these, or worse, if the one believed most were right.
    `falls_between` (hypotheses,) says which go by several things; None: none does.
    """

    held: NDArray[np.float64]
    none: float
    fit: float
    falls_between: NDArray[np.bool_] | None = None

    @property
    def best(self) -> int:
        """The hypothesis that is believed most, of those that go by one thing and are not refuted.

        What goes by several things is a mixture of meanings, and a few answers fit a mixture easily. Of all
        where no other is left.
        """
        if self.falls_between is not None:
            whole = ~self.falls_between & (self.held >= REFUTED)
            if whole.any():
                return int(np.where(whole, self.held, -1.0).argmax())
        return int(self.held.argmax())


def prior(found: Sequence[Hypothesis], none: float = NONE_PRIOR) -> NDArray[np.float64]:
    """What is believed before any answer, (hypotheses + 1,): of readings by plausibility; last: none.

    Where not even the most plausible is plausible, none is believed more than `none`.
    """
    counts = np.array([len(each.members) * each.plausible for each in found], dtype=np.float64)
    counts = np.maximum(counts, 1e-12)
    held = (1 - none) * max(each.plausible for each in found) * counts / counts.sum()
    return np.append(held, 1 - held.sum())


def believe(
    found: Sequence[Hypothesis],
    answers: Mapping[int, int],
    start: NDArray[np.float64] | None = None,
    *,
    contradicted: int = 0,
) -> Beliefs:
    """Beliefs after answers (target row → class code), by Bayes' rule; `start` (hypotheses + 1,) before them.

    Without `start` it is the `prior`, less sure the more often answers contradicted all there were.
    If no hypothesis is right, every answer is as likely as any other.
    """
    items = list(answers)
    codes = np.array(list(answers.values()), dtype=np.int64)
    n_classes = found[0].target.shape[1]
    given = np.stack([each.expected(items)[np.arange(len(items)), codes] for each in found])
    log = np.append(np.log(given).sum(axis=1), -len(items) * np.log(n_classes))
    if start is None:
        start = prior(found, 1 - (1 - NONE_PRIOR) * LOST_BELIEF**contradicted)
    log += np.log(start)
    shares = np.exp(log - log.max())
    shares /= shares.sum()
    best = int(shares[:-1].argmax())
    fit = _tail(found[best].expected(items), codes)
    return Beliefs(shares[:-1], float(shares[-1]), fit, np.array([each.falls_between for each in found]))


def _tail(expected: NDArray[np.float64], codes: NDArray[np.int64]) -> float:
    """Probability of answers no likelier than these, by going through all that could have been given.

    Where there are too many to go through, it is estimated from draws, these answers counted as one of them.
    """
    logs = np.log(expected)
    seen = float(logs[np.arange(len(codes)), codes].sum()) + _TIED
    if expected.shape[1] ** len(codes) > _GONE_THROUGH:
        random = np.random.default_rng(len(codes))
        drawn = np.zeros(_DRAWS)
        for row, log in zip(expected, logs, strict=True):
            drawn += log[random.choice(len(row), _DRAWS, p=row / row.sum())]
        return float((1 + (drawn <= seen).sum()) / (1 + _DRAWS))
    values: NDArray[np.float64] = np.zeros(1)
    for log in logs:
        values = np.add.outer(values, log).ravel()
    return float(min(1.0, np.exp(values[values <= seen]).sum()))
