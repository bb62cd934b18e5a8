"""What one head is: loss, weighting, penalty, rows, start and solver settings, as plain hashable data.

A method asks for heads by writing these; how they are trained is the bank's business, not this file's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from headwater.heads.head import LinearHead

LossName = Literal["cross_entropy"]


def _digest(array: NDArray[np.generic]) -> bytes:
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).digest()


class _Array:
    """A read-only array that compares and hashes by content, so that specs holding equal arrays are equal."""

    def __init__(self, values: NDArray[np.generic]) -> None:
        values = np.ascontiguousarray(values)
        if values.base is not None or values.flags.writeable:
            values = values.copy()
        values.flags.writeable = False
        self._values = values

    @cached_property
    def _key(self) -> bytes:
        return _digest(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key == other._key

    def __hash__(self) -> int:
        return hash((type(self), self._key))


class Rows(_Array):
    """Row numbers of a feature matrix in training order, int64; a row that is repeated counts twice."""

    def __init__(self, index: ArrayLike) -> None:
        super().__init__(np.asarray(index, dtype=np.int64))

    @property
    def index(self) -> NDArray[np.int64]:
        """The row numbers, shape (n,), read-only."""
        return self._values  # type: ignore[return-value]


class Weights(_Array):
    """One non-negative weight per training row, float64; only ratios matter: the bank makes their mean 1."""

    def __init__(self, values: ArrayLike) -> None:
        super().__init__(np.asarray(values, dtype=np.float64))

    @property
    def values(self) -> NDArray[np.float64]:
        """The weights, shape (n,), read-only."""
        return self._values  # type: ignore[return-value]


@dataclass(frozen=True)
class Penalty:
    """`l1`·‖W‖₁ + `l2`/2·‖W‖² added to the weighted mean loss; the bias is never penalised.

    It acts on the weights of the standardised features when the spec standardises. With more than two
    classes W has a column per class; with two (of two) it is the one vector w = w₁ - w₀ of the sigmoid's
    parametrisation. That is what scikit-learn's LogisticRegression penalises: `C` with `l1_ratio` r is
    `l1 = r/(C·n)` and `l2 = (1 - r)/(C·n)`, n being the sum of its sample weights; only liblinear differs,
    by penalising the bias.
    """

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        if self.l1 < 0 or self.l2 < 0:
            raise ValueError(f"penalties cannot be negative: l1={self.l1}, l2={self.l2}")


@dataclass(frozen=True)
class HeadSpec:
    """One head to train: minimise mean_i w_i·loss(x_i W + b, y_i) + penalty over `rows`.

    `scaler_rows`: rows whose mean and standard deviation standardise the features (None: none); the head that
    comes out acts on raw features all the same. `tolerance`: stop when the gap to the optimum, relative to
    the objective, is certified or estimated below it; the convergence record says which. `start`
    warm-starts.
    """

    rows: Rows
    penalty: Penalty
    weights: Weights | None = None
    loss: LossName = "cross_entropy"
    scaler_rows: Rows | None = None
    start: LinearHead | None = None
    tolerance: float = 1e-6
    max_iterations: int = 500

    def __post_init__(self) -> None:
        if len(self.rows) == 0:
            raise ValueError("a head needs at least one training row")
        if self.weights is not None and len(self.weights) != len(self.rows):
            raise ValueError(f"{len(self.weights)} weights for {len(self.rows)} rows")
