"""Clusters with medoid questions: how far clusters and five labels go without any readings.

Rows are over-clustered; clusters that labels never show are put into as many groups as may be asked about.
The target row in the middle of each group is asked about, its answer spread to the group, and a linear head
learns from all. Of asking about the largest such clusters, too, and of 12, 32 or 64 clusters, this served
clusters best on trials of five sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from headwater.heads.ambiguity.clustering import k_means, nearest
from headwater.heads.ambiguity.feature_rows import joined, leading
from headwater.heads.ambiguity.problem import Problem
from headwater.heads.ambiguity.unseen import grouped, unseen_clusters

Codes = NDArray[np.int64]
Floats = NDArray[np.float32]

CLUSTERS = 64
ROWS = 20  # of each cluster at least, on average
STRENGTH = 0.1  # of the head: scikit-learn's C


@dataclass(frozen=True)
class Spread:
    """Class codes of the target rows, (t,), and what was answered: target row → class code."""

    labels: Codes
    answers: Mapping[int, int]


def solve(
    problem: Problem,
    views: Mapping[str, Floats],
    ask: Callable[[int], int],
    *,
    budget: int,
    seed: int,
) -> Spread:
    """Ask about the middles of groups of unseen clusters; a logistic head on labeled and spread labels.

    `views` (n + m + t, d) are kinds of features of all rows; without any, rows are their own features. Target
    and unlabeled rows of clusters that labels do show stay without a label.
    """
    n, t = len(problem.labeled), len(problem.target)
    kinds = list(views.values()) or [_values(problem)]
    rows = joined([leading(each) for each in kinds])
    count = max(2, min(CLUSTERS, len(rows) // ROWS))
    codes = nearest(rows, k_means(rows, count, seed))
    labels = np.full(len(rows), -1, dtype=np.int64)
    labels[:n] = problem.labels
    answers: dict[int, int] = {}
    for group in grouped(rows, codes, unseen_clusters(codes, n, count), budget, seed):
        members = np.flatnonzero(np.isin(codes, group))
        targets = members[members >= len(rows) - t]
        if len(targets):
            apart = np.square(rows[targets] - rows[members].mean(axis=0)).sum(axis=1)
            middle = int(targets[apart.argmin()]) - (len(rows) - t)
            answers[middle] = ask(middle)
            labels[members[members >= n]] = answers[middle]
    features = np.column_stack([each / max(float(each.std()), 1e-6) for each in kinds])
    model = LogisticRegression(C=STRENGTH, max_iter=200).fit(features[labels >= 0], labels[labels >= 0])
    return Spread(np.asarray(model.predict(features[-t:]), dtype=np.int64), answers)


def _values(problem: Problem) -> Floats:
    parts = (problem.labeled, problem.unlabeled, problem.target)
    return np.concatenate([each.reshape(len(each), -1) for each in parts])
