"""The logistic loss of a stack of heads along a line of logits, in one pass over cache-sized chunks of rows.

Logits are (rows, columns, heads), heads last, so that softmax is a reduction over neighbouring slices of
memory. Multinomial heads have one column per class; two-class heads have one column, the logit of class 1
against class 0. Nothing here knows features: with logits `z` and the direction's logits `d`, everything
about `z + t·d` is found without a product of features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

# Elements of a chunk: a few buffers of this many float32 stay in the last-level cache, and torch's start-up
# cost per operation stays small beside the work.
CHUNK = 1 << 20


class LogisticLoss:
    """Weighted mean of the cross-entropy of H heads over n rows.

    `target` (n,) class numbers 0..K-1; `weights` (n, U), each column summing to 1; `weight_of` (H,) says
    which column of `weights` a head uses; `columns` is K, or 1 for two classes.
    """

    def __init__(self, target: Tensor, weights: Tensor, weight_of: Tensor, columns: int) -> None:
        self.target = target
        self.weights = weights
        self.weight_of = weight_of
        self.columns = columns

    def of(self, keep: Tensor) -> LogisticLoss:
        """The loss of some of the heads only; `keep` holds their numbers."""
        return LogisticLoss(self.target, self.weights, self.weight_of[keep], self.columns)

    def _chunks(self, rows: int, heads: int) -> Iterator[slice]:
        step = max(1, CHUNK // (self.columns * heads))
        for first in range(0, rows, step):
            yield slice(first, min(first + step, rows))

    def along(
        self, z: Tensor, d: Tensor | None, t: Tensor | None, out: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Loss and slope at `z + t·d` for every head, (H,) float64 each.

        `out`, shaped like `z`, receives the residual, the loss's derivative by each logit; it may be `z` or
        `d` itself, or None. With `d` None the slope is zero.
        """
        rows, _, heads = z.shape
        loss = torch.zeros(heads, dtype=torch.float64, device=z.device)
        slope = torch.zeros_like(loss)
        step = None if t is None else t.to(z.dtype)
        single = self.weights.shape[1] == 1
        for part in self._chunks(rows, heads):
            weight = self.weights[part]
            if not single:
                weight = weight[:, self.weight_of]
            moved = z[part] if d is None or step is None else torch.addcmul(z[part], d[part], step)
            kept = d is None or step is None
            losses, residual = self._residual(moved, self.target[part], weight, keep=kept and out is not z)
            loss += losses
            if d is not None:
                slope += torch.sum(residual * d[part], dim=(0, 1)).double()
            if out is not None and residual.data_ptr() != out[part].data_ptr():
                out[part] = residual
        return loss, slope

    def _residual(self, z: Tensor, target: Tensor, weight: Tensor, *, keep: bool) -> tuple[Tensor, Tensor]:
        """Summed loss per head and residuals of one chunk; `z` is used up unless `keep`."""
        if self.columns == 1:
            sign = (2 * target - 1).to(z.dtype).view(-1, 1, 1)
            loss = functional.softplus(-sign * z)
            residual = (-sign * weight.unsqueeze(1)) * torch.sigmoid(-sign * z)
            return torch.sum(loss.squeeze(1) * weight, dim=0).double(), residual
        rows, columns, heads = z.shape
        top = z.amax(1, keepdim=True)
        z = z - top if keep else z.sub_(top)
        own = torch.arange(rows, device=z.device) * columns + target
        picked = z.reshape(-1, heads).index_select(0, own)
        residual = z.exp_()
        total = residual.sum(1)
        loss = torch.sum((total.log() - picked) * weight, dim=0).double()
        residual *= (weight / total).unsqueeze(1)
        residual.view(-1, heads).index_add_(0, own, weight.expand(rows, heads), alpha=-1)
        return loss, residual

    def hessian(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        """The map from a change of the logits to the residual's change, to first order at `z`."""
        weight = self.weights[:, self.weight_of].unsqueeze(1)
        if self.columns == 1:
            p = torch.sigmoid(z)
            factor = weight * p * (1 - p)
            return lambda change: factor * change
        p = torch.softmax(z, dim=1)
        weighted = weight * p
        return lambda change: weighted * (change - (p * change).sum(1, keepdim=True))

    def factors(self, z: Tensor, head: int) -> tuple[Tensor, Tensor | None]:
        """One head's second derivatives as diag(own_i) - shared_i shared_iᵀ per row, at its logits (n, K)."""
        weight = self.weights[:, self.weight_of[head]].unsqueeze(1)
        if self.columns == 1:
            p = torch.sigmoid(z)
            return weight * p * (1 - p), None
        p = torch.softmax(z, dim=1)
        return weight * p, weight.sqrt() * p

    def curvature(self, z: Tensor) -> Tensor:
        """Mean over rows of the loss's second derivative by a row's logits: (H, columns, columns) float64.

        A sample of rows is enough for what it is used for, a preconditioner.
        """
        weight = self.weights[:, self.weight_of]
        sample = slice(None)
        if len(z) > 8192:
            sample = slice(None, None, len(z) // 4096)
        z, weight = z[sample].double(), weight[sample].double()
        weight = weight / weight.sum(0).clamp_min(1e-30)
        if self.columns == 1:
            p = torch.sigmoid(z[:, 0])
            return torch.sum(weight * p * (1 - p), dim=0).view(-1, 1, 1)
        p = torch.softmax(z, dim=1).permute(2, 0, 1)  # heads, rows, columns
        weighted = p * weight.T.unsqueeze(2)
        return torch.diag_embed(weighted.sum(1)) - weighted.transpose(1, 2) @ p
