"""The whole way on small made-up problems whose truth is known."""

import time
from dataclasses import replace

import numpy as np
import pytest

from headwater.errors import HeadwaterError
from headwater.heads.ambiguity.problem import Problem
from headwater.heads.ambiguity.solve import solve


def made(seed=0, mix_rate=0.5, target=100):
    """Images of two lines that each say one feature, and the target's cells."""
    random = np.random.default_rng(seed)
    centres = 2.5 * random.standard_normal((2, 2, 4))

    def rows(count, rate):
        first = random.integers(0, 2, count)
        second = np.where(random.random(count) < rate, 1 - first, first)
        x = np.concatenate([centres[0, first], centres[1, second]], axis=1)
        x = x + 0.4 * random.standard_normal(x.shape)
        return x.astype(np.float32).reshape(count, 1, 2, 4), np.stack([first, second], axis=1)

    (labeled, cells), (unlabeled, _), (wanted, theirs) = (
        rows(150, 0),
        rows(300, mix_rate),
        rows(target, mix_rate),
    )
    return Problem(labeled, cells[:, 0], unlabeled, wanted, (0, 1)), theirs


class Counting:
    def __init__(self, truth, fails_after=None):
        self.truth, self.fails_after, self.asked = truth, fails_after, []

    def __call__(self, question):
        if len(self.asked) == self.fails_after:
            raise HeadwaterError("the line is dead")
        self.asked.append(question.item)
        return int(self.truth[question.item])


@pytest.mark.parametrize("meant", [0, 1])
def test_a_plain_problem_is_settled(meant):
    problem, cells = made()
    ask = Counting(cells[:, meant])
    resolution = solve(problem, ask)
    assert (resolution.labels == cells[:, meant]).mean() > 0.97
    assert resolution.settled
    assert len(ask.asked) == len(set(ask.asked)) <= 5
    assert resolution.answers == {item: int(cells[item, meant]) for item in ask.asked}
    np.testing.assert_allclose(resolution.probabilities.sum(axis=1), 1, atol=1e-6)
    assert resolution.interval[0] <= resolution.expected_accuracy <= resolution.interval[1]
    assert resolution.mix_rate == pytest.approx(0.5, abs=0.15)


def test_rows_chosen_at_once_settle_it_too_and_do_not_depend_on_answers():
    problem, cells = made()
    asked = []
    for meant in (0, 1):
        ask = Counting(cells[:, meant])
        resolution = solve(problem, ask, at_once=True)
        assert (resolution.labels == cells[:, meant]).mean() > 0.97
        assert resolution.settled
        asked.append(ask.asked)
    assert asked[0] == asked[1]
    assert len(asked[0]) == 5


def test_a_budget_of_nothing_asks_nothing_and_is_not_settled():
    problem, cells = made()
    ask = Counting(cells[:, 0])
    resolution = solve(problem, ask, budget=0)
    assert not ask.asked
    assert not resolution.settled
    assert resolution.expected_accuracy < 0.9


def test_an_oracle_that_fails_midway_is_said_and_its_answers_are_used():
    problem, cells = made()
    ask = Counting(cells[:, 1], fails_after=2)
    resolution = solve(problem, ask)
    assert len(resolution.exchanges) == 2
    assert any("the line is dead" in sentence for sentence in resolution.sentences)
    assert (resolution.labels == cells[:, 1]).mean() > 0.95


def test_answers_by_coin_are_not_called_settled():
    problem, cells = made()
    # By turns what either feature says of crossed rows, which no reading explains.
    turns = []

    def ask(question):
        turns.append(question.item)
        return int(cells[question.item, len(turns) % 2])

    resolution = solve(problem, ask)
    assert not resolution.settled
    assert resolution.expected_accuracy < 0.9


