"""Search spaces: the values of a setting worth trying, to be drawn at random or laid out as a grid.

Which setting of which method has which space is said where the method is registered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Space(Protocol):
    """The values of one setting that are worth trying. What comes out are plain Python values."""

    def describe(self) -> str:
        """For people, such as `1e-05 to 1, logarithmic`."""
        ...

    def sample(self, random: np.random.Generator) -> Any:
        """One value, by exactly one draw from `random`."""
        ...

    def grid(self, points: int) -> list[Any]:
        """At most `points` distinct values, evenly spread from end to end; one alone: the middle."""
        ...


@dataclass(frozen=True)
class Among:
    """A few values, all as likely; `grid` keeps their order."""

    values: tuple[Any, ...]

    def describe(self) -> str:
        """For people, such as `l1 or l2`."""
        return " or ".join(str(value) for value in self.values)

    def sample(self, random: np.random.Generator) -> Any:
        """One of the values."""
        return self.values[int(random.integers(len(self.values)))]

    def grid(self, points: int) -> list[Any]:
        """All of the values if there is room, else evenly spread ones."""
        places = np.rint(_fractions(points) * (len(self.values) - 1)).astype(int)
        return [self.values[place] for place in dict.fromkeys(places.tolist())]


@dataclass(frozen=True)
class Linspace:
    """`count` evenly spaced values from `low` to `high`, all as likely: how papers write their grids."""

    low: float
    high: float
    count: int

    def describe(self) -> str:
        """For people, such as `33 values from 4 to 20`."""
        return f"{self.count} values from {self.low:g} to {self.high:g}"

    @property
    def values(self) -> tuple[float, ...]:
        """The values, ascending."""
        return tuple(np.linspace(self.low, self.high, self.count).tolist())

    def sample(self, random: np.random.Generator) -> float:
        """One of the values."""
        return float(Among(self.values).sample(random))

    def grid(self, points: int) -> list[float]:
        """All of the values if there is room, else evenly spread ones."""
        return Among(self.values).grid(points)


@dataclass(frozen=True)
class Uniform:
    """Any number from `low` to `high`."""

    low: float
    high: float

    def describe(self) -> str:
        """For people, such as `0 to 0.5`."""
        return f"{self.low:g} to {self.high:g}"

    def sample(self, random: np.random.Generator) -> float:
        """A number, uniform."""
        return float(random.uniform(self.low, self.high))

    def grid(self, points: int) -> list[float]:
        """Evenly spaced numbers."""
        return [float(self.low + (self.high - self.low) * part) for part in _fractions(points)]


@dataclass(frozen=True)
class LogUniform:
    """Any number from `low` to `high` > 0, even on a logarithmic scale."""

    low: float
    high: float

    def describe(self) -> str:
        """For people, such as `1e-05 to 1, logarithmic`."""
        return f"{self.low:g} to {self.high:g}, logarithmic"

    def sample(self, random: np.random.Generator) -> float:
        """A number whose logarithm is uniform."""
        drawn = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        return min(max(drawn, self.low), self.high)  # exp(log(.)) may round out of the range

    def grid(self, points: int) -> list[float]:
        """Numbers each the same factor apart."""
        exact = {0.0: self.low, 1.0: self.high}
        return [
            exact.get(part, float(self.low * (self.high / self.low) ** part))
            for part in _fractions(points).tolist()
        ]


@dataclass(frozen=True)
class Integers:
    """Any whole number from `low` to `high`, both included."""

    low: int
    high: int

    def describe(self) -> str:
        """For people, such as `2 to 10, whole`."""
        return f"{self.low} to {self.high}, whole"

    def sample(self, random: np.random.Generator) -> int:
        """A whole number, uniform."""
        return int(random.integers(self.low, self.high, endpoint=True))

    def grid(self, points: int) -> list[int]:
        """Whole numbers as evenly spread as they can be."""
        values = np.rint(self.low + (self.high - self.low) * _fractions(points)).astype(int)
        return list(dict.fromkeys(values.tolist()))


def _fractions(points: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    if points < 1:
        raise ValueError(f"a grid needs at least one point, not {points}")
    return np.linspace(0, 1, points) if points > 1 else np.array([0.5])
