"""What sparse heads see of the features and rows: working copies of few features, and the loss on them.

Everything here has heads first, (H, K, n), so that a head's own numbers lie together. Which features a head
works on is decided in `sparse`; how it moves on them in `sparse_newton`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class HeadLoss:
    """Weighted cross-entropy of H heads, each on its own rows.

    `target` (H, r) class numbers; `weights` (H, r), each row summing to 1; `columns` is 1 for two classes.
    """

    target: Tensor
    weights: Tensor
    columns: int

    def of(self, keep: Tensor) -> HeadLoss:
        """The loss of some of the heads."""
        return replace(self, target=self.target[keep], weights=self.weights[keep])

    def to(self, dtype: torch.dtype) -> HeadLoss:
        """The same in another precision."""
        return replace(self, weights=self.weights.to(dtype))

    def value(self, z: Tensor) -> Tensor:
        """The mean losses (H,) float64 at logits (H, K, r)."""
        if self.columns == 1:
            losses = functional.softplus(torch.where(self.target == 1, -z[:, 0], z[:, 0]))
        else:
            own = z.gather(1, self.target.unsqueeze(1)).squeeze(1)
            losses = z.logsumexp(1) - own
        return (losses * self.weights).sum(1, dtype=torch.float64)

    def probabilities(self, z: Tensor) -> Tensor:
        """Of class 1, or of each class: (H, K, r)."""
        return torch.sigmoid(z) if self.columns == 1 else torch.softmax(z, dim=1)

    def residual(self, p: Tensor) -> Tensor:
        """The losses' derivatives by the logits, at given probabilities."""
        if self.columns == 1:
            return (p - self.target.unsqueeze(1)) * self.weights.unsqueeze(1)
        change = p.scatter_add(1, self.target.unsqueeze(1), -torch.ones_like(p[:, :1]))
        return change * self.weights.unsqueeze(1)

    def curvature(self, p: Tensor) -> tuple[Tensor, Tensor | None]:
        """Second derivatives diag(own_i) - shared_i shared_iᵀ of each row, (H, K, r) each."""
        weight = self.weights.unsqueeze(1)
        if self.columns == 1:
            return weight * p * (1 - p), None
        return weight * p, weight.sqrt() * p


@dataclass(frozen=True)
class AllFeatures:
    """All rows (n, d) with a last feature of ones: logits are (x + shift)·w plus that feature's weight."""

    x: Tensor
    shift: Tensor | None

    @property
    def features(self) -> int:
        """How many features, the one of ones included."""
        return self.x.shape[1] + 1

    def narrow(self) -> AllFeatures:
        """The same in single precision."""
        return AllFeatures(self.x.float(), None if self.shift is None else self.shift.float())

    def back(self, residual: Tensor) -> Tensor:
        """Gradients (H, K, d + 1) of residuals (H, K, n): the one product that needs every feature."""
        flat = residual.reshape(-1, residual.shape[2])
        total = flat.sum(1, keepdim=True)
        gradient = flat @ self.x
        if self.shift is not None:
            gradient += total * self.shift
        return torch.cat([gradient, total], dim=1).view(*residual.shape[:2], -1)

    def logits(self, weight: Tensor) -> Tensor:
        """Logits (H, K, n) of weights (H, K, d + 1)."""
        flat = weight.reshape(-1, weight.shape[2])
        used = torch.nonzero((flat[:, :-1] != 0).any(0)).flatten()
        bias = flat[:, -1:]
        if self.shift is not None:
            bias = bias + flat[:, :-1] @ self.shift.unsqueeze(1)
        return (flat[:, used] @ self.x[:, used].T + bias).view(*weight.shape[:2], -1)

    def copies(self, features: NDArray[np.int64], rows: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The values of each head's features (H, m) on its rows (H, r), or on all: (H, m, r)."""
        names, places = np.unique(features, return_inverse=True)
        used = torch.from_numpy(names).to(self.x.device)
        place = places.reshape(features.shape)
        kept = torch.ones((len(used), len(self.x)), dtype=dtype, device=self.x.device)
        plain = used[used < self.x.shape[1]]
        kept[: len(plain)] = self.x.index_select(1, plain).T
        if self.shift is not None:
            kept[: len(plain)] += self.shift[plain].unsqueeze(1).to(dtype)
        if rows is None:
            return kept.unsqueeze(0) if len(features) == 1 else kept[torch.from_numpy(place).to(kept.device)]
        # gathered by numpy, which fills what it is given without copies in between
        table, taken = kept.cpu().numpy(), rows.cpu().numpy()
        out = np.empty((*features.shape, taken.shape[1]), dtype=table.dtype)
        for h, own in enumerate(place):
            np.take(table[own], taken[h], axis=1, out=out[h], mode="clip")
        return torch.from_numpy(out).to(self.x.device)


def own_rows(weights: Tensor, weight_of: Tensor) -> tuple[Tensor | None, Tensor]:
    """Each head's rows of non-zero weight (H, r), padded by rows of weight zero, and its weights there.

    None and all rows' weights where leaving rows out would save little.
    """
    counts = (weights > 0).sum(0)
    most = int(counts.max())
    if most > 0.8 * len(weights):
        return None, weights.T[weight_of]
    first = torch.sort((weights > 0).int(), dim=0, descending=True, stable=True).indices[:most].T
    rows = first.sort(1).values
    return rows[weight_of], weights.T.gather(1, rows)[weight_of]
