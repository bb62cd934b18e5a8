"""L-BFGS in its compact form (Byrd, Nocedal, Schnabel 1994, eq. 3.1), and the metric that it starts from.

All heads keep their last steps and gradient changes in one array, so that a direction reads it twice, where
two loops over the pairs read and write vectors forty times.
"""

from __future__ import annotations

import torch
from torch import Tensor

from headwater.heads.solvers.preconditioner import Directions, by_class


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per head of (H, K, d + 1) arrays: (H,) float64."""
    return (a * b).flatten(1).sum(1).double()


class Metric:
    """The inverse of A ⊗ G + λI + UUᵀ for each head, applied to gradients (H, K, d + 1), the bias last.

    A (H, K, K) is the mean curvature of the head's loss by a row's logits, and G the features' second
    moments, known in some directions, with one number for all others. U (H, K, d + 1, r) are the few
    directions in which the objective is steeper than its loss, None where there are none. `leading`
    (H, r + 1, r + 1) is the inverse Hessian along the r last directions and the bias, where it is known.
    """

    def __init__(
        self,
        directions: Directions,
        curvature: Tensor,
        l2: Tensor,
        dtype: torch.dtype,
        *,
        steep: Tensor | None = None,
        leading: Tensor | None = None,
    ) -> None:
        values, vectors = by_class(curvature)
        self._rotate = vectors.to(dtype)
        self._vectors = directions.vectors
        floor = 1e-7 * directions.values.max() * values.amax(1)
        ridge = torch.maximum(l2, floor).view(-1, 1, 1)
        inverse = 1 / (values.unsqueeze(2) * directions.values + ridge)
        self._rest: Tensor | None = None
        if directions.rest is not None:
            rest = 1 / (values.unsqueeze(2) * directions.rest + ridge)
            self._rest, inverse = rest.to(dtype), inverse - rest
        self._inverse = inverse.to(dtype)  # (H, K, r)
        self._bias = (1 / values).to(dtype).unsqueeze(2)
        self._leading = leading
        self._answers: Tensor | None = None
        if steep is not None:
            # Woodbury's identity: the inverse without U, less U's answers times a small matrix.
            answers = [self._without(each.contiguous()).flatten(1) for each in steep.unbind(3)]
            self._answers = torch.stack(answers, dim=2)  # (H, K·(d + 1), r)
            inner = (steep.flatten(1, 2).transpose(1, 2) @ self._answers).double()
            inner = (inner + inner.transpose(1, 2)) / 2 + torch.eye(inner.shape[1], dtype=torch.float64)
            self._small = torch.linalg.pinv(inner, hermitian=True)

    def of(self, keep: Tensor) -> Metric:
        """That of some of the heads only."""
        kept = object.__new__(Metric)
        kept._vectors = self._vectors
        kept._rest = None if self._rest is None else self._rest[keep]
        kept._rotate, kept._inverse, kept._bias = self._rotate[keep], self._inverse[keep], self._bias[keep]
        kept._leading = None if self._leading is None else self._leading[keep]
        kept._answers = None
        if self._answers is not None:
            kept._answers, kept._small = self._answers[keep], self._small[keep]
        return kept

    def put(self, heads: Tensor, other: Metric) -> None:
        """Take over that of the heads numbered `heads` from `other`, which is theirs alone."""
        self._rotate[heads], self._inverse[heads] = other._rotate, other._inverse
        self._bias[heads] = other._bias
        if self._leading is not None and other._leading is not None:
            self._leading[heads] = other._leading
        if self._rest is not None and other._rest is not None:
            self._rest[heads] = other._rest
        if self._answers is not None:
            # Fewer directions than others have, or none, are made up by such as do nothing.
            self._answers[heads] = 0
            self._small[heads] = torch.eye(self._small.shape[1], dtype=torch.float64, device=heads.device)
            if other._answers is not None:
                rank = other._answers.shape[2]
                self._answers[heads, :, :rank] = other._answers
                self._small[heads, :rank, :rank] = other._small

    def solve(self, gradient: Tensor) -> Tensor:
        """The inverse applied to (H, K, d + 1)."""
        out = self._without(gradient)
        if self._answers is not None:
            seen = (self._answers.transpose(1, 2) @ gradient.flatten(1).unsqueeze(2)).double()
            out -= (self._answers @ (self._small @ seen).to(out.dtype)).view_as(out)
        return out

    def _without(self, gradient: Tensor) -> Tensor:
        """The inverse without the steep directions applied."""
        turned = gradient if gradient.shape[1] == 1 else self._rotate.transpose(1, 2) @ gradient
        weight = turned[..., :-1]
        bias = turned[..., -1:] * self._bias
        if self._vectors is None:
            out = weight * self._inverse
            if self._leading is not None:
                bias = self._lead(weight, out, turned[..., -1:])
        else:
            flat = weight.reshape(-1, weight.shape[2])
            seen = (flat @ self._vectors).view_as(self._inverse)
            inner = seen * self._inverse
            if self._leading is not None:
                bias = self._lead(seen, inner, turned[..., -1:])
            out = (inner.view(len(flat), -1) @ self._vectors.T).view_as(weight)
            if self._rest is not None:
                out += weight * self._rest
        out = torch.cat([out, bias], dim=2)
        return out if gradient.shape[1] == 1 else self._rotate @ out

    def _lead(self, seen: Tensor, out: Tensor, bias: Tensor) -> Tensor:
        """Puts the answers along leading directions into `out`, (H, 1, r), and returns the bias'."""
        assert self._leading is not None
        count = self._leading.shape[1] - 1
        first = seen.shape[2] - count
        given = torch.cat([seen[..., first:], bias], dim=2)
        answer = (self._leading @ given.transpose(1, 2)).transpose(1, 2)
        out[..., first:] = answer[..., :-1]
        if self._rest is not None:
            out[..., first:] -= self._rest * seen[..., first:]
        return answer[..., -1:]


