"""Contradictions between readings where they were put, and chance where they were not."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.heads.ambiguity.contradiction import BALANCED, _balance, contradiction


def corners(cells: np.ndarray, seed: int) -> np.ndarray:
    """Rows of two features, three coordinates each."""
    noise = 0.5 * np.random.default_rng(seed).standard_normal((len(cells), 6))
    return (np.repeat(2.0 * cells - 1, 3, axis=1) + noise).astype(np.float32)


def test_rows_in_dispute_are_the_crossed_ones_and_readings_are_the_features() -> None:
    labels = np.arange(120) % 2
    rest = np.array([[0, 0], [1, 1], [0, 1], [1, 0]])[np.arange(400) % 4]
    cells = np.concatenate([np.stack([labels, labels], axis=1), rest])
    found = contradiction({"plane": corners(cells, 0)}, labels)
    assert found is not None
    assert found.p_value < 1e-6
    assert found.balance > 0.9
    assert found.labeled.mean() < 0.05
    crossed = rest[:, 0] != rest[:, 1]
    assert (found.rest == crossed).mean() > 0.95
    truth = rest[found.rest].T
    match = np.array([[(said == feature).mean() for feature in truth] for said in found.said[:2]])
    assert sorted(match.argmax(axis=1)) == [0, 1]
    assert match.max(axis=1).min() > 0.95


@pytest.mark.parametrize("odd", [0, 1, 2])
def test_an_odd_row_of_its_own_class_changes_nothing(odd: int) -> None:
    """Whichever its code is: readings are of the other classes then, under their own codes."""
    labels = np.arange(120) % 2
    rest = np.array([[0, 0], [1, 1], [0, 1], [1, 0]])[np.arange(400) % 4]
    rows = corners(np.concatenate([np.stack([labels, labels], axis=1), rest]), 0)
    plain = contradiction({"plane": rows}, labels)
    codes = np.append(np.delete(np.arange(3), odd)[labels], odd)
    found = contradiction({"plane": np.insert(rows, 120, 3.0, axis=0)}, codes)
    assert plain is not None
    assert found is not None
    assert found.p_value < 1e-6
    assert (found.rest == plain.rest).mean() > 0.97
    assert found.labeled.shape == (121,)
    assert set(np.unique(found.said)) == set(range(3)) - {odd}


def test_an_odd_row_makes_no_clear_labels_ambiguous() -> None:
    cells = np.repeat(np.arange(520) % 2, 2).reshape(-1, 2)
    rows = np.insert(corners(cells, 3), 120, [0, 0, 0, 1, 1, 1], axis=0)
    found = contradiction({"plane": rows}, np.append(cells[:120, 0], 2))
    assert found is None or found.p_value > 0.05


def test_chance_is_small_only_where_labeled_rows_show_no_dispute() -> None:
    # Labeled rows of all four cells, as often as others: the second feature is a matter of chance.
    cells = np.random.default_rng(1).integers(0, 2, (500, 2))
    found = contradiction({"plane": corners(cells, 1)}, cells[:120, 0])
    assert found is None or found.p_value > 0.05


def test_readings_of_a_square_are_its_sides_however_many_labels_pull_to_the_diagonal() -> None:
    # No cluster anywhere: a feature is the sign of a coordinate.
    random = np.random.default_rng(7)
    ours = random.random((300, 2))
    labels = np.arange(300) % 2
    rows = np.concatenate([np.where(labels[:, None] == 1, ours, -ours), random.uniform(-1, 1, (600, 2))])
    found = contradiction({"square": rows.astype(np.float32)}, labels)
    assert found is not None
    assert found.p_value < 1e-6
    crossed = rows[300:, 0] * rows[300:, 1] < 0
    assert crossed[found.rest].mean() > 0.95
    assert found.rest[crossed].mean() > 0.75


def test_rows_of_one_new_kind_are_no_contradiction() -> None:
    labels = np.arange(120) % 2
    rows = corners(np.stack([np.arange(520) % 2] * 2, axis=1), 2)
    new = np.concatenate([np.zeros(120), np.full(400, 5.0)])[:, None]
    found = contradiction({"new column": np.column_stack([rows, new]).astype(np.float32)}, labels)
    assert found is None


def test_too_few_rows_and_features_without_variance_say_nothing() -> None:
    assert contradiction({"none": np.ones((60, 3), np.float32)}, np.arange(20) % 2) is None
    assert contradiction({"few": corners(np.ones((9, 2)), 3)}, np.arange(4) % 2) is None


def test_readings_that_merely_swap_a_share_of_the_rows_are_balanced_by_it() -> None:
    first, second = np.array([0, 0, 0, 1]), np.array([1, 1, 1, 0])
    assert _balance(first, second) == 0.5 == BALANCED
    assert _balance(first, 1 - first[::-1]) == 0.5
    assert _balance(np.zeros(4, np.int64), np.ones(4, np.int64)) == 0
    assert _balance(np.array([0, 1]), np.array([1, 0])) == 1
