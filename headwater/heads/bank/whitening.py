"""Half whitening: features in which directions that vary a lot weigh less, and none is equally wide."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Directions in which the rows vary by less than this share of the widest are rounding, not data.
_RANK = 1e-10
# What is added to every direction's variance, as a share of their mean, so that none becomes immense.
_FLOOR = 0.1


@dataclass(frozen=True)
class HalfWhitening:
    """The symmetric matrix T = `rest`·I + V·diag(`extra`)·Vᵀ that features are multiplied by.

    T is proportional to (C + floor)^(-1/4), C being the covariance (1/n) of the rows it was measured on, V
    its eigenvectors (dim, r) with a variance, and the floor a tenth of the mean variance of those. The rows
    themselves have a mean variance of 1 in their features afterwards, as standardised ones have.

    An L2 penalty on these features is one on raw weights w of w'(C + floor)^(1/2)w: half way between a ridge
    (no power) and shrinking the variance of the scores (the whole C).
    """

    vectors: Tensor
    extra: Tensor
    rest: float

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.vectors.nbytes + self.extra.nbytes

    @staticmethod
    def of(rows: Tensor) -> HalfWhitening:
        """From rows (n, dim)."""
        x = rows - rows.mean(0)
        count, dim = x.shape
        if count < dim:
            values, vectors = torch.linalg.eigh(x @ x.T / count)
        else:
            values, vectors = torch.linalg.eigh(x.T @ x / count)
        kept = values > _RANK * values[-1]
        if not bool(kept.any()):  # rows that do not differ
            return HalfWhitening(x.new_zeros((dim, 0)), x.new_zeros(0), 1.0)
        values, vectors = values[kept], vectors[:, kept]
        if count < dim:
            vectors = x.T @ vectors / (values * count).sqrt()
        floor = _FLOOR * values.mean()
        factors = (values + floor).pow(-0.25)
        unit = float((dim / (values * factors.square()).sum()).sqrt())
        rest = unit * float(floor.pow(-0.25))
        return HalfWhitening(vectors, unit * factors - rest, rest)

    def apply(self, x: Tensor) -> Tensor:
        """T x for x of shape (..., dim), in x's own precision."""
        vectors, extra = self.vectors.to(x), self.extra.to(x)
        return self.rest * x + ((x @ vectors) * extra) @ vectors.T

    def undo(self, x: Tensor) -> Tensor:
        """The inverse of `apply`."""
        vectors, extra = self.vectors.to(x), self.extra.to(x)
        inverse = 1 / (self.rest + extra) - 1 / self.rest
        return x / self.rest + ((x @ vectors) * inverse) @ vectors.T
