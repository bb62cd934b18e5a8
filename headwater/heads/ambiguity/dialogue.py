"""Question after question until nothing is left to ask: which row, what was answered, what is believed then.

Readings come from elsewhere, new ones too where the answers contradict all there are; what is made of the
beliefs is `resolve`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterError
from headwater.heads.ambiguity.beliefs import REFUTED, Beliefs, Hypothesis, believe, hypotheses
from headwater.heads.ambiguity.naming import named_alike
from headwater.heads.ambiguity.problem import Problem, Reading
from headwater.heads.ambiguity.queries import choose, choose_batch, expected_information
from headwater.heads.ambiguity.questions import BudgetSpent, Opinion, Question

Ask = Callable[[Question], int]
"""Gives the class code of the question's row, or raises HeadwaterError."""
Widen = Callable[["Dialogue"], tuple[Sequence[Reading], Sequence[Reading]]]
"""New readings: those that know no answer, and those that are trained on the answers there are."""

# Readings contradict answers that the best of them finds this unlikely, or if chance is believed more.
_UNLIKELY = 0.05
_DOUBTED = 0.5
# Below this expected information, in nats, an answer would hardly change what is believed.
_LITTLE = 0.02
# New readings are worth their time from so many answers on, and if the best is as unlikely as this.
_ENOUGH = 3
_WORTH_A_TRY = 0.2
_WIDENINGS = 2


@dataclass(frozen=True, eq=False)
class Exchange:
    """A question that was asked and the class code that was answered."""

    question: Question
    answer: int


@dataclass
class Dialogue:
    """What is known so far: readings, like-minded ones as hypotheses, answers, and what is believed.

    `trouble` says why it ended early, if it did; `widened` counts how often new readings were trained, since
    answers spoke against all there were, and `contradicted` how often they contradicted them all. `knows` are
    the answers each reading was trained on. `names` are those that hypotheses had so far: each keeps its own
    for good.
    """

    readings: list[Reading]
    found: list[Hypothesis]
    beliefs: Beliefs
    answers: dict[int, int] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    widened: int = 0
    contradicted: int = 0
    trouble: str = ""
    knows: list[frozenset[int]] = field(default_factory=list)
    balance: NDArray[np.float64] | None = None
    names: set[str] = field(default_factory=set)

    def is_contradicted(self) -> bool:
        """Whether no reading explains the answers."""
        return bool(self.answers) and (self.beliefs.none > _DOUBTED or self.beliefs.fit < _UNLIKELY)

    def is_implausible(self) -> bool:
        """Whether all readings are doubted, and nothing was answered."""
        return not self.answers and self.beliefs.none > _DOUBTED

    def knows_all(self) -> bool:
        """Whether the last readings were trained on all answers there are."""
        return bool(self.knows) and self.knows[-1] == frozenset(self.answers)

    def is_doubtful(self) -> bool:
        """Whether new readings are due: answers that the last ones did not know speak against the best."""
        if len(self.answers) < _ENOUGH or self.knows_all():
            return False
        return (
            self.is_contradicted() or self.beliefs.fit < _WORTH_A_TRY or (not self.widened and self.is_torn())
        )

    def is_torn(self) -> bool:
        """Whether answers left none but such as fall between their classes: another must be meant."""
        left = [
            each
            for each, held in zip(self.found, self.beliefs.held, strict=True)
            if held >= REFUTED and not each.falls_between
        ]
        return not left and bool(self.refuted())

    def refuted(self) -> list[Hypothesis]:
        """Hypotheses that answers refute, of those that do not fall between their classes."""
        return [
            each
            for each, held in zip(self.found, self.beliefs.held, strict=True)
            if self.answers and held < REFUTED and not each.falls_between
        ]

    def learn(self, readings: Sequence[Reading], seed: int = 0, told: frozenset[int] | None = None) -> None:
        """Take in new readings, which were trained on the answers about `told`; None: all there are."""
        self.knows += [frozenset()] * (len(self.readings) - len(self.knows))
        self.knows += [frozenset(self.answers) if told is None else told] * len(readings)
        self.readings.extend(readings)
        found = hypotheses(self.readings, knows=self.knows, balance=self.balance, seed=seed)
        self.found, self.names = named_alike(self.found, found, self.names)
        self.beliefs = believe(self.found, self.answers, contradicted=self.contradicted)


