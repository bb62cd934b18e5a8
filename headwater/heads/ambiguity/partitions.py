"""Readings from linear heads alone: partitions of all rows whose every row a head of the others foretells.

Many such partitions agree with the labels. Each is found by self-training from its own start, and all at
once, since a ridge head on fixed features is a product with one matrix. Which are right is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from headwater.heads.ambiguity.bounds import WORSE
from headwater.heads.ambiguity.clustering import k_means, nearest
from headwater.heads.ambiguity.margins import torn_share
from headwater.heads.ambiguity.problem import Reading

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

_PENALTY = 0.01  # of the mean eigenvalue
_COARSE = 64  # leading features that self-training begins with
_CLUSTERS = 40
_PER_CLUSTER = 256  # rows that a cluster's centre is learned from
_SOFT_ROUNDS = 12
_HARD_ROUNDS = 8
_SHARPNESS = 6.0  # for two classes; two that are as likely as each other outweigh all others as much
_FEW_CLASSES = 3  # with more, clusters of a class at random hardly ever lean to one feature
_WEIGHED = 0.1  # penalty, of the mean eigenvalue, of heads on weighed features
_SAME = 0.97  # partitions that agree on more of the rows whose class is not known are one
_RARE = 0.03  # of the starts: partitions that fewer of them end in are mixtures of others, mostly
_MOST_ROWS = 20_000  # that self-training is on; the head it ends with foretells the others
_STRAY = 0.02  # of rows may be of any class, whatever a head says


@dataclass(frozen=True, eq=False)
class Partition:
    """A partition of the rows (n + m + t,) and how well a head foretells it.

    `codes` are class codes; `scores` (rows, classes) are what the head of all other rows says of each row,
    near one for its class and near zero for others; `squared_error` is how far they are from that on
    average, squared, and `error` the share of labeled rows that they class wrongly. `found` starts of all
    ended here.
    """

    codes: Codes
    scores: Floats
    squared_error: float
    error: float
    found: int

    def squared_error_among(self, rows: Codes) -> float:
        """The mean squared error of the scores of some of the rows."""
        corners = np.eye(self.scores.shape[1], dtype=np.float32)[self.codes[rows]]
        return float(((self.scores[rows] - corners) ** 2).mean())

    def torn_among(self, rows: Codes) -> float:
        """The share of some of the rows that lie between classes."""
        return torn_share(self.scores[rows])

    @property
    def probabilities(self) -> Floats:
        """Of the classes (rows, classes), if a class's scores scatter by `squared_error` around its corner.

        A few rows are unlike all others, so none is quite certain.
        """
        sure = softmax(self.scores / np.float32(max(self.squared_error, 1e-6)), axis=1)
        return np.asarray((1 - _STRAY) * sure + _STRAY / sure.shape[1], dtype=np.float32)


def linear_readings(
    features: Mapping[str, Floats],
    labels: Codes,
    targets: int,
    *,
    answers: Mapping[int, int] | None = None,
    starts: int = 128,
    seed: int = 0,
) -> list[Reading]:
    """Readings of the labels by self-consistent linear heads, those that are foretold best first.

    `features` holds, by name, matrices (n + m + t, dim) of labeled, unlabeled and target rows; `labels` (n,)
    are class codes, `targets` is t. `answers` (target row → class code) count as labels. Readings that agree
    on nearly all rows are given once, whichever features they are from. Of more rows than `_MOST_ROWS`, a
    sample is trained on: all answered rows, and labeled ones as far as they are no more than half of it.
    """
    found: list[tuple[str, Partition]] = []
    for name, rows in features.items():
        fixed = _fixed(labels, answers or {}, len(rows) - targets)
        if len(rows) > _MOST_ROWS:
            ends = _of_a_sample(rows, fixed, len(labels), starts=starts, seed=seed)
        else:
            ends = self_consistent(rows, fixed, starts=starts, seed=seed)
        common = [each for each in ends if each.found >= _RARE * starts]
        found += [(name, each) for each in common or [max(ends, key=lambda each: each.found)]]
    found.sort(key=lambda pair: pair[1].squared_error)
    first = len(labels)
    best = min(each.error for _, each in found)
    kept: list[tuple[str, Partition]] = []
    for name, each in found:
        if each.error > best + WORSE:
            continue
        if all((each.codes[first:] == other.codes[first:]).mean() <= _SAME for _, other in kept):
            kept.append((name, each))
    said = np.stack([each.codes for _, each in kept])
    in_dispute = (said != said[0]).any(axis=0)
    in_dispute[:first] = False
    return [reading_of(f"linear head on {name}", each, first, targets, in_dispute) for name, each in kept]


def reading_of(
    origin: str,
    found: Partition,
    labeled: int,
    targets: int,
    in_dispute: NDArray[np.bool_],
    *,
    is_nonlinear: bool = False,
) -> Reading:
    """A partition of all rows as a reading, measured on the rows (n + m + t,) that are in dispute."""
    differ, agree = np.flatnonzero(in_dispute), np.flatnonzero(~in_dispute)
    if not len(differ):
        differ = agree
    shares = found.probabilities
    return Reading(
        unlabeled=shares[labeled : len(shares) - targets],
        target=shares[len(shares) - targets :],
        error=found.error,
        origin=origin,
        squared_error=found.squared_error_among(differ),
        torn=max(0.0, found.torn_among(differ) - found.torn_among(agree)),
        is_nonlinear=is_nonlinear,
    )


def self_consistent(
    features: Floats,
    fixed: tuple[Codes, Codes],
    *,
    starts: int = 128,
    same: float = _SAME,
    seed: int = 0,
) -> list[Partition]:
    """Distinct partitions of rows (rows, dim), those that are foretold best first.

    `fixed` is (row numbers, class codes) of rows whose class is known; every code of 0..K-1 must be there.
    A start gives every cluster of the other rows a class at random, more or less mixed with what a head of
    the known rows says; of many classes, it is a head of the known rows on features weighed at random. Then
    every row takes the class that a ridge head of all others foretells: softly at first, and by the leading
    features. Partitions that agree on more than `same` of the other rows are one.
    """
    rows, codes = fixed
    corners = np.eye(int(codes.max()) + 1, dtype=np.float32)[codes]
    leading = np.ascontiguousarray(features[:, :_COARSE], dtype=np.float32)
    head = RidgeHead(leading)
    random = np.random.default_rng(seed)
    nothing = np.full((len(leading), corners.shape[1], 1), 1 / corners.shape[1], dtype=np.float32)
    plain = _hard(head.foretell(_told(nothing, rows, corners)))
    others = np.setdiff1d(np.arange(len(leading)), rows)
    if corners.shape[1] > _FEW_CLASSES:
        beliefs = _leaning(leading, rows, corners, starts, random)
    else:
        beliefs = _starts(_clustered(leading, others, random), plain, starts, random)
    for step in range(_SOFT_ROUNDS + 3):
        scores = head.foretell(_told(beliefs, rows, corners))
        beliefs = _soft(scores) if step < _SOFT_ROUNDS else _hard(scores)
    beliefs, like = _distinct(beliefs, others, same)
    found = np.bincount(like)
    if features.shape[1] > _COARSE:
        head = RidgeHead(features)
        for _ in range(_HARD_ROUNDS):
            beliefs = _hard(head.foretell(_told(beliefs, rows, corners)))
    beliefs, shared = _distinct(beliefs, others, same)
    beliefs = _told(beliefs, rows, corners)
    scores = head.foretell(beliefs)
    squared_errors = ((scores - beliefs) ** 2).mean(axis=(0, 1))
    said = scores.argmax(axis=1)
    error = (said[rows] != codes[:, None]).mean(axis=0)
    told = beliefs.argmax(axis=1)
    return [
        Partition(
            codes=np.asarray(told[:, k], dtype=np.int64),
            scores=np.ascontiguousarray(scores[:, :, k]),
            squared_error=float(squared_errors[k]),
            error=float(error[k]),
            found=int(found[shared == k].sum()),
        )
        for k in np.argsort(squared_errors, kind="stable")
    ]


def _of_a_sample(
    rows: Floats, fixed: tuple[Codes, Codes], labeled: int, *, starts: int, seed: int
) -> list[Partition]:
    """`self_consistent` partitions of a sample of the rows, and of all others by the head of each."""
    random = np.random.default_rng([seed, len(rows)])
    known, codes = fixed
    order = random.permutation(labeled)
    firsts = np.unique(codes[order], return_index=True)[1]  # so that every class is there
    shown = np.concatenate([order[firsts], np.delete(order, firsts)])[: _MOST_ROWS // 2]
    rest = random.permutation(np.setdiff1d(np.arange(len(rows)), known))
    left = max(0, _MOST_ROWS - len(shown) - len(known) + labeled)
    sample = np.sort(np.concatenate([shown, known[labeled:], rest[:left]]))
    place = np.isin(known, sample)
    taken = np.searchsorted(sample, known[place]), codes[place]
    ends = self_consistent(rows[sample], taken, starts=starts, seed=seed)
    head = RidgeHead(rows[sample])
    others = np.setdiff1d(np.arange(len(rows)), sample)
    found = []
    for each in ends:
        scores = np.empty((len(rows), each.scores.shape[1]), dtype=np.float32)
        scores[sample] = each.scores
        scores[others] = head.say(np.eye(scores.shape[1], dtype=np.float32)[each.codes], rows[others])
        said = scores.argmax(axis=1)
        said[sample], said[known] = each.codes, codes
        found.append(replace(each, codes=said, scores=scores))
    return found


class RidgeHead:
    """A ridge head on all rows with a bias: for any targets, what the head of all other rows says of each."""

    def __init__(self, features: Floats) -> None:
        self._centre = features.mean(axis=0)
        centred = (features - self._centre).astype(np.float32)
        self._bias = np.float32(np.sqrt(np.mean(centred**2, dtype=np.float64) + 1e-30))
        self._rows = np.column_stack([centred, np.full(len(centred), self._bias)])
        product = (self._rows.T @ self._rows).astype(np.float64)
        product[np.diag_indices(len(product))] += _PENALTY * np.trace(product) / len(product)
        self._solved = np.linalg.solve(product, self._rows.T.astype(np.float64)).astype(np.float32)
        self._own = np.einsum("nd,dn->n", self._rows, self._solved)[:, None]

    def foretell(self, targets: Floats) -> Floats:
        """Scores of targets (rows, classes, starts), of the same shape: the usual leave-one-out identity."""
        flat = targets.reshape(len(targets), -1)
        scores: Floats = self._rows @ (self._solved @ flat)
        scores -= self._own * flat
        scores /= 1 - self._own
        foretold: Floats = scores.reshape(targets.shape)
        return foretold

    def say(self, targets: Floats, others: Floats) -> Floats:
        """Scores (others, classes) of other rows (others, dim) by the head of targets (rows, classes)."""
        weights = self._solved @ targets
        scores: Floats = (others - self._centre).astype(np.float32) @ weights[:-1] + self._bias * weights[-1]
        return scores


def _starts(clusters: Codes, plain: Floats, starts: int, random: np.random.Generator) -> Floats:
    """Beliefs (rows, classes, starts) to begin with, where a plain head says `plain` (rows, classes, 1)."""
    classes = plain.shape[1]
    sorts = random.integers(0, classes, (int(clusters.max()) + 1, starts))
    drawn = (sorts[:, None] == np.arange(classes)[:, None]).astype(np.float32)[clusters]
    strength = random.choice(np.array([0.3, 1.0], dtype=np.float32), starts)
    plainly = random.choice(np.array([0.0, 0.5, 1.0], dtype=np.float32), starts)
    mixed: Floats = strength * drawn + plainly * plain
    mixed /= mixed.sum(axis=1, keepdims=True)
    return mixed


def _leaning(
    leading: Floats, known: Codes, corners: Floats, starts: int, random: np.random.Generator
) -> Floats:
    """Beliefs (rows, classes, starts) of heads of the known rows, each on features weighed at random.

    Each leans to another of the features that known rows agree on, if only a little.
    """
    centred = leading - leading.mean(axis=0)
    shown = centred[known].astype(np.float64)
    axes = np.linalg.eigh(shown.T @ shown)[1].astype(np.float32)
    turned = centred @ axes
    turned /= turned.std(axis=0) + np.float32(1e-6)
    mean, dim = corners.mean(axis=0), turned.shape[1]
    beliefs = np.empty((len(leading), corners.shape[1], starts), dtype=np.float32)
    for start in range(starts):
        weighed = np.linalg.qr(random.normal(size=(dim, dim)))[0] * np.exp(random.normal(size=dim))
        x = turned[known] @ weighed
        product = x.T @ x
        product[np.diag_indices(dim)] += _WEIGHED * np.trace(product) / dim + 1e-12
        head = weighed @ np.linalg.solve(product, x.T @ (corners - mean))
        beliefs[:, :, start] = turned @ head.astype(np.float32) + mean
    return _soft(beliefs)


def _clustered(leading: Floats, others: Codes, random: np.random.Generator) -> Codes:
    """The cluster of every row, (rows,), of clusters of the others."""
    sample = random.permutation(others)[: _CLUSTERS * _PER_CLUSTER]
    centres = k_means(leading[np.sort(sample)], _CLUSTERS, int(random.integers(2**31)))
    return nearest(leading, centres)


def _told(beliefs: Floats, rows: Codes, corners: Floats) -> Floats:
    """The beliefs with what is known about some rows, in place."""
    beliefs[rows] = corners[:, :, None]
    return beliefs


def _soft(scores: Floats) -> Floats:
    """Beliefs from scores (rows, classes, starts), a softmax made sharp, in place."""
    scores -= scores.max(axis=1, keepdims=True)
    scores *= _SHARPNESS + 2 * np.log(scores.shape[1] - 1)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def _hard(scores: Floats) -> Floats:
    hard: Floats = (scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])[:, None]).astype(np.float32)
    return hard


def _distinct(beliefs: Floats, others: Codes, same: float) -> tuple[Floats, Codes]:
    """The starts that differ on other rows, and for each start which of these it is like, (starts,)."""
    codes = beliefs[others].argmax(axis=1)
    kept: list[int] = []
    like = np.empty(codes.shape[1], dtype=np.int64)
    for start in range(codes.shape[1]):
        agreed = (codes[:, kept] == codes[:, [start]]).mean(axis=0) if kept else np.zeros(0)
        if len(agreed) and agreed.max() > same:
            like[start] = int(agreed.argmax())
        else:
            like[start] = len(kept)
            kept.append(start)
    return np.ascontiguousarray(beliefs[:, :, kept]), like


def _fixed(labels: Codes, answers: Mapping[int, int], first: int) -> tuple[Codes, Codes]:
    """Row numbers and class codes of labeled rows and answers; target rows begin at `first`."""
    items = np.array(sorted(answers), dtype=np.int64)
    said = np.array([answers[int(item)] for item in items], dtype=np.int64)
    return np.concatenate([np.arange(len(labels)), first + items]), np.concatenate([labels, said])
