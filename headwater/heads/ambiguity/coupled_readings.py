"""Readings from coupled sets of linear heads on frozen features that fit the labels and disagree elsewhere.

Every kind of set, at every mix rate, strength, penalty and seed, is trained in one or two calls to the bank.
What is asked about where they disagree, and which of them is believed, is decided elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import softmax

from headwater.errors import RequestError
from headwater.heads.ambiguity.dealing import dealt
from headwater.heads.ambiguity.problem import Reading
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.coupling import (
    Cells,
    Coupling,
    Independence,
    SoftTargets,
    Tie,
    TopDisagreement,
    as_set,
    members_of,
)
from headwater.heads.specs.hashed import Codes, Rows, Weights
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

KINDS = ("DivDis", "ACE", "cells")

# Weight decay on features whose rows have a mean square of 1, beside the mean loss.
_L2 = (1e-3,)
# Components kept of the features, which hold all but noise, and rows that heads are tied on.
_COMPONENTS, _TIED = 128, 5000
# The share of the labeled rows that each set does without, to be judged by.
_HELD_OUT = 5
# Each answer weighs as much as this share of the labeled rows.
_ANSWER = 0.05
# Directions of starts: one less than the classes are enough for one more feature; every other start has more.
_MORE_DIRECTIONS = 3
# What labeled rows vary in every direction at least, as a share of their mean variance.
_RIDGE = 0.05
# And at least this, where the mean square of all rows is 1: all labeled rows may be the same.
_LEAST_VARIANCE = 1e-6
# What is non-convex need not be solved to many digits.
_TOLERANCE, _ITERATIONS = 1e-3, 200
# DivDis' is published; without a trunk to shape, ACE and cells have to be strong.
_DIVDIS, _ACE, _CELLS = 10.0, 10.0, 10.0
_TEMPERATURE = 0.5
_MOST_RELABELED = 64


def coupled_readings(
    features: Floats,
    labels: NDArray[np.int64],
    targets: int,
    n_classes: int,
    *,
    mix_rates: Sequence[float] = (0.05, 0.1, 0.25, 0.5),
    seed: int = 0,
    answers: Mapping[int, int] | None = None,
    kinds: Sequence[str] = KINDS,
    starts: int = 4,
    kept: int = 2,
    l2: Sequence[float] = _L2,
    clusters: NDArray[np.int64] | None = None,
    near: tuple[Floats, Floats] | None = None,
) -> list[Reading]:
    """Readings of the labels (n,), two from each set of heads.

    `features` are (n + m + t, dim) of labeled, unlabeled and target rows, the last `targets` of which are the
    target's. A reading's error is that on the fifth of the labeled rows that its set did without. Target rows
    with known classes (`answers`, target row → class code) are fitted by the first head of every set, while
    the second may go its own way. Of every set several `starts` are made, on either side of a plain head, and
    those with the lowest objective `kept`. `mix_rates` are tried for the kinds that take one, ACE and cells;
    DivDis is made for independent features. `clusters` (m + t,) of unlabeled and target rows, -1 for those
    that labeled rows explain, adds heads for each way to class the clusters. `near` are two readings (m + t,
    classes) that sets of two heads start from instead. Readings of heads that did not converge are given all
    the same, and counted in the log. RequestError for an unknown kind or a mix rate outside (0, 1].
    """
    for kind in kinds:
        if kind not in KINDS:
            raise RequestError(f"there is no kind of coupled heads {kind!r}; there are {', '.join(KINDS)}")
    rows = _Rows.of(features, len(labels), targets, seed)
    sets = _Sets(rows, np.asarray(labels, dtype=np.int64), n_classes, dict(answers or {}), seed)
    bank = HeadBank(rows.x, sets.target, n_classes)
    plain = [sets.plain(strength, number) for strength, number in product(l2, range(starts))]
    first = bank.train([each.spec for each in plain])
    if near is None:
        begun = [sets.apart(head, each.number) for each, head in zip(plain, first, strict=True)]
    else:
        wide = [values.astype(np.float64) for values in near]
        like = bank.train([sets.relabeled("", values, each).spec for each in plain for values in wide])
        begun = [like[place : place + 2] for place in range(0, len(like), 2)]
    wanted = [
        sets.tied(origin, tie, each, start)
        for origin, tie in _ties(kinds, mix_rates)
        for each, start in zip(plain, begun, strict=True)
    ]
    if clusters is not None:
        ways = relabelings(clusters, n_classes, seed)
        wanted += [sets.relabeled(name, values, plain[0]) for name, values in ways.items()]
    heads = sets.in_order(wanted, bank.train([each.spec for each in wanted]), bank)
    left = sum(not head.convergence.converged for head in heads)
    log.debug("%d sets of heads trained, %d of which did not converge", len(heads), left)
    made = list(zip(wanted, heads, strict=True))
    return [reading for each, head in _best(made, kept) for reading in sets.readings(each, head)]


def _best(made: Sequence[tuple[_Set, LinearHead]], kept: int) -> list[tuple[_Set, LinearHead]]:
    """Of sets that differ in their start alone, those with the lowest objective."""
    alike: dict[tuple[str, float], list[tuple[_Set, LinearHead]]] = {}
    for each in made:
        alike.setdefault((each[0].kind, each[0].spec.penalty.l2), []).append(each)
    ranked = [sorted(group, key=lambda each: each[1].convergence.objective) for group in alike.values()]
    return [each for group in ranked for each in group[:kept]]


def relabelings(clusters: NDArray[np.int64], n_classes: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Soft targets (rows, classes) for ways to class clusters (rows,), zero where the code is -1, by name.

    All ways where they are few, else as many drawn at random.
    """
    count = int(clusters.max()) + 1 if len(clusters) else 0
    if count == 0:
        return {}
    if n_classes**count <= _MOST_RELABELED:
        ways = list(product(range(n_classes), repeat=count))
    else:
        random = np.random.default_rng(seed)
        ways = [tuple(way) for way in random.integers(n_classes, size=(_MOST_RELABELED, count)).tolist()]
    table = np.eye(n_classes)
    inside = (clusters >= 0)[:, None]
    return {
        f"clusters as {' '.join(map(str, way))}": np.where(inside, table[np.asarray(way)[clusters]], 0.0)
        for way in ways
    }


