"""Worst cases over groups' mean losses: one group, or a share of them, by losses that a tree may shrink.

What a worst case answers is said in `worst_case`; how losses are shrunk lives in `shrinking`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headwater.heads.objectives.base import RowCodes, RowWeights
from headwater.heads.objectives.shrinking import Ladder
from headwater.heads.objectives.worst_case import WorstCase
from headwater.heads.objectives.worst_rows import WorstShare
from headwater.heads.specs.criterion import GroupRisk

# Logarithm of the weight below which a group's is not followed.
_FORGOTTEN = -30.0
# With up to so many groups those that bend a risk most, so many of them, are told to a metric one by one.
_FEW, _FOLLOWED = 64, 8


@dataclass(frozen=True)
class Grouping:
    """A way to group rows: `codes` (n,), `share` (n,) of each row in its group, and a tree or None."""

    codes: Tensor
    share: Tensor
    ladder: Ladder | None

    def means(self, losses: Tensor, strength: Tensor, count: int) -> Tensor:
        """(count, h) mean losses of groups from (n, h), shrunk by `strength` (h,); 0 without rows."""
        sums = torch.zeros(count, losses.shape[1], dtype=torch.float64, device=losses.device)
        sums.index_add_(0, self.codes, losses.double() * self.share.unsqueeze(1))
        return sums if self.ladder is None else self.ladder.shrink(sums, strength)

    def back(self, weights: Tensor, strength: Tensor) -> Tensor:
        """Weights of rows (n, h) from those of groups (G, h)."""
        own = weights if self.ladder is None else self.ladder.back(weights, strength)
        return own.index_select(0, self.codes) * self.share.unsqueeze(1)


@dataclass(frozen=True)
class GroupMeans:
    """The mean losses of H heads' groups: `column` (H,) says which grouping a head has, `strength` (H,)."""

    groupings: tuple[Grouping, ...]
    column: Tensor
    strength: Tensor
    count: int

    def of(self, keep: Tensor) -> GroupMeans:
        """Those of some of the heads."""
        return replace(self, column=self.column[keep], strength=self.strength[keep])

    def at(self, losses: Tensor) -> Tensor:
        """(G, H) float64 from the losses of rows (n, H)."""
        each = self._each()
        if len(each) == 1:
            return each[0][0].means(losses, self.strength, self.count)
        out = torch.empty(self.count, losses.shape[1], dtype=torch.float64, device=losses.device)
        for grouping, heads in each:
            out[:, heads] = grouping.means(losses[:, heads], self.strength[heads], self.count)
        return out

    def back(self, weights: Tensor) -> Tensor:
        """Weights of rows (n, H) from those of groups (G, H)."""
        each = self._each()
        if len(each) == 1:
            return each[0][0].back(weights, self.strength)
        rows = len(self.groupings[0].codes)
        out = torch.empty(rows, weights.shape[1], dtype=weights.dtype, device=weights.device)
        for grouping, heads in each:
            out[:, heads] = grouping.back(weights[:, heads], self.strength[heads])
        return out

    def _each(self) -> list[tuple[Grouping, Tensor]]:
        """Each grouping that heads have, with those."""
        present = torch.unique(self.column).tolist()
        return [(self.groupings[each], torch.nonzero(self.column == each).flatten()) for each in present]


