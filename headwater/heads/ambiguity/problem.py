"""The data of an ambiguous task as plain arrays; reading and checking them is not done here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Problem:
    """Labeled rows, unlabeled rows, and the target rows whose classes are wanted.

    `labeled` (n, …), `unlabeled` (m, …) and `target` (t, …) are float32 and finite: images (rows, channels,
    height, width), or vectors (rows, dim), which features of a frozen backbone are too. `labels` (n,) are
    class codes 0..len(classes)-1; `classes` holds the labels as they were given, in ascending order.
    """

    labeled: NDArray[np.float32]
    labels: NDArray[np.int64]
    unlabeled: NDArray[np.float32]
    target: NDArray[np.float32]
    classes: tuple[int | str, ...]

    @property
    def are_images(self) -> bool:
        """Whether rows are images, not vectors."""
        return self.labeled.ndim == 4

    @property
    def lacks_unlabeled(self) -> bool:
        """Whether there are no unlabeled rows, and the target rows stand in for them: the same array."""
        return self.unlabeled is self.target


@dataclass(frozen=True, eq=False)
class Reading:
    """One way to read the labels: a classifier that fits them, as what it says of every row.

    `unlabeled` (m, classes) and `target` (t, classes) are probabilities; `error` is its share of errors on
    labeled rows that it was not trained on (NaN where none were kept apart); `origin` says what made it.
    `squared_error` is that of its scores, each foretold by all other rows, on average where readings differ,
    and `torn` how much larger a share of those rows than of other rows lies between classes: NaN and 0 where
    it was not measured. `setting` is what readings have in common that differ in chance alone, empty
    where none do. `is_nonlinear`: made by what no linear head of the features is as good as.
    """

    unlabeled: NDArray[np.float32]
    target: NDArray[np.float32]
    error: float
    origin: str
    squared_error: float = float("nan")
    torn: float = 0.0
    setting: str = ""
    is_nonlinear: bool = False
