"""A metric for many heads, heads first: their mean curvature by class and the features' second moments.

The Hessian of the logistic loss is the mean over rows of S_i ⊗ x_i x_iᵀ, with S_i = diag(p_i) - p_i p_iᵀ.
Böhning (1992) bounds it by ½(I - 11ᵀ/K) ⊗ G; here S_i is replaced by its mean A instead, which is no bound
but closer, since steps are guarded anyway. The moments G may be known in a few directions only (a randomised
sketch), with one number for all others, where a full eigenbasis would cost more than it saves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.heads.rows.blocks import Blocks, block_rows
from headwater.heads.solvers.sampling import RowCurvature, Sample

# Eigenvalues of a curvature by class below this share of the largest belong to shifts of all logits, which
# the loss cannot see.
_FLOOR = 1e-4
_ROWS_PER_DIM = 16
_SKETCH = 192
_OVERSAMPLE = 16
# Weights and biases of leading directions whose Hessian is written down.
_EXACT = 384
# How many times the lift is added to a Hessian's diagonal, in turns until it has a Cholesky factor; by the
# last the diagonal outweighs all else.
_LIFTS = (1.0, 1e1, 1e2, 1e3, 1e4, 1e6)
_BATCH = 1 << 20  # numbers of such Hessians' square roots that are made at once


@dataclass(frozen=True)
class Directions:
    """Eigenvectors (d, r) of the second moments with their `values` (r,), and the mean of all others.

    `vectors` None: the features themselves are the directions. `rest` None: there are no others.
    """

    vectors: Tensor | None
    values: Tensor
    rest: float | None = None

    @staticmethod
    def full(rows: Blocks) -> Directions:
        """All of them, from at most 16 rows for each dimension, evenly spread."""
        count, dim = rows.shape
        total = torch.zeros((dim, dim), dtype=torch.float64, device=rows.device)
        step = max(1, count // (_ROWS_PER_DIM * dim))
        seen = 0
        for _, x in rows.blocks(4096, step):
            total += x.T @ x
            seen += len(x)
        values, vectors = torch.linalg.eigh(total.div_(seen).to(rows.dtype))
        return Directions(vectors, values.double().clamp_min(0))

    @staticmethod
    def sketched(rows: Blocks) -> Directions:
        """The leading ones, by a randomised range finder with one power step (Halko et al. 2011)."""
        count, dim = rows.shape
        rank = min(_SKETCH, dim // 2)
        step = max(1, count // (4 * dim))
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(dim, rank + _OVERSAMPLE, generator=generator, dtype=rows.dtype).to(rows.device)
        square, seen = torch.zeros((), dtype=torch.float64, device=rows.device), 0
        size = block_rows(dim, dim, rows.dtype.itemsize)
        for turn in range(2):
            probe = torch.linalg.qr(probe).Q
            moved = torch.zeros_like(probe)
            for _, x in rows.blocks(size, step):
                moved.addmm_(x.T, x @ probe)
                if turn == 0:
                    square += x.square().sum(dtype=torch.float64)
                    seen += len(x)
            probe, before = moved, probe
        values, rotation = torch.linalg.eigh((before.T @ probe).double() / seen)
        values, rotation = values[-rank:].clamp_min(0), rotation[:, -rank:]
        rest = float((square / seen - values.sum()).clamp_min(0)) / max(1, dim - rank)
        return Directions(before @ rotation.to(rows.dtype), values, min(rest, float(values[0])))


class Preconditioner:
    """An approximate inverse Hessian of each head, applied to gradients (H, columns, d + 1), the bias last.

    Along the leading directions, where rows differ most and with them their curvature, it is the Hessian of
    sampled rows itself, bias included; along all others A ⊗ G + λI with A the mean curvature.
    """

    def __init__(
        self, directions: Directions, sample: Sample, theta: Tensor, weight_of: Tensor, l2: Tensor
    ) -> None:
        dtype = theta.dtype
        curvature = sample.curvature(theta, weight_of)
        self.mean = curvature.mean()
        values, vectors = by_class(self.mean)
        self._rotate = vectors.to(dtype)
        self._vectors = directions.vectors
        floor = 1e-7 * directions.values.max() * values.amax(1)
        ridge = torch.maximum(l2, floor)
        inverse = 1 / (values.unsqueeze(2) * directions.values + ridge.view(-1, 1, 1))
        self._rest: Tensor | None = None
        if directions.rest is not None:
            rest = 1 / (values.unsqueeze(2) * directions.rest + ridge.view(-1, 1, 1))
            self._rest = rest.to(dtype)
        self._inverse = inverse.to(dtype)  # (H, K, r)
        self._exact = _leading(directions, sample, curvature, ridge)

    def of(self, keep: Tensor) -> Preconditioner:
        """That of some of the heads only."""
        kept = object.__new__(Preconditioner)
        kept._vectors, kept.mean = self._vectors, self.mean[keep]
        kept._rest = None if self._rest is None else self._rest[keep]
        kept._rotate, kept._inverse, kept._exact = self._rotate[keep], self._inverse[keep], self._exact[keep]
        return kept

    def solve(self, gradient: Tensor) -> Tensor:
        """The inverse applied to (H, K, d + 1)."""
        heads, columns, _ = gradient.shape
        weight = gradient[..., :-1]
        flat = weight.reshape(heads * columns, -1)
        inner = weight if self._vectors is None else (flat @ self._vectors).view(heads, columns, -1)
        width = self._exact.shape[1] // columns
        leading = torch.cat([inner[..., inner.shape[2] - width + 1 :], gradient[..., -1:]], dim=2)
        leading = (self._exact @ leading.reshape(heads, -1, 1)).view(heads, columns, width)
        out = self._turned(inner, self._inverse)
        out[..., out.shape[2] - width + 1 :] = leading[..., :-1]
        if self._vectors is not None:
            across = weight
            if self._rest is not None:
                across = weight - (inner.view(len(flat), -1) @ self._vectors.T).view_as(weight)
            out = (out.reshape(len(flat), -1) @ self._vectors.T).view_as(weight)
            if self._rest is not None:
                out += self._turned(across, self._rest)
        return torch.cat([out, leading[..., -1:]], dim=2)

    def _turned(self, weight: Tensor, inverse: Tensor) -> Tensor:
        if weight.shape[1] == 1:
            return weight * inverse
        turned: Tensor = self._rotate @ ((self._rotate.transpose(1, 2) @ weight) * inverse)
        return turned


def by_class(curvature: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (H, K), none too small to invert, and eigenvectors (H, K, K) of curvatures by class."""
    values, vectors = torch.linalg.eigh(curvature)
    return torch.maximum(values, _FLOOR * values[:, -1:]).clamp_min(1e-12), vectors


