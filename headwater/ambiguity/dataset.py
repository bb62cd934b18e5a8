"""An ambiguous data set as the rest of this room takes it, whatever it was read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.problem import Problem


@dataclass(frozen=True, eq=False)
class Dataset:
    """A problem, and what has to be known about where it came from.

    `content` (hex) tells its values apart from any others'. `notes` are sentences about what its user may not
    expect. `items` (t,) are the numbers that the problem's target rows have in the data set, of whose
    `target_rows` some may be unreadable; `target_keys` are a store's names of them all. `picture` gives a
    target row's image, uint8 (h, w) or (h, w, 3), by its row in the problem, or None. `truth` (t,) are the
    target rows' class codes where the data set itself says them, -1 where it does not; None where it says
    none. `recipe` is what its rows are features of, if they are features; `columns` names, for a store, the
    columns of the `label` and of the `split`, and the values of the latter that mean `labeled`, `unlabeled`
    (empty: none) and `target`.
    """

    place: Path
    problem: Problem
    content: str
    items: NDArray[np.int64]
    target_rows: int
    picture: Callable[[int], NDArray[np.uint8] | None]
    notes: tuple[str, ...] = ()
    truth: NDArray[np.int64] | None = None
    recipe: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    target_keys: Sequence[str] | None = None

    @property
    def name(self) -> str:
        """What to call it to people."""
        return self.place.absolute().name

    @property
    def keys(self) -> list[str]:
        """Names of the problem's rows, labeled, unlabeled, then target ones, by their numbers."""
        problem = self.problem
        kinds = (("labeled", problem.labeled), ("unlabeled", problem.unlabeled), ("target", problem.target))
        return [f"{kind}/{row}" for kind, rows in kinds for row in range(len(rows))]

    @property
    def unreadable(self) -> int:
        """How many target rows could not be read."""
        return self.target_rows - len(self.items)

    def for_all(self, codes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Class codes of the problem's target rows spread over all `target_rows`.

        Rows that could not be read get the class that most of the others have.
        """
        found = np.asarray(codes, dtype=np.int64)
        every = np.full(self.target_rows, np.bincount(found).argmax(), dtype=np.int64)
        every[self.items] = found
        return every
