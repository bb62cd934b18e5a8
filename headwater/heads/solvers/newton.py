"""Newton's metric for many heads: the Hessian of sampled rows, inverted by conjugate gradients.

Where most rows are far on the right side of every boundary, curvature lies in few rows, other ones for every
class, and no product of a curvature by class and the features' moments resembles it. A sample drawn by that
curvature does (subsampled Newton: Roosta-Khorasani & Mahoney 2019; drawn by row norms of the Hessian's root:
Xu et al. 2016). Its Hessian is never written down: it is multiplied by, with `Preconditioner` to help.
"""

from __future__ import annotations

import torch
from torch import Tensor

from headwater.heads.solvers.history import dot
from headwater.heads.solvers.preconditioner import Preconditioner
from headwater.heads.solvers.sampling import Sample

# A direction is found when its residual, in the preconditioner's metric, is this share of what it was, and
# given up after so many products: what is left is the next step's.
_ENOUGH, _MOST = 0.1, 10


class SampledNewton:
    """An approximate inverse Hessian of each head at `theta`, (H, columns, d + 1) with the bias last."""

    def __init__(
        self, inner: Preconditioner, sample: Sample, theta: Tensor, weight_of: Tensor, l2: Tensor
    ) -> None:
        self._inner, self._x = inner, sample.x
        self._l2 = l2.to(theta.dtype).view(-1, 1, 1)
        self._curvature = sample.curvature(theta, weight_of)

    def solve(self, gradient: Tensor) -> Tensor:
        """The inverse applied to (H, K, d + 1), by conjugate gradients for all heads at once."""
        found, residual = torch.zeros_like(gradient), gradient.clone()
        metric = self._inner.solve(residual)
        direction, size = metric, dot(residual, metric)
        target = _ENOUGH**2 * size
        for _ in range(_MOST):
            running = size > target
            if not bool(running.any()):
                break
            product = self._times(direction)
            bend = dot(direction, product)
            length = torch.where(running & (bend > 0), size / bend.clamp_min(1e-300), 0).to(found.dtype)
            found += length.view(-1, 1, 1) * direction
            residual -= length.view(-1, 1, 1) * product
            metric = self._inner.solve(residual)
            before, size = size, dot(residual, metric)
            turn = (size / before.clamp_min(1e-300)).to(found.dtype).view(-1, 1, 1)
            direction = metric + turn * direction
        return found

    def _times(self, vector: Tensor) -> Tensor:
        """The sampled rows' Hessian, penalty included, times a vector of each head."""
        heads, columns, numbers = vector.shape
        weight = vector[..., :-1]
        z = (weight.reshape(heads * columns, numbers - 1) @ self._x.T).view(heads, columns, -1)
        z += vector[..., -1:]
        z = self._curvature.times(z)
        product = (z.view(heads * columns, -1) @ self._x).view_as(weight) + self._l2 * weight
        return torch.cat([product, z.sum(2, keepdim=True)], dim=2)
