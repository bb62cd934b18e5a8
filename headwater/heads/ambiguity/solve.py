"""The whole way from a problem and an oracle to a resolution: readings, questions, answers, classes.

Each step is a room of its own; this one knows their order, and what is done when one of them fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.beliefs import TORN, Hypothesis
from headwater.heads.ambiguity.coupled_readings import coupled_readings
from headwater.heads.ambiguity.crossed_readings import crossed_readings
from headwater.heads.ambiguity.dialogue import Ask, Dialogue, converse
from headwater.heads.ambiguity.kernel_readings import role_readings
from headwater.heads.ambiguity.partitions import linear_readings
from headwater.heads.ambiguity.plain_reading import labeled_only
from headwater.heads.ambiguity.problem import Problem, Reading
from headwater.heads.ambiguity.questions import Question
from headwater.heads.ambiguity.refinement import refined
from headwater.heads.ambiguity.resolve import Resolution, resolve
from headwater.heads.ambiguity.roles import whole
from headwater.heads.ambiguity.unseen import unseen_groups
from headwater.heads.methods.clusters import principal

Floats = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
"""Told of a step's name, how many parts of it are done, and of how many."""

_COMPONENTS = 128
# Seeds of trainings that follow one another lie this far apart.
_AGAIN = 1000
# Readings that err on labeled rows kept apart more than half as often as chance do not fit the labels.
_WORST = 0.5
# Mix rates that heads are tied at before any is known.
_MIX_RATES = (0.05, 0.2, 0.5, 0.9)
# Sets of heads are tied by every pair of classes: with more classes than this that takes too long.
_FEW_CLASSES = 3


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
    at_once: bool = False,
    progress: Progress | None = None,
) -> Resolution:
    """Settle what the labels mean by at most `budget` questions, and class the target rows.

    `features` (n + m + t, dim) of labeled, unlabeled and target rows, in this order, or several kinds of them
    by name; None: their values, of images the principal components. `ask` gives the class code of the
    question's row, or raises HeadwaterError: what is known by then is made use of. It is never called more
    than `budget` times, nor twice about the same row. `known` answers (target row → class code) were paid for
    earlier and count. `at_once`: all rows are chosen before the first answer.
    """
    told = progress or (lambda step, done, of: None)
    clock = _Clock()
    views = _views(problem, features, seed)
    shown = _shown(views)
    before = labeled_only(problem, shown, seed)
    clock.done("features")
    told("readings", 0, 1)
    readings = [*first_readings(problem, views, seed), before]
    told("readings", 1, 1)
    clock.done("readings")

    def asking(question: Question) -> int:
        told("questions", question.number - 1, budget)
        return ask(question)

    def widen(state: Dialogue) -> tuple[list[Reading], list[Reading]]:
        told("readings that know the answers", 0, 1)
        again = seed + _AGAIN * (state.widened + 1)
        opposed = [] if state.widened else opposed_readings(problem, views, state)
        found = informed_readings(problem, views, state, again)
        told("readings that know the answers", 1, 1)
        return opposed, found

    state = converse(
        problem,
        readings,
        asking,
        widen=widen,
        features=shown[-len(problem.target) :],
        budget=budget,
        known=known,
        at_once=at_once,
        seed=seed,
    )
    told("questions", budget, budget)
    clock.done("questions")
    if state.answers and not state.knows_all():
        told("readings that know the answers", 0, 1)
        state.learn(final_readings(problem, views, state, before, seed + _AGAIN), seed)
        told("readings that know the answers", 1, 1)
    resolution = resolve(problem, state, views, before, clock.seconds, seed=seed)
    clock.done("resolution")
    return resolution


def first_readings(problem: Problem, views: Mapping[str, Floats], seed: int) -> list[Reading]:
    """Readings of the labels before anything was asked."""
    return _readings(problem, views, seed, {})


def informed_readings(
    problem: Problem, views: Mapping[str, Floats], state: Dialogue, seed: int
) -> list[Reading]:
    """Readings trained on the answers, too, from other starts."""
    return _readings(problem, views, seed, state.answers)


def opposed_readings(problem: Problem, views: Mapping[str, Floats], state: Dialogue) -> list[Reading]:
    """Readings that differ from those that answers refute; they know no answers themselves."""
    if not _are_partitions(problem):
        return []
    refuted = [np.concatenate([each.unlabeled, each.target]).argmax(axis=1) for each in state.refuted()]
    return [each for codes in refuted for each in crossed_readings(problem, whole(views), codes)]


def final_readings(
    problem: Problem, views: Mapping[str, Floats], state: Dialogue, before: Reading, seed: int
) -> list[Reading]:
    """Readings that are better than those that were asked about, and mean what the most believed ones do.

    Rows of images fall apart into cells that a few more labels tell for good. Of vectors they may not, and
    then a few labels say less than what the readings' disagreement looks like.
    """
    best = state.beliefs.best
    is_believed = any(state.readings[place] is before for place in state.found[best].members)
    if is_believed and before.torn < TORN and _says(before, state.answers):
        # Rows are like those that it learned from: nothing about them has to be found out.
        return [before]
    if _are_partitions(problem):
        return informed_readings(problem, views, state, seed)
    rivals = [each for place, each in enumerate(state.found) if place != best]
    if not rivals or state.is_contradicted():
        return []
    return refined(problem, views, (_as_one(state.found[best]), _as_one(rivals[0])), seed)


def _says(reading: Reading, answers: Mapping[int, int]) -> bool:
    return all(int(reading.target[item].argmax()) == code for item, code in answers.items())


def _as_one(found: Hypothesis) -> Reading:
    return Reading(found.unlabeled, found.target, found.error, found.name)


def _readings(
    problem: Problem, views: Mapping[str, Floats], seed: int, answers: Mapping[int, int]
) -> list[Reading]:
    """Partitions of images and of rows of many classes; of others, which may have no gaps, sets of heads."""
    if _are_partitions(problem):
        count = len(problem.target)
        readings = linear_readings(whole(views), problem.labels, count, answers=answers, seed=seed)
        readings += role_readings(views, problem.labels, count, answers=answers, seed=seed)
    else:
        clusters = unseen_groups(views, len(problem.labeled), seed)
        readings = [
            reading
            for rows in views.values()
            for reading in coupled_readings(
                rows,
                problem.labels,
                len(problem.target),
                len(problem.classes),
                mix_rates=_MIX_RATES,
                seed=seed,
                answers=answers,
                kinds=("DivDis", "ACE", "cells"),
                clusters=clusters,
            )
        ]
    worst = _WORST * (1 - 1 / len(problem.classes))
    return [each for each in readings if not each.error > worst]


def _are_partitions(problem: Problem) -> bool:
    return problem.are_images or len(problem.classes) > _FEW_CLASSES


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
    side_by_side = parts[0] if len(parts) == 1 else np.column_stack(parts)
    return np.ascontiguousarray(side_by_side, dtype=np.float32)
