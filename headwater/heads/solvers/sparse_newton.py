"""Newton steps for L1 heads on their working features: a quadratic model each, then a search along its step.

One step is a step of proximal Newton (Lee, Sun & Saunders 2014). How a model is minimised lives in
`sparse_model`; which features are worked on is decided in `sparse`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.heads.solvers.sparse_model import WORTH, Array, Mask, Model, subgradient
from headwater.heads.solvers.sparse_rows import HeadLoss

# Non-zeros up to which a head's Hessian is written down; of more, those of the steepest slopes move.
DENSE = 3000
_HALVINGS = 8  # of a step; one that would have to be shorter still is damped
_DAMPING = 1e-4  # the least, once a step has failed
_BLOCK = 1 << 23  # numbers of the features that a Hessian is added up from at once
# Rows for each unknown that a Hessian is made from: on the way a step need not be exact to descend, but in
# the finish, in double precision, it takes all rows to come nearer by more than a factor each time.
_ROWS_PER_UNKNOWN = 16
# Relative to a Hessian's diagonal, what outweighs the rounding of its entries.
_RIDGE = {torch.float32: 1e-6, torch.float64: 1e-11}


@dataclass
class Work:
    """Heads on their working features: `x` (H, m, r), `weight` (H, K, m), logits `z` (H, K, r).

    `l1`, `l2` (H, 1, m) are the penalties of every feature, and `allowed` (H, 1, m) says which are features
    and not padding. `damping` (H,) is added to the Hessians' diagonals, relative to them, after steps that
    failed; `promise` (H,) is what the last step's model promised, infinite where it was damped or not solved
    exactly; `curved` is the Hessians' precision. What is as long as the rows is in torch, the rest in numpy.
    """

    x: Tensor
    loss: HeadLoss
    weight: Array
    z: Tensor
    l1: Array
    l2: Array
    allowed: Mask
    damping: Array
    promise: Array
    curved: torch.dtype = torch.float32

    def of(self, keep: NDArray[np.int64]) -> Work:
        """Some of the heads."""
        at = torch.from_numpy(keep).to(self.x.device)
        return Work(
            self.x[at],
            self.loss.of(at),
            self.weight[keep],
            self.z[at],
            self.l1[keep],
            self.l2[keep],
            self.allowed[keep],
            self.damping[keep],
            self.promise[keep],
            self.curved,
        )

    def put(self, heads: NDArray[np.int64], other: Work) -> None:
        """Take over where some of the heads have moved."""
        if len(heads) == len(self.weight):
            self.z = other.z
        else:
            self.z[torch.from_numpy(heads).to(self.z.device)] = other.z
        self.weight[heads] = other.weight
        self.damping[heads], self.promise[heads] = other.damping, other.promise

    def objective(self, weight: Array, z: Tensor) -> Array:
        """Loss and penalties (H,)."""
        size = np.abs(weight)
        penalty = (size * (self.l1 + self.l2 / 2 * size)).sum((1, 2))
        total: Array = penalty + self.loss.value(z).cpu().numpy()
        return total

    def along(self, weight: Array) -> Tensor:
        """The logits (H, K, r) of weights."""
        return torch.from_numpy(weight).to(self.x) @ self.x

    def gradient(self, residual: Tensor, weight: Array) -> Array:
        """The gradient (H, K, m) by the weights, without l1."""
        gradient: Array = (residual @ self.x.transpose(1, 2)).double().cpu().numpy()
        return gradient + self.l2 * weight


def newton(work: Work, *, steps: NDArray[np.int64], goal: Array) -> NDArray[np.int64]:
    """Up to `steps` (H,) Newton steps, each head until its largest subgradient is at most `goal` (H,).

    Moves `work` in place and returns how many steps each head took.
    """
    taken = np.zeros(len(work.weight), dtype=np.int64)
    todo = np.arange(len(taken))
    part = replace(work, weight=work.weight.copy(), damping=work.damping.copy(), promise=work.promise.copy())
    before: Array | None = None
    for number in range(int(steps.max(initial=0))):
        p = part.loss.probabilities(part.z)
        gradient = part.gradient(part.loss.residual(p), part.weight)
        slope = subgradient(gradient, part.weight, part.l1) * part.allowed
        spent = number >= steps[todo]
        far = (np.abs(slope).max((1, 2)) > goal[todo]) & ~spent
        if not far.any():
            break
        if spent.any() or far.sum() < WORTH * len(far):  # fewer heads are worth a copy of their features
            work.put(todo, part)
            keep = np.flatnonzero(far)
            todo, part, p = todo[keep], part.of(keep), p[torch.from_numpy(keep).to(p.device)]
            gradient, slope = gradient[keep], slope[keep]
            before = None if before is None else before[keep]
        if before is None:
            before = part.objective(part.weight, part.z)
        before = _step(part, p, gradient, slope, before)
        taken[todo] += 1
    work.put(todo, part)
    return taken


def _step(work: Work, p: Tensor, gradient: Array, slope: Array, before: Array) -> Array:
    """One step of every head from objectives `before` (H,); returns those after it."""
    heads, columns, features = work.weight.shape
    wanted = work.allowed & ((work.weight != 0) | (slope != 0) | (work.l1 == 0))
    flat = wanted.reshape(heads, -1)
    count = min(int(flat.sum(1).max()), DENSE)
    rank = np.where(flat, -1 - np.abs(slope).reshape(heads, -1), 0) if flat.shape[1] > DENSE else ~flat
    entries = np.sort(np.argsort(rank, axis=1, kind="stable")[:, :count], axis=1)
    real = np.take_along_axis(flat, entries, axis=1)
    place = entries if columns == 1 else entries % features
    hessian = _hessian(work, p, place, entries // features)
    diagonal = np.einsum("hss->hs", hessian)
    # shifts of all logits are invisible to a multinomial loss, and rounding makes them look curved upward
    ridge = _RIDGE[work.curved] * (1 if columns == 1 else 10) + work.damping
    l2 = np.take_along_axis(work.l2[:, 0], place, axis=1)
    diagonal += ridge[:, None] * diagonal + l2
    model = Model(
        np.take_along_axis(gradient.reshape(heads, -1), entries, axis=1),
        hessian,
        np.take_along_axis(work.weight.reshape(heads, -1), entries, axis=1),
        np.take_along_axis(work.l1[:, 0], place, axis=1),
        real,
    )
    best, change, exact = model.minimise()
    work.promise = np.where(exact & (work.damping == 0), -change, np.inf)
    step = np.zeros_like(work.weight)
    np.put_along_axis(step.reshape(heads, -1), entries, np.where(real, best, 0), axis=1)
    # a weight that goes to zero goes to zero exactly
    step = np.where(np.abs(work.weight + step) <= 1e-6 * np.abs(work.weight), -work.weight, step)
    return _search(work, step, gradient, before)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """Rows (H, s, n) of matrices (H, m, n) at each head's index (H, s); whole rows are copied fast."""
    heads, most, _ = values.shape
    start = most * torch.arange(heads, device=values.device).unsqueeze(1)
    flat = values.reshape(heads * most, -1).index_select(0, (index + start).flatten())
    return flat.view(heads, index.shape[1], -1)


