"""Losses of single rows: cross-entropy with offsets, margins and scale, focal, generalised cross-entropy.

All are a function φ of the log-probability of the row's own class, after logits have been shifted and scaled:
loss = φ(log p_y) and d loss/d logits = c·(p - onehot(y)) with c = -φ'. Heads of one stack share φ and differ
in its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from headwater.heads.objectives.base import EVERY, by_head

# From so many heads on torch's softmax, which is across them, has enough numbers side by side to be fast.
_WIDE = 16


class Shape(Protocol):
    """φ of the log-probability of the row's class."""

    @property
    def is_convex(self) -> bool:
        """Whether φ(log softmax) is convex in the logits."""
        ...

    def at(self, log_p: Tensor) -> tuple[Tensor, Tensor | None]:
        """φ and c = -φ' at log-probabilities (n, H); c None is 1 everywhere."""
        ...

    def of(self, keep: Tensor) -> Shape:
        """The shape of some of the heads."""
        ...


@dataclass(frozen=True)
class Logarithm:
    """Cross-entropy: φ(s) = -s."""

    is_convex: bool = True

    def at(self, log_p: Tensor) -> tuple[Tensor, Tensor | None]:
        """See Shape."""
        return -log_p, None

    def of(self, keep: Tensor) -> Logarithm:
        """See Shape."""
        return self


@dataclass(frozen=True)
class FocalShape:
    """φ(s) = -(1 - e^s)^gamma·s (Lin et al. 2017, Focal loss for dense object detection, eq. 4).

    `gamma` (H,).
    """

    gamma: Tensor
    is_convex: bool = False

    def at(self, log_p: Tensor) -> tuple[Tensor, Tensor | None]:
        """See Shape."""
        gamma = self.gamma.to(log_p.dtype)
        other = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        power = other**gamma
        return -power * log_p, power * (1 - gamma * log_p.exp() * (log_p / other))

    def of(self, keep: Tensor) -> FocalShape:
        """See Shape."""
        return replace(self, gamma=self.gamma[keep])


@dataclass(frozen=True)
class PowerShape:
    """φ(s) = (1 - e^(qs))/q (Zhang & Sabuncu 2018, Generalized cross entropy loss, eq. 6); `q` (H,) > 0."""

    q: Tensor
    is_convex: bool = False

    def at(self, log_p: Tensor) -> tuple[Tensor, Tensor | None]:
        """See Shape."""
        q = self.q.to(log_p.dtype)
        return -torch.expm1(q * log_p) / q, torch.exp(q * log_p)

    def of(self, keep: Tensor) -> PowerShape:
        """See Shape."""
        return replace(self, q=self.q[keep])


