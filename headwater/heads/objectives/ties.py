"""What ties the members of a set of heads on rows without labels, as functions of their log-probabilities.

Log-probabilities are (m, G, K, H): rows, members, classes, sets of heads. Every tie gives its value for each
set, strength included, and its derivative by each log-probability.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Protocol

import torch
from torch import Tensor

_TINY = 1e-30


class TieOf(Protocol):
    """One kind of tie of a stack of sets."""

    @property
    def is_convex(self) -> bool:
        """Whether it is a convex function of the logits."""
        ...

    @property
    def scale(self) -> Tensor:
        """How strong it is beside a mean cross-entropy, (H,) float64; for a metric only."""
        ...

    def at(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """From (m, G, K, H): the value (H,) float64 and its derivative by the log-probabilities."""
        ...

    def of(self, keep: Tensor) -> TieOf:
        """The tie of some of the sets only."""
        ...


@dataclass(frozen=True)
class IndependenceTie:
    """Mutual information of every pair of members, and how far their mean predictions are from the prior.

    `strength` and `balance` (H,), `prior` (K, H).
    """

    strength: Tensor
    balance: Tensor
    prior: Tensor
    is_convex: bool = False

    @property
    def scale(self) -> Tensor:
        """See TieOf."""
        return self.strength + self.balance

    def of(self, keep: Tensor) -> IndependenceTie:
        """See TieOf."""
        return replace(
            self, strength=self.strength[keep], balance=self.balance[keep], prior=self.prior[:, keep]
        )

    def at(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """See TieOf."""
        p = log_p.exp()
        rows = len(p)
        mean = p.mean(0, dtype=torch.float64)  # (G, K, H)
        log_mean = mean.clamp_min(_TINY).log()
        away = log_mean - self.prior.log()
        value = self.balance * (mean * away).sum((0, 1))
        slope = ((away + 1) * self.balance / rows).to(p.dtype) * p
        for one, other in combinations(range(p.shape[1]), 2):
            joint = torch.einsum("mah,mbh->abh", p[:, one], p[:, other]).double() / rows
            ratio = joint.clamp_min(_TINY).log() - log_mean[one].unsqueeze(1) - log_mean[other]
            value = value + self.strength * (joint * ratio).sum((0, 1))
            pull = (ratio * self.strength / rows).to(p.dtype)
            slope[:, one] += p[:, one] * torch.einsum("mbh,abh->mah", p[:, other], pull)
            slope[:, other] += p[:, other] * torch.einsum("mah,abh->mbh", p[:, one], pull)
        return value, slope


@dataclass(frozen=True)
class RepulsionTie:
    """Disagreement with heads that stay as they are.

    `said` (P, m, U) are the classes that P of them predict, `sure` (P, m, U) their probabilities, `column`
    (H,) which of the U each set is held against.
    """

    strength: Tensor
    said: Tensor
    sure: Tensor
    column: Tensor
    is_convex: bool = False

    @property
    def scale(self) -> Tensor:
        """See TieOf."""
        return self.strength

    def of(self, keep: Tensor) -> RepulsionTie:
        """See TieOf."""
        return replace(self, strength=self.strength[keep], column=self.column[keep])

    def at(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """See TieOf."""
        value = torch.zeros_like(self.strength)
        slope = torch.zeros_like(log_p)
        share = self.strength / (len(self.said) * len(log_p))
        for said, sure in zip(self.said, self.sure, strict=True):
            index = said[:, self.column].view(len(log_p), 1, 1, -1).expand(-1, log_p.shape[1], 1, -1)
            theirs = sure[:, self.column].to(log_p.dtype).view(len(log_p), 1, 1, -1)
            p = log_p.gather(2, index).exp()
            apart = (theirs * (1 - p) + p * (1 - theirs)).clamp_min(1e-7)
            value = value - share * apart.log().sum((0, 1, 2), dtype=torch.float64)
            slope.scatter_add_(2, index, (2 * theirs - 1) / apart * p * share.to(p.dtype))
        return value, slope


@dataclass(frozen=True)
class TopTie:
    """ACE's top-k loss: `count` (H,) rows are counted for each way to disagree."""

    strength: Tensor
    count: Tensor
    is_convex: bool = False

    @property
    def scale(self) -> Tensor:
        """See TieOf."""
        return self.strength

    def of(self, keep: Tensor) -> TopTie:
        """See TieOf."""
        return replace(self, strength=self.strength[keep], count=self.count[keep])

    def at(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """See TieOf."""
        _, members, classes, _ = log_p.shape
        value = torch.zeros_like(self.strength)
        slope = torch.zeros_like(log_p)
        for way in product(range(classes), repeat=members):
            if len(set(way)) == 1:
                continue
            loss = -torch.stack([log_p[:, member, code] for member, code in enumerate(way)]).sum(0)
            counted = self._smallest(loss)
            value = value + self.strength * (loss * counted).sum(0, dtype=torch.float64)
            pull = counted * self.strength.to(loss.dtype)
            for member, code in enumerate(way):
                slope[:, member, code] -= pull
        return value, slope

    def _smallest(self, loss: Tensor) -> Tensor:
        """Weights (m, H) of sum 1 on the smallest losses (m, H); rows equal in the last place share it."""
        level = torch.empty_like(loss[0])
        by_head = loss.T.contiguous()
        for count in set(self.count.tolist()):
            mine = self.count == count
            level[mine] = by_head[mine].kthvalue(count, dim=1).values
        below = (loss < level).to(loss.dtype)
        last = (loss == level).to(loss.dtype)
        left = (self.count - below.sum(0)) / last.sum(0)
        return (below + last * left) / self.count


@dataclass(frozen=True)
class TargetTie:
    """Cross-entropy to soft targets `values` (m, K, U); `column` (H,) says which of the U a set has."""

    strength: Tensor
    values: Tensor
    column: Tensor
    is_convex: bool = True

    @property
    def scale(self) -> Tensor:
        """See TieOf."""
        return self.strength

    def of(self, keep: Tensor) -> TargetTie:
        """See TieOf."""
        return replace(self, strength=self.strength[keep], column=self.column[keep])

    def at(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """See TieOf."""
        share = (self.strength / len(log_p)).to(log_p.dtype)
        slope = -self.values[:, :, self.column].to(log_p.dtype).unsqueeze(1) * share
        slope = slope.expand_as(log_p)
        return (log_p * slope).sum((0, 1, 2), dtype=torch.float64), slope
