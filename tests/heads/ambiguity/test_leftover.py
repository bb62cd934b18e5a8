"""A second reading too faint to stand by itself: found where it was put, not where rows moved or are new."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.hackathon42.new_sorts import CHANGES, with_new_sorts
from headwater.heads.ambiguity.contradiction import contradiction
from headwater.heads.ambiguity.feature_rows import leading
from headwater.heads.ambiguity.leftover import _share_explained, leftover

LABELED, REST = 400, 1600
SEEDS = 8


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
    assert found.p_value < 1e-6
    crossed = cells[LABELED:, 0] != cells[LABELED:, 1]
    assert found.rest.sum() > 0.1 * crossed.sum()
    assert crossed[found.rest].mean() > 0.75
    assert (found.first == cells[LABELED:, 0]).mean() > 0.99
    assert (found.second == cells[LABELED:, 1])[found.rest].mean() > 0.75
    assert (found.first != found.second).tolist() == found.rest.tolist()
    assert found.labeled.mean() < 0.06
    assert found.errors[0] < 0.02
    # Bayes' error of classes two standard deviations apart is 0.16.
    assert 0.13 < found.errors[1] < 0.25


@pytest.mark.parametrize("odd", [0, 2])
def test_a_few_rows_of_a_class_of_their_own_do_not_silence_it(odd: int) -> None:
    rows, labels, _ = faint("crossed")
    plain = leftover(rows, labels)
    few = rows[LABELED : LABELED + 5]
    codes = np.concatenate([np.full(5, odd), np.delete(np.arange(3), odd)[labels]])
    found = leftover(np.concatenate([few, rows]), codes)
    assert plain is not None
    assert found is not None
    assert found.p_value == plain.p_value
    assert not found.labeled[:5].any()
    assert found.labeled[5:].tolist() == plain.labeled.tolist()
    assert found.rest.tolist() == plain.rest.tolist()
    for mine, theirs in ((found.first, plain.first), (found.second, plain.second)):
        assert mine.tolist() == np.delete(np.arange(3), odd)[theirs].tolist()
    assert leftover(rows[:20], np.array([0] * 9 + [1])) is None


def test_crossed_rows_of_a_faint_feature_are_found_with_most_seeds() -> None:
    found = [leftover(*faint("crossed", seed)[:2], seed=seed) for seed in range(SEEDS)]
    assert sum(each is not None for each in found) >= SEEDS - 2


def test_new_sorts_of_rows_are_no_second_reading() -> None:
    """At most 1 alarm in 40, of readings that are left over and of those that stand by themselves."""
    alarms, tried = 0, 0
    for name in CHANGES:
        for seed in range(SEEDS):
            problem = with_new_sorts(name, seed).problem
            rows = leading(np.concatenate([problem.labeled, problem.unlabeled, problem.target]))
            alarms += leftover(rows, problem.labels, seed=seed) is not None
            tried += 1
            if seed < 2:
                opposed = contradiction({"rows": rows}, problem.labels, seed=seed)
                alarms += opposed is not None and opposed.p_value <= 0.05
                tried += 1
    assert alarms <= tried / 40


def test_a_mixture_explains_what_rows_of_another_class_add_and_not_what_is_new() -> None:
    random = np.random.default_rng(0)
    own, foreign = random.standard_normal(400), 2 + random.standard_normal(400)
    mixed = random.standard_normal(2000) + 2 * (np.arange(2000) % 2)
    assert _share_explained(own, foreign, mixed) == pytest.approx(1, abs=0.05)
    assert _share_explained(own, foreign, random.standard_normal(2000)) == 0
    # As many rows on the far side as on the side of the other class.
    assert _share_explained(own, foreign, random.standard_normal(2000) - 2 * (np.arange(2000) % 2)) < 0.05


def test_a_sample_is_looked_at_where_rows_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.heads.ambiguity.contradiction._REST", 1400)
    monkeypatch.setattr("headwater.heads.ambiguity.contradiction._LABELED", 350)
    rows, labels, cells = faint("crossed")
    found = contradiction({"rows": rows}, labels)
    assert found is not None
    assert found.looked_at.sum() == 1400
    assert not (found.rest & ~found.looked_at).any()
    assert len(found.said[0]) == found.rest.sum()
    assert len(found.labeled) == LABELED
    # Codes belong to the rows that they are given for.
    assert (cells[LABELED:, 0][found.rest] == found.said[0]).mean() > 0.9
    assert (cells[LABELED:, 0] != cells[LABELED:, 1])[found.rest].mean() > 0.75


def test_it_is_a_contradiction_where_no_two_readings_stand() -> None:
    rows, labels, _ = faint("crossed")
    found = contradiction({"rows": rows}, labels)
    assert found is not None
    assert found.p_value < 1e-5
    assert found.balance > 0.7
    assert len(found.said) == len(found.fits) == 2


@pytest.mark.parametrize("change", ["none", "tell", "light", "noise", "weaker"])
def test_there_is_none_where_rows_are_alike_or_only_moved(change: str) -> None:
    rows, labels, _ = faint(change, 1)
    assert leftover(rows, labels) is None
