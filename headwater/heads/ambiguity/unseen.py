"""Clusters of rows that labels never show, in a few groups; what their classes are is not asked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.clustering import k_means, nearest
from headwater.heads.ambiguity.feature_rows import joined, leading

Codes = NDArray[np.int64]
Floats = NDArray[np.float32]

_CLUSTERS = 64
_ROWS = 20  # of each cluster at least, on average
# A cluster is unseen where so few labeled rows come by chance this rarely, if labels showed half its share.
_RARE = 0.05
_SHOWN = 0.5
_GROUPS = 4  # so that there are few ways to class them


def unseen_groups(views: Mapping[str, Floats], labeled: int, seed: int = 0) -> Codes | None:
    """The group of each row that is not labeled, (m + t,), -1 for those of clusters that labels show.

    `views` (n + m + t, dim) by name have `labeled` rows first. None where labels show all clusters.
    """
    rows = joined([leading(each) for each in views.values()])
    count = max(2, min(_CLUSTERS, len(rows) // _ROWS))
    codes = nearest(rows, k_means(rows, count, seed))
    found = np.full(len(rows), -1, dtype=np.int64)
    groups = grouped(rows, codes, unseen_clusters(codes, labeled, count), _GROUPS, seed)
    for place, group in enumerate(groups):
        found[np.isin(codes, group)] = place
    return found[labeled:] if groups else None


def grouped(rows: Floats, codes: Codes, clusters: list[int], most: int, seed: int) -> list[list[int]]:
    """The clusters in at most so many groups of near ones, by k-means of their centres."""
    if not clusters or not most:
        return []
    centres = np.array([rows[codes == each].mean(axis=0) for each in clusters])
    of = nearest(centres, k_means(centres, min(most, len(clusters)), seed))
    return [[clusters[each] for each in np.flatnonzero(of == group)] for group in np.unique(of)]


def unseen_clusters(codes: Codes, labeled: int, count: int) -> list[int]:
    """Clusters of rows `codes` (labeled rows first) that labels do not show."""
    from scipy import stats  # noqa: PLC0415  (slow to import)

    shown = np.bincount(codes[:labeled], minlength=count)
    rest = np.bincount(codes[labeled:], minlength=count)
    fair = _SHOWN * rest * labeled / max(1, len(codes) - labeled)
    return [int(each) for each in np.flatnonzero(stats.poisson.cdf(shown, fair) < _RARE)]
