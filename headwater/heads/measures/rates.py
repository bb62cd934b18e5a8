"""How accurate groups of a handful of rows really are: a prior fitted to all of them, and draws from it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MEANS = np.concatenate([[0.005, 0.025], np.linspace(0.06, 0.94, 23), [0.975, 0.995]])
_WEIGHT = 40.0  # rows that a component of the prior is worth; narrower ones would pull at groups of many rows
_PARTS, _SPREAD = 6, 0.02  # of a lattice over more than two outcomes, and how far it keeps from the borders
_STEPS = 100  # of EM: more would only sharpen the prior into a few points


@dataclass(frozen=True, eq=False)
class Rates:
    """What groups' true shares of outcomes may be, given `counts` (groups, outcomes) of how often each came.

    Outcomes are right and wrong, or what two heads get right together and alone. The prior is a mixture of
    Dirichlet distributions with fixed means, whose shares are those under which all groups together are
    likeliest (empirical Bayes; Robbins 1956, Laird 1978 for the mixture): so groups of one row each are taken
    neither for perfect nor for hopeless.
    """

    counts: NDArray[np.int64]
    _means: NDArray[np.float64]  # (components, outcomes)
    _posterior: NDArray[np.float64]  # (kinds, components): groups with the same counts are one kind
    _kind: NDArray[np.int64]

    @staticmethod
    def fitted(counts: NDArray[np.int64]) -> Rates:
        """Every group must have rows."""
        from scipy.special import gammaln  # noqa: PLC0415  (slow to import)

        kinds, kind, times = np.unique(counts, axis=0, return_inverse=True, return_counts=True)
        means = _lattice(counts.shape[1])
        log = np.zeros((len(kinds), len(means)))
        for outcome in range(counts.shape[1]):
            shape = means[:, outcome] * _WEIGHT
            log += gammaln(shape + kinds[:, outcome, None]) - gammaln(shape)
        likelihood = np.exp(log - log.max(axis=1, keepdims=True))
        shares = np.full(len(means), 1 / len(means))
        for _ in range(_STEPS):
            posterior = likelihood * shares
            posterior /= posterior.sum(axis=1, keepdims=True)
            shares = times @ posterior / len(counts)
        return Rates(counts, means, posterior, kind.reshape(-1))

    def drawn(self, draws: int, random: np.random.Generator) -> NDArray[np.float64]:
        """True shares (draws, groups, outcomes) from the posterior, each group's on its own."""
        ends = self._posterior.cumsum(axis=1)
        ends[:, -1] = 1.0
        ends += np.arange(len(ends))[:, None]  # all kinds in one ascending line
        sought = random.random((draws, len(self.counts))) + self._kind
        component = np.searchsorted(ends.reshape(-1), sought) - self._kind * len(self._means)
        mean = self._means[np.clip(component, 0, len(self._means) - 1)]
        found: NDArray[np.float64] = random.standard_gamma(mean * _WEIGHT + self.counts)
        found /= found.sum(axis=2, keepdims=True)
        return found


def _lattice(outcomes: int) -> NDArray[np.float64]:
    """The means (components, outcomes) of the prior's components."""
    if outcomes == 2:
        return np.stack([_MEANS, 1 - _MEANS], axis=1)
    every = itertools.product(range(_PARTS + 1), repeat=outcomes)
    whole = np.array([parts for parts in every if sum(parts) == _PARTS]) / _PARTS
    found: NDArray[np.float64] = (1 - _SPREAD) * whole + _SPREAD / outcomes
    return found
