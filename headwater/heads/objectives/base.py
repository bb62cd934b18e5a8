"""The parts of a general head's objective as functions of its logits, and their composition.

Logits are (n, K, H): rows, columns (one for a two-class problem, the logit of class 1 against class 0; else
one per class), heads. Which row losses, risks and invariances there are lives in the files beside this one;
features and penalties are the solver's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

EVERY = slice(None)
# Numbers of a chunk of rows: a few buffers of this many float32 stay in the last-level cache, and torch's
# start-up cost per operation stays small beside the work.
_CHUNK = 1 << 20
# Rows from which a preconditioner is made; more of them would not change it.
_SAMPLE = 8192
# The share of the squared derivatives in it.
_SQUARES = 0.1


class RowLoss(Protocol):
    """A loss of each row by itself."""

    @property
    def is_convex(self) -> bool:
        """Whether every row's loss is a convex function of its logits."""
        ...

    def at(self, z: Tensor, rows: slice = EVERY) -> tuple[Tensor, Tensor]:
        """Losses (n, H) and each one's derivative by its own row's logits (n, K, H).

        `z` are the logits of the loss's rows `rows`; both answers are new tensors.
        """
        ...

    def curvature(self, z: Tensor, weights: Tensor, rows: slice = EVERY) -> Tensor:
        """About Σ_i weights_i ∂²loss_i/∂z_i² over `rows`, positive semi-definite, (H, K, K) float64.

        `weights` (n, H).
        """
        ...

    def by_row(self, z: Tensor, weights: Tensor) -> Tensor | None:
        """What `curvature` adds up over all rows, (n, H) float64; None where it is no number per row."""
        ...

    def of(self, keep: Tensor) -> RowLoss:
        """The loss of some of the heads only; `keep` holds their numbers."""
        ...


