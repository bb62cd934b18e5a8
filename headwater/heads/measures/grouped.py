"""Counting many heads by group: rows are sorted by group once; what is made of the shares is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Grouped:
    """Rows sorted by group once, so that many heads are counted by group without sorting again."""

    order: NDArray[np.int64]
    count: NDArray[np.int64]

    @staticmethod
    def by(groups: NDArray[np.int64], n_groups: int | None = None) -> Grouped:
        """`groups` (rows,) codes, negative where unknown; None: up to the highest that occurs."""
        wanted = max(0, int(groups.max(initial=-1)) + 1) if n_groups is None else n_groups
        order = np.argsort(groups, kind="stable")
        order = order[np.searchsorted(groups[order], 0) :]
        return Grouped(order, np.bincount(groups[order], minlength=wanted))

    def shares(self, right: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The share that is true in each group: (heads, rows) to (heads, groups), NaN without rows."""
        present = np.flatnonzero(self.count)
        found = np.full((len(right), len(self.count)), np.nan)
        if len(present):
            first = np.cumsum(self.count[present]) - self.count[present]
            ordered = right[:, self.order].view(np.int8)
            found[:, present] = np.add.reduceat(ordered, first, axis=1, dtype=np.int64) / self.count[present]
        return found


def accuracies_by_group(
    y_true: NDArray[np.int64], predictions: NDArray[np.int64], groups: NDArray[np.int64], n_groups: int
) -> NDArray[np.float64]:
    """Accuracies of many heads: predictions (heads, rows) to (heads, groups), NaN where there is no row."""
    return Grouped.by(groups, n_groups).shares(predictions == y_true)
