"""The whole way from a problem and an oracle to a resolution: readings, questions, answers, classes.

Each step is a room of its own; this one knows their order, and what is done when one of them fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.dialogue import Ask, Dialogue, converse
from headwater.heads.ambiguity.forecast import calibrated, forecast
from headwater.heads.ambiguity.hypotheses import hypotheses
from headwater.heads.ambiguity.partitions import linear_readings
from headwater.heads.ambiguity.problem import Problem, Reading
from headwater.heads.ambiguity.questions import Question
from headwater.heads.ambiguity.resolve import (
    Resolution,
    blend,
    crossed_share,
    in_words,
    is_settled,
    last_word,
    with_answers,
)
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.methods.clusters import principal
from headwater.heads.specs.hashed import Rows
from headwater.heads.specs.spec import HeadSpec, Penalty

Floats = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
"""Told of a step's name, how many parts of it are done, and of how many."""

_COMPONENTS = 128
# Seeds of trainings that follow one another lie this far apart.
_AGAIN = 1000
# Readings that err more often on labeled rows kept apart, by this much than the best, do not fit the labels.
_WORSE = 0.05
_LEAST_RATE = 0.02
# Kinds of sets of heads that say where features end that no gap between rows shows.
_EDGES = ("DivDis", "ACE", "cells")
# Mix rates that are tried, as multiples of the estimate; how much worse heads may fit the labels there.
_FACTORS = (1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3)
_WORSE_AT_EDGES = 0.0125


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
    features: Mapping[str, Floats] | Floats | None = None,
    budget: int = 5,
    seed: int = 0,
    known: Mapping[int, int] | None = None,
    progress: Progress | None = None,
) -> Resolution:
    """Settle what the labels mean by at most `budget` questions, and class the target rows.

    `features` (n + m + t, dim) of labeled, unlabeled and target rows, in this order, or several kinds of them
    by name; None: their values, of images the principal components. `ask` gives the class code of the
    question's row, or raises HeadwaterError: what is known by then is made use of. It is never called more
    than `budget` times, nor twice about the same row. `known` answers (target row → class code) were paid for
    earlier and count.
    """
    told = progress or (lambda step, done, of: None)
    clock = _Clock()
    views = _views(problem, features, seed)
    shown = _shown(views)
    before = labeled_only(problem, shown)
    clock.done("features")
    told("readings", 0, 1)
    readings = [before, *first_readings(problem, views, seed)]
    told("readings", 1, 1)
    clock.done("readings")

    def asking(question: Question) -> int:
        told("questions", question.number - 1, budget)
        return ask(question)

    def widen(state: Dialogue) -> list[Reading]:
        told("readings that know the answers", 0, 1)
        again = seed + _AGAIN * (state.widened + 1)
        found = informed_readings(problem, views, state, again)
        told("readings that know the answers", 1, 1)
        return found

    state = converse(
        problem,
        readings,
        asking,
        widen=widen,
        features=shown[-len(problem.target) :],
        budget=budget,
        known=known,
        seed=seed,
    )
    told("questions", budget, budget)
    clock.done("questions")
    if state.answers and not state.knows_all():
        state.learn(widen(state), seed)
    probabilities = last_word(state) if state.answers else blend(state.found, state.beliefs)
    probabilities = with_answers(calibrated(probabilities, state), state.answers)
    labels = np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    expected = forecast(labels, state, seed)
    settled = is_settled(state)
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
        before=before.target.astype(np.float64),
        seconds=clock.seconds,
    )


def first_readings(problem: Problem, views: Mapping[str, Floats], seed: int) -> list[Reading]:
    """Readings of the labels before anything was asked."""
    readings = linear_readings(views, problem.labels, len(problem.target), seed=seed)
    if not problem.are_images:
        readings += _sets_of_heads(problem, views, seed=seed, kinds=_EDGES)
    return _fitting(readings)


