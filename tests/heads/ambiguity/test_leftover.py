"""A second reading too faint to stand by itself: found where it was put, and not where rows only moved."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.heads.ambiguity.contradiction import contradiction
from headwater.heads.ambiguity.leftover import leftover

LABELED, REST = 400, 1600


def faint(change: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of a plain feature and a faint one, labels, and the cells of all rows."""
    random = np.random.default_rng(seed)
    cells = np.repeat(random.integers(0, 2, LABELED + REST)[:, None], 2, axis=1)
    if change == "crossed":
        cells[LABELED:, 1] = random.integers(0, 2, REST)
    if change == "tell":
        cells[:, 1] = random.integers(0, 2, LABELED + REST)
    rows = random.standard_normal((LABELED + REST, 24))
    rows[:, 0] += 5.0 * cells[:, 0]
    rows[:, 1] += 2.0 * cells[:, 1]
    if change == "light":
        rows[LABELED:] += 2.0
    if change == "noise":
        rows[LABELED:] += 0.7 * random.standard_normal((REST, 24))
    if change == "weaker":
        # Half as far apart, and moved: what brighter light does.
        rows[LABELED:, :2] = 0.5 * rows[LABELED:, :2] + 5
    return rows.astype(np.float32), cells[:LABELED, 0].astype(np.int64), cells


def test_a_faint_feature_is_a_second_reading_of_crossed_rows() -> None:
    rows, labels, cells = faint("crossed")
    found = leftover(rows, labels)
    assert found is not None
    assert found.chance < 1e-6
    crossed = cells[LABELED:, 0] != cells[LABELED:, 1]
    assert found.rest.sum() > 0.1 * crossed.sum()
    assert crossed[found.rest].mean() > 0.75
    assert (found.first == cells[LABELED:, 0]).mean() > 0.99
    assert (found.second == cells[LABELED:, 1])[found.rest].mean() > 0.75
    assert (found.first != found.second).tolist() == found.rest.tolist()
    assert found.labeled.mean() < 0.06
    assert max(found.errors) < 0.06


def test_it_is_a_contradiction_where_no_two_readings_stand() -> None:
    rows, labels, _ = faint("crossed")
    found = contradiction({"rows": rows}, labels)
    assert found is not None
    assert found.chance < 1e-5
    assert found.balance > 0.8
    assert len(found.said) == len(found.fits) == 2


@pytest.mark.parametrize("change", ["none", "tell", "light", "noise", "weaker"])
def test_there_is_none_where_rows_are_alike_or_only_moved(change: str) -> None:
    rows, labels, _ = faint(change, 1)
    assert leftover(rows, labels) is None
