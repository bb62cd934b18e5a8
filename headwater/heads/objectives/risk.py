"""Worst cases over weights of rows or groups: the value of a risk, and the weights that attain it.

Each is a maximum over a convex set of weights q, which has kinks; `at` is that maximum less a proximal term,
(distance of q from a centre) / sharpness, which is smooth. How sharpness and centre move until nothing of the
smoothing is left is `headwater.heads.solvers.minmax`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from headwater.heads.objectives.base import RowCodes, RowWeights
from headwater.heads.objectives.filling import fill_ball, fill_box
from headwater.heads.specs.criterion import ChiSquare, CVaR, GroupRisk, Risk


class WorstCase(Protocol):
    """A smoothed worst case of H heads' losses (n, H); fulfils RiskOf.

    `diameter` (H,) is how far, in the proximal term's own measure, the set of weights reaches from where it
    is entered: smoothing costs at most diameter / sharpness. `common` (H,) is what adjustments have in common
    and values leave out.
    """

    @property
    def diameter(self) -> Tensor:
        """See above."""
        ...

    @property
    def common(self) -> Tensor:
        """See above."""
        ...

    def at(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """See RiskOf: the smoothed value and the row weights q that attain it, which lie in the set."""
        ...

    def bend(self, losses: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See RiskOf."""
        ...

    def bounds(self, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The exact worst case, the value of `at`'s weights without the proximal term, and the worst case of
        the losses alone, without adjustments; (H,) float64 each.
        """
        ...

    def moved(self, losses: Tensor, sharpness: Tensor) -> WorstCase:
        """The same set, with the centre where the weights of `at` are now, and of another sharpness (H,)."""
        ...

    def of(self, keep: Tensor) -> WorstCase:
        """The risk of some of the heads only."""
        ...

    def put(self, heads: Tensor, other: WorstCase) -> WorstCase:
        """The same with centre and sharpness of the heads numbered `heads` from `other`, of those alone."""
        ...


def risk_of(risks: Sequence[Risk], weights: RowWeights, codes: RowCodes | None) -> WorstCase:
    """The risks, all of one kind, of a stack of heads; `codes` are the groups' of a GroupRisk."""
    device = weights.values.device
    groups = [risk for risk in risks if isinstance(risk, GroupRisk)]
    if groups and codes is not None:
        return WorstGroup.of_groups(groups, weights, codes)
    if isinstance(risks[0], CVaR):
        shares = [risk.share for risk in risks if isinstance(risk, CVaR)]
        numbers = torch.tensor(shares, dtype=torch.float64, device=device)
        return WorstShare(weights, 1 / numbers, _ones(numbers), None)
    radii = [risk.radius for risk in risks if isinstance(risk, ChiSquare)]
    numbers = torch.tensor(radii, dtype=torch.float64, device=device)
    return WorstInBall(weights, numbers, _ones(numbers), None)


def _ones(like: Tensor) -> Tensor:
    return torch.ones_like(like)


@dataclass(frozen=True)
class WorstGroup:
    """The largest over groups of mean loss + adjustment (Sagawa et al. 2020, eq. 5 and § 3.3).

    Smoothed by the Kullback-Leibler divergence from a centre, which gives (1/η) log Σ_g c_g exp(η·(L_g +
    a_g)) and the weights that one step of exponentiated gradient would give. `share` (n, U) are the rows'
    weights within their groups, `adjustment` (G, H), at most 0 and -inf where a head has no such group;
    `centre` (G, H) log c_g.
    """

    share: RowWeights
    codes: RowCodes
    adjustment: Tensor
    sharpness: Tensor
    centre: Tensor
    common: Tensor

    @staticmethod
    def of_groups(risks: Sequence[GroupRisk], weights: RowWeights, codes: RowCodes) -> WorstGroup:
        """From specs' risks; a group without a row of weight above 0 takes no part."""
        count = max(len(risk.adjustment) for risk in risks)
        pairs = torch.stack([weights.column, codes.column], dim=1)
        different, column = torch.unique(pairs, dim=0, return_inverse=True)
        values = codes.values[:, different[:, 1]].clamp_min(0)
        mass = weights.values[:, different[:, 0]].double()
        mass = torch.where(codes.values[:, different[:, 1]] < 0, 0, mass)
        total = torch.zeros(count, len(different), dtype=torch.float64, device=mass.device)
        total.scatter_add_(0, values, mass)
        share = mass / total.gather(0, values).clamp_min(1e-300)
        adjustment = torch.full((count, len(risks)), -torch.inf, dtype=torch.float64, device=mass.device)
        common = torch.zeros(len(risks), dtype=torch.float64, device=mass.device)
        for head, risk in enumerate(risks):
            given = torch.tensor(risk.adjustment, dtype=torch.float64, device=mass.device)
            present = total[: len(given), column[head]] > 0
            # What all groups have in common decides nothing, and would drown small losses in rounding.
            common[head] = given[present].max()
            given = given - common[head]
            adjustment[: len(given), head] = torch.where(present, given, -torch.inf)
        count_of = torch.isfinite(adjustment).sum(0)
        centre = torch.where(torch.isfinite(adjustment), -count_of.log(), -torch.inf)
        return WorstGroup(
            RowWeights(share, column),
            RowCodes(values, column),
            adjustment,
            torch.ones(len(risks), dtype=torch.float64, device=mass.device),
            centre,
            common,
        )

    @property
    def diameter(self) -> Tensor:
        """See WorstCase: log of the number of groups, at least of two."""
        return torch.isfinite(self.adjustment).sum(0).clamp_min(2).double().log()

    def of(self, keep: Tensor) -> WorstGroup:
        """See WorstCase."""
        return WorstGroup(
            self.share.of(keep),
            self.codes.of(keep),
            self.adjustment[:, keep],
            self.sharpness[keep],
            self.centre[:, keep],
            self.common[keep],
        )

    def put(self, heads: Tensor, other: WorstCase) -> WorstGroup:
        """See WorstCase."""
        assert isinstance(other, WorstGroup)
        centre = self.centre.index_copy(1, heads, other.centre)
        return replace(self, sharpness=self.sharpness.index_copy(0, heads, other.sharpness), centre=centre)

    def at(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """See WorstCase."""
        value, log_q = self._soft(self.group_losses(losses) + self.adjustment)
        return value, self._rows(log_q.exp(), losses)

    def bend(self, losses: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See RiskOf: η Σ_g q_g (e_g - q)(e_g - q)ᵀ, of the groups that weigh most."""
        q = self._soft(self.group_losses(losses) + self.adjustment)[1].exp()
        most = q.topk(min(_FOLLOWED, len(q)), dim=0).indices  # (r, H)
        all_rows = self._rows(q, losses)
        out = losses.new_empty(*losses.shape, len(most))
        for number, heads in self._columns():
            columns = slice(None) if heads is None else heads
            codes, share = self.codes.values[:, number], self.share.values[:, number]
            own = (codes.view(-1, 1, 1) == most[:, columns].T) * share.view(-1, 1, 1).to(losses.dtype)
            size = (self.sharpness[columns] * q.gather(0, most)[:, columns]).sqrt().T.to(losses.dtype)
            out[:, columns] = size * (own - all_rows[:, columns].unsqueeze(2))
        return None, out

    def bounds(self, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See WorstCase."""
        plain = self.group_losses(losses)
        adjusted = plain + self.adjustment
        q = self._soft(adjusted)[1].exp()
        inside = torch.where(q > 0, adjusted, 0)
        return adjusted.amax(0), (q * inside).sum(0), plain.amax(0)

    def moved(self, losses: Tensor, sharpness: Tensor) -> WorstGroup:
        """See WorstCase."""
        _, log_q = self._soft(self.group_losses(losses) + self.adjustment)
        # A group that counted for nothing can still come back within a few steps.
        floor = torch.where(torch.isfinite(self.adjustment), _FORGOTTEN, -torch.inf)
        return replace(self, sharpness=sharpness, centre=torch.maximum(log_q, floor))

    def group_losses(self, losses: Tensor) -> Tensor:
        """Mean loss of each group, without adjustment, (G, H) float64; 0 for a group without rows."""
        sums = torch.zeros(self.adjustment.shape, dtype=torch.float64, device=losses.device)
        for number, heads in self._columns():
            part = losses.double() if heads is None else losses[:, heads].double()
            part = part * self.share.values[:, number : number + 1]
            if heads is None:
                sums.index_add_(0, self.codes.values[:, number], part)
            else:
                sums[:, heads] = sums[:, heads].index_add_(0, self.codes.values[:, number], part)
        return sums

    def _soft(self, adjusted: Tensor) -> tuple[Tensor, Tensor]:
        """The smoothed maximum (H,) and the logarithms of the groups' weights (G, H)."""
        score = self.centre + self.sharpness * adjusted
        total = torch.logsumexp(score, dim=0)
        return total / self.sharpness, score - total

    def _rows(self, q: Tensor, losses: Tensor) -> Tensor:
        """Weights of rows (n, H) from those of groups (G, H)."""
        out = torch.empty_like(losses)
        for number, heads in self._columns():
            codes, share = self.codes.values[:, number], self.share.values[:, number : number + 1]
            if heads is None:
                return (q.index_select(0, codes) * share).to(losses.dtype)
            out[:, heads] = (q[:, heads].index_select(0, codes) * share).to(losses.dtype)
        return out

    def _columns(self) -> list[tuple[int, Tensor | None]]:
        """Each different grouping with the heads that have it; None: all of them."""
        present = torch.unique(self.codes.column).tolist()
        if len(present) == 1:
            return [(present[0], None)]
        return [(number, torch.nonzero(self.codes.column == number).flatten()) for number in present]


# Logarithm of the weight below which a group's is not followed.
_FORGOTTEN = -30.0
# So many groups, those of the largest weight, are told to a metric.
_FOLLOWED = 8


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
