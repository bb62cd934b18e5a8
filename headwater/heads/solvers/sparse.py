"""L1 and elastic-net heads, batched, with exact zeros: working sets, proximal steps and Newton steps.

A round takes a few accelerated proximal steps on each head's working set, which settle signs and zeros, then
Newton steps (by conjugate gradients) among the non-zeros, which reach the optimum for those signs, and then
looks at all features for those that want in. The working set grows by the worst offenders only.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from headwater.heads.stack import Solved, Stack

_PROXIMAL, _NEWTON, _CONJUGATE, _HALVINGS = 8, 4, 60, 4
_DENSE = 1500  # non-zeros up to which a head's Hessian is written down
_DAMPING = 1e-3  # the least damping, relative to the Hessian's diagonal, once a step has failed
# Added to the Hessian's diagonal, relative to it: shifts of all logits are invisible to the loss.
_RIDGE, _RIDGE_SINGLE = 1e-10, 1e-6
_FIRST = 64  # features a head may use in its first round
# Double precision can afford to take the estimate for the gap only when it is this much smaller than asked.
_EXACT = 1e-3
_SAFETY = 8.0  # the estimate of the gap may be short by a factor


def _total(a: Tensor) -> Tensor:
    """Sum per head of (d, K, H): (H,) float64."""
    return a.sum((0, 1), dtype=torch.float64)


@dataclass
class _Scales:
    """Per weight column: every feature's mean square (d, U), the scaled Gram's largest eigenvalue (U,)."""

    square: Tensor
    largest: Tensor

    @staticmethod
    def of(x: Tensor, weights: Tensor) -> _Scales:
        square = torch.zeros((x.shape[1], weights.shape[1]), dtype=x.dtype, device=x.device)
        for part, weight in zip(torch.split(x, 8192), torch.split(weights, 8192), strict=True):
            square += part.square().T @ weight
        square = torch.where(square > 0, square, 1)
        root = square.rsqrt()
        vector = 1 + 0.1 * torch.cos(torch.arange(len(square), device=x.device, dtype=x.dtype)).unsqueeze(1)
        vector = vector.expand_as(square)
        size = vector.norm(dim=0)
        for _ in range(30):
            vector = root * (x.T @ (weights * (x @ (root * vector / size))))
            size = vector.norm(dim=0).clamp_min(1e-30)
        # Power iteration approaches from below; the bias counts as one more feature, nearly orthogonal to
        # the rest.
        return _Scales(square, 1.2 * torch.maximum(size, torch.ones_like(size)))


@dataclass
class _Point:
    """Where the running heads are: weights, biases and logits, with the derivatives by them."""

    weight: Tensor
    bias: Tensor
    z: Tensor
    gradient: Tensor
    slope: Tensor
    loss: Tensor

    @staticmethod
    def at(stack: Stack, weight: Tensor, bias: Tensor, z: Tensor | None = None) -> _Point:
        """Derivatives of the smooth part; two products over all features, one where the logits are known."""
        if z is None:
            z = (stack.x @ weight.reshape(len(weight), -1) + bias.reshape(-1)).view(len(stack.x), *bias.shape)
        residual = torch.empty_like(z)
        loss, _ = stack.loss.along(z, None, None, residual)
        gradient = (stack.x.T @ residual.reshape(len(z), -1)).view_as(weight)
        gradient += stack.l2.to(weight.dtype) * weight
        return _Point(weight, bias, z, gradient, residual.sum(0), loss)

    def of(self, keep: Tensor) -> _Point:
        return _Point(*(getattr(self, field.name)[..., keep].contiguous() for field in fields(self)))


class _Work:
    """The heads still running, restricted to the features that any of them may use at present."""

    def __init__(self, stack: Stack, x: Tensor, point: _Point, features: Tensor, damping: Tensor) -> None:
        self.x, self.loss, self.l1, self.l2 = x, stack.loss, stack.l1, stack.l2
        self.weight, self.bias, self.z = point.weight[features], point.bias, point.z
        self.narrow = x.dtype
        self.damping = damping

    def logits(self, weight: Tensor, bias: Tensor) -> Tensor:
        z = self.x @ weight.reshape(len(weight), -1)
        z += bias.reshape(-1)
        return z.view(len(self.x), *bias.shape)

    def back(self, residual: Tensor) -> Tensor:
        return (self.x.T @ residual.reshape(len(self.x), -1)).view(-1, *residual.shape[1:])

    def objective(self, loss: Tensor, weight: Tensor) -> Tensor:
        return loss + self.l1 * _total(weight.abs()) + self.l2 / 2 * _total(weight.square())

    def proximal(self, allowed: Tensor, step: Tensor, bias_step: Tensor) -> None:
        """FISTA with a restart wherever the momentum points uphill (O'Donoghue & Candès 2015)."""
        threshold = step * self.l1.to(self.narrow)
        l2 = self.l2.to(self.narrow)
        weight, bias, z = self.weight, self.bias, self.z
        before_w, before_b, before_z = weight, bias, z
        momentum = torch.ones_like(self.l1)
        residual = torch.empty_like(z)
        for _ in range(_PROXIMAL):
            following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
            beta = ((momentum - 1) / following).to(self.narrow)
            y_w, y_b = weight + beta * (weight - before_w), bias + beta * (bias - before_b)
            y_z = z + beta * (z - before_z)
            self.loss.along(y_z, None, None, residual)
            gradient = self.back(residual) + l2 * y_w
            target = y_w - step * gradient
            new_w = torch.where(allowed, target.sign() * (target.abs() - threshold).clamp_min(0), 0)
            new_b = y_b - bias_step * residual.sum(0)
            uphill = _total((y_w - new_w) * (new_w - weight) / step) + (
                ((y_b - new_b) * (new_b - bias) / bias_step).sum(0).double()
            )
            momentum = torch.where(uphill > 0, 1.0, following)
            before_w, before_b, before_z = weight, bias, z
            weight, bias = new_w, new_b
            z = self.logits(weight, bias)
        self.weight, self.bias, self.z = weight, bias, z

    def newton(self, square: Tensor) -> Tensor:
        """One projected Newton step on the non-zeros.

        Returns the Newton decrement (H,) before it, infinite where the full step was not taken.
        """
        support = self.weight != 0
        residual = torch.empty_like(self.z)
        loss, _ = self.loss.along(self.z, None, None, residual)
        value = self.objective(loss, self.weight)
        slope_w = self.back(residual) + self.l2.to(self.narrow) * self.weight
        slope_w = torch.where(support, slope_w + self.l1.to(self.narrow) * self.weight.sign(), 0)
        slope_b = residual.sum(0)
        if int(support.sum((0, 1)).max()) <= _DENSE:
            step_w, step_b, decrement = self._direct(slope_w, slope_b, support)
        else:
            step_w, step_b, decrement = self._conjugate(slope_w, slope_b, support, square)
        t = torch.ones_like(self.l1)
        pending = torch.ones_like(t, dtype=torch.bool)
        noise = value.abs() * (1e-7 if self.narrow == torch.float32 else 1e-14)
        new_w, new_b, new_z = self.weight.clone(), self.bias.clone(), self.z.clone()
        for _ in range(_HALVINGS):
            heads = torch.nonzero(pending).flatten()
            length = t[heads].to(self.narrow)
            old = self.weight[..., heads]
            trial_w = old + length * step_w[..., heads]
            trial_w = torch.where(trial_w * old > 0, trial_w, 0)
            trial_b = self.bias[:, heads] + length * step_b[:, heads]
            trial_z = self.logits(trial_w, trial_b)
            trial_loss, _ = self.loss.of(heads).along(trial_z, None, None, None)
            total = (
                trial_loss
                + self.l1[heads] * _total(trial_w.abs())
                + self.l2[heads] / 2 * _total(trial_w.square())
            )
            drop = _total(slope_w[..., heads] * (trial_w - old))
            drop += (slope_b[:, heads] * (trial_b - self.bias[:, heads])).sum(0).double()
            good = torch.isfinite(total) & (total <= value[heads] + 1e-4 * drop.clamp_max(0) + noise[heads])
            taken = heads[good]
            new_w[..., taken], new_b[:, taken] = trial_w[..., good], trial_b[:, good]
            new_z[..., taken] = trial_z[..., good]
            pending[taken] = False
            if not bool(pending.any()):
                break
            t[pending] /= 2
        # Levenberg's rule: with enough damping a projected step always descends.
        worse = torch.where(pending, 10 * self.damping, 2 * self.damping).clamp_min(_DAMPING)
        better = torch.where(self.damping > _DAMPING, self.damping / 10, 0)
        self.damping = torch.where(pending | (t < 0.5), worse, torch.where(t == 1, better, self.damping))
        self.weight, self.bias, self.z = new_w, new_b, new_z
        return torch.where(pending | (t < 1), torch.inf, decrement)

    def _direct(self, slope_w: Tensor, slope_b: Tensor, support: Tensor) -> tuple[Tensor, ...]:
        """The Newton step on a support small enough to write its Hessian down, head after head."""
        step_w, step_b = torch.zeros_like(slope_w), torch.zeros_like(slope_b)
        columns = len(slope_b)
        failed = torch.zeros_like(self.l1, dtype=torch.bool)
        ones = self.x.new_ones(len(self.x), 1)
        for h in range(len(self.l1)):
            blocks = [torch.nonzero(support[:, k, h]).flatten() for k in range(columns)]
            parts = [torch.cat([self.x[:, block], ones], dim=1) for block in blocks]
            own, shared = self.loss.factors(self.z[:, :, h], h)
            own_root = own.sqrt()
            ends = list(itertools.accumulate((len(block) + 1 for block in blocks), initial=0))
            hessian = self.x.new_zeros(ends[-1], ends[-1], dtype=torch.float64)
            for k, part in enumerate(parts):
                scaled = part * own_root[:, k : k + 1]
                hessian[ends[k] : ends[k + 1], ends[k] : ends[k + 1]] = scaled.T @ scaled
            if shared is not None:
                joint = torch.cat([part * shared[:, k : k + 1] for k, part in enumerate(parts)], dim=1)
                hessian -= joint.T @ joint
            slope = torch.cat(
                [torch.cat([slope_w[block, k, h], slope_b[k : k + 1, h]]) for k, block in enumerate(blocks)]
            )
            diagonal = torch.diagonal(hessian)
            relative = float(self.damping[h]) + (_RIDGE if self.narrow == torch.float64 else _RIDGE_SINGLE)
            diagonal += relative * diagonal + float(self.l2[h])
            for end in ends[1:]:
                hessian[end - 1, end - 1] -= float(self.l2[h])  # the bias is not penalised
            factor, info = torch.linalg.cholesky_ex(hessian)
            if int(info):
                failed[h] = True
                continue  # no curvature left to rely on: the proximal steps go on alone
            step = -torch.cholesky_solve(slope.double().unsqueeze(1), factor).flatten().to(self.narrow)
            for k, block in enumerate(blocks):
                step_w[block, k, h] = step[ends[k] : ends[k + 1] - 1]
                step_b[k, h] = step[ends[k + 1] - 1]
        decrement = -(_total(slope_w * step_w) + (slope_b * step_b).sum(0).double()) / 2
        return step_w, step_b, torch.where(failed, torch.inf, decrement)

    def _conjugate(
        self, slope_w: Tensor, slope_b: Tensor, support: Tensor, square: Tensor
    ) -> tuple[Tensor, ...]:
        """The Newton step on the support by preconditioned conjugate gradients, and its decrement."""
        curvature = torch.diagonal(self.loss.curvature(self.z), dim1=1, dim2=2).T.to(self.narrow)  # (K, H)
        curvature = curvature.clamp_min(1e-12)
        damped = self.damping.to(self.narrow) * curvature
        inverse_w = 1 / (square * (curvature + damped) + self.l2.to(self.narrow))
        inverse_b = 1 / (curvature + damped)
        multiply = self.loss.hessian(self.z)
        zero_w, zero_b = torch.zeros_like(slope_w), torch.zeros_like(slope_b)
        x_w, x_b, r_w, r_b = zero_w, zero_b, -slope_w, -slope_b
        s_w, s_b = inverse_w * r_w, inverse_b * r_b
        p_w, p_b = s_w, s_b
        rho = _total(r_w * s_w) + (r_b * s_b).sum(0).double()
        first = rho.clone()
        for _ in range(_CONJUGATE):
            image = multiply(self.logits(p_w, p_b))
            h_w = self.back(image) + (self.l2.to(self.narrow) + damped * square) * p_w
            h_w = torch.where(support, h_w, 0)
            h_b = image.sum(0) + damped * p_b
            curved = _total(p_w * h_w) + (p_b * h_b).sum(0).double()
            running = (rho > 1e-4 * first) & (curved > 0)
            if not bool(running.any()):
                break
            alpha = torch.where(running, rho / curved.clamp_min(1e-300), 0).to(self.narrow)
            x_w, x_b = x_w + alpha * p_w, x_b + alpha * p_b
            r_w, r_b = r_w - alpha * h_w, r_b - alpha * h_b
            s_w, s_b = inverse_w * r_w, inverse_b * r_b
            following = _total(r_w * s_w) + (r_b * s_b).sum(0).double()
            beta = torch.where(running, following / rho.clamp_min(1e-300), 0).to(self.narrow)
            p_w, p_b = s_w + beta * p_w, s_b + beta * p_b
            rho = torch.where(running, following, rho)
        decrement = -(_total(slope_w * x_w) + (slope_b * x_b).sum(0).double()) / 2
        return x_w, x_b, decrement


def solve_sparse(stack: Stack, family: Tensor, widest: int) -> Solved:
    """Minimise every head of a stack with an L1 penalty to its tolerance, at most `widest` heads at a time.

    `family` (H,) numbers the sets of heads that differ only in their penalty. In small problems each head
    starts from its sparser relative, one after the other; in large ones wide products are worth more than
    near starts.
    """
    answers = Solved.empty(stack)
    scales = _Scales.of(stack.x, stack.loss.weights)
    order = torch.argsort(stack.l1, descending=True, stable=True)
    if stack.x.dtype != torch.float64:
        for heads in torch.split(order, widest):
            answers.put(heads, _solve(stack.of(heads), scales))
        return answers
    last: dict[int, int] = {}
    for head in order.tolist():
        one = stack.of(torch.tensor([head], device=stack.x.device))
        before = last.get(int(family[head]))
        if before is not None and bool(stack.cold[head]):
            one = replace(one, weight=answers.weight[:, :, [before]], bias=answers.bias[:, [before]])
        answers.put(torch.tensor([head], device=stack.x.device), _solve(one, scales))
        last[int(family[head])] = head
    return answers


def _solve(stack: Stack, scales: _Scales) -> Solved:
    answers = Solved.empty(stack)
    running = torch.arange(stack.heads, device=stack.x.device)
    used = torch.zeros(stack.heads, dtype=torch.int64, device=stack.x.device)
    damping = torch.zeros(stack.heads, dtype=torch.float64, device=stack.x.device)
    point = _Point.at(stack, stack.weight, stack.bias)
    allowed = _working_set(stack, point, _FIRST)
    while True:
        features = torch.nonzero(allowed.any(2).any(1)).flatten()
        if len(features) == 0:  # only biases to move, but products want a column
            features = torch.zeros(1, dtype=torch.int64, device=running.device)
        every = len(features) > 0.7 * len(point.weight)
        if every:
            features = torch.arange(len(point.weight), device=running.device)
        work = _Work(stack, stack.x if every else stack.x[:, features], point, features, damping)
        square = scales.square[features][:, stack.loss.weight_of].unsqueeze(1)
        largest = (0.5 if stack.loss.columns > 1 else 0.25) * scales.largest[stack.loss.weight_of]
        work.proximal(allowed[features], 1 / (square * largest + stack.l2.to(square.dtype)), 1 / largest)
        decrement = work.newton(square)
        steps = 1
        while steps < _NEWTON and bool((decrement > 1e-3 * stack.tolerance * point.loss).any()):
            decrement = work.newton(square)
            steps += 1
        used += _PROXIMAL + steps
        weight = torch.zeros_like(point.weight)
        weight[features] = work.weight
        damping = work.damping
        point = _Point.at(stack, weight, work.bias, work.z)
        state = _measure(stack, point, scales, decrement, used)
        finished = state.converged | (used >= stack.max_iterations) | ~torch.isfinite(state.objective)
        done = torch.nonzero(finished).flatten()
        answers.put(running[done], state.of(done))
        keep = torch.nonzero(~finished).flatten()
        if len(keep) == 0:
            return answers
        if len(keep) < len(running):
            stack, point = stack.of(keep), point.of(keep)
            running, used, damping = running[keep], used[keep], damping[keep]
        allowed = _working_set(stack, point, _FIRST // 2)


def _subgradient(stack: Stack, weight: Tensor, gradient: Tensor) -> Tensor:
    """The subgradient of least size; zero everywhere at the optimum."""
    l1 = stack.l1.to(weight.dtype)
    outside = gradient.sign() * (gradient.abs() - l1).clamp_min(0)
    return torch.where(weight != 0, gradient + l1 * weight.sign(), outside)


def _working_set(stack: Stack, point: _Point, least: int) -> Tensor:
    """Each head's non-zeros and half as many of the worst offenders, (d, K, H) bool."""
    support = point.weight != 0
    excess = torch.where(support, 0, (point.gradient.abs() - stack.l1.to(point.gradient.dtype)).clamp_min(0))
    flat = excess.reshape(-1, stack.heads)
    room = (support.sum((0, 1)) // 2).clamp_min(least)
    most = min(int(room.max()), len(flat))
    values, places = flat.topk(most, dim=0)
    rank = torch.arange(most, device=flat.device).unsqueeze(1)
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen.scatter_(0, places, (values > 0) & (rank < room))
    return support | chosen.view_as(support)


def _measure(stack: Stack, point: _Point, scales: _Scales, decrement: Tensor, used: Tensor) -> Solved:
    """How far each head is from its optimum.

    By convexity the gap is at most the largest subgradient times the distance in L1 norm, which is at most
    ‖W‖₁ + ‖W*‖₁, and l1·‖W*‖₁ is at most the objective; the bias, unpenalised, is judged by its own
    curvature. Single precision cannot bring subgradients that far down, so there an estimate decides: the
    last Newton decrement on the support, and a diagonal Newton step for every feature that still wants in.
    """
    weight = point.weight
    size = _total(weight.abs())
    objective = point.loss + stack.l1 * size + stack.l2 / 2 * _total(weight.square())
    subgradient = _subgradient(stack, weight, point.gradient)
    slope = point.slope.double()
    curvature = torch.diagonal(stack.loss.curvature(point.z), dim1=1, dim2=2).T.clamp_min(1e-12)  # (K, H)
    bias_part = (slope.square() / curvature).sum(0)
    largest = subgradient.abs().amax((0, 1)).double()
    bound = largest * (size + objective / stack.l1) + bias_part
    square = scales.square[:, stack.loss.weight_of].unsqueeze(1)
    outside = torch.where(weight == 0, subgradient, 0).square() / (square * curvature.to(weight.dtype))
    estimate = decrement.clamp_min(0) + _SAFETY * _total(outside) + bias_part
    target = stack.tolerance * objective.abs()
    certified = bound <= target
    enough = estimate <= (_EXACT if weight.dtype == torch.float64 else 1) * target
    return Solved(
        weight=weight,
        bias=point.bias,
        objective=objective,
        gradient_norm=(_total(subgradient.square()) + slope.square().sum(0)).sqrt(),
        gap=torch.where(certified | ~enough, bound, estimate),
        certified=certified | ~enough,
        iterations=used.clone(),
        converged=certified | enough,
    )
