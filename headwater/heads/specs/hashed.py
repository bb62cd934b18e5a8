"""Read-only arrays that compare and hash by content, so that specs holding equal arrays are equal."""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray


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


class Codes(_Array):
    """One group code per training row, int64 from 0; every code below the highest should occur."""

    def __init__(self, values: ArrayLike) -> None:
        super().__init__(np.asarray(values, dtype=np.int64))

    @property
    def values(self) -> NDArray[np.int64]:
        """The codes, shape (n,), read-only."""
        return self._values  # type: ignore[return-value]
