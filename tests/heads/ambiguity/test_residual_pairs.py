"""Pairs of residual heads on a world whose cells overlap, and their algebra by brute force."""

from __future__ import annotations

import numpy as np

from headwater.heads.ambiguity.residual_pairs import _fitted, _residual, residual_pair


def test_both_features_are_read_where_cells_overlap() -> None:
    random = np.random.default_rng(0)
    first = random.integers(0, 2, 4000)
    second = np.where((np.arange(4000) >= 1000) & (random.random(4000) < 0.5), 1 - first, first)
    rows = random.normal(size=(4000, 12)).astype(np.float32)
    rows[:, 0] += 2.0 * (2 * first - 1)
    rows[:, 1] += 1.3 * (2 * second - 1)  # nine in ten are right by this feature at best
    readings = residual_pair(rows, first[:1000], 1000)
    for truth, best in ((first, 0.95), (second, 0.87)):
        right = [(each.target.argmax(axis=1) == truth[-1000:]).mean() for each in readings]
        assert max(right) > best
        assert min(right) < 0.6
    assert readings[0].unlabeled.shape == (2000, 2)
    assert all(each.error < 0.15 for each in readings)


def test_rows_are_foretold_by_heads_that_have_not_seen_them() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(25, 3)).astype(np.float32)
    wanted = np.eye(2, dtype=np.float32)[random.integers(0, 2, 20)]
    scores, held_out = _fitted(rows, wanted)
    x = rows[:20].astype(np.float64) - rows[:20].mean(axis=0)
    # The centre and the penalty stay those of all rows; a head with an intercept loses the row itself.
    penalty = 0.1 * np.trace(x.T @ x) / 3
    design = np.column_stack([x, np.ones(20)])
    shrink = penalty * np.diag([1, 1, 1, 0])
    for row in range(20):
        left = np.delete(np.arange(20), row)
        solved = np.linalg.solve(design[left].T @ design[left] + shrink, design[left].T @ wanted[left])
        np.testing.assert_allclose(held_out[row], design[row] @ solved, atol=1e-4)
    assert scores.shape == (25, 2)


def test_a_residual_has_nothing_in_common_with_the_scores() -> None:
    random = np.random.default_rng(2)
    scores = random.normal(size=(60, 2)).astype(np.float32)
    rows = (scores @ random.normal(size=(2, 5)) + random.normal(size=(60, 5))).astype(np.float32)
    left = _residual(rows, scores, 10)[10:]
    shared = (scores[10:] - scores[10:].mean(axis=0)).T @ (left - left.mean(axis=0))
    np.testing.assert_allclose(shared, 0, atol=1e-3)
