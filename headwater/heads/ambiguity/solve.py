"""The whole way from a problem and an oracle to a resolution: readings, questions, answers, classes.

Each step is a room of its own; this one knows their order, and what is done when one of them fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.dialogue import Ask, converse
from headwater.heads.ambiguity.forecast import calibrated, forecast
from headwater.heads.ambiguity.problem import Problem, Reading
from headwater.heads.ambiguity.questions import Question
from headwater.heads.ambiguity.resolve import (
    SETTLED,
    Resolution,
    blend,
    crossed_share,
    in_words,
    with_answers,
)
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.methods.clusters import clusters, principal
from headwater.heads.specs.hashed import Rows, Weights
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty

Progress = Callable[[str, int, int], None]
"""Told of a step's name, how many parts of it are done, and of how many."""

_COMPONENTS = 50
_CLUSTERS = 20
# Rows of a cluster that is read another way count as much, together, as this share of the labeled rows.
_WEIGHT = 0.25


@dataclass
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=time.perf_counter)

    def done(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self.since
        self.since = now


def solve(
    problem: Problem,
    ask: Ask,
    *,
    features: NDArray[np.float32] | None = None,
    budget: int = 5,
    seed: int = 0,
    known: Mapping[int, int] | None = None,
    progress: Progress | None = None,
) -> Resolution:
    """Settle what the labels mean by at most `budget` questions, and class the target rows.

    `features` (n + m + t, dim) of labeled, unlabeled and target rows, in this order; None: their principal
    components. `ask` gives the class code of the question's row, or raises HeadwaterError: what is known by
    then is made use of. It is never called more than `budget` times, nor twice about the same row. `known`
    answers (target row → class code) were paid for earlier and count.
    """
    told = progress or (lambda step, done, of: None)
    clock = _Clock()
    if features is None:
        features = _components(problem, seed)
    clock.done("features")
    told("readings", 0, 1)
    readings = linear_readings(problem, features, seed=seed)
    before = readings[0].target.astype(np.float64)
    told("readings", 1, 1)
    clock.done("readings")

    def asking(question: Question) -> int:
        told("questions", question.number - 1, budget)
        return ask(question)

    state = converse(
        problem,
        readings,
        asking,
        features=features[-len(problem.target) :],
        budget=budget,
        known=known,
        seed=seed,
    )
    told("questions", budget, budget)
    clock.done("questions")
    probabilities = with_answers(calibrated(blend(state.found, state.beliefs), state), state.answers)
    labels = np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    expected = forecast(labels, state, seed)
    settled = not state.is_contradicted() and bool(state.beliefs.held.max() >= SETTLED)
    clock.done("resolution")
    return Resolution(
        probabilities=probabilities,
        labels=labels,
        settled=settled,
        sentences=in_words(state, settled, expected.accuracy),
        exchanges=tuple(state.exchanges),
        beliefs={
            each.name: float(share) for each, share in zip(state.found, state.beliefs.held, strict=True)
        },
        unexplained=state.beliefs.none,
        mix_rate=crossed_share(state),
        expected_accuracy=expected.accuracy,
        interval=expected.interval,
        before=before,
        seconds=clock.seconds,
    )


def _components(problem: Problem, seed: int) -> NDArray[np.float32]:
    """The first principal components of all rows, (n + m + t, at most 50), the first of deviation 1."""
    x = np.concatenate(
        [part.reshape(len(part), -1) for part in (problem.labeled, problem.unlabeled, problem.target)]
    )
    found = principal(x, _COMPONENTS, seed)
    return found / max(float(found[:, 0].std()), 1e-9)


def linear_readings(problem: Problem, features: NDArray[np.float32], *, seed: int) -> list[Reading]:
    """A plain head, and heads that read one cluster of unlabeled rows as another class than it does."""
    n, m = len(problem.labeled), len(problem.unlabeled)
    n_classes = len(problem.classes)
    rows = np.concatenate([features[:n], features[n : n + m]])
    penalty = Penalty(l2=1e-3)
    everything = np.concatenate([problem.labels, np.full(m, -1)])
    (plain,) = HeadBank(rows, everything, n_classes).train(
        [HeadSpec(Rows(np.arange(n)), penalty, scaler_rows=Rows(np.arange(n + m)))]
    )
    said = plain.predict(rows[n:])
    found = clusters(rows[n:], "kmeans", min(_CLUSTERS, m), seed)
    heads = [plain]
    for code in range(n_classes):
        target = np.concatenate([problem.labels, np.full(m, code)])
        specs = []
        for cluster in np.unique(found):
            mine = np.flatnonzero((found == cluster) & (said != code))
            if not len(mine):
                continue
            weights = np.concatenate([np.ones(n), np.full(len(mine), _WEIGHT * n / len(mine))])
            index = np.concatenate([np.arange(n), n + mine])
            specs.append(HeadSpec(Rows(index), penalty, Weights(weights), scaler_rows=Rows(np.arange(n + m))))
        if specs:
            heads.extend(HeadBank(rows, target, n_classes).train(specs))
    return [_reading(head, features, problem) for head in heads]


def _reading(head: LinearHead, features: NDArray[np.float32], problem: Problem) -> Reading:
    logits = head.logits(features).astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    n, m = len(problem.labeled), len(problem.unlabeled)
    return Reading(shares[n : n + m], shares[n + m :], float("nan"), "linear")