class CompactHistory:
    """The last `size` steps of H heads with parameters (H, K, d + 1), and the inverse Hessian they imply."""

    def __init__(self, like: Tensor, size: int) -> None:
        heads, length = len(like), like[0].numel()
        self._size = size
        self._order: list[int] = []  # places of the pairs, oldest first
        # Steps, then the metric's answers to the gradient changes; the changes themselves.
        self._pairs = like.new_zeros(heads, 2 * size, length)
        self._changes = like.new_zeros(heads, size, length)
        # Inner products of steps and changes, of changes and answers. An unused pair has step·change = 1.
        self._sy = torch.eye(size, dtype=torch.float64, device=like.device).repeat(heads, 1, 1)
        self._yhy = torch.zeros_like(self._sy)

    def of(self, keep: Tensor) -> None:
        """Keep some of the heads only."""
        for name in ("_pairs", "_changes", "_sy", "_yhy"):
            setattr(self, name, getattr(self, name)[keep])

    def forget(self, heads: Tensor) -> None:
        """Start anew for these heads, (H,) bool."""
        self._pairs[heads] = 0
        self._changes[heads] = 0
        self._yhy[heads] = 0
        self._sy[heads] = torch.eye(self._size, dtype=torch.float64, device=self._sy.device)

    def push(self, step: Tensor, change: Tensor, answer: Tensor) -> None:
        """Remember a step, what it changed in the gradient, and the metric's inverse applied to that change.

        A head whose change is no positive curvature forgets its oldest step all the same.
        """
        place = self._order.pop(0) if len(self._order) == self._size else len(self._order)
        self._order.append(place)
        product = dot(step, change)
        usable = product > 1e-8 * (dot(step, step) * dot(change, change)).sqrt()
        kept = usable.to(step.dtype).unsqueeze(1)
        change = change.flatten(1) * kept
        self._pairs[:, place] = step.flatten(1) * kept
        self._pairs[:, self._size + place] = answer.flatten(1) * kept
        self._changes[:, place] = change
        inner = torch.bmm(self._pairs, change.unsqueeze(2)).squeeze(2).double()
        self._sy[:, :, place] = inner[:, : self._size]
        self._sy[:, place, place] = torch.where(usable, product, 1.0)
        self._yhy[:, :, place] = self._yhy[:, place] = inner[:, self._size :]

    def renew(self, heads: Tensor, metric: Metric, columns: int) -> None:
        """Take another metric, that of the heads numbered `heads` alone, for them."""
        changes = self._changes[heads]
        each = torch.arange(len(heads), device=heads.device).repeat_interleave(self._size)
        answers = metric.of(each).solve(changes.view(len(each), columns, -1)).view_as(changes)
        self._pairs[heads, self._size :] = answers
        self._yhy[heads] = torch.bmm(answers, changes.transpose(1, 2)).double()

    def direction(self, gradient: Tensor, answer: Tensor) -> Tensor:
        """Minus the inverse Hessian applied to the gradient, of which `answer` is the metric's part."""
        if not self._order:
            return -answer
        inner = torch.bmm(self._pairs, gradient.flatten(1).unsqueeze(2)).double()
        order = torch.tensor(self._order, device=gradient.device)
        upper = self._sy[:, order][:, :, order].triu()
        middle = self._yhy[:, order][:, :, order] + torch.diag_embed(upper.diagonal(dim1=1, dim2=2))
        first = torch.linalg.solve_triangular(upper, inner[:, order], upper=True)
        second = middle @ first - inner[:, self._size + order]
        second = torch.linalg.solve_triangular(upper.transpose(1, 2), second, upper=False)
        shares = torch.zeros_like(inner)
        shares[:, order], shares[:, self._size + order] = second, -first
        mixed = torch.bmm(shares.to(gradient.dtype).transpose(1, 2), self._pairs)
        return -(answer + mixed.view_as(answer))