def converse(
    problem: Problem,
    readings: Sequence[Reading],
    ask: Ask,
    *,
    features: NDArray[np.float32],
    budget: int,
    widen: Widen | None = None,
    known: Mapping[int, int] | None = None,
    at_once: bool = False,
    seed: int = 0,
) -> Dialogue:
    """Ask at most `budget` questions, those `known` already included, each for what it is expected to tell.

    `features` (t, dim) of target rows say which of them are alike. Where answers contradict all readings,
    `widen` makes new ones. `ask` is never called twice about the same row; if it fails, the dialogue ends.
    `at_once`: all rows are chosen before the first answer, for what they are expected to tell together; the
    same rows whichever of them are `known`.
    """
    balance = np.bincount(problem.labels, minlength=len(problem.classes)) / len(problem.labels)
    found = hypotheses(readings, balance=balance, seed=seed)
    answers = dict(known or {})
    state = Dialogue(list(readings), found, believe(found, answers), answers, balance=balance)
    planned = [each for each in _planned(found, features, budget) if each not in answers] if at_once else []
    while True:
        if not planned and widen is not None and state.widened < _WIDENINGS and state.is_doubtful():
            unaware, aware = widen(state)
            state.widened += 1
            state.contradicted += state.is_contradicted()
            state.learn(unaware, seed, told=frozenset())
            state.learn(aware, seed)
            continue
        if len(state.answers) >= budget:
            return state
        if at_once:
            question = _about(state, planned.pop(0)) if planned else None
        else:
            question = next_question(state, features, seed)
        if question is None:
            return state
        try:
            code = ask(question)
        except BudgetSpent:
            state.trouble = "no more questions may be asked"
            return state
        except HeadwaterError as error:
            state.trouble = f"the oracle failed: {str(error).rstrip('.')}"
            return state
        if not 0 <= code < len(problem.classes):
            state.trouble = f"the oracle answered class code {code}, where there are {len(problem.classes)}"
            return state
        state.answers[question.item] = code
        state.exchanges.append(Exchange(question, code))
        state.beliefs = believe(state.found, state.answers, contradicted=state.contradicted)


def next_question(state: Dialogue, features: NDArray[np.float32], seed: int = 0) -> Question | None:
    """The question that is expected to tell most: between hypotheses, or whether the best one is right.

    The second sort is asked where hardly any doubt is left between hypotheses, since questions cost nothing
    up to the budget: about rows as yet unlike any that was asked about, then where the best is least sure.
    """
    committee = np.stack([each.expects() for each in state.found])
    votes = committee.argmax(axis=2)
    held = state.beliefs.held / state.beliefs.held.sum()
    scores = expected_information(committee, held)
    asked = list(state.answers)
    if scores.max() < _LITTLE:
        scores = _checking(votes, scores, asked)
    item = choose(scores, features, asked, seed)
    return None if item is None else _about(state, item)


def _planned(found: Sequence[Hypothesis], features: NDArray[np.float32], size: int) -> list[int]:
    """Rows that tell most together of which hypothesis is meant, before anything is answered."""
    committee = np.stack([each.expects() for each in found])
    held = believe(found, {}).held
    return choose_batch(committee, held / held.sum(), features, size)


def _about(state: Dialogue, item: int) -> Question:
    votes = np.stack([each.target.argmax(axis=1) for each in state.found])
    order = np.argsort(-state.beliefs.held, kind="stable")
    return Question(
        item=item,
        number=len(state.answers) + 1,
        picture=None,  # which is made for people by whoever asks them
        opinions=tuple(
            Opinion(state.found[h].name, int(votes[h, item]), float(state.beliefs.held[h])) for h in order
        ),
        speaks_for=int((votes == votes[:, [item]]).all(axis=0).sum()),
    )


def _checking(
    votes: NDArray[np.int64], scores: NDArray[np.float64], asked: Sequence[int]
) -> NDArray[np.float64]:
    """Scores of rows by how many share their votes, lower the more of those were asked about already."""
    _, pattern, counts = np.unique(votes, axis=1, return_inverse=True, return_counts=True)
    pattern = pattern.ravel()
    seen = np.bincount(pattern[list(asked)], minlength=len(counts))
    is_split = (votes != votes[0]).any(axis=0)
    return np.asarray(np.where(is_split, (counts / (1.0 + seen) ** 3)[pattern], 0.0))