def _ties(kinds: Sequence[str], mix_rates: Sequence[float]) -> Iterator[tuple[str, Tie]]:
    if "DivDis" in kinds:
        yield "DivDis", Independence(_DIVDIS, _DIVDIS)
    for rate in mix_rates:
        if "ACE" in kinds:
            yield f"ACE at {rate:g}", TopDisagreement(_ACE, rate)
        if "cells" in kinds:
            yield f"cells at {rate:g}", Cells(_CELLS, rate, _TEMPERATURE)


@dataclass(frozen=True)
class _Rows:
    """All rows in few components, `x` (n + m + t, d) of mean square 1, and how many there are of each."""

    x: Floats
    labeled: int
    unlabeled: int
    target: int
    tied: Rows

    @staticmethod
    def of(features: Floats, labeled: int, target: int, seed: int) -> _Rows:
        x = unit_components(features.astype(np.float32, copy=False))
        rest = np.arange(labeled, len(x))
        if len(rest) > _TIED:
            rest = np.sort(np.random.default_rng(seed).permutation(rest)[:_TIED])
        return _Rows(x, labeled, len(x) - labeled - target, target, Rows(rest))


def unit_components(x: Floats, most: int = _COMPONENTS) -> Floats:
    """The rows in their `most` leading components, scaled as one so that their mean square is 1."""
    moved = torch.from_numpy(np.ascontiguousarray(x)) - torch.from_numpy(x.mean(axis=0))
    if moved.shape[1] > most:
        _, vectors = torch.linalg.eigh(moved.T @ moved)
        moved = moved @ vectors[:, -most:]
    moved /= moved.square().sum(1).mean().sqrt().clamp_min(1e-30)
    return np.asarray(moved.numpy(), dtype=np.float32)


@dataclass(frozen=True)
class _Set:
    """One set of heads: its kind, its start's number, spec, members, and the labeled rows it does without."""

    kind: str
    number: int
    spec: HeadSpec
    members: int
    held_out: NDArray[np.int64]