@dataclass(frozen=True)
class ShapedLoss:
    """φ(log softmax(scale·(z + offset - margin_y·onehot(y)))[y]) for rows with one label each.

    `target` (n,) class numbers, or (n, H) where heads differ. `offset` and `margin` (classes, H), `scale`
    (H,): None where no head has any. `columns` is 1 for two classes.
    """

    target: Tensor
    columns: int
    shape: Shape
    offset: Tensor | None = None
    margin: Tensor | None = None
    scale: Tensor | None = None

    @property
    def is_convex(self) -> bool:
        """See RowLoss."""
        return self.shape.is_convex

    def of(self, keep: Tensor) -> ShapedLoss:
        """See RowLoss."""
        return replace(
            self,
            target=self.target if self.target.ndim == 1 else self.target[:, keep],
            shape=self.shape.of(keep),
            offset=None if self.offset is None else self.offset[:, keep],
            margin=None if self.margin is None else self.margin[:, keep],
            scale=None if self.scale is None else self.scale[keep],
        )

    @property
    def is_plain(self) -> bool:
        """Whether it is cross-entropy and nothing else."""
        extras = (self.offset, self.margin, self.scale)
        return isinstance(self.shape, Logarithm) and all(each is None for each in extras)

    def at(self, z: Tensor, rows: slice = EVERY) -> tuple[Tensor, Tensor]:
        """See RowLoss."""
        target = self.target[rows]
        if self.columns == 1:
            sign, score = self._score(z, target)
            loss, factor = self.shape.at(functional.logsigmoid(score))
            slope = torch.sigmoid(-score) * -sign
            if factor is not None:
                slope *= factor
            if self.scale is not None:
                slope *= self.scale.to(z.dtype)
            return loss, slope.unsqueeze(1)
        log_p, slope, index = self._softmax(z, target)
        loss, factor = self.shape.at(log_p)
        slope.scatter_add_(1, index, slope.new_full((), -1.0).expand(index.shape))
        if factor is not None:
            slope *= factor.unsqueeze(1)
        if self.scale is not None:
            slope *= self.scale.to(z.dtype)
        return loss, slope

    def curvature(self, z: Tensor, weights: Tensor, rows: slice = EVERY) -> Tensor:
        """See RowLoss: Σ weights_i c_i scale² (diag p_i - p_i p_iᵀ), which is exact for cross-entropy."""
        target = self.target[rows]
        if self.columns == 1:
            return self._of_rows(z, weights, target).sum(0).view(-1, 1, 1)
        log_p, p, _ = self._softmax(z, target)
        _, factor = self.shape.at(log_p)
        p = p.double().permute(2, 0, 1)  # heads, rows, columns
        weighted = p * self._curved(weights, factor).T.unsqueeze(2)
        return torch.diag_embed(weighted.sum(1)) - weighted.transpose(1, 2) @ p

    def by_row(self, z: Tensor, weights: Tensor) -> Tensor | None:
        """See RowLoss."""
        return self._of_rows(z, weights, self.target) if self.columns == 1 else None

    def _of_rows(self, z: Tensor, weights: Tensor, target: Tensor) -> Tensor:
        """weights_i ∂²loss_i/∂z_i² of two-class rows, (n, H) float64."""
        _, score = self._score(z, target)
        _, factor = self.shape.at(functional.logsigmoid(score))
        p = torch.sigmoid(score).double()
        return self._curved(weights, factor) * p * (1 - p)

    def _curved(self, weights: Tensor, factor: Tensor | None) -> Tensor:
        """Weights (n, H) float64 with what the shape and the scale put in front of softmax's curvature."""
        weights = weights.double()
        if factor is not None:
            weights = weights * factor.double()
        return weights if self.scale is None else weights * self.scale.double() ** 2

    def _score(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Signs of the rows' classes and the logit (n, H) of each row's class against the other."""
        sign = (2 * target - 1).to(z.dtype)
        if sign.ndim == 1:
            sign = sign.unsqueeze(1)
        score = z.squeeze(1)
        if self.offset is not None:
            score = score + (self.offset[1] - self.offset[0]).to(z.dtype)
        score = sign * score
        if self.margin is not None:
            score -= self._margins(target, z)
        if self.scale is not None:
            score *= self.scale.to(z.dtype)
        return sign, score

    def _margins(self, target: Tensor, z: Tensor) -> Tensor:
        assert self.margin is not None
        margin = self.margin.to(z.dtype)
        return margin[target] if target.ndim == 1 else margin.gather(0, target)

    def _softmax(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities (n, H) of the rows' classes, a new tensor of probabilities (n, K, H), and each
        row's class as an index (n, 1, H) into them.
        """
        index = target.view(len(z), 1, -1).expand(-1, 1, z.shape[2])
        if self.offset is not None:
            z = z + self.offset.to(z.dtype)
        if self.margin is not None:
            taken = -self._margins(target, z).unsqueeze(1)
            z = z.scatter_add(1, index, taken)
        if self.scale is not None:
            z = z * self.scale.to(z.dtype)
        if z.shape[2] >= _WIDE:
            all_log = functional.log_softmax(z, dim=1)
            return all_log.gather(1, index).squeeze(1), all_log.exp_(), index
        top = z.amax(1, keepdim=True)
        own = z.gather(1, index) - top
        p = (z - top).exp_()
        total = p.sum(1, keepdim=True)
        return (own - total.log()).squeeze(1), p.div_(total), index


@dataclass(frozen=True)
class MixedLoss:
    """share·loss(y_own) + (1 - share)·loss(y_partner) of mixtures: mixup (Zhang et al. 2018, §2).

    `own` and `partner` are the same loss with the two sets of labels; `share` (m, U) and the column (H,) of
    each head.
    """

    own: ShapedLoss
    partner: ShapedLoss
    share: Tensor
    column: Tensor

    @property
    def is_convex(self) -> bool:
        """See RowLoss."""
        return self.own.is_convex

    def of(self, keep: Tensor) -> MixedLoss:
        """See RowLoss."""
        column, share = self.column[keep], self.share
        if share.shape[1] > len(column):
            column, share = torch.arange(len(column), device=column.device), share[:, column]
        return MixedLoss(self.own.of(keep), self.partner.of(keep), share, column)

    def at(self, z: Tensor, rows: slice = EVERY) -> tuple[Tensor, Tensor]:
        """See RowLoss."""
        share = by_head(self.share[rows], self.column)
        if self.own.is_plain and self.own.columns == 1:
            # Linear in the label: one evaluation for both.
            soft = share * self.own.target[rows].unsqueeze(1) + (1 - share) * self.partner.target[rows]
            score = z.squeeze(1)
            ahead = score > 0
            against = torch.where(ahead, 1 - soft, soft)  # the label of the class with the lower score
            size = score.abs()
            loss = functional.softplus(-size).addcmul_(size, against)
            slope = against.sub_(torch.sigmoid(-size))
            return loss, torch.where(ahead, slope, -slope).unsqueeze(1)
        loss, slope = self.partner.at(z, rows)
        own_loss, own_slope = self.own.at(z, rows)
        return loss.lerp_(own_loss, share), slope.lerp_(own_slope, share.unsqueeze(1))

    def curvature(self, z: Tensor, weights: Tensor, rows: slice = EVERY) -> Tensor:
        """See RowLoss."""
        share = by_head(self.share[rows], self.column)
        own = self.own.curvature(z, weights * share, rows)
        return own + self.partner.curvature(z, weights * (1 - share), rows)

    def by_row(self, z: Tensor, weights: Tensor) -> Tensor | None:
        """See RowLoss: mixtures are no rows of the features."""
        return None