def test_one_target_row_and_an_unlabeled_set_like_the_labeled_one_come_out():
    problem, cells = made(target=1)
    one = solve(problem, Counting(cells[:, 0]))
    assert one.labels.shape == (1,)
    same = Problem(problem.labeled, problem.labels, problem.labeled, problem.labeled, (0, 1))
    resolution = solve(same, Counting(problem.labels))
    assert (resolution.labels == problem.labels).mean() > 0.97


@pytest.mark.parametrize("meant", [0, 1])
def test_a_single_target_row_that_was_answered_is_known(meant):
    problem, cells = made(target=20)
    row = int(np.flatnonzero(cells[:, 0] != cells[:, 1])[0])
    problem = replace(problem, target=problem.target[[row]])
    code = int(cells[row, meant])
    resolution = solve(problem, lambda question: code)
    assert resolution.answers == {0: code}
    assert resolution.labels.tolist() == [code]
    assert (resolution.expected_accuracy, resolution.interval) == (1, (1, 1))
    # The reading that says so is believed, but one answer may be wrong.
    assert max(resolution.beliefs.values()) > 0.5 > resolution.unexplained
    assert not resolution.settled
    assert "every target row was answered" in resolution.sentences[0]


@pytest.mark.parametrize("meant", [0, 1])
def test_vectors_that_no_gap_parts_are_classed_by_either_coordinate(meant):
    random = np.random.default_rng(3)
    codes = np.arange(1100)[:, None] // [1, 2] % 2
    codes[:300, 1] = codes[:300, 0]
    points = (random.random((1100, 2)) * (2 * codes - 1)).astype(np.float32)
    problem = Problem(points[:300], codes[:300, meant], points[300:800], points[800:], (0, 1))
    resolution = solve(problem, Counting(codes[800:, meant]))
    assert resolution.settled
    assert (resolution.labels == codes[800:, meant]).mean() > 0.97
    said = resolution.before.argmax(axis=1)
    assert (said == codes[800:, meant]).mean() < 0.85


@pytest.mark.parametrize(("classes", "meant"), [(5, 0), (10, 1), (20, 0), (20, 1)])
def test_vectors_of_many_classes_and_few_labels_are_settled_in_seconds(classes, meant):
    """Ties of sets of heads grow with the fourth power of the classes, and never ended from ten on."""
    random = np.random.default_rng(classes)
    centres = 3 * np.linalg.qr(random.normal(size=(2 * classes + 4, 2 * classes)))[0].T
    n, rest = 10 * classes, 1500
    one = np.arange(n + rest) % classes
    crossed = (np.arange(n + rest) >= n) & (random.random(n + rest) < 0.5)
    other = np.where(crossed, (one + random.integers(1, classes, n + rest)) % classes, one)
    x = centres[one] + centres[classes + other] + 0.5 * random.normal(size=(n + rest, centres.shape[1]))
    x, cells = x.astype(np.float32), np.stack([one, other], axis=1)
    problem = Problem(x[:n], cells[:n, meant], x[n:-500], x[-500:], tuple(range(classes)))
    start = time.process_time()
    resolution = solve(problem, Counting(cells[-500:, meant]))
    assert time.process_time() - start < 30
    assert resolution.settled
    assert (resolution.labels == cells[-500:, meant]).mean() > 0.97
    assert (resolution.before.argmax(axis=1) == cells[-500:, meant]).mean() < 0.9


def test_labeled_vectors_that_are_all_the_same_end_in_a_resolution():
    random = np.random.default_rng(0)
    problem = Problem(
        np.ones((20, 3), dtype=np.float32),
        np.arange(20) % 2,
        random.normal(size=(60, 3)).astype(np.float32),
        random.normal(size=(40, 3)).astype(np.float32),
        (0, 1),
    )
    truth = (problem.target[:, 0] > 0).astype(np.int64)
    resolution = solve(problem, Counting(truth))
    assert np.isfinite(resolution.probabilities).all()
    assert set(resolution.labels) <= {0, 1}
