"""Sets of heads as one head with a block of columns for each member: their losses, and what ties them.

A tie is an invariance of the rows' logits, as solvers see it. What each kind of tie is lives in `ties`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headwater.heads.objectives.base import EVERY
from headwater.heads.objectives.rowloss import ShapedLoss
from headwater.heads.objectives.ties import TieOf


@dataclass(frozen=True)
class MembersLoss:
    """The sum of the members' losses of a row, each on its own block of columns.

    `own` (n, H) marks the rows that only the first member has to fit; None where there are none.
    """

    each: ShapedLoss
    members: int
    own: Tensor | None = None

    @property
    def is_convex(self) -> bool:
        """See RowLoss."""
        return self.each.is_convex

    def of(self, keep: Tensor) -> MembersLoss:
        """See RowLoss."""
        own = None if self.own is None else self.own[:, keep]
        return replace(self, each=self.each.of(keep), own=own)

    def _shared(self, rows: slice, member: int) -> Tensor | None:
        """1 where the member fits the row, else 0, (n, H); None where it fits all."""
        return None if self.own is None or member == 0 else ~self.own[rows]

    def at(self, z: Tensor, rows: slice = EVERY) -> tuple[Tensor, Tensor]:
        """See RowLoss."""
        total: Tensor | None = None
        slopes = []
        for member, block in enumerate(z.chunk(self.members, dim=1)):
            loss, slope = self.each.at(block, rows)
            shared = self._shared(rows, member)
            if shared is not None:
                loss, slope = loss * shared, slope * shared.unsqueeze(1)
            total = loss if total is None else total + loss
            slopes.append(slope)
        assert total is not None
        return total, torch.cat(slopes, dim=1)

    def curvature(self, z: Tensor, weights: Tensor, rows: slice = EVERY) -> Tensor:
        """See RowLoss: members bend apart from each other."""
        blocks = []
        for member, block in enumerate(z.chunk(self.members, dim=1)):
            shared = self._shared(rows, member)
            mine = weights if shared is None else weights * shared
            blocks.append(self.each.curvature(block, mine, rows))
        return by_block(blocks)

    def by_row(self, z: Tensor, weights: Tensor) -> Tensor | None:
        """See RowLoss."""
        return self.each.by_row(z, weights) if self.members == 1 else None


@dataclass(frozen=True)
class Tied:
    """A tie on some of the rows, those numbered `rows` (m,), of sets of `members` heads."""

    rows: Tensor
    members: int
    tie: TieOf

    @property
    def is_convex(self) -> bool:
        """See InvarianceOf."""
        return self.tie.is_convex

    def of(self, keep: Tensor) -> Tied:
        """See InvarianceOf."""
        return replace(self, tie=self.tie.of(keep))

    def _log_p(self, z: Tensor) -> Tensor:
        """Log-probabilities (m, members, classes, H); one column is the logit of class 1 against class 0."""
        seen = z.index_select(0, self.rows)
        blocks = seen.view(len(seen), self.members, -1, seen.shape[2])
        if blocks.shape[2] == 1:
            blocks = torch.cat([torch.zeros_like(blocks), blocks], dim=2)
        return blocks.log_softmax(2)

    def at(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """See InvarianceOf."""
        log_p = self._log_p(z)
        value, slope = self.tie.at(log_p)
        residual = slope - log_p.exp() * slope.sum(2, keepdim=True)
        if z.shape[1] == self.members:
            residual = residual[:, :, 1:]
        out = torch.zeros_like(z)
        out[self.rows] = residual.flatten(1, 2).to(z.dtype)
        return value, out

    def curvature(self, z: Tensor) -> Tensor:
        """About the mean over rows of its second derivative by a row's logits, as if members were not tied.

        (H, C, C) float64: that of as strong a cross-entropy on the rows.
        """
        p = self._log_p(z).exp().double()
        blocks = []
        for member in p.unbind(1):
            own = member.permute(2, 0, 1)  # heads, rows, classes
            spread = torch.diag_embed(own.sum(1)) - own.transpose(1, 2) @ own
            blocks.append(spread[:, 1:, 1:] if z.shape[1] == self.members else spread)
        return by_block(blocks) * (self.tie.scale / len(self.rows)).view(-1, 1, 1)

    def steep(self, z: Tensor) -> Tensor | None:
        """See InvarianceOf."""
        return None


def by_block(blocks: list[Tensor]) -> Tensor:
    """Matrices (H, k, k) of the members on the diagonal of one, (H, members·k, members·k)."""
    if len(blocks) == 1:
        return blocks[0]
    size = blocks[0].shape[1]
    out = blocks[0].new_zeros(len(blocks[0]), size * len(blocks), size * len(blocks))
    for place, block in enumerate(blocks):
        out[:, place * size : (place + 1) * size, place * size : (place + 1) * size] = block
    return out
