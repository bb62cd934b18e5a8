"""The labeled rows' own head on worlds where it suffices, and on some where it does not."""

import numpy as np

from headwater.heads.ambiguity.plain_reading import labeled_only
from headwater.heads.ambiguity.problem import Problem
from headwater.heads.ambiguity.solve import solve


def world(correlated, *, classes=3, seed=0, rows=(240, 400, 300)):
    """Two features in a few columns each; in labeled rows they are equal, or as independent as elsewhere."""
    random = np.random.default_rng(seed)
    parts, cells = [], []
    for number, count in enumerate(rows):
        first = random.integers(0, classes, count)
        second = first if correlated and number == 0 else random.integers(0, classes, count)
        columns = np.column_stack([3 * np.eye(classes)[first], 4 * np.eye(classes)[second]])
        wide = np.column_stack([columns, np.zeros((count, 8))]) + 0.5 * random.normal(
            size=(count, 2 * classes + 8)
        )
        parts.append(wide.astype(np.float32))
        cells.append(np.stack([first, second], axis=1))
    problem = Problem(parts[0], cells[0][:, 0], parts[1], parts[2], tuple(range(classes)))
    return problem, np.concatenate(parts), cells[2]


def test_rows_like_the_labeled_ones_are_not_torn_and_crossed_ones_are():
    problem, rows, cells = world(correlated=False)
    plain = labeled_only(problem, rows)
    assert plain.torn < 0.01
    assert plain.error == 0
    assert (plain.target.argmax(axis=1) == cells[:, 0]).all()
    assert plain.unlabeled.shape == (400, 3)
    assert labeled_only(*world(correlated=True)[:2]).torn > 0.1


def test_the_error_is_that_on_rows_kept_apart():
    problem, rows, _ = world(correlated=False)
    random = np.random.default_rng(1)
    guessed = Problem(
        problem.labeled, random.integers(0, 3, 240), problem.unlabeled, problem.target, problem.classes
    )
    assert abs(labeled_only(guessed, rows).error - 2 / 3) < 0.12


def test_labels_that_tell_are_left_to_the_labeled_rows_head():
    for seed in range(3):
        problem, rows, cells = world(correlated=False, seed=seed)
        found = solve(problem, lambda question, meant=cells[:, 0]: int(meant[question.item]), seed=seed)
        plain = labeled_only(problem, rows).target.argmax(axis=1)
        assert found.settled
        assert (found.labels == cells[:, 0]).mean() >= (plain == cells[:, 0]).mean() - 0.005


def test_of_a_class_of_one_labeled_row_nothing_is_measured():
    problem, rows, cells = world(correlated=False, classes=2, rows=(60, 120, 80))
    kept = np.concatenate([[np.flatnonzero(problem.labels == 0)[0]], np.flatnonzero(problem.labels == 1)])
    few = Problem(problem.labeled[kept], problem.labels[kept], problem.unlabeled, problem.target, (0, 1))
    plain = labeled_only(few, np.concatenate([rows[kept], rows[60:]]))
    assert np.isnan(plain.error)
    assert plain.torn == 0
    assert plain.target.shape == (80, 2)
    found = solve(few, lambda question: int(cells[question.item, 0]))
    assert all(found.labels[item] == cells[item, 0] for item in found.answers)
