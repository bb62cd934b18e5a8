"""A question about one target row, as an oracle gets it; choosing and answering happen elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Opinion:
    """What one group of like-minded readings says of the row: its class code, and its share of the belief."""

    name: str
    code: int
    belief: float


@dataclass(frozen=True, eq=False)
class Question:
    """Ask for the class of target row `item`.

    `number` counts from 1. `picture` is uint8 (h, w) or (h, w, 3), or None where rows are not images.
    `opinions` are the competing readings, the most believed first; `speaks_for` is the number of target rows
    that the answer decides, as far as is known.
    """

    item: int
    number: int
    picture: NDArray[np.uint8] | None
    opinions: tuple[Opinion, ...]
    speaks_for: int


class Oracle(Protocol):
    """Whoever knows the classes: an array, a person, a service."""

    def ask(self, question: Question) -> int:
        """The class code of the row; OracleError where no answer was to be had, and none was paid for."""
        ...
