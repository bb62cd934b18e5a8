"""Roles of tiles in random order are found where there are any, and each role's tiles give their reading."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from headwater.heads.ambiguity.kernel_readings import role_readings
from headwater.heads.ambiguity.roles import ROLES, by_role, have_roles, whole

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]


def _tiles(
    random: np.random.Generator, cells: Codes, swapped: NDArray[np.bool_], apart: float
) -> tuple[Floats, Floats]:
    """Tiles of two kinds, (rows, 2, dim), kinds in order and as shown; each kind shows its own feature."""
    ordered = random.standard_normal((len(cells), 2, 30)).astype(np.float32)
    ordered[:, 0, 0] += apart
    ordered[:, 1, 0] -= apart
    ordered[:, :, 1] += 4 * cells - 2  # both kinds show their feature along the same axis
    shown = np.where(swapped[:, None, None], ordered[:, ::-1], ordered)
    return ordered, shown


def _cells(random: np.random.Generator, labeled: int, others: int) -> Codes:
    cells = random.integers(0, 2, (labeled + others, 2))
    cells[:labeled, 1] = cells[:labeled, 0]
    return cells


def test_finds_roles_in_random_order_and_a_reading_by_each() -> None:
    random = np.random.default_rng(0)
    cells = _cells(random, 300, 900)
    _, shown = _tiles(random, cells, random.random(1200) < 0.5, 2.0)
    assert have_roles(shown)
    views = by_role(shown)
    kind = [int(views[name][:, 0].mean() < 0) for name in ROLES]
    assert sorted(kind) == [0, 1]
    readings = role_readings({"all": shown[:, 0], **views}, cells[:300, 0], 400)
    for reading, feature in zip(readings, kind, strict=True):
        assert reading.unlabeled.shape == (500, 2)
        np.testing.assert_allclose(reading.target.sum(axis=1), 1, atol=1e-5)
        right = reading.target.argmax(axis=1)[:, None] == cells[-400:]
        assert right[:, feature].mean() > 0.93
        assert right[:, 1 - feature].mean() < 0.6
        assert abs(reading.error - (1 - right[:, feature].mean())) < 0.04


@pytest.mark.parametrize("why", ["one kind", "in their places", "few"])
def test_says_nothing_where_there_are_no_roles_to_find(why: str) -> None:
    random = np.random.default_rng(1)
    count = 100 if why == "few" else 1000
    swapped = np.zeros(count, dtype=bool) if why == "in their places" else random.random(count) < 0.5
    _, shown = _tiles(random, _cells(random, 0, count), swapped, 0.0 if why == "one kind" else 2.0)
    assert by_role(shown) == {}
    assert not have_roles(shown)


def test_what_is_shown_again_and_again_is_kept_apart_as_a_whole() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 60)
    once = random.standard_normal((60, 40)).astype(np.float32)
    others = random.standard_normal((800, 40)).astype(np.float32)
    # The labels have nothing to do with what is seen, but copies of one thing have the same label.
    rows = np.repeat(once, 8, axis=0) + 0.02 * random.standard_normal((480, 40)).astype(np.float32)
    (reading,) = role_readings({ROLES[0]: np.concatenate([rows, others])}, np.repeat(labels, 8), 400)
    assert 0.3 < reading.error < 0.7
    many = np.concatenate([once, others])
    (few,) = role_readings({ROLES[0]: many}, (once[:, 0] > 0).astype(np.int64), 400)
    assert 0.02 < few.error < 0.4


def test_answers_count_as_labels_and_other_views_are_left_alone() -> None:
    random = np.random.default_rng(2)
    rows = random.standard_normal((60, 5)).astype(np.float32)
    rows[-1] = 6.0
    labels = (rows[:20, 0] > 0).astype(np.int64)
    views = {"all": rows, ROLES[0]: rows}
    (plain,) = role_readings(views, labels, 10)
    (told,) = role_readings(views, labels, 10, answers={9: 0})
    assert told.target[9, 0] > plain.target[9, 0]
    assert list(whole(views)) == ["all"]


@pytest.mark.parametrize("why", ["noisy target", "moved target"])
def test_targets_further_off_than_labeled_rows_do_not_make_these_one_kind(why: str) -> None:
    random = np.random.default_rng(4)
    rows = random.standard_normal((700, 10)).astype(np.float32)
    labels = (rows[:300, 0] > 0).astype(np.int64)
    if why == "noisy target":
        rows[:300, 1:] *= 0.1
    else:
        rows[300:, 1] += 12
    (reading,) = role_readings({ROLES[0]: rows}, labels, 400)
    assert reading.is_nonlinear
    assert np.isfinite(reading.target).all()
    assert reading.error < 0.15
