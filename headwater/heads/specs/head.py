"""A trained linear head on raw features, with the record of how its training ended."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_ITERATIONS_REACHED = "max_iterations reached"
"""How the message of a head begins that only wanted more iterations."""


@dataclass(frozen=True)
class Convergence:
    """How training ended. `objective` is the penalised weighted mean loss that was minimised.

    `stepped`: it was trained for a set number of epochs, which `iterations` counts, as was asked; that it has
    not converged is then no fault.
    """

    converged: bool
    iterations: int
    objective: float
    gradient_norm: float
    message: str = ""
    stepped: bool = False


@dataclass(frozen=True, eq=False)
class LinearHead:
    """logits = features @ weight.T + bias; `weight` (classes, dim) and `bias` (classes,), float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    convergence: Convergence

    def logits(self, features: ArrayLike) -> NDArray[np.float32]:
        """Scores of shape (rows, classes) for raw features of shape (rows, dim)."""
        return np.asarray(
            np.asarray(features, dtype=np.float32) @ self.weight.T + self.bias, dtype=np.float32
        )

    def predict(self, features: ArrayLike) -> NDArray[np.int64]:
        """The class code with the highest score, shape (rows,)."""
        return np.asarray(self.logits(features).argmax(axis=1), dtype=np.int64)

    @cached_property
    def _key(self) -> bytes:
        return hashlib.sha256(self.weight.tobytes() + self.bias.tobytes()).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LinearHead) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)
