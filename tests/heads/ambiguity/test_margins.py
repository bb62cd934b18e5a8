"""Margins against brute force, and the ridge head against leaving rows out one by one."""

import numpy as np

from headwater.heads.ambiguity.margins import leads, ridge_scores, torn_share


def test_leads_are_the_largest_less_the_next():
    scores = np.array([[0.5, 0.1, 0.4], [0.2, 0.9, 0.3]])
    np.testing.assert_allclose(leads(scores), [0.1, 0.6])
    assert torn_share(scores) == 0.5


def test_fixed_rows_are_judged_by_the_head_of_all_others_of_them():
    random = np.random.default_rng(0)
    rows = random.normal(size=(40, 70)).astype(np.float32)
    fixed, codes = np.arange(30), random.integers(0, 3, 30)
    found = ridge_scores(rows, fixed, codes)
    x = rows[:, :64].astype(float) - rows[:30, :64].astype(float).mean(axis=0)
    x = np.column_stack([x, np.full(40, np.sqrt((x[:30] ** 2).mean()))])
    penalty = 0.01 * np.trace(x[:30].T @ x[:30]) / 65 * np.eye(65)
    for row in (0, 7, 29):
        left = np.delete(fixed, row)
        head = np.linalg.solve(x[left].T @ x[left] + penalty, x[left].T @ np.eye(3)[codes[left]])
        np.testing.assert_allclose(found[row], x[row] @ head, atol=1e-8)
    head = np.linalg.solve(x[:30].T @ x[:30] + penalty, x[:30].T @ np.eye(3)[codes])
    np.testing.assert_allclose(found[30:], x[30:] @ head, atol=1e-8)
