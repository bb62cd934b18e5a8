"""Penalties on how the logits of a head differ between groups of rows: IRM, CORAL and MMD.

All see the logits of every class: for two classes, whose one column is the logit of class 1 against class 0,
they are minus and plus half of it, which is how such a head comes out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headwater.errors import RequestError
from headwater.heads.objectives.base import InvarianceOf, RowCodes, RowWeights
from headwater.heads.specs.criterion import MOST_COMPARED, Invariance

# Gaussian kernels exp(-gamma·distance²/width). DomainBed's run from 0.001 to 1000 for features of many
# dimensions; of a few logits the narrow ones see the distance to the next row and no distribution.
_GAMMAS = (0.1, 1.0, 10.0)
# Rows that MMD compares, of all groups together; kernels cost their square.
_COMPARED = 2 * MOST_COMPARED
# Numbers of a stack of kernels: about as many as stay in the cache.
_AT_ONCE = 1 << 18
# More directions than these cost a metric more than they save.
_MOST_STEEP = 32


def invariance_of(
    invariances: Sequence[Invariance], weights: RowWeights, codes: RowCodes, target: Tensor, columns: int
) -> InvarianceOf:
    """The penalties, all of one kind, of a stack of heads on n rows; `target` (n,) are class numbers.

    A group's means are by the rows' weights; a group without weight takes no part. RequestError for more
    groups than MMD can compare.
    """
    strength = torch.tensor(
        [each.strength for each in invariances], dtype=torch.float64, device=target.device
    )
    pairs = torch.stack([weights.column, codes.column], dim=1)
    different, column = torch.unique(pairs, dim=0, return_inverse=True)
    groups = [
        _Groups.of(weights.values[:, weight], codes.values[:, code]) for weight, code in different.tolist()
    ]
    scale = torch.tensor(
        [each.width**-0.5 for each in invariances], dtype=torch.float64, device=target.device
    )
    kind = invariances[0].kind
    if kind == "irm":
        classes = 2 if columns == 1 else columns
        labels = torch.nn.functional.one_hot(target.clamp(0, classes - 1), classes)
        return Penalties(strength, torch.ones_like(scale), tuple(groups), column, _Irm(labels))
    if kind == "coral":
        return Penalties(strength, torch.ones_like(scale), tuple(groups), column, _Coral())
    most = max(each.count for each in groups)
    if most > MOST_COMPARED:
        raise RequestError(
            f"MMD compares rows of at most {MOST_COMPARED} groups, and there are {most}; "
            "use CORAL or fewer groups"
        )
    return Penalties(strength, scale, tuple(each.thinned() for each in groups), column, _Mmd())


@dataclass(frozen=True)
class _Groups:
    """Some of the n rows, with the group `codes` (m,) from 0 and the weight within it, `share` (m,) float64.

    `rows` (m,) are their numbers; `count` the groups.
    """

    rows: Tensor
    codes: Tensor
    share: Tensor
    count: int

    @staticmethod
    def of(weights: Tensor, codes: Tensor) -> _Groups:
        rows = torch.nonzero((weights > 0) & (codes >= 0)).flatten()
        present, inner = torch.unique(codes[rows], return_inverse=True)
        return _Groups(rows, inner, weights[rows].double(), len(present))._normalised()

    def _normalised(self) -> _Groups:
        total = torch.zeros(self.count, dtype=torch.float64, device=self.share.device)
        total.index_add_(0, self.codes, self.share)
        return replace(self, share=self.share / total[self.codes])

    def thinned(self) -> _Groups:
        """At most an equal part of the compared rows from each group: a fixed draw, the same every time."""
        most = _COMPARED // max(1, self.count)
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(0))
        order = order.to(self.codes.device)
        order = order[torch.argsort(self.codes[order], stable=True)]
        sizes = torch.bincount(self.codes, minlength=self.count)
        first = torch.cumsum(sizes, 0) - sizes
        place = torch.arange(len(order), device=order.device) - first[self.codes[order]]
        kept = order[place < most].sort().values
        return _Groups(self.rows[kept], self.codes[kept], self.share[kept], self.count)._normalised()

    def mean(self, values: Tensor) -> Tensor:
        """The groups' means (G, ...) float64 of rows' values (m, ...)."""
        share = self.share.view(-1, *[1] * (values.ndim - 1))
        out = torch.zeros((self.count, *values.shape[1:]), dtype=torch.float64, device=values.device)
        return out.index_add_(0, self.codes, values * share)

    def spread(self, values: Tensor) -> Tensor:
        """The transpose of `mean`: (m, ...) from (G, ...)."""
        return values[self.codes] * self.share.view(-1, *[1] * (values.ndim - 1))

    def apart(self, values: Tensor) -> Tensor:
        """Rows' parts of their group's mean, one group beside the other: (m, ..., G) from (m, ...)."""
        own = torch.nn.functional.one_hot(self.codes, self.count) * self.share.unsqueeze(1)
        return values.unsqueeze(-1) * own.view(len(own), *[1] * (values.ndim - 1), -1)

    @property
    def pairs(self) -> int:
        """How many pairs of groups there are, at least 1."""
        return max(1, self.count * (self.count - 1) // 2)


class _Kind:
    """A penalty of logits (m, C, h), float64, of heads with the same groups: value (h,) and derivative."""

    def at(self, z: Tensor, groups: _Groups) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def steep(self, z: Tensor, groups: _Groups) -> Tensor | None:
        """Directions (m, C, h, r) whose squares add up to about the second derivative, if they are few."""
        return None


@dataclass(frozen=True)
class _Irm(_Kind):
    """Σ_g (d mean loss_g(w·z)/dw at w = 1)², which is (mean_g Σ_k (p_k - y_k) z_k)² (Arjovsky 2019, IRMv1).

    `labels` (n, C), one-hot.
    """

    labels: Tensor

    def at(self, z: Tensor, groups: _Groups) -> tuple[Tensor, Tensor]:
        error, towards = self._parts(z, groups)
        slope = groups.mean((error * z).sum(1))
        return slope.square().sum(0), towards * groups.spread(2 * slope).unsqueeze(1)

    def steep(self, z: Tensor, groups: _Groups) -> Tensor | None:
        """See _Kind: a sum of squares is about the squares of what each derivative says (Gauss-Newton)."""
        if groups.count > _MOST_STEEP:
            return None
        return math.sqrt(2) * groups.apart(self._parts(z, groups)[1])

    def _parts(self, z: Tensor, groups: _Groups) -> tuple[Tensor, Tensor]:
        """The derivative of each row's loss by its logits, and that of its product with the logits."""
        p = torch.softmax(z, dim=1)
        error = p - self.labels[groups.rows].unsqueeze(2)
        return error, error + p * (z - (p * z).sum(1, keepdim=True))


