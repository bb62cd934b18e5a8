"""Rows of which one feature is told by a line and the other, which is meant, by none."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from headwater.heads.ambiguity.crossed_readings import crossed_readings
from headwater.heads.ambiguity.problem import Problem
from headwater.heads.ambiguity.solve import solve

SIZES = 200, 800, 400  # labeled, unlabeled and target rows


def sums(seed=0, classes=(0, 1), mix_rate=0.5):
    """Rows at (0, 0), (0, 1), (1, 0), (1, -1) by two features, in twelve dimensions; labeled ones by chance
    have both features alike.
    """
    random = np.random.default_rng(seed)
    cells = random.integers(0, 2, (sum(SIZES), 2))
    is_crossed = random.random(len(cells)) < mix_rate
    is_crossed[: SIZES[0]] = False
    cells[:, 1] = cells[:, 0] ^ is_crossed
    first, second = cells.T
    rows = random.normal(0, 1, (len(cells), 12))
    rows[:, 0] += 14 * first
    rows[:, 1] += 7 * np.where(first == 0, second, -second)
    images = np.zeros((len(cells), 1, 2, 2), dtype=np.float32)  # whose values nobody looks at
    n, known = SIZES[0], SIZES[0] + SIZES[1]
    problem = Problem(images[:n], first[:n], images[n:known], images[known:], classes)
    return problem, rows.astype(np.float32), cells


@pytest.mark.parametrize("mix_rate", [0.2, 0.5, 0.9])
def test_what_differs_from_a_reading_within_its_classes_is_found(mix_rate):
    """However many that are: half of them is but where the search begins."""
    problem, rows, cells = sums(mix_rate=mix_rate)
    (found,) = crossed_readings(problem, {"rows": rows}, cells[SIZES[0] :, 0])
    said = np.concatenate([found.unlabeled, found.target]).argmax(axis=1)
    assert (said == cells[SIZES[0] :, 1]).mean() > 0.97
    assert found.error < 0.03
    assert found.is_nonlinear


def test_what_is_found_is_told_by_no_line():
    _, rows, cells = sums()
    assert LogisticRegression().fit(rows, cells[:, 1]).score(rows, cells[:, 1]) < 0.9


def test_where_nothing_is_crossed_nothing_differs():
    problem, rows, cells = sums()
    first = cells[:, 0]
    rows[:, 1] -= 7 * np.where(first == 0, cells[:, 1], -cells[:, 1])
    assert crossed_readings(problem, {"rows": rows}, first[SIZES[0] :]) == []


def test_of_further_classes_or_of_one_alone_nothing_is_said():
    problem, rows, cells = sums(classes=(0, 1, 2))
    assert crossed_readings(problem, {"rows": rows}, cells[SIZES[0] :, 0]) == []
    problem, rows, cells = sums()
    assert crossed_readings(problem, {"rows": rows}, np.zeros(sum(SIZES[1:]), dtype=np.int64)) == []


@pytest.mark.parametrize("meant", [0, 1])
def test_a_solve_goes_on_to_what_no_line_tells(meant):
    problem, rows, cells = sums(3)
    truth = cells[-SIZES[2] :, meant]
    found = solve(problem, lambda question: int(truth[question.item]), features=rows)
    assert (found.labels == truth).mean() > 0.97
    assert found.expected_accuracy > 0.9
    assert (found.head is None) == bool(meant)
