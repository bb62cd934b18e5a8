"""Questions and answers on made-up readings whose right answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from headwater.errors import HeadwaterError
from headwater.heads.ambiguity.beliefs import (
    LOST_BELIEF,
    NONE_PRIOR,
    TORN,
    Beliefs,
    Hypothesis,
    believe,
    prior,
)
from headwater.heads.ambiguity.dialogue import Dialogue, converse
from headwater.heads.ambiguity.problem import Problem, Reading
from headwater.heads.ambiguity.questions import BudgetSpent

ROWS = 400


class World:
    """Two binary features of 400 target rows; readings are noisy copies of them."""

    def __init__(self, seed=0, noise=0.02):
        self.random = np.random.default_rng(seed)
        self.cells = self.random.integers(0, 2, (ROWS, 2))
        self.features = (4 * self.cells + self.random.normal(0, 1, self.cells.shape)).astype(np.float32)
        self.noise = noise
        nothing = np.zeros((4, 2), dtype=np.float32)
        self.problem = Problem(nothing, np.array([0, 0, 1, 1]), nothing, self.features, (0, 1))
        self.asked = []

    def reading(self, said):
        said = np.where(self.random.random(ROWS) < self.noise, 1 - said, said)
        shares = (0.9 * np.eye(2)[said] + 0.05).astype(np.float32)
        return Reading(shares, shares, self.noise, "made up")

    def readings(self, columns, copies=3):
        return [self.reading(self.cells[:, column]) for column in columns for _ in range(copies)]

    def oracle(self, truth):
        def ask(question):
            self.asked.append(question.item)
            return int(truth[question.item])

        return ask

    def converse(self, readings, ask, budget=5, **more):
        return converse(self.problem, readings, ask, features=self.features, budget=budget, **more)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("meant", [0, 1])
def test_the_reading_that_is_meant_is_found(seed, meant):
    world = World(seed)
    state = world.converse(world.readings([0, 1]), world.oracle(world.cells[:, meant]))
    best = state.found[state.beliefs.best].target.argmax(axis=1)
    assert (best == world.cells[:, meant]).mean() > 0.97
    assert state.beliefs.held.max() > 0.95
    assert not state.is_contradicted()


def test_both_sorts_of_disputed_rows_are_asked_about():
    world = World()
    world.converse(world.readings([0, 1]), world.oracle(world.cells[:, 0]))
    assert {tuple(world.cells[item]) for item in world.asked} == {(0, 1), (1, 0)}


@pytest.mark.parametrize("budget", [0, 1, 2, 5])
def test_the_budget_holds_and_no_row_is_asked_about_twice(budget):
    world = World()
    state = world.converse(world.readings([0, 1]), world.oracle(world.cells[:, 0]), budget)
    assert len(world.asked) == budget == len(state.answers) == len(set(world.asked))
    assert [each.question.number for each in state.exchanges] == list(range(1, budget + 1))


def test_nothing_is_asked_where_all_readings_say_the_same():
    world = World(noise=0)
    state = world.converse(world.readings([0]), world.oracle(world.cells[:, 0]))
    assert not state.exchanges
    assert len(state.found) == 1


@pytest.mark.parametrize("seed", range(3))
def test_answers_that_no_reading_gives_bring_new_readings_within_the_same_budget(seed):
    world = World(seed)
    truth = world.cells.max(axis=1)  # one or the other, which fits the labeled rows as well
    given = []

    def widen(state):
        given.append(dict(state.answers))
        assert state.is_doubtful()
        return [], [world.reading(truth) for _ in range(3)]

    state = world.converse(world.readings([0, 1]), world.oracle(truth), 5, widen=widen)
    assert given
    assert all(truth[item] == code for item, code in given[0].items())
    assert len(world.asked) == 5
    assert (state.found[state.beliefs.best].target.argmax(axis=1) == truth).mean() > 0.95
    assert state.beliefs.fit > 0.5  # what was answered since does not speak against it
    # Who was called A at the first question is called so at the last.
    asked = [each.question for each in state.exchanges]
    for name in {opinion.name for question in asked for opinion in question.opinions}:
        said = [
            (question.item, opinion.code)
            for question in asked
            for opinion in question.opinions
            if opinion.name == name
        ]
        agreed = [
            np.mean([world.cells[item, column] == code for item, code in said]) for column in (0, 1)
        ] + [np.mean([truth[item] == code for item, code in said])]
        assert max(agreed) > 0.9


@pytest.mark.parametrize("is_contradicted", [False, True])
def test_only_a_contradiction_costs_belief(monkeypatch, is_contradicted):
    """New readings are due where answers are unlikely, too; of that they are told themselves."""
    monkeypatch.setattr(Dialogue, "is_contradicted", lambda self: is_contradicted)
    world = World()
    truth = world.cells.max(axis=1)
    state = world.converse(
        world.readings([0, 1]),
        world.oracle(truth),
        widen=lambda state: ([], [world.reading(truth) for _ in range(3)]),
    )
    assert state.widened
    assert state.contradicted == is_contradicted * state.widened
    lost = 1 - (1 - NONE_PRIOR) * LOST_BELIEF**state.contradicted
    start = prior(state.found, lost)
    assert state.beliefs.none == believe(state.found, state.answers, start).none


def test_a_contradictory_oracle_is_noticed():
    world = World()

    def ask(question):
        world.asked.append(question.item)
        return int(world.cells[question.item, len(world.asked) % 2])

    state = world.converse(world.readings([0, 1]), ask)
    assert state.is_contradicted()


@pytest.mark.parametrize("error", [HeadwaterError("no line"), BudgetSpent("all spent")])
def test_an_oracle_that_fails_midway_ends_the_dialogue_with_what_is_known(error):
    world = World()
    answer = world.oracle(world.cells[:, 0])

    def ask(question):
        if len(world.asked) == 2:
            raise error
        return answer(question)

    state = world.converse(world.readings([0, 1]), ask)
    assert len(state.answers) == 2
    assert state.trouble
    assert (state.found[state.beliefs.best].target.argmax(axis=1) == world.cells[:, 0]).mean() > 0.97


def test_an_answer_outside_the_classes_is_not_believed():
    world = World()
    state = world.converse(world.readings([0, 1]), lambda question: 2)
    assert not state.answers
    assert "class code 2" in state.trouble


def test_known_answers_count_and_lead_to_the_same_next_question():
    world = World()
    readings = world.readings([0, 1])
    whole = world.converse(readings, world.oracle(world.cells[:, 0]))
    first = dict(list(whole.answers.items())[:3])
    world.asked.clear()
    resumed = world.converse(readings, world.oracle(world.cells[:, 0]), known=first)
    assert world.asked == list(whole.answers)[3:]
    np.testing.assert_allclose(resumed.beliefs.held, whole.beliefs.held)


def test_a_permutation_of_the_target_rows_changes_only_their_numbers():
    world = World()
    readings = world.readings([0, 1])
    asked = world.converse(readings, world.oracle(world.cells[:, 0])).answers
    order = np.random.default_rng(5).permutation(ROWS)
    moved = [Reading(each.unlabeled, each.target[order], each.error, each.origin) for each in readings]
    world.cells, world.features = world.cells[order], world.features[order]
    again = world.converse(moved, world.oracle(world.cells[:, 0])).answers
    assert {int(order[item]) for item in again} == set(asked)


@pytest.mark.parametrize("meant", [0, 1])
def test_rows_that_are_chosen_together_settle_it_as_well_and_are_the_same_after_a_restart(meant):
    world = World()
    readings = world.readings([0, 1])
    whole = world.converse(readings, world.oracle(world.cells[:, meant]), at_once=True)
    assert len(set(whole.answers)) == 5
    assert {tuple(world.cells[item]) for item in whole.answers} >= {(0, 1), (1, 0)}
    assert (whole.found[whole.beliefs.best].target.argmax(axis=1) == world.cells[:, meant]).mean() > 0.97
    world.asked.clear()
    # Whatever is answered, the same rows are asked about: none of them waits for an answer.
    other = world.converse(readings, world.oracle(1 - world.cells[:, meant]), at_once=True)
    assert list(other.answers) == list(whole.answers)
    known = dict(list(whole.answers.items())[1:3])
    world.asked.clear()
    world.converse(readings, world.oracle(world.cells[:, meant]), at_once=True, known=known)
    assert world.asked == [item for item in whole.answers if item not in known]


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_are_chosen_together_are_answered_before_new_readings_are_trained(seed):
    world = World(seed)
    truth = world.cells.max(axis=1)
    given = []

    def widen(state):
        given.append(len(state.answers))
        return [], [world.reading(truth) for _ in range(3)]

    state = world.converse(world.readings([0, 1]), world.oracle(truth), widen=widen, at_once=True)
    assert given
    assert given[0] == 5 == len(state.answers)


def test_opinions_are_those_of_the_readings_the_most_believed_first():
    world = World(noise=0)
    seen = []

    def ask(question):
        seen.append(question)
        return int(world.cells[question.item, 1])

    world.converse(world.readings([0]) + world.readings([1], copies=5), ask)
    first = seen[0]
    assert [opinion.code for opinion in first.opinions] == world.cells[first.item][::-1].tolist()
    assert first.opinions[0].belief > first.opinions[1].belief
    assert first.speaks_for == (world.cells == world.cells[first.item]).all(axis=1).sum()


@pytest.mark.parametrize(("torn", "widened"), [(0.07, 1), (0.0, 0)])
def test_a_reading_between_classes_is_not_all_that_is_left_by_answers(torn, widened):
    """It dissents from the refuted one where all that is not that one does: agreeing there says little."""
    world = World(3)
    dissents = world.random.random(ROWS) < 0.2
    mixed = replace(world.reading(np.where(dissents, world.cells[:, 1], world.cells[:, 0])), torn=torn)
    told = []

    def widen(state):
        told.append(state.refuted())
        return world.readings([1]), []

    state = world.converse(
        [*world.readings([0], copies=1), mixed], world.oracle(world.cells[:, 1]), widen=widen
    )
    assert state.widened == len(told) == widened
    assert not state.contradicted
    best = state.found[state.beliefs.best].target.argmax(axis=1)
    assert ((best == world.cells[:, 1]).mean() > 0.97) == bool(widened)
    for (refuted,) in told:
        assert (refuted.target.argmax(axis=1) == world.cells[:, 0]).mean() > 0.97


@pytest.mark.parametrize(("told", "is_believed"), [(frozenset(), True), (None, False)])
def test_readings_that_know_no_answer_are_judged_by_all_of_them(told, is_believed):
    world = World()
    state = world.converse(world.readings([0]), world.oracle(world.cells[:, 0]), budget=0)
    crossed = np.flatnonzero(world.cells[:, 0] != world.cells[:, 1])[:5]
    state.answers.update({int(item): int(world.cells[item, 1]) for item in crossed})
    state.learn(world.readings([1]), told=told)
    assert (state.beliefs.held.max() > 0.9) == is_believed


def held(shares, torn, answers=(3,)):
    """A dialogue of hypotheses of one reading each that are believed so much, and leave so many rows torn."""
    world = World(noise=0)
    readings = [replace(world.reading(world.cells[:, 0]), torn=each) for each in torn]
    found = [
        Hypothesis("ABC"[place], (place,), each.unlabeled, each.target, 0.05, falls_between=each.torn > TORN)
        for place, each in enumerate(readings)
    ]
    beliefs = Beliefs(np.array(shares), 1 - sum(shares), 0.9)
    return Dialogue(readings, found, beliefs, dict.fromkeys(answers, 0))


@pytest.mark.parametrize(
    ("shares", "torn", "refuted", "is_torn"),
    [
        ((0.0, 0.8), (0.0, 0.07), "A", True),
        ((0.0, 0.8), (0.0, 0.0), "A", False),  # what is left is a clean one
        ((0.0, 0.8), (0.07, 0.07), "", False),  # what is refuted was none to begin with
        ((0.3, 0.6), (0.0, 0.07), "", False),  # nothing is refuted
        ((0.0, 0.45, 0.4), (0.0, 0.07, 0.0), "A", False),  # a clean one may be meant still
        ((0.0, 0.45, 0.4), (0.0, 0.07, 0.02), "A", True),
    ],
)
def test_what_answers_refute_and_what_they_leave(shares, torn, refuted, is_torn):
    state = held(shares, torn)
    assert "".join(each.name for each in state.refuted()) == refuted
    assert state.is_torn() == is_torn
    assert held(shares, torn, answers=()).refuted() == []


def test_readings_are_doubted_before_any_question_or_not_at_all():
    assert held((0.3,), (0.5,), answers=()).is_implausible()
    assert not held((0.3,), (0.5,)).is_implausible()
    assert not held((0.6,), (0.0,), answers=()).is_implausible()
