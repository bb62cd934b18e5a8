"""How accurate groups of a handful of rows really are: a prior fitted to all of them, and draws from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MEANS = np.concatenate([[0.005, 0.025], np.linspace(0.06, 0.94, 23), [0.975, 0.995]])
_WEIGHT = 40.0  # rows that a component of the prior is worth; narrower ones would pull at groups of many rows
_STEPS = 100  # of EM: more would only sharpen the prior into a few points


@dataclass(frozen=True, eq=False)
class Rates:
    """What groups' true accuracies may be, given `correct` (groups,) of `count` (groups,) rows of each.

    The prior is a mixture of beta distributions with fixed means, whose shares are those under which all
    groups together are likeliest (empirical Bayes; Robbins 1956, Laird 1978 for the mixture): so groups of
    one row each are taken neither for perfect nor for hopeless.
    """

    correct: NDArray[np.int64]
    count: NDArray[np.int64]
    _posterior: NDArray[np.float64]  # (kinds, components): groups with the same counts are one kind
    _kind: NDArray[np.int64]

    @staticmethod
    def fitted(correct: NDArray[np.int64], count: NDArray[np.int64]) -> Rates:
        """Every group must have rows."""
        from scipy.special import betaln  # noqa: PLC0415  (slow to import)

        kinds, kind, times = np.unique(
            np.stack([correct, count]), axis=1, return_inverse=True, return_counts=True
        )
        right, wrong = kinds[0][:, None], (kinds[1] - kinds[0])[:, None]
        one, other = _MEANS * _WEIGHT, (1 - _MEANS) * _WEIGHT
        log = betaln(one + right, other + wrong) - betaln(one, other)
        likelihood = np.exp(log - log.max(axis=1, keepdims=True))
        shares = np.full(len(_MEANS), 1 / len(_MEANS))
        for _ in range(_STEPS):
            posterior = likelihood * shares
            posterior /= posterior.sum(axis=1, keepdims=True)
            shares = times @ posterior / len(correct)
        return Rates(correct, count, posterior, kind.reshape(-1))

    def drawn(self, draws: int, random: np.random.Generator) -> NDArray[np.float64]:
        """True accuracies (draws, groups) from the posterior, each group's on its own."""
        ends = self._posterior.cumsum(axis=1)
        ends[:, -1] = 1.0
        ends += np.arange(len(ends))[:, None]  # all kinds in one ascending line
        sought = random.random((draws, len(self.count))) + self._kind
        component = np.searchsorted(ends.reshape(-1), sought) - self._kind * len(_MEANS)
        mean = _MEANS[np.clip(component, 0, len(_MEANS) - 1)]
        wrong = self.count - self.correct
        found: NDArray[np.float64] = random.beta(mean * _WEIGHT + self.correct, (1 - mean) * _WEIGHT + wrong)
        return found
