"""Measures against brute force over all answers, strategies against what they promise."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.heads.ambiguity import queries
from headwater.heads.ambiguity.queries import (
    choose,
    choose_batch,
    expected_information,
    joint_information,
    typicality,
)


def committee_of(seed, readings, rows, classes):
    random = np.random.default_rng(seed)
    return (
        random.dirichlet(np.full(classes, 0.4), (readings, rows)),
        random.dirichlet(np.ones(readings)),
    )


def entropy(shares):
    return -sum(p * np.log(p) for p in np.ravel(shares) if p > 0)


def brute_information(committee, beliefs, items):
    """H(beliefs) less the mean entropy of beliefs after every possible series of answers."""
    left = 0.0
    for answers in product(range(committee.shape[2]), repeat=len(items)):
        joint = beliefs.copy()
        for item, code in zip(items, answers, strict=True):
            joint = joint * committee[:, item, code]
        if joint.sum() > 0:
            left += joint.sum() * entropy(joint / joint.sum())
    return entropy(beliefs) - left


sizes = {
    "seed": st.integers(0, 10_000),
    "readings": st.integers(1, 5),
    "rows": st.integers(1, 6),
    "classes": st.integers(2, 4),
}


@settings(deadline=None, max_examples=60)
@given(**sizes)
def test_expected_information_is_what_going_through_all_answers_gives(seed, readings, rows, classes):
    committee, beliefs = committee_of(seed, readings, rows, classes)
    expected = [brute_information(committee, beliefs, [row]) for row in range(rows)]
    np.testing.assert_allclose(expected_information(committee, beliefs), expected, atol=1e-10)


@settings(deadline=None, max_examples=40)
@given(**sizes)
def test_joint_information_is_what_going_through_all_series_of_answers_gives(seed, readings, rows, classes):
    committee, beliefs = committee_of(seed, readings, rows, classes)
    items = list(range(min(rows, 3)))
    expected = brute_information(committee, beliefs, items)
    assert joint_information(committee, beliefs, items) == pytest.approx(expected, abs=1e-9)


def test_information_of_many_answers_is_estimated_where_going_through_all_would_be_too_much():
    """A fifth item makes 11^5 series; four copies of the other items' answers leave hardly any doubt."""
    committee, beliefs = committee_of(4, 3, 5, 11)
    exact = brute_information(committee, beliefs, [0, 1, 2])
    got = joint_information(committee, beliefs, [0, 1, 2, 3, 4])
    assert exact < got <= entropy(beliefs) + 1e-9
    sure = np.repeat(0.999 * np.eye(11)[[[0], [3], [7]]] + 0.001 / 11, 5, axis=1)
    assert joint_information(sure, beliefs, list(range(5))) == pytest.approx(entropy(beliefs), abs=0.02)
    none = np.repeat(committee[:1], 3, axis=0)
    assert joint_information(none, beliefs, list(range(5))) == pytest.approx(0, abs=1e-9)


def test_information_is_nothing_where_all_say_the_same_however_unsure_they_are():
    committee = np.full((3, 1, 2), 0.5)
    np.testing.assert_allclose(expected_information(committee, np.full(3, 1 / 3)), 0, atol=1e-12)


def test_the_middle_of_a_cluster_is_asked_about_and_never_an_outlier():
    random = np.random.default_rng(0)
    features = np.concatenate([random.normal(0, 1, (60, 3)), [[40.0, 40, 40]]]).astype(np.float32)
    scores = np.ones(61)
    first = choose(scores, features)
    assert np.linalg.norm(features[first]) < 1.5
    assert typicality(features, np.arange(61)).argmin() == 60


def test_the_better_score_wins_over_the_more_typical_row():
    features = np.zeros((10, 2), dtype=np.float32)
    features[3] = 100
    scores = np.full(10, 0.1)
    scores[3] = 0.6
    assert choose(scores, features) == 3


def test_no_row_is_asked_twice_and_none_where_nothing_is_to_be_learned():
    features = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
    asked = []
    for _ in range(5):
        asked.append(choose(np.ones(5), features, asked))
    assert sorted(asked) == [0, 1, 2, 3, 4]
    assert choose(np.ones(5), features, asked) is None
    assert choose(np.zeros(5), features) is None


def test_a_permutation_of_rows_changes_only_their_numbers():
    random = np.random.default_rng(2)
    features = random.normal(size=(40, 4)).astype(np.float32)
    scores = np.repeat([0.2, 0.7], 20)
    order = random.permutation(40)
    assert order[choose(scores[order], features[order])] == choose(scores, features)


def test_a_batch_splits_all_hypotheses_where_one_by_one_the_best_row_would_be_asked_thrice():
    """Four hypotheses by two bits: 20 rows tell the first bit, 2 the second; two rows ask about both."""
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    said = np.concatenate([np.repeat(bits[:, :1], 20, axis=1), np.repeat(bits[:, 1:], 2, axis=1)], axis=1)
    committee = 0.98 * np.eye(2)[said] + 0.01
    features = np.random.default_rng(3).normal(size=(22, 2)).astype(np.float32)
    beliefs = np.full(4, 0.25)
    batch = choose_batch(committee, beliefs, features, 2)
    assert len(batch) == 2
    assert {item < 20 for item in batch} == {True, False}
    pairs = [joint_information(committee, beliefs, [a, b]) for a in range(22) for b in range(a)]
    assert joint_information(committee, beliefs, batch) == pytest.approx(max(pairs))
    assert not set(choose_batch(committee, beliefs, features, 3, asked=batch)) & set(batch)


def test_similarity_is_measured_of_some_rows_where_many_are_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def counted(features: np.ndarray, among: np.ndarray, seed: int = 0) -> np.ndarray:
        measured.append(len(among))
        return typicality(features, among, seed)

    monkeypatch.setattr(queries, "typicality", counted)
    features = np.random.default_rng(0).normal(size=(9000, 2)).astype(np.float32)
    scores = np.full(9000, 0.5)
    scores[4000:] = 0.1
    chosen = choose(scores[:], features)
    assert chosen is not None
    assert chosen < 4000
    scores[:] = 0.5
    chosen = choose(scores, features)
    assert chosen is not None
    assert np.linalg.norm(features[chosen]) < 0.5
    said = np.zeros((2, 9000, 2))
    said[0, :, 0] = said[1, :, 1] = 1
    choose_batch(said, np.array([0.5, 0.5]), features, 3)
    assert measured == [4000, 5000, 5000]