class _Coral(_Kind):
    """Mean squared difference of means, and of covariances, mean over pairs of groups.

    As DomainBed computes it (Gulrajani & Lopez-Paz 2021), after Sun & Saenko 2016. A sum over pairs of
    squared differences is G·Σ‖m_g‖² - ‖Σ m_g‖², so that nothing is quadratic in the groups.
    """

    def at(self, z: Tensor, groups: _Groups) -> tuple[Tensor, Tensor]:
        classes = z.shape[1]
        mean = groups.mean(z)
        centred = z - mean[groups.codes]
        outer = groups.mean(centred.unsqueeze(1) * centred.unsqueeze(2))
        # Σ share (z - m)² is short by the factor that n - 1 instead of n makes up for.
        kept = 1 - groups.mean(groups.share)
        unbiased = torch.where(kept > 1e-12, 1 / kept.clamp_min(1e-12), 0).view(-1, 1, 1, 1)
        covariance = outer * unbiased
        value, derivative = _between(mean, groups)
        result, by_mean = value / classes, derivative / classes
        value, derivative = _between(covariance, groups)
        result = result + value / classes**2
        by_outer = derivative * unbiased / classes**2
        by_z = groups.spread(by_mean)
        along = 2 * (by_outer[groups.codes] * centred.unsqueeze(1)).sum(2)
        return result, by_z + along * groups.share.view(-1, 1, 1)

    def steep(self, z: Tensor, groups: _Groups) -> Tensor | None:
        """See _Kind: for two classes, each group's mean and variance less those of all groups."""
        if z.shape[1] > 2 or 2 * groups.count > _MOST_STEEP:
            return None
        kept = 1 - groups.mean(groups.share)
        unbiased = torch.where(kept > 1e-12, 1 / kept.clamp_min(1e-12), 0)
        # One logit is minus the other, so that one mean and one variance stand for two and four.
        second = z[:, 1:]
        by_mean = groups.apart(torch.ones_like(second))
        by_variance = groups.apart(2 * (second - groups.mean(second)[groups.codes])) * unbiased
        away = [each - each.mean(-1, keepdim=True) for each in (by_mean, by_variance)]
        out = math.sqrt(2 * groups.count / groups.pairs) * torch.cat(away, dim=-1)
        return torch.cat([-out, out], dim=1) / 2


def _between(values: Tensor, groups: _Groups) -> tuple[Tensor, Tensor]:
    """Squared differences (h,) of values (G, ..., h), mean over pairs of groups, and the derivative."""
    total = values.sum(0)
    inner = tuple(range(values.ndim - 1))
    # Differences from the mean of groups, lest two large sums cancel.
    away = values - total / len(values)
    value = len(values) * away.square().sum(inner) / groups.pairs
    return value, 2 * len(values) * away / groups.pairs