@dataclass(frozen=True)
class WorstOne:
    """The largest of G numbers, smoothed by the Kullback-Leibler divergence from a centre.

    This gives (1/η) log Σ_g c_g exp(η·L_g) and the weights that one step of exponentiated gradient would
    give (Sagawa et al. 2020, § 3.3). `centre` (G, H) log c_g, -inf where a head has no such number.
    """

    sharpness: Tensor
    centre: Tensor

    @staticmethod
    def of_present(present: Tensor) -> WorstOne:
        """Of those numbers (G, H) bool that there are, all alike."""
        centre = torch.where(present, -present.sum(0).double().log(), -torch.inf)
        return WorstOne(torch.ones_like(centre[0]), centre)

    @property
    def diameter(self) -> Tensor:
        """See WorstCase: log of how many there are, at least of two."""
        return torch.isfinite(self.centre).sum(0).clamp_min(2).double().log()

    @property
    def common(self) -> Tensor:
        """See WorstCase."""
        return torch.zeros_like(self.sharpness)

    def of(self, keep: Tensor) -> WorstOne:
        """See WorstCase."""
        return WorstOne(self.sharpness[keep], self.centre[:, keep])

    def put(self, heads: Tensor, other: WorstCase) -> WorstOne:
        """See WorstCase."""
        assert isinstance(other, WorstOne)
        sharpness = self.sharpness.index_copy(0, heads, other.sharpness)
        return WorstOne(sharpness, self.centre.index_copy(1, heads, other.centre))

    def at(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """See WorstCase."""
        value, log_q = self._soft(losses)
        return value, log_q.exp()

    @property
    def has_directions(self) -> bool:
        """See RiskOf."""
        return False

    def bend(self, losses: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See RiskOf: the diagonal without what all have in common, which WorstGroup takes away."""
        return self.sharpness * self.at(losses)[1], None

    def bounds(self, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See WorstCase."""
        present = torch.where(torch.isfinite(self.centre), losses, -torch.inf)
        q = self.at(losses)[1]
        worst = present.amax(0)
        return worst, (q * torch.where(q > 0, losses, 0)).sum(0), worst

    def moved(self, losses: Tensor, sharpness: Tensor) -> WorstOne:
        """See WorstCase."""
        _, log_q = self._soft(losses)
        # One that counted for nothing can still come back within a few steps.
        floor = torch.where(torch.isfinite(self.centre), _FORGOTTEN, -torch.inf)
        return WorstOne(sharpness, torch.maximum(log_q, floor))

    def _soft(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """The smoothed maximum (H,) and the logarithms of the weights (G, H)."""
        score = self.centre + self.sharpness * losses
        total = torch.logsumexp(score, dim=0)
        return total / self.sharpness, score - total


@dataclass(frozen=True)
class WorstGroup:
    """A worst case over groups of mean loss + adjustment (Sagawa et al. 2020, eq. 5 and § 3.3).

    `adjustment` (G, H), at most 0; `worst` is the worst case of the groups' numbers.
    """

    means: GroupMeans
    adjustment: Tensor
    common: Tensor
    worst: WorstCase

    @staticmethod
    def of_groups(risks: Sequence[GroupRisk], weights: RowWeights, codes: RowCodes) -> WorstGroup:
        """From specs' risks, all with a share or none; a group without a row that weighs takes no part."""
        count = max(len(risk.adjustment) for risk in risks)
        device = weights.values.device
        found: dict[object, int] = {}
        groupings: list[Grouping] = []
        totals, column = [], []
        for head, risk in enumerate(risks):
            tree = risk.shrinking.tree if risk.shrinking is not None and risk.shrinking.strength else None
            way = int(weights.column[head]), int(codes.column[head]), tree
            if way not in found:
                found[way] = len(groupings)
                mass = weights.values[:, way[0]].double()
                grouping, total = _grouping(mass, codes.values[:, way[1]], count)
                if tree is not None:
                    rows = total * (mass > 0).sum() / mass.sum()
                    ladder = Ladder.of_tree(tree.parent.values, tree.above.values, rows)
                    grouping = replace(grouping, ladder=ladder)
                groupings.append(grouping)
                totals.append(total)
            column.append(found[way])
        strength = [0.0 if risk.shrinking is None else risk.shrinking.strength for risk in risks]
        of_head = torch.tensor(column, device=device)
        means = GroupMeans(
            tuple(groupings), of_head, torch.tensor(strength, dtype=torch.float64, device=device), count
        )
        present = torch.stack(totals, dim=1)[:, of_head] > 0
        adjustment = torch.zeros(count, len(risks), dtype=torch.float64, device=device)
        for head, risk in enumerate(risks):
            given = torch.tensor(risk.adjustment, dtype=torch.float64, device=device)
            adjustment[: len(given), head] = given
        # What all groups have in common decides nothing, and would drown small losses in rounding.
        common = torch.where(present, adjustment, -torch.inf).amax(0)
        adjustment = torch.where(present, adjustment - common, 0)
        return WorstGroup(means, adjustment, common, _worst(risks, present))

    @property
    def diameter(self) -> Tensor:
        """See WorstCase."""
        return self.worst.diameter

    def of(self, keep: Tensor) -> WorstGroup:
        """See WorstCase."""
        return WorstGroup(
            self.means.of(keep), self.adjustment[:, keep], self.common[keep], self.worst.of(keep)
        )

    def put(self, heads: Tensor, other: WorstCase) -> WorstGroup:
        """See WorstCase."""
        assert isinstance(other, WorstGroup)
        return replace(self, worst=self.worst.put(heads, other.worst))

    def at(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """See WorstCase."""
        value, q = self.worst.at(self._adjusted(losses))
        return value, self.means.back(q).to(losses.dtype)

    @property
    def has_directions(self) -> bool:
        """See RiskOf: of few groups."""
        return self.means.count <= _FEW

    def bend(self, losses: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See RiskOf: Σ_g d_g (e_g - d/Σd)(e_g - d/Σd)ᵀ of the groups' own d, by those where it is largest.

        Of many groups, whose rows are few, the rows' own part of it stands for all.
        """
        by_group, _ = self.worst.bend(self._adjusted(losses))
        assert by_group is not None
        if not self.has_directions:
            return self.means.back(by_group), None
        middle = by_group / by_group.sum(0).clamp_min(1e-300)
        size, most = by_group.topk(min(_FOLLOWED, len(by_group)), dim=0)  # (r, H)
        out = losses.new_empty(*losses.shape, len(most))
        for place, (of_head, length) in enumerate(zip(most, size.sqrt(), strict=True)):
            away = -middle
            away.scatter_add_(0, of_head.unsqueeze(0), torch.ones_like(middle[:1]))
            out[..., place] = self.means.back(length * away)
        return None, out

    def bounds(self, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See WorstCase."""
        plain = self.means.at(losses)
        worst, under, _ = self.worst.bounds(plain + self.adjustment)
        return worst, under, self.worst.bounds(plain)[0]

    def moved(self, losses: Tensor, sharpness: Tensor) -> WorstGroup:
        """See WorstCase."""
        return replace(self, worst=self.worst.moved(self._adjusted(losses), sharpness))

    def _adjusted(self, losses: Tensor) -> Tensor:
        return self.means.at(losses) + self.adjustment


def _grouping(mass: Tensor, codes: Tensor, count: int) -> tuple[Grouping, Tensor]:
    """The grouping of rows of weights `mass` (n,), and each group's weight (count,)."""
    mass = torch.where(codes < 0, 0, mass)
    codes = codes.clamp_min(0)
    total = torch.zeros(count, dtype=torch.float64, device=mass.device).scatter_add_(0, codes, mass)
    return Grouping(codes, mass / total.gather(0, codes).clamp_min(1e-300), None), total


def _worst(risks: Sequence[GroupRisk], present: Tensor) -> WorstCase:
    """Over groups that are `present` (G, H): the one worst where no share is asked for."""
    shares = [risk.share for risk in risks if risk.share is not None]
    if not shares:
        return WorstOne.of_present(present)
    alike = present.double() / present.sum(0)
    weights = RowWeights(alike, torch.arange(len(risks), device=present.device))
    # No share is less than one group.
    size = torch.minimum(1 / torch.tensor(shares, dtype=torch.float64, device=present.device), present.sum(0))
    return WorstShare(weights, size, torch.ones_like(size), None)