class RiskOf(Protocol):
    """Makes the row losses of each head into one number."""

    def at(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """From losses (n, H): the value (H,) float64, and its derivative by each loss (n, H), in their dtype.

        The derivative is a weight per row, non-negative and of sum 1 in every risk of a distribution.
        """
        ...

    @property
    def has_directions(self) -> bool:
        """Whether `bend` may answer with directions, for which losses need not be found otherwise."""
        ...

    def bend(self, losses: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """About its second derivative by the losses, for a metric: a diagonal (n, H), and directions.

        Directions are (n, H, r), whose squares add up to the rest. None for nothing.
        """
        ...

    def of(self, keep: Tensor) -> RiskOf:
        """The risk of some of the heads only."""
        ...


class InvarianceOf(Protocol):
    """A penalty on how logits differ between groups of rows, strength included."""

    @property
    def is_convex(self) -> bool:
        """Whether the penalty is a convex function of the logits."""
        ...

    def at(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The value (H,) float64 and its derivative by the logits (n, K, H), a new tensor."""
        ...

    def curvature(self, z: Tensor) -> Tensor | None:
        """About the mean over rows of its second derivative by a row's logits, (H, K, K) float64.

        For a metric only; None where `steep` says it, or nothing does.
        """
        ...

    def steep(self, z: Tensor) -> Tensor | None:
        """Directions (n, K, H, r) whose squares add up to about its second derivative by the logits.

        For a metric only; None where few directions cannot say it.
        """
        ...

    def of(self, keep: Tensor) -> InvarianceOf:
        """The penalty of some of the heads only."""
        ...


def by_head(values: Tensor, column: Tensor) -> Tensor:
    """Columns of (n, U) `values`, one for each head; those of heads in order are not copied."""
    count = values.shape[1]
    in_order = count == len(column) and torch.equal(column, torch.arange(count, device=column.device))
    return values if in_order else values[:, column]


@dataclass(frozen=True)
class RowWeights:
    """Weights (n, U), each column of sum 1, and the column (H,) of each head."""

    values: Tensor
    column: Tensor

    def at(self, rows: slice = EVERY) -> Tensor:
        """The weights of these rows for each head, (n, H), or (n, 1) where all heads share them."""
        part = self.values[rows]
        return part if part.shape[1] == 1 else part[:, self.column]

    def of(self, keep: Tensor) -> RowWeights:
        """The weights of some of the heads."""
        return RowWeights(self.values, self.column[keep])


@dataclass(frozen=True)
class RowCodes:
    """Group codes (n, U) int64 from 0, and the column (H,) of each head; -1 for a row without weight."""

    values: Tensor
    column: Tensor

    def of(self, keep: Tensor) -> RowCodes:
        """The codes of some of the heads."""
        return RowCodes(self.values, self.column[keep])


@dataclass(frozen=True)
class WeightedMean:
    """The risk that most heads have: the weighted mean of the losses."""

    weights: RowWeights

    def at(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """See RiskOf."""
        weights = self.weights.at()
        return (losses * weights).sum(0, dtype=torch.float64), weights.expand_as(losses)

    @property
    def has_directions(self) -> bool:
        """See RiskOf."""
        return False

    def bend(self, losses: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See RiskOf: a mean is linear."""
        return None, None

    def of(self, keep: Tensor) -> WeightedMean:
        """See RiskOf."""
        return WeightedMean(self.weights.of(keep))


@dataclass(frozen=True)
class Mixtures:
    """Loss row i sees the mixture share_i·z[own_i] + (1 - share_i)·z[partner_i] of the n rows' logits.

    `own` (m,); `partner` and `share` (m, U), and the column (H,) of each head. A mixture of features and the
    mixture of their logits are the same under a linear head, so that no features are made.
    """

    own: Tensor
    partner: Tensor
    share: Tensor
    column: Tensor

    def of(self, keep: Tensor) -> Mixtures:
        """The mixtures of some of the heads."""
        column = self.column[keep]
        if self.partner.shape[1] <= len(column):
            return replace(self, column=column)
        own = torch.arange(len(column), device=column.device)
        return Mixtures(self.own, self.partner[:, column], self.share[:, column], own)

    def _index(self, like: Tensor) -> Tensor:
        return by_head(self.partner, self.column).unsqueeze(1).expand(-1, like.shape[1], -1)

    def mix(self, z: Tensor) -> Tensor:
        """Logits (m, K, H) of the mixtures from those of the rows, (n, K, H)."""
        if self.partner.shape[1] == 1:
            other = z.index_select(0, self.partner[:, 0])
        else:
            other = z.gather(0, self._index(z))
        return other.lerp_(z.index_select(0, self.own), self._share())

    def back(self, residual: Tensor, rows: int) -> Tensor:
        """The derivative by the rows' logits (n, K, H) from that by the mixtures', (m, K, H)."""
        out = residual.new_zeros(rows, *residual.shape[1:])
        own = residual * self._share()
        out.index_add_(0, self.own, own)
        other = residual - own
        if self.partner.shape[1] == 1:
            return out.index_add_(0, self.partner[:, 0], other)
        return out.scatter_add_(0, self._index(residual), other)

    def _share(self) -> Tensor:
        share = self.share if self.share.shape[1] == 1 else by_head(self.share, self.column)
        return share.unsqueeze(1)


@dataclass(frozen=True)
class Objective:
    """risk(losses of the, perhaps mixed, rows) + invariance of the rows; no penalty on weights."""

    loss: RowLoss
    risk: RiskOf
    invariance: InvarianceOf | None = None
    mixtures: Mixtures | None = None

    @property
    def is_convex(self) -> bool:
        """Whether it is a convex function of the logits; a risk keeps convex what is."""
        return self.loss.is_convex and (self.invariance is None or self.invariance.is_convex)

    @property
    def is_exact(self) -> bool:
        """Whether it is as exact as its logits; kernels of an invariance are summed in float32."""
        return self.invariance is None

    def of(self, keep: Tensor) -> Objective:
        """The objective of some of the heads only; `keep` holds their numbers."""
        return replace(
            self,
            loss=self.loss.of(keep),
            risk=self.risk.of(keep),
            invariance=None if self.invariance is None else self.invariance.of(keep),
            mixtures=None if self.mixtures is None else self.mixtures.of(keep),
        )

    def at(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The value (H,) float64 and the residual, its derivative by the logits (n, K, H)."""
        out = torch.empty_like(z)
        value, _ = self.along(z, None, None, out)
        return value, out

    def losses(self, z: Tensor) -> Tensor:
        """The row losses (m, H) that the risk sees."""
        seen = z if self.mixtures is None else self.mixtures.mix(z)
        return torch.cat([self.loss.at(seen[part], part)[0] for part in chunks(seen)])

    def along(self, z: Tensor, d: Tensor | None, t: Tensor | None, out: Tensor) -> tuple[Tensor, Tensor]:
        """Value and slope at `z + t·d` for every head, (H,) float64 each; `d` None means at `z`.

        `out`, shaped like `z` and apart from it, receives the residual.
        """
        step = None if t is None else t.to(z.dtype)
        moved = z
        if (self.mixtures is not None or self.invariance is not None) and d is not None and step is not None:
            moved, step = torch.addcmul(z, d, step), None
        seen = moved if self.mixtures is None else self.mixtures.mix(moved)
        residual = out if self.mixtures is None else torch.empty_like(seen)
        fixed = self.risk.weights if isinstance(self.risk, WeightedMean) else None
        value = torch.zeros(z.shape[2], dtype=torch.float64, device=z.device)
        losses = []
        for part in chunks(seen):
            at = seen[part] if d is None or step is None else torch.addcmul(seen[part], d[part], step)
            loss, derivative = self.loss.at(at, part)
            if fixed is None:
                losses.append(loss)
            else:
                weight = fixed.at(part)
                value += (loss * weight).sum(0, dtype=torch.float64)
                derivative *= weight.unsqueeze(1)
            residual[part] = derivative
        if fixed is None:
            value, weight = self.risk.at(torch.cat(losses))
            residual *= weight.unsqueeze(1)
        if self.mixtures is not None:
            out.copy_(self.mixtures.back(residual, len(z)))
        if self.invariance is not None:
            penalty, derivative = self.invariance.at(moved)
            value = value + penalty
            out += derivative
        slope = torch.zeros_like(value)
        if d is not None:
            for part in chunks(d):
                slope += (out[part] * d[part]).sum((0, 1), dtype=torch.float64)
        return value, slope

    def curvature(self, z: Tensor) -> Tensor:
        """About the mean over rows of the second derivative by a row's logits, (H, K, K) float64.

        For preconditioning: a sample of rows is enough, and of the invariance what it says. A share of the
        squared derivatives is added, since where rows are far on the wrong side, the loss has a slope and
        hardly any curvature, which would make first steps endless.
        """
        seen = z if self.mixtures is None else self.mixtures.mix(z)
        step = max(1, len(seen) // _SAMPLE)
        seen, (weights, by_slope) = seen[::step], self._weighing(z, step)
        total = torch.zeros(z.shape[2], z.shape[1], z.shape[1], dtype=torch.float64, device=z.device)
        for part in chunks(seen):
            rows = slice(part.start * step, part.stop * step, step)
            total += self.loss.curvature(seen[part], weights[part], rows)
            slope = self.loss.at(seen[part], rows)[1].double().permute(2, 0, 1)  # heads, rows, columns
            weighted = slope * by_slope[part].T.unsqueeze(2)
            total += weighted.transpose(1, 2) @ slope
        mean = total / weights.sum(0).clamp_min(1e-30).view(-1, 1, 1)
        more = None if self.invariance is None else self.invariance.curvature(z)
        return mean if more is None else mean + more

    def by_row(self, z: Tensor) -> Tensor | None:
        """What `curvature` adds up of all rows, before it divides by their weights: (n, H) float64.

        None where it is no number for each row of the features: of several classes, of mixtures, or where an
        invariance adds to it.
        """
        if self.mixtures is not None or (
            self.invariance is not None and self.invariance.curvature(z) is not None
        ):
            return None
        weights, by_slope = self._weighing(z)
        curved = self.loss.by_row(z, weights)
        if curved is None:
            return None
        return curved + by_slope * self.loss.at(z)[1].squeeze(1).double().square()

    def _weighing(self, z: Tensor, step: int = 1) -> tuple[Tensor, Tensor]:
        """What the loss's curvatures and squared slopes weigh in a metric, every `step`th row: (m, H) each.

        Curvatures weigh as the losses do in the risk; squared slopes by a share of that, and by how the
        risk itself bends.
        """
        if isinstance(self.risk, WeightedMean):
            weights = self.risk.weights.at(slice(None, None, step)).double().expand(-1, z.shape[2])
            return weights, _SQUARES * weights
        losses = self.losses(z)
        weights = self.risk.at(losses)[1][::step].double()
        bend, _ = self.risk.bend(losses)
        return weights, _SQUARES * weights if bend is None else _SQUARES * weights + bend[::step]

    def steep(self, z: Tensor) -> Tensor | None:
        """Directions (n, K, H, r) whose squares add up to what `curvature` leaves out, as far as they say it.

        For a metric only; None where there are none.
        """
        found = [] if self.invariance is None else [self.invariance.steep(z)]
        if self.mixtures is None and self.risk.has_directions:
            _, by_loss = self.risk.bend(self.losses(z))
            if by_loss is not None:
                found.append(self.loss.at(z)[1].unsqueeze(3) * by_loss.unsqueeze(1))
        known = [each for each in found if each is not None]
        return torch.cat(known, dim=3) if known else None


def chunks(z: Tensor) -> Iterator[slice]:
    """Slices of rows that each hold about as many numbers as stay in the cache."""
    rows = len(z)
    step = max(1, _CHUNK // max(1, z[0].numel()))
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))
