"""What a generator returns, and how it is written as a data set folder; nothing is generated here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.problem import Problem

Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Generated:
    """A generated set: the problem a solver sees, and the truth that only a judge and an oracle may see.

    `target_cells` (t, features) and `unlabeled_cells` (m, features) are the codes of every feature; column
    `meant` is the one that the labels are about, so that `target_labels` (t,), class codes, is that column.
    """

    id: int
    name: str
    problem: Problem
    target_labels: Codes
    target_cells: Codes
    unlabeled_cells: Codes
    features: tuple[str, ...]
    meant: int
    dtype: str = "float64"

    @property
    def crossed(self) -> NDArray[np.bool_]:
        """Which target rows show a combination of features that no labeled row shows, (t,)."""
        return is_crossed(self.target_cells)

    @property
    def mix_rate(self) -> float:
        """The share of crossed items in the unlabeled set."""
        return float(is_crossed(self.unlabeled_cells).mean())

    def write(self, folder: str | Path) -> Path:
        """Write the four arrays of the published format, at the published dtypes; not the target's labels."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        given = np.asarray(self.problem.classes)[self.problem.labels]
        np.save(place / "X_labeled.npy", self.problem.labeled.astype(self.dtype))
        np.save(place / "y_labeled.npy", given.astype(np.int64))
        np.save(place / "X_unlabeled.npy", self.problem.unlabeled.astype(self.dtype))
        np.save(place / "X_val.npy", self.problem.target.astype(self.dtype))
        return place

    def write_target_labels(self, file: str | Path) -> Path:
        """Write the target's labels, as they are given (not codes), for an oracle or a judge."""
        place = Path(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, np.asarray(self.problem.classes)[self.target_labels].astype(np.int64))
        return place


def is_crossed(cells: Codes) -> NDArray[np.bool_]:
    """Which rows of cells (n, features) have features that differ, (n,)."""
    return np.asarray((cells != cells[:, :1]).any(axis=1))


def balanced_rate(classes: int, features: int) -> float:
    """The mix rate at which all cells are equally many."""
    return 1 - classes ** (1 - features)


def draw_cells(
    random: np.random.Generator, rows: int, mix_rate: float | None, classes: int = 2, features: int = 2
) -> Codes:
    """Cells of `rows` rows, (rows, features): a share `mix_rate` crossed, and each sort in equal parts.

    Without a mix rate all cells are equally many. Counts are exact up to rounding; only the order is random.
    """
    rate = balanced_rate(classes, features) if mix_rate is None else mix_rate
    every = np.indices((classes,) * features).reshape(features, -1).T
    crossed = is_crossed(every)
    count = round(rows * rate)
    parts = [_deal(random, every[crossed], count), _deal(random, every[~crossed], rows - count)]
    return np.asarray(random.permutation(np.concatenate(parts)), dtype=np.int64)


def _deal(random: np.random.Generator, cells: Sequence[object] | Codes, count: int) -> Codes:
    order = random.permutation(len(cells))
    return np.asarray(cells, dtype=np.int64)[order[np.arange(count) % len(cells)]]
