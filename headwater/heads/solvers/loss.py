"""Labels and weights of the rows that a stack of heads is trained on; losses are computed elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class LogisticLoss:
    """Weighted mean of the cross-entropy of H heads over n rows.

    `target` (n,) class numbers 0..K-1; `weights` (n, U), each column summing to 1; `weight_of` (H,) says
    which column of `weights` a head uses; `columns` is K, or 1 for two classes: the logit of class 1 against
    class 0.
    """

    target: Tensor
    weights: Tensor
    weight_of: Tensor
    columns: int

    def of(self, keep: Tensor) -> LogisticLoss:
        """The loss of some of the heads only; `keep` holds their numbers."""
        return replace(self, weight_of=self.weight_of[keep])
