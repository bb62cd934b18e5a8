"""Beliefs against Bayes' rule by hand, groups against what they were made of."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from headwater.heads.ambiguity.beliefs import (
    LEAST_ERROR,
    NONE_PRIOR,
    Beliefs,
    Hypothesis,
    believe,
    consensus,
    disagreement,
    disputed,
    hypotheses,
    prior,
)
from headwater.heads.ambiguity.problem import Reading


def reading_of(said, error=0.02, sure=0.9, classes=2):
    shares = (sure * np.eye(classes)[said] + (1 - sure) / classes).astype(np.float32)
    return Reading(shares, shares, error, "made up")


def hypothesis_of(said, error, members=(0,), classes=2):
    shares = np.eye(classes, dtype=np.float32)[said]
    return Hypothesis("A", members, shares, shares, error)


def test_beliefs_are_bayes_rule_by_hand():
    left, right = hypothesis_of([0, 0], 0.1, (0, 1, 2)), hypothesis_of([1, 0], 0.2, (3,))
    none = NONE_PRIOR
    shares = [
        (1 - none) * 0.75 * 0.05 * 0.95,  # 0.1 spread over two classes: wrong with 0.05
        (1 - none) * 0.25 * 0.90 * 0.90,
        none * 0.25,
    ]
    got = believe([left, right], {0: 1, 1: 0})
    np.testing.assert_allclose([*got.held, got.none], np.array(shares) / sum(shares), rtol=1e-9)
    assert got.best == 1


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 3), rows=st.integers(1, 5))
def test_beliefs_after_all_answers_do_not_depend_on_their_order(seed, classes, rows):
    random = np.random.default_rng(seed)
    found = [hypothesis_of(random.integers(0, classes, rows), 0.1, classes=classes) for _ in range(3)]
    codes = random.integers(0, classes, rows)
    answers = {item: int(codes[item]) for item in random.permutation(rows)}
    at_once = believe(found, answers)
    start = prior(found)
    for item, code in answers.items():
        after = believe(found, {item: code}, start)
        start = np.append(after.held, after.none)
    np.testing.assert_allclose(start, [*at_once.held, at_once.none], atol=1e-12)
    assert start.sum() == pytest.approx(1)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 3), rows=st.integers(1, 4))
def test_fit_is_the_probability_of_answers_no_likelier(seed, classes, rows):
    random = np.random.default_rng(seed)
    found = [
        hypothesis_of(random.integers(0, classes, rows), float(random.uniform(0.02, 0.4)), classes=classes)
    ]
    codes = random.integers(0, classes, rows)
    expects = found[0].expects()
    series = list(product(range(classes), repeat=rows))
    given_ = np.array([np.prod([expects[r, c] for r, c in enumerate(each)]) for each in series])
    seen = np.prod([expects[r, c] for r, c in enumerate(codes)])
    got = believe(found, dict(enumerate(codes.tolist()))).fit
    assert got == pytest.approx(given_[given_ <= seen * (1 + 1e-6)].sum(), abs=1e-6)


@pytest.mark.parametrize(("classes", "wrong"), [(2, 2), (2, 5), (10, 8)])
def test_fit_of_more_answers_than_can_be_gone_through_is_the_binomial_tail(classes, wrong):
    rows, error = 60, 0.1
    found = [hypothesis_of([0] * rows, error, classes=classes)]
    answers = {item: int(item < wrong) for item in range(rows)}
    missed = error * (classes - 1) / classes
    assert believe(found, answers).fit == pytest.approx(binom.sf(wrong - 1, rows, missed), abs=0.012)
    right = believe(found, dict.fromkeys(range(rows), 0))
    assert right.fit == pytest.approx(1)


def test_answers_that_no_reading_gives_are_noticed():
    left, right = hypothesis_of([0, 0, 1, 1], 0.04), hypothesis_of([1, 1, 0, 0], 0.04)
    crossed = believe([left, right], {0: 0, 1: 1, 2: 1, 3: 0})
    fitting = believe([left, right], {0: 0, 1: 0, 2: 1, 3: 1})
    assert crossed.none > 0.85
    assert crossed.fit < 0.01
    assert fitting.none < 0.05
    assert fitting.fit > 0.5


def test_like_minded_readings_are_one_hypothesis():
    random = np.random.default_rng(0)
    left, right = random.integers(0, 2, (2, 400))
    readings = []
    for place in range(7):
        said = (left if place in {0, 2, 5} else right).copy()
        said[random.random(400) < 0.03] ^= 1
        readings.append(reading_of(said))
    found = hypotheses(readings)
    assert [each.members for each in found] == [(1, 3, 4, 6), (0, 2, 5)]
    assert [each.name for each in found] == ["A", "B"]
    truth = right[disputed(readings)] == found[0].target.argmax(axis=1)[disputed(readings)]
    assert truth.mean() > 0.97


def test_disagreement_is_counted_on_disputed_rows_alone():
    one, two = np.zeros(100, dtype=int), np.zeros(100, dtype=int)
    two[:10] = 1
    three = two.copy()
    three[:5] = 0
    readings = [reading_of(each) for each in (one, two, three)]
    assert disputed(readings).sum() == 10
    np.testing.assert_allclose(disagreement(readings), [[0, 1, 0.5], [1, 0, 0.5], [0.5, 0.5, 0]], atol=1e-6)


def test_readings_that_all_say_the_same_are_one():
    said = np.array([0, 1, 1, 0])
    (only,) = hypotheses([reading_of(said), reading_of(said)])
    assert only.members == (0, 1)


def test_a_hypothesis_whose_readings_differ_is_taken_to_err_as_often():
    random = np.random.default_rng(1)
    base = random.integers(0, 2, 500)
    noisy = [np.where(random.random(500) < 0.1, 1 - base, base) for _ in range(5)]
    found = hypotheses([reading_of(each, error=0.0) for each in noisy] + [reading_of(1 - base, error=0.0)])
    assert 0.05 < found[0].error < 0.4
    assert found[1].error == LEAST_ERROR


def test_agreeing_with_an_answer_that_one_was_trained_on_is_no_evidence():
    said = np.array([0, 1, 0, 1])
    readings = [reading_of(said), reading_of(1 - said)]
    knows = [frozenset({0, 1}), frozenset[int]()]
    found = hypotheses(readings, knows=knows)
    told = next(each for each in found if each.members == (0,))
    np.testing.assert_allclose(told.expected([0, 1]), 0.5)
    np.testing.assert_allclose(told.expected([2])[0], told.expects()[2])
    trained = believe(found, {0: 0, 1: 1})
    blind = believe(hypotheses(readings), {0: 0, 1: 1})
    assert trained.held[found.index(told)] < blind.held[found.index(told)]
    assert trained.none > blind.none + 0.05


def test_members_that_did_not_know_an_answer_speak_for_those_that_did():
    said = np.array([0, 1, 0, 1])
    readings = [reading_of(said), reading_of(said), reading_of(1 - said)]
    found = hypotheses(readings, knows=[frozenset({0}), frozenset(), frozenset()])
    np.testing.assert_allclose(found[0].expected([0])[0], found[0].expects()[0])


def test_a_hypothesis_follows_its_better_members():
    """Two that err rarely outweigh four that err often, each on its own."""
    random = np.random.default_rng(2)
    base = random.integers(0, 2, 2000)
    rates = (0.01, 0.01, 0.22, 0.22, 0.22, 0.22)
    mine = [reading_of(np.where(random.random(2000) < rate, 1 - base, base)) for rate in rates]
    found = hypotheses([*mine, reading_of(1 - base)], apart=0.5)
    right = (found[0].target.argmax(axis=1) == base).mean()
    plain = (np.mean([each.target for each in mine], axis=0).argmax(axis=1) == base).mean()
    assert right > 0.985 > plain


def test_measured_readings_count_by_their_precision():
    right, wrong = np.array([0, 1, 0, 1]), np.array([1, 1, 0, 0])
    readings = [
        replace(reading_of(right), squared_error=0.004),
        replace(reading_of(wrong), squared_error=0.02),
        replace(reading_of(wrong), squared_error=0.05),
    ]
    shares = consensus(readings, np.ones(4, dtype=bool))
    np.testing.assert_allclose(shares, np.array([250, 50, 20]) / 320)
    (found,) = hypotheses(readings, apart=1.5)
    np.testing.assert_array_equal(found.target.argmax(axis=1), right)


def test_a_reading_that_cuts_through_rows_is_less_plausible():
    said = np.array([0, 0, 1, 1])
    clean, torn = reading_of(said), replace(reading_of(1 - said), torn=0.1)
    first, second = hypotheses([clean, torn])
    assert (first.plausible, second.plausible) == pytest.approx((1, np.exp(-2)))


def test_none_is_believed_more_where_nothing_is_plausible():
    said = np.array([0, 0, 1, 1])
    for torn in (0.0, 0.05, 0.2):
        readings = [replace(reading_of(each), torn=torn) for each in (said, 1 - said)]
        start = prior(hypotheses(readings))
        np.testing.assert_allclose(start[:2], (1 - NONE_PRIOR) * np.exp(-20 * torn) / 2)
        assert start.sum() == pytest.approx(1)


def test_shares_of_classes_count_unlabeled_rows_where_target_rows_are_few():
    even, half = np.arange(100) % 2, np.full(2, 0.5)
    one = reading_of(even, sure=0.98)
    for few in (100, 1):
        (found,) = hypotheses([replace(one, target=one.target[:few])], balance=half)
        assert found.plausible == pytest.approx(1, abs=0.01)
    skewed = replace(reading_of(0 * even, sure=0.98), target=one.target[:1])
    assert hypotheses([skewed], balance=half)[0].plausible < 0.01
    nothing = replace(skewed, unlabeled=one.target[:0])
    assert hypotheses([nothing], balance=half)[0].plausible == 1


def test_a_reading_that_cuts_through_rows_does_not_speak_for_one_that_does_not():
    random = np.random.default_rng(0)
    said = random.integers(0, 2, 500)
    clean = (0.9 * np.eye(2)[said] + 0.05).astype(np.float32)
    blurred = np.where(random.random(500) < 0.1, 1 - said, said)
    through = (0.2 * np.eye(2)[blurred] + 0.4).astype(np.float32)
    other = (0.9 * np.eye(2)[1 - said] + 0.05).astype(np.float32)
    readings = [Reading(clean, clean, 0.02, "clean"), Reading(other, other, 0.02, "other")]
    torn = [Reading(through, through, 0.02, "torn", torn=0.8)] * 2
    alone = next(each for each in hypotheses(readings) if each.members == (0,))
    beside = next(each for each in hypotheses([*readings, *torn]) if 0 in each.members)
    assert beside.members == (0,)
    assert beside.plausible == alone.plausible
    np.testing.assert_array_equal(beside.target, alone.target)
    (both,) = hypotheses(torn)  # of one mind and alike: neither is better
    assert both.members == (0, 1)


@pytest.mark.parametrize(
    ("held", "between", "best"),
    [
        ((0.06, 0.07), (False, True), 0),  # a few answers fit a mixture of meanings easily
        ((0.06, 0.07), (False, False), 1),
        ((0.005, 0.8), (False, True), 1),  # what is refuted is no choice
        ((0.2, 0.7), (True, True), 1),
        ((0.2, 0.3, 0.4), (False, False, True), 1),
    ],
)
def test_a_mixture_is_best_only_where_nothing_else_is_left(held, between, best):
    assert Beliefs(np.array(held), 1 - sum(held), 0.5, np.array(between)).best == best
    assert Beliefs(np.array(held), 1 - sum(held), 0.5).best == int(np.argmax(held))


def test_a_hypothesis_falls_between_if_all_its_readings_do():
    said = np.random.default_rng(0).integers(0, 2, 300)
    shares = (0.9 * np.eye(2)[said] + 0.05).astype(np.float32)
    torn, clean = (Reading(shares, shares, 0.02, "made up", torn=each) for each in (0.02, 0.0))
    for readings, expected in (
        ([torn], True),
        ([clean], False),
        ([torn, clean], False),
        ([torn, torn], True),
    ):
        (found,) = hypotheses(readings)
        assert found.falls_between == expected
        assert believe([found], {}).falls_between.tolist() == [expected]
