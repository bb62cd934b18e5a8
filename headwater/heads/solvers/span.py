"""Few rows, many features: the exact reduction of an L2-penalised problem to the span of its rows.

The optimal weights are combinations of the rows (the representer theorem), so n rows of d > n features are
solved as n rows of at most n coordinates, at n³ once instead of n·d per iteration.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.heads.solvers.preconditioner import Directions

# Directions in which the rows vary by less than this share of the widest are rounding, not data.
_RANK = 1e-12


@dataclass(frozen=True)
class Span:
    """Rows x (n, d) in an orthonormal basis of their span: `rows` (n, r), of diagonal Gram."""

    rows: Tensor
    basis: Directions
    _x: Tensor
    _back: Tensor

    @staticmethod
    def of(x: Tensor) -> Span:
        """Reduce x (n, d)."""
        values, vectors = torch.linalg.eigh(x @ x.T)
        kept = values > _RANK * values[-1].clamp_min(1e-300)
        if not bool(kept.any()):
            kept[-1] = True
        values, vectors = values[kept].clamp_min(1e-300), vectors[:, kept]
        root = values.sqrt()
        return Span(vectors * root, Directions(None, values / len(x)), x, vectors / root)

    def into(self, weight: Tensor) -> Tensor:
        """The part of weights (d, K, H) that lies in the span, as (r, K, H); the rest changes no logit."""
        flat = self._back.T @ (self._x @ weight.reshape(len(weight), -1))
        return flat.view(-1, *weight.shape[1:])

    def out(self, coordinates: Tensor) -> Tensor:
        """Weights (d, K, H) from coordinates (r, K, H)."""
        flat = self._x.T @ (self._back @ coordinates.reshape(len(coordinates), -1))
        return flat.view(-1, *coordinates.shape[1:])