def _leading(directions: Directions, sample: Sample, curvature: RowCurvature, ridge: Tensor) -> Tensor:
    """The inverse Hessian by the leading directions' weights and the bias, (H, K·(r + 1), K·(r + 1))."""
    columns = curvature.p.shape[1]
    # As many as cost a quarter of one evaluation of the loss on all rows.
    affordable = math.isqrt(sample.of * sample.x.shape[1] * columns // (2 * len(sample.x)))
    width = min(_EXACT, affordable, len(sample.x) // 4)
    count = min(len(directions.values), max(0, width // columns - 1))
    first = len(directions.values) - count
    vectors = directions.vectors
    u = sample.x[:, first:] if vectors is None else sample.x @ vectors[:, first:]
    u = torch.cat([u, torch.ones_like(sample.x[:, :1])], dim=1)
    width = columns * (count + 1)
    out = torch.empty((len(ridge), width, width), dtype=u.dtype, device=u.device)
    penalised = torch.ones(count + 1, dtype=torch.float64, device=u.device)
    penalised[-1] = 0
    penalised = penalised.repeat(columns)
    size = max(1, _BATCH // (len(sample.x) * width))
    for first in range(0, len(ridge), size):
        heads = slice(first, first + size)
        hessian = curvature.within(u, heads).double()
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        # A class whose rows are not in the sample, and shifts of all logits, leave it singular.
        lift = _FLOOR * diagonal.reshape(-1, columns, count + 1).mean(1).repeat(1, columns) + 1e-12
        diagonal += ridge[heads].unsqueeze(1) * penalised
        out[heads] = inverses(hessian, lift).to(u.dtype)
    return out


def inverses(hessian: Tensor, lift: Tensor) -> Tensor:
    """Inverses of (H, w, w) with `lift` (H, w) on the diagonal, which is overwritten.

    Where curvatures differ by more than the digits of their products, the lift is too small to outweigh their
    rounding; those heads get a larger one.
    """
    diagonal, missing = hessian.diagonal(dim1=1, dim2=2), torch.ones_like(lift[:, :1])
    for factor in _LIFTS:
        diagonal += factor * missing * lift
        root, failed = torch.linalg.cholesky_ex(hessian)
        if not bool(failed.any()):
            break
        missing = (failed > 0).to(lift).unsqueeze(1)
    return torch.cholesky_inverse(root)
