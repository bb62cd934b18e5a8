"""Worst cases over weights in proportion to given ones: the worst share, and the worst in a ball.

The weights may be of rows or, in `worst_groups`, of groups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from headwater.heads.objectives.base import RowWeights
from headwater.heads.objectives.filling import fill_ball, fill_box
from headwater.heads.objectives.worst_case import WorstCase

_Some = TypeVar("_Some", bound="_Ratios")


@dataclass(frozen=True)
class _Ratios:
    """What the sets of row weights share: q_i = w_i·a_i, and a proximal term Σ w_i (a_i - centre_i)² / 2η.

    `centre` (n, H) or None for 1.
    """

    weights: RowWeights
    size: Tensor
    sharpness: Tensor
    centre: Tensor | None

    @property
    def common(self) -> Tensor:
        """See WorstCase: there are no adjustments."""
        return torch.zeros_like(self.size)

    @property
    def has_directions(self) -> bool:
        """See RiskOf."""
        return False

    def _ratios(self, losses: Tensor, weights: Tensor) -> Tensor:
        """The a (n, H) that attain the smoothed worst case."""
        raise NotImplementedError

    def _worst(self, losses: Tensor, weights: Tensor) -> Tensor:
        """The exact worst case (H,)."""
        raise NotImplementedError

    def put(self: _Some, heads: Tensor, other: WorstCase) -> _Some:
        """See WorstCase."""
        assert isinstance(other, _Ratios)
        assert other.centre is not None
        rows = other.centre.shape[0]
        centre = other.centre.new_ones(rows, len(self.size)) if self.centre is None else self.centre
        centre = centre.index_copy(1, heads, other.centre)
        return replace(self, sharpness=self.sharpness.index_copy(0, heads, other.sharpness), centre=centre)

    def at(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """See WorstCase."""
        exact, weights = losses.double(), self.weights.at().double()
        a = self._ratios(exact, weights)
        away = a - (1 if self.centre is None else self.centre)
        q = weights * a
        value = (q * exact).sum(0) - (weights * away.square()).sum(0) / (2 * self.sharpness)
        return value, q.to(losses.dtype)

    def bend(self, losses: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See RiskOf: rows between the ends of the set gain weight in proportion to their loss."""
        exact, weights = losses.double(), self.weights.at().double()
        a = self._ratios(exact, weights)
        inside = weights * ((a > 0) & (a < a.amax(0)))
        mass = inside.sum(0).clamp_min(1e-300)
        spread = [each - (inside * each).sum(0) / mass for each in (a, self._scores(exact))]
        by_a, by_score = ((inside * each.square()).sum(0) for each in spread)
        # One more unit of score is so much more weight.
        rate = (by_a / by_score.clamp_min(1e-300)).sqrt().clamp_max(1)
        return inside * (self.sharpness * rate), None

    def bounds(self, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See WorstCase."""
        exact, weights = losses.double(), self.weights.at().double()
        worst = self._worst(exact, weights)
        return worst, (weights * self._ratios(exact, weights) * exact).sum(0), worst

    def _scores(self, losses: Tensor) -> Tensor:
        return self.sharpness * losses + (1 if self.centre is None else self.centre)


class WorstShare(_Ratios):
    """The mean of the worst share of the rows, by weight, the last in part (Rockafellar & Uryasev 2000).

    `size` (H,) is 1/share, the most that a row's weight may grow.
    """

    @property
    def diameter(self) -> Tensor:
        """See WorstCase."""
        return ((self.size - 1) / 2).clamp_min(1e-3)

    def of(self, keep: Tensor) -> WorstShare:
        """See WorstCase."""
        centre = None if self.centre is None else self.centre[:, keep]
        return WorstShare(self.weights.of(keep), self.size[keep], self.sharpness[keep], centre)

    def moved(self, losses: Tensor, sharpness: Tensor) -> WorstShare:
        """See WorstCase."""
        centre = self._ratios(losses.double(), self.weights.at().double())
        return WorstShare(self.weights, self.size, sharpness, centre)

    def _ratios(self, losses: Tensor, weights: Tensor) -> Tensor:
        return fill_box(self._scores(losses), weights, self.size)

    def _worst(self, losses: Tensor, weights: Tensor) -> Tensor:
        ordered, order = losses.sort(dim=0, descending=True)
        mass = weights.expand_as(losses).gather(0, order) * self.size
        before = mass.cumsum(0) - mass
        return (torch.minimum((1 - before).clamp_min(0), mass) * ordered).sum(0)


class WorstInBall(_Ratios):
    """The worst mean over q with Σ w_i (q_i/w_i - 1)²/2 <= radius (Namkoong & Duchi 2016); `size` the radius.

    Where losses differ the ball is round, its own smoothing inactive and `at` exact from the start.
    """

    @property
    def diameter(self) -> Tensor:
        """See WorstCase."""
        return self.size.clamp_min(1e-3)

    def of(self, keep: Tensor) -> WorstInBall:
        """See WorstCase."""
        centre = None if self.centre is None else self.centre[:, keep]
        return WorstInBall(self.weights.of(keep), self.size[keep], self.sharpness[keep], centre)

    def moved(self, losses: Tensor, sharpness: Tensor) -> WorstInBall:
        """See WorstCase."""
        centre = self._ratios(losses.double(), self.weights.at().double())
        return WorstInBall(self.weights, self.size, sharpness, centre)

    def _ratios(self, losses: Tensor, weights: Tensor) -> Tensor:
        return fill_ball(self._scores(losses), weights, self.size)

    def _worst(self, losses: Tensor, weights: Tensor) -> Tensor:
        # So sharp that the proximal term is below the rounding of the losses.
        top = losses.amax(0)
        scores = (losses - top) * (1e12 / (top - losses.amin(0)).clamp_min(1e-200))
        return (weights * fill_ball(scores, weights, self.size) * losses).sum(0)