def informed_readings(
    problem: Problem, views: Mapping[str, Floats], state: Dialogue, seed: int
) -> list[Reading]:
    """Readings trained on the answers, too, from other starts, at the mix rate that is known by now."""
    if problem.are_images:
        readings = linear_readings(
            views, problem.labels, len(problem.target), answers=state.answers, seed=seed
        )
    else:
        readings = _at_the_largest_rate(problem, views, state, seed)
        readings += _sets_of_heads(problem, views, seed=seed, kinds=("DivDis",), answers=state.answers)
    return _fitting(readings)


def _at_the_largest_rate(
    problem: Problem, views: Mapping[str, Floats], state: Dialogue, seed: int
) -> list[Reading]:
    """Pairs of heads that disagree on as many rows as labeled rows kept apart allow.

    Where no gap parts the cells, heads that disagree on fewer rows than they might fit the labels as well,
    and only those that disagree on the most run along both edges of what labeled rows show.
    """
    rate = max(crossed_share(state), _LEAST_RATE)
    chosen: list[Reading] = []
    least = 1.0
    for factor in _FACTORS:
        tried = _sets_of_heads(
            problem,
            views,
            seed=seed,
            kinds=("cells",),
            mix_rates=(min(1.0, factor * rate),),
            answers=state.answers,
        )
        error = float(np.mean([each.error for each in tried]))
        least = min(least, error)
        if error > least + _WORSE_AT_EDGES:
            break
        chosen = tried
    return chosen


def _sets_of_heads(
    problem: Problem,
    views: Mapping[str, Floats],
    *,
    seed: int,
    kinds: tuple[str, ...],
    mix_rates: tuple[float, ...] = (0.05, 0.2, 0.5, 0.9),
    answers: Mapping[int, int] | None = None,
) -> list[Reading]:
    n, m = len(problem.labeled), len(problem.unlabeled)
    return [
        reading
        for rows in views.values()
        for reading in hypotheses(
            rows[:n],
            problem.labels,
            rows[n : n + m],
            rows[n + m :],
            len(problem.classes),
            mix_rates=mix_rates,
            seed=seed,
            answers=answers,
            kinds=kinds,
        )
    ]


def _fitting(readings: list[Reading]) -> list[Reading]:
    """Those that read the labels: the others err too often on labeled rows kept apart."""
    errors = np.array([each.error for each in readings])
    if not np.isfinite(errors).any():
        return readings
    return [each for each in readings if not each.error > np.nanmin(errors) + _WORSE]


def labeled_only(problem: Problem, features: Floats) -> Reading:
    """A linear head trained on the labeled rows alone."""
    n, m = len(problem.labeled), len(problem.unlabeled)
    rows = Rows(np.arange(n))
    bank = HeadBank(features[:n], problem.labels, len(problem.classes))
    (head,) = bank.train([HeadSpec(rows, Penalty(l2=1e-3), scaler_rows=rows)])
    logits = head.logits(features[n:])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return Reading(shares[:m], shares[m:], float("nan"), "labeled rows alone")


def _views(problem: Problem, features: Mapping[str, Floats] | Floats | None, seed: int) -> dict[str, Floats]:
    """Kinds of features by name, each (n + m + t, dim)."""
    if isinstance(features, np.ndarray):
        return {"features": features}
    if features:
        return dict(features)
    rows = np.concatenate(
        [part.reshape(len(part), -1) for part in (problem.labeled, problem.unlabeled, problem.target)]
    )
    return {"values": principal(rows, _COMPONENTS, seed) if problem.are_images else rows}


def _shown(views: Mapping[str, Floats]) -> Floats:
    """All kinds of features side by side, each of the same total variance, to tell which rows are alike."""
    parts = [rows / max(float(np.sqrt(rows.var(axis=0).sum())), 1e-9) for rows in views.values()]
    return np.ascontiguousarray(np.column_stack(parts), dtype=np.float32)
