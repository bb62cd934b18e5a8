"""Forecasts against what comes true in worlds that are drawn as they assume."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from headwater.heads.ambiguity.beliefs import Beliefs, believe, consensus, hypotheses
from headwater.heads.ambiguity.dialogue import Dialogue
from headwater.heads.ambiguity.forecast import accuracies, agreement_within, calibrated, forecast
from headwater.heads.ambiguity.problem import Reading


def world(seed=0, wrong=0.08, members=4, rows=3000):
    """Readings of two features that err independently, at the rate `wrong` on crossed rows and 0.01 else."""
    random = np.random.default_rng(seed)
    cells = random.integers(0, 2, (rows, 2))
    crossed = cells[:, 0] != cells[:, 1]
    readings = []
    for feature in (0, 1):
        for _ in range(members):
            said = np.where(
                random.random(rows) < np.where(crossed, wrong, 0.01), 1 - cells[:, feature], cells[:, feature]
            )
            shares = (0.9 * np.eye(2)[said] + 0.05).astype(np.float32)
            readings.append(Reading(shares, shares, 0.01, "made up"))
    found = hypotheses(readings)
    return cells, Dialogue(readings, found, believe(found, {}))


def surely(state, hypothesis):
    held = np.zeros(len(state.found))
    held[hypothesis] = 1
    state.beliefs = Beliefs(held, 0.0, 1.0)
    return state.found[hypothesis].target.argmax(axis=1)


def test_agreement_is_the_share_of_pairs_that_say_the_same():
    _, state = world(rows=200)
    mine = [state.readings[place] for place in state.found[0].members]
    members = [each.target.argmax(axis=1) for each in mine]
    said = np.stack([reading.target.argmax(axis=1) for reading in state.readings])
    rows = (said != said[0]).any(axis=0)
    weights = consensus(mine, rows)
    pairs = [(members[a][rows] == members[b][rows]).mean() for a, b in combinations(range(len(mine)), 2)]
    counts = [weights[a] * weights[b] for a, b in combinations(range(len(mine)), 2)]
    assert agreement_within(state, 0) == pytest.approx(np.average(pairs, weights=counts))


def test_a_reading_of_hardly_any_weight_hardly_counts_in_the_agreement():
    _, state = world(rows=200, wrong=0.0)
    plain = agreement_within(state, 0)
    first, *others = state.found[0].members
    for place in others:
        state.readings[place] = replace(state.readings[place], squared_error=0.001)
    state.readings[first] = replace(
        state.readings[first], squared_error=0.5, target=0.5 + 0 * state.readings[first].target
    )
    assert agreement_within(state, 0) == pytest.approx(plain, abs=0.02)


@pytest.mark.parametrize("wrong", [0.02, 0.1])
def test_what_is_expected_of_the_right_hypothesis_is_near_the_truth_and_not_above(wrong):
    cells, state = world(wrong=wrong)
    labels = surely(state, 0)
    truth = cells[:, round(float((labels == cells[:, 1]).mean()))]
    expected = forecast(labels, state)
    right = float((labels == truth).mean())
    assert right - 0.12 < expected.accuracy < right + 0.01
    assert expected.interval[0] < right
    assert right < expected.interval[1] + 0.05


def test_without_answers_either_hypothesis_may_be_right():
    cells, state = world(wrong=0.0)
    labels = state.found[0].target.argmax(axis=1)
    expected = forecast(labels, state)
    crossed = float((cells[:, 0] != cells[:, 1]).mean())
    # 1 - crossed if the other one is meant, all if it is: and halves, if none.
    assert expected.accuracy == pytest.approx(1 - crossed / 2, abs=0.02)
    assert expected.interval[0] < 1 - crossed + 0.05
    assert expected.interval[1] > 0.95


def test_answered_rows_are_known_to_be_right():
    _, state = world(rows=200)
    labels = state.found[0].target.argmax(axis=1)
    plain = forecast(labels, state)
    assert plain.accuracy == pytest.approx(plain.unaided)
    rows = np.flatnonzero((np.stack([each.target.argmax(axis=1) for each in state.found]) != labels).any(0))
    state.answers = {int(row): int(labels[row]) for row in rows[:10]}
    some = forecast(labels, state)
    assert some.unaided == plain.unaided
    apart = [accuracies(state, place)[1] for place in (0, 1)]
    # Of a crossed row either hypothesis says the other's class, and chance says each.
    shares = np.append(state.beliefs.held, state.beliefs.none)
    doubt = 1 - shares @ [apart[0], 1 - apart[1], 0.5]
    assert some.accuracy == pytest.approx(plain.accuracy + 10 / 200 * doubt, abs=0.005)
    state.answers = {row: int(code) for row, code in enumerate(labels)}
    every = forecast(labels, state)
    assert (every.accuracy, every.interval) == (1, (1, 1))


def test_calibrated_probabilities_are_as_sure_as_is_expected_and_change_no_label():
    _, state = world(wrong=0.1)
    surely(state, 0)
    ordinary, apart = accuracies(state, 0)
    shares = state.found[0].target.astype(np.float64) ** 3
    shares /= shares.sum(axis=1, keepdims=True)
    got = calibrated(shares, state)
    said = np.stack([reading.target.argmax(axis=1) for reading in state.readings])
    rows = (said != said[0]).any(axis=0)
    np.testing.assert_allclose(got.sum(axis=1), 1)
    assert got[rows].max(axis=1).mean() == pytest.approx(apart, abs=0.005)
    assert got[~rows].max(axis=1).mean() == pytest.approx(ordinary, abs=0.005)
    np.testing.assert_array_equal(got.argmax(axis=1), shares.argmax(axis=1))


def test_where_no_reading_is_plausible_nothing_between_chance_and_its_word_is_excluded():
    said = np.arange(400) % 4
    shares = (0.96 * np.eye(4)[said] + 0.01).astype(np.float32)
    reading = Reading(shares, shares, 0.02, "alone", torn=0.5)
    found = hypotheses([reading])
    beliefs = believe(found, {})
    assert beliefs.none > 0.9
    doubted = forecast(said, Dialogue([reading], found, beliefs))
    assert doubted.interval[0] < 0.3
    assert doubted.interval[1] > 0.95
    assert 0.55 < doubted.accuracy < 0.7