class _Mmd(_Kind):
    """Mean over pairs of groups of mean k(x, x') + mean k(y, y') - 2 mean k(x, y) (Li et al. 2018).

    k is a sum of Gaussian kernels of several widths, as in DomainBed. Its exact value where groups are small;
    larger ones send a fixed sample of rows, which keeps the cost bounded and one evaluation like the next.
    Random features would use all rows, but at the narrowest kernel they are mostly noise.
    """

    def at(self, z: Tensor, groups: _Groups) -> tuple[Tensor, Tensor]:
        same = groups.codes.unsqueeze(0) == groups.codes.unsqueeze(1)
        share = torch.outer(groups.share, groups.share)
        factor = (share * (groups.count * same - 1.0) / groups.pairs).float()
        own = z.permute(2, 0, 1)
        values, derivatives = [], []
        size = max(1, _AT_ONCE // factor.numel())
        for part in (own[first : first + size] for first in range(0, len(own), size)):
            distance = part.new_zeros(len(part), *factor.shape)
            for each in part.unbind(2):
                distance += (each.unsqueeze(1) - each.unsqueeze(2)).square_()
            kernel, slope = _bells(distance.float())
            values.append((kernel * factor).sum((1, 2), dtype=torch.float64))
            slope = slope.mul_(factor).double()
            derivatives.append(4 * (slope.sum(2, keepdim=True) * part - slope @ part))
        return torch.cat(values), torch.cat(derivatives).permute(1, 2, 0)


def _bells(distance: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the kernels at squared distances, and its derivative by them.

    Every other kernel is a power of the one before it, for which an exponential costs more.
    """
    kernel, slope = torch.zeros_like(distance), torch.zeros_like(distance)
    bell = kernel
    for number, gamma in enumerate(_GAMMAS):
        if number % 2 == 0:
            bell = torch.exp(distance * -gamma)
        else:
            twice = bell * bell
            bell = (twice * twice).square_().mul_(twice)
        kernel += bell
        slope.add_(bell, alpha=-gamma)
    return kernel, slope


@dataclass(frozen=True)
class Penalties:
    """`strength` (H,) times a penalty on `scale` (H,) times the logits; `column` (H,) says whose `groups`."""

    strength: Tensor
    scale: Tensor
    groups: tuple[_Groups, ...]
    column: Tensor
    kind: _Kind

    @property
    def is_convex(self) -> bool:
        """See InvarianceOf: none of the three is."""
        return False

    def of(self, keep: Tensor) -> Penalties:
        """See InvarianceOf."""
        return replace(self, strength=self.strength[keep], scale=self.scale[keep], column=self.column[keep])

    def at(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """See InvarianceOf."""
        value = torch.zeros_like(self.strength)
        derivative = torch.zeros_like(z)
        for groups, heads, seen in self._each(z):
            penalty, slope = self.kind.at(seen * self.scale[heads], groups)
            slope = slope * self.scale[heads]
            if z.shape[1] == 1:
                slope = (slope[:, 1:] - slope[:, :1]) / 2
            value[heads] = self.strength[heads] * penalty
            part = torch.zeros(len(z), z.shape[1], len(heads), dtype=z.dtype, device=z.device)
            part[groups.rows] = (slope * self.strength[heads]).to(z.dtype)
            derivative[:, :, heads] = part
        return value, derivative

    def curvature(self, z: Tensor) -> Tensor | None:
        """See InvarianceOf: its few steep directions say it."""
        return None

    def steep(self, z: Tensor) -> Tensor | None:
        """See InvarianceOf."""
        made = [(groups, heads, self.kind.steep(seen, groups)) for groups, heads, seen in self._each(z)]
        rank = max(0 if each is None else each.shape[3] for _, _, each in made)
        if rank == 0:
            return None
        out = torch.zeros(*z.shape, rank, dtype=z.dtype, device=z.device)
        for groups, heads, each in made:
            if each is not None:
                directions = (each[:, 1:] - each[:, :1]) / 2 if z.shape[1] == 1 else each
                part = torch.zeros(len(z), z.shape[1], len(heads), rank, dtype=z.dtype, device=z.device)
                scaled = directions * self.strength[heads].sqrt().unsqueeze(1)
                part[groups.rows, :, :, : each.shape[3]] = scaled.to(z.dtype)
                out[:, :, heads] = part
        return out

    def _each(self, z: Tensor) -> Iterator[tuple[_Groups, Tensor, Tensor]]:
        """Each grouping, the heads (h,) that have it, and their logits by class (m, C, h), float64."""
        for number in torch.unique(self.column).tolist():
            heads = torch.nonzero(self.column == number).flatten()
            groups = self.groups[number]
            seen = z[groups.rows][:, :, heads].double()
            yield groups, heads, torch.cat([-seen / 2, seen / 2], dim=1) if z.shape[1] == 1 else seen
