"""A metric shared by the heads of a stack: the features' Gram matrix with each head's mean curvature.

The Hessian of the logistic loss is the mean over rows of S_i ⊗ x_i x_iᵀ, with S_i = diag(p_i) - p_i p_iᵀ.
Böhning (1992) bounds it by ½(I - 11ᵀ/K) ⊗ G; here S_i is replaced by its mean A instead, which is no bound
but closer, since the line search guards the steps anyway. A ⊗ G + λI is inverted in the eigenbases of G and
of A.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Eigenvalues of A below this share of the largest belong to shifts of all logits, which the loss cannot see.
_FLOOR = 1e-4
# Rows for each dimension that the Gram matrix is made from. Fewer miss features that only few rows have, like
# pixels of a border, and then every head pays in iterations.
_ROWS_PER_DIM = 16


def gram(x: Tensor) -> Tensor:
    """Mean of x xᵀ, (d, d) float64, over at most 16 rows for each dimension, evenly spread."""
    rows, dim = x.shape
    step = max(1, rows // (_ROWS_PER_DIM * dim))
    total = torch.zeros((dim, dim), dtype=torch.float64, device=x.device)
    chosen = torch.arange(0, rows, step, device=x.device)
    for part in torch.split(chosen, 16384):
        block = x[part]
        total += (block.T @ block).double()
    return total / len(chosen)


@dataclass(frozen=True)
class Basis:
    """Eigenvectors (d, d) of the features' Gram matrix, or None where the features are their own, and
    eigenvalues (d,).
    """

    vectors: Tensor | None
    values: Tensor

    @staticmethod
    def of(x: Tensor) -> Basis:
        """The eigenbasis of the Gram matrix of x."""
        values, vectors = torch.linalg.eigh(gram(x).to(x.dtype))
        return Basis(vectors, values.double().clamp_min(0))

    def into(self, weight: Tensor) -> Tensor:
        """Coordinates in the basis of a (d, K, H) array of weights or gradients."""
        if self.vectors is None:
            return weight
        return (self.vectors.T @ weight.reshape(len(weight), -1)).view(weight.shape)

    def out(self, coordinates: Tensor) -> Tensor:
        """The inverse of `into`."""
        if self.vectors is None:
            return coordinates
        return (self.vectors @ coordinates.reshape(len(coordinates), -1)).view(coordinates.shape)


class Metric:
    """The inverse of A ⊗ G + λI for each head, applied to gradients of shape (d, K, H) and (K, H)."""

    def __init__(self, basis: Basis, curvature: Tensor, l2: Tensor, dtype: torch.dtype) -> None:
        values, vectors = torch.linalg.eigh(curvature)  # (H, K), (H, K, K)
        values = torch.maximum(values, _FLOOR * values[:, -1:]).clamp_min(1e-12)
        self._rotate = vectors.to(dtype)
        product = basis.values.view(-1, 1, 1) * values.T.unsqueeze(0)
        floor = 1e-7 * basis.values.max() * values.amax(1)
        self._weight = (1 / (product + torch.maximum(l2, floor))).to(dtype)  # (d, K, H)
        self._bias = (1 / values.T).to(dtype)

    def of(self, keep: Tensor) -> Metric:
        """The metric of some of the heads only."""
        kept = object.__new__(Metric)
        kept._rotate = self._rotate[keep]
        kept._weight = self._weight[:, :, keep]
        kept._bias = self._bias[:, keep]
        return kept

    def solve(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse applied to a gradient given in the basis' coordinates."""
        if weight.shape[1] == 1:
            return weight * self._weight, bias * self._bias
        turned = torch.cat([weight, bias.unsqueeze(0)]).permute(2, 0, 1) @ self._rotate  # H, d + 1, K
        scale = torch.cat([self._weight, self._bias.unsqueeze(0)]).permute(2, 0, 1)
        back = ((turned * scale) @ self._rotate.transpose(1, 2)).permute(1, 2, 0).contiguous()
        return back[:-1], back[-1]