def _hessian(work: Work, p: Tensor, places: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
    """The loss's second derivatives by the unknowns (place, column): (H, s, s), over blocks of rows."""
    heads, count = places.shape
    rows, device = work.x.shape[2], work.x.device
    finish = work.x.dtype == torch.float64
    stride = 1 if finish else max(1, rows // max(8192, _ROWS_PER_UNKNOWN * count))
    whole = work.loss.columns == 1 and count == work.x.shape[1]  # the unknowns are the features, in order
    place, column = torch.from_numpy(places).to(device), torch.from_numpy(columns).to(device)
    own, shared = work.loss.curvature(p)
    total = torch.zeros((heads, count, count), dtype=work.curved, device=device)
    same = column.unsqueeze(2) == column.unsqueeze(1) if shared is not None else None
    length = max(64, _BLOCK // (heads * count)) * stride
    for first in range(0, rows, length):
        block = slice(first, first + length, stride)
        x = work.x[:, :, block]
        values = (x if whole else _pick(x, place)).to(work.curved)
        if shared is None or same is None:
            total += (values * own[:, :, block].to(work.curved)) @ values.transpose(1, 2)
            continue
        which = column.unsqueeze(2).expand(-1, -1, x.shape[2])
        total += torch.where(
            same, (values * own[:, :, block].to(work.curved).gather(1, which)) @ values.transpose(1, 2), 0
        )
        values *= shared[:, :, block].to(work.curved).gather(1, which)
        total -= values @ values.transpose(1, 2)
    if stride > 1:
        used = work.loss.weights[:, ::stride].sum(1).clamp_min(1e-30) / work.loss.weights.sum(1)
        total /= used.view(-1, 1, 1).to(work.curved)
    exact: Array = total.double().cpu().numpy()
    return exact


def _search(work: Work, step: Array, gradient: Array, before: Array) -> Array:
    """Moves each head along its step, halving it until the objective descends (Armijo's rule).

    Returns the objectives (H,) there.
    """
    moved = work.along(step)
    change = np.abs(work.weight + step) - np.abs(work.weight)
    drop = np.minimum((gradient * step + work.l1 * change).sum((1, 2)), 0)
    noise = np.abs(before) * (1e-7 if work.x.dtype == torch.float32 else 1e-14)
    length = np.ones_like(before)
    for _ in range(_HALVINGS):
        weight, z = _moved(work, step, moved, length)
        after = work.objective(weight, z)
        bad = ~(after <= before + 1e-4 * length * drop + noise)
        if not bad.any():
            break
        length = np.where(bad, length / 2, length)
    else:
        length = np.where(bad, 0.0, length)
        weight, z = _moved(work, step, moved, length)
        after = np.where(bad, before, after)
    length = np.where((step == 0).all((1, 2)), 0.0, length)  # no step at all has come to nothing
    # Levenberg's rule: with enough damping a step always descends
    worse = np.maximum(np.where(length == 0, 100 * work.damping, 4 * work.damping), _DAMPING)
    better = np.where(work.damping > _DAMPING, work.damping / 10, 0)
    work.damping = np.where(length < 0.25, worse, np.where(length == 1, better, work.damping))
    work.weight, work.z = weight, z
    return after


def _moved(work: Work, step: Array, moved: Tensor, length: Array) -> tuple[Array, Tensor]:
    """Weights and logits after a share `length` (H,) of the step."""
    if (length == 1).all():
        return work.weight + step, work.z + moved
    t = torch.from_numpy(length).to(moved).view(-1, 1, 1)
    return work.weight + length[:, None, None] * step, work.z + t * moved
