"""A question about one target row, as an oracle gets it; choosing and answering happen elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterError

PATIENCE = 3600.0
"""Seconds that a person has for an answer, unless told."""


class OracleError(HeadwaterError):
    """No answer was to be had.

    Where `uncertain`, the question may have been counted all the same: only the same row may be asked next.
    """

    def __init__(self, sentence: str, *, uncertain: bool = False) -> None:
        super().__init__(sentence)
        self.uncertain = uncertain


class Stopped(KeyboardInterrupt):
    """The person interrupted a question instead of answering it; it does not count."""


class BudgetSpent(HeadwaterError):  # noqa: N818 - the name that callers were promised
    """One question more than there may be; it was not asked."""


@dataclass(frozen=True)
class Opinion:
    """What one group of like-minded readings says of the row: its class code, and its share of the belief."""

    name: str
    code: int
    belief: float


@dataclass(frozen=True, eq=False)
class Question:
    """Ask for the class of target row `item`.

    `number` counts from 1, up to `budget`. `picture` is uint8 (h, w) or (h, w, 3), or None where rows are
    not images; `notes` are sentences that help a person where it says too little. `opinions` are the
    competing readings, the most believed first; `speaks_for` is the number of target rows that the answer
    decides, as far as is known.
    """

    item: int
    number: int
    picture: NDArray[np.uint8] | None
    opinions: tuple[Opinion, ...]
    speaks_for: int
    budget: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def doubt(self) -> float:
        """The share of the belief that none of the opinions holds: that another reading is meant."""
        return min(1.0, max(0.0, 1.0 - sum(each.belief for each in self.opinions)))


class Oracle(Protocol):
    """Whoever knows the classes: an array, a person, a service."""

    def ask(self, question: Question) -> int:
        """The class code of the row; OracleError where no answer was to be had."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """An oracle that is told, with its answers, which rows were paid for before, here or elsewhere."""

    @property
    def bought(self) -> frozenset[int] | None:
        """Those target rows; None where nothing was told yet."""
        ...


@runtime_checkable
class Recalls(Protocol):
    """An oracle that wants to know what was answered before it was there."""

    def recall(self, question: Question, code: int) -> None:
        """This question was answered so, in an earlier run."""
        ...


@runtime_checkable
class Closes(Protocol):
    """An oracle that wants to know how it ended."""

    def close(self, outcome: str = "") -> None:
        """No question will follow; `outcome` is a sentence for the person who answered."""
        ...
