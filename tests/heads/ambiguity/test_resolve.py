"""From a dialogue to classes: the head that carries the surviving reading on, and what is said of it."""

from dataclasses import replace

import numpy as np
import pytest

from headwater.heads.ambiguity.dialogue import converse
from headwater.heads.ambiguity.forecast import forecast
from headwater.heads.ambiguity.problem import Problem, Reading
from headwater.heads.ambiguity.resolve import blend, in_words, last_word, resolve

ROWS = 300


class Told:
    """Two features, readings that err on one row in twenty, each on other ones, and a dialogue about them."""

    def __init__(self, meant=0, budget=5, oracle=None):
        random = np.random.default_rng(7)
        self.cells = random.integers(0, 2, (2 * ROWS, 2))
        own = np.repeat(random.integers(0, 2, 150)[:, None], 2, axis=1)
        every = np.concatenate([own, self.cells])
        self.rows = (5.0 * every.repeat(2, axis=1) + random.normal(0, 1, (len(every), 4))).astype(np.float32)
        n = len(own)
        self.problem = Problem(
            self.rows[:n], own[:, 0], self.rows[n : n + ROWS], self.rows[n + ROWS :], ("no", "yes")
        )
        readings = [self.reading(random, column) for column in (0, 0, 0, 1, 1, 1)]
        self.truth = self.cells[ROWS:, meant]
        self.state = converse(
            self.problem,
            readings,
            oracle or (lambda question: int(self.truth[question.item])),
            features=self.problem.target,
            budget=budget,
        )
        nothing = np.full((ROWS, 2), 0.5, dtype=np.float32)
        self.before = Reading(nothing, nothing, float("nan"), "nothing")
        self.found = resolve(self.problem, self.state, {"x": self.rows}, self.before, {"all": 1.0})

    def reading(self, random, column):
        codes = np.where(random.random(2 * ROWS) < 0.05, 1 - self.cells[:, column], self.cells[:, column])
        shares = (0.9 * np.eye(2)[codes] + 0.05).astype(np.float32)
        return Reading(shares[:ROWS], shares[ROWS:], 0.02, "made up")


@pytest.mark.parametrize("meant", [0, 1])
def test_the_head_is_right_where_the_reading_that_taught_it_errs(meant):
    told = Told(meant)
    reading = last_word(told.state).argmax(axis=1)
    right = (told.found.labels == told.truth).mean()
    assert right > max(0.97, (reading == told.truth).mean())
    assert told.found.settled
    assert all(told.found.labels[item] == code for item, code in told.found.answers.items())
    assert told.found.interval[0] <= told.found.expected_accuracy <= told.found.interval[1]


def test_the_head_that_is_kept_gives_the_labels_and_is_as_sure_as_it_is_expected_to_be_right():
    told = Told()
    assert told.found.head is not None
    logits = told.found.head.logits(told.problem.target)
    others = np.setdiff1d(np.arange(ROWS), list(told.found.answers))
    assert (logits.argmax(axis=1) == told.found.labels)[others].all()
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = forecast(told.found.labels, told.state)
    assert shares.max(axis=1).mean() == pytest.approx(expected.unaided, abs=1e-3)
    assert told.found.expected_accuracy == expected.accuracy > expected.unaided
    np.testing.assert_allclose(told.found.probabilities.sum(axis=1), 1)


def test_readings_are_told_by_the_names_that_questions_had():
    told = Told(meant=1)
    best = max(told.found.beliefs, key=lambda name: told.found.beliefs[name])
    assert (told.found.readings[best].codes == told.cells[ROWS:, 1]).mean() > 0.9
    assert set(told.found.readings) == set(told.found.beliefs)
    for exchange in told.found.exchanges:
        for opinion in exchange.question.opinions:
            assert told.found.readings[opinion.name].codes[exchange.question.item] == opinion.code


def test_readings_beyond_linear_heads_have_the_last_word_themselves():
    told = Told()
    state = replace(told.state, knows=[frozenset(told.state.answers)] * len(told.state.readings))
    for nonlinear, knows in ((False, told.state.answers), (True, told.state.answers), (True, ())):
        state = replace(state, knows=[frozenset(knows)] * len(told.state.readings))
        state.readings = [replace(each, is_nonlinear=nonlinear) for each in told.state.readings]
        found = resolve(told.problem, state, {"x": told.rows}, told.before, {})
        assert (found.head is None) is nonlinear
        others = np.setdiff1d(np.arange(ROWS), list(found.answers))
        expected = last_word(state).argmax(axis=1)
        assert (found.labels[others] == expected[others]).all() == nonlinear


def test_without_an_answer_there_is_no_head_and_crossed_rows_are_as_likely_either():
    told = Told(budget=0)
    assert told.found.head is None
    assert not told.found.settled
    crossed = told.cells[ROWS:, 0] != told.cells[ROWS:, 1]
    assert told.found.probabilities[crossed].max(axis=1).mean() < 0.65
    assert "nothing was asked" in told.found.sentences[0]


def test_without_an_answer_labeled_rows_alone_have_the_word_and_all_figures_are_of_what_they_say():
    told = Told(budget=0)
    before = told.reading(np.random.default_rng(3), 1)
    found = resolve(told.problem, told.state, {"x": told.rows}, before, {})
    said = before.target.argmax(axis=1)
    np.testing.assert_array_equal(found.labels, said)
    np.testing.assert_array_equal(found.probabilities.argmax(axis=1), said)
    expected = forecast(said, told.state)
    assert (found.expected_accuracy, found.interval) == (expected.accuracy, expected.interval)
    assert f"{100 * expected.accuracy:.0f} % of the target rows" in found.sentences[0]
    assert "a head trained on the labeled rows alone" in found.sentences[-1]
    # Where it says what the readings say, too, nobody need be told.
    mixed = blend(told.state.found, told.state.beliefs)
    same = resolve(told.problem, told.state, {"x": told.rows}, replace(before, target=mixed), {})
    assert len(same.sentences) == 1


@pytest.mark.parametrize(
    ("contradicted", "said"),
    [
        (0, "answers left no likely reading"),
        (1, "answers contradicted all readings"),
    ],
)
def test_new_readings_are_told_with_their_reason(contradicted, said):
    state = replace(Told().state, widened=1, contradicted=contradicted)
    sentences = in_words(state, True, 0.9)
    assert [sentence for sentence in sentences if f"The {said}" in sentence]
    assert not [sentence for sentence in in_words(Told().state, True, 0.9) if "new ones" in sentence]


def test_answers_that_no_reading_explains_are_not_called_settled():
    asked = []

    def turns(question):
        asked.append(question.item)
        return len(asked) % 2

    told = Told(oracle=turns)
    assert told.state.is_contradicted()
    assert not told.found.settled
    assert "no reading explains the answers" in told.found.sentences[0]
    assert told.found.expected_accuracy < 0.95
