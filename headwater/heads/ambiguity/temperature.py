"""The temperature at which probabilities are as sure as is wanted; what is heated by it is not known here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 40


def log_temperature(
    at: Callable[[float], NDArray[np.float64]], wanted: float, within: tuple[float, float]
) -> float:
    """The logarithm of the temperature where rows' largest probabilities are `wanted` on average.

    That is one temperature for all rows (Guo et al. 2017). `at` gives the probabilities (rows, classes) of a
    logarithm between the two of `within`; the nearer end of these where none between is right.
    """
    low, high = within
    for _ in range(_HALVINGS):  # the mean of the largest falls as the temperature rises
        middle = (low + high) / 2
        if at(middle).max(axis=1).mean() > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