class _Sets:
    """Writes the specs of sets on the same rows, and reads their heads."""

    def __init__(
        self,
        rows: _Rows,
        labels: NDArray[np.int64],
        n_classes: int,
        answers: dict[int, int],
        seed: int,
    ) -> None:
        self._rows, self._labels, self._classes, self._seed = rows, labels, n_classes, seed
        self.target = np.full(len(rows.x), -1, dtype=np.int64)
        self.target[: rows.labeled] = labels
        first = rows.labeled + rows.unlabeled
        self._answered = first + np.array(sorted(answers), dtype=np.int64)
        self.target[self._answered] = [answers[item] for item in sorted(answers)]
        self._fold = dealt(labels, _HELD_OUT, np.random.default_rng(seed))

    def plain(self, l2: float, number: int) -> _Set:
        """A head on the labels alone."""
        fitted, held_out, weights, _ = self._fitted(number)
        spec = HeadSpec(fitted, Penalty(l2=l2), weights, tolerance=_TOLERANCE)
        return _Set("plain", number, spec, 1, held_out)

    def tied(self, kind: str, tie: Tie, plain: _Set, start: list[LinearHead]) -> _Set:
        """Two heads held apart by `tie`, begun as `start`."""
        return self._coupled(kind, tie, plain, start)

    def relabeled(self, kind: str, values: NDArray[np.float64], plain: _Set) -> _Set:
        """A head for one way to class clusters."""
        place = self._rows.tied.index - self._rows.labeled
        return self._coupled(kind, SoftTargets(1.0, Weights(values[place].ravel())), plain, [])

    def _coupled(self, kind: str, tie: Tie, plain: _Set, start: list[LinearHead]) -> _Set:
        members = len(start) or 1
        fitted, held_out, weights, own = self._fitted(plain.number)
        spec = HeadSpec(
            fitted,
            plain.spec.penalty,
            weights,
            coupling=Coupling(tie, self._rows.tied, members, own),
            start=as_set(start) if start else None,
            tolerance=_TOLERANCE,
            max_iterations=_ITERATIONS,
        )
        return _Set(kind, plain.number, spec, members, held_out)

    def apart(self, head: LinearHead, number: int) -> list[LinearHead]:
        """Two heads, `head` plus and minus a random mixture of the directions that labeled rows lack.

        With two features x is about a + b, where labeled rows have one b for each a. Heads for a and for b
        add up to one that fits the labels, and differ in directions in which other rows vary and labeled
        ones do not. The difference is as large, over other rows, as what the head itself says.
        """
        random = np.random.default_rng([self._seed, number])
        count = self._classes - 1 + (_MORE_DIRECTIONS if number % 2 else 0)
        rest = self._rows.x[self._rows.labeled :]
        lacking = self._lacking[:, :count]
        mixed = random.normal(size=(self._classes, lacking.shape[1]))
        difference = ((mixed - mixed.mean(0)) @ lacking.T).astype(np.float32)
        difference *= float((rest @ head.weight.T).std() / max(1e-30, (rest @ difference.T).std()))
        return [LinearHead(head.weight + sign * difference, head.bias, head.convergence) for sign in (1, -1)]

    @cached_property
    def _lacking(self) -> NDArray[np.float64]:
        """Directions (d, d), first those in which other rows vary most beside labeled ones."""
        labeled, rest = np.split(self._rows.x.astype(np.float64), [self._rows.labeled])
        inner = np.atleast_2d(np.cov(labeled.T))
        inner += max(_RIDGE * np.trace(inner) / len(inner), _LEAST_VARIANCE) * np.eye(len(inner))
        outer = np.atleast_2d(np.cov(rest.T))
        _, vectors = eigh(outer, inner)
        sizes = np.sqrt(np.einsum("dr,de,er->r", vectors, outer, vectors))
        return np.asarray((vectors / np.maximum(sizes, 1e-30))[:, ::-1])

    def in_order(self, made: Sequence[_Set], heads: Sequence[LinearHead], bank: HeadBank) -> list[LinearHead]:
        """The heads of sets, trained anew from the other order where the second fits the answers better.

        No path leads downhill from one order to the other, so that starts may end in the wrong one.
        """
        out = list(heads)
        if not len(self._answered):
            return out
        x, codes = self._rows.x[self._answered], self.target[self._answered]
        turned: dict[int, HeadSpec] = {}
        for place, (each, head) in enumerate(zip(made, heads, strict=True)):
            if each.members == 2:
                members = members_of(head, 2)
                fit = [
                    softmax(one.logits(x), axis=1)[np.arange(len(x)), codes].clip(1e-12) for one in members
                ]
                if np.log(fit[1]).sum() > np.log(fit[0]).sum():
                    turned[place] = replace(each.spec, start=as_set(members[::-1]))
        for place, head in zip(turned, bank.train(list(turned.values())), strict=True):
            out[place] = min(out[place], head, key=lambda one: one.convergence.objective)
        return out

    def _fitted(self, number: int) -> tuple[Rows, NDArray[np.int64], Weights | None, Codes | None]:
        """The labeled rows that a set fits with the answered ones, those held out, weights, own rows."""
        held_out = np.flatnonzero(self._fold == number % _HELD_OUT)
        kept = np.flatnonzero(self._fold != number % _HELD_OUT)
        if len(np.unique(self._labels[kept])) < self._classes:
            kept, held_out = np.arange(len(self._fold)), held_out[:0]
        if not len(self._answered):
            return Rows(kept), held_out, None, None
        answered = np.arange(len(kept) + len(self._answered)) >= len(kept)
        weights = np.where(answered, _ANSWER * len(kept), 1.0)
        return Rows(np.concatenate([kept, self._answered])), held_out, Weights(weights), Codes(answered)

    def readings(self, made: _Set, head: LinearHead) -> Iterator[Reading]:
        """What each member says of unlabeled and target rows, and its error on labeled rows held out."""
        first = self._rows.labeled + self._rows.unlabeled
        setting = f"{made.kind}, l2 {made.spec.penalty.l2:g}"
        for place, member in enumerate(members_of(head, made.members)):
            p = softmax(member.logits(self._rows.x), axis=1)
            wrong = p[made.held_out].argmax(1) != self._labels[made.held_out]
            yield Reading(
                p[self._rows.labeled : first],
                p[first:],
                float(wrong.mean()) if len(wrong) else float("nan"),
                f"{setting}, start {made.number}, head {place + 1}",
                setting=setting,
            )
