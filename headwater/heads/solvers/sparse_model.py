"""Quadratic models of L1 heads with few unknowns, solved for their zeros and signs.

A model's minimum is found by guessing which weights are zero, solving for the others and correcting the
guess (primal-dual active sets, Hintermüller, Ito & Kunisch 2003). Everything here is small and lives in
numpy, whose calls cost a fraction of torch's; where models come from is `sparse_newton`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Heads that are done leave once the others are fewer than this share of all: leaving copies these.
WORTH = 0.75
# Guesses that have not settled by then may go round in circles; proximal steps take over, whose pace is found
# by power iterations, few since a margin makes good what these fall short by.
_GUESSES, _SHRINKS, _POWERS = 6, 80, 8
_INEXACT = 0.5  # of its steepest slope may be left of a model that was not solved exactly
_STEEP = 0.5  # of the steepest slope beyond l1 is one that moves its weight from zero in the first guess
_BEYOND = 1 + 1e-5  # times l1 is a slope that lets a weight move from zero


def subgradient(gradient: Array, weight: Array, l1: Array) -> Array:
    """The subgradient of least size; zero everywhere at the optimum."""
    outside = np.sign(gradient) * np.maximum(np.abs(gradient) - l1, 0)
    return np.where(weight != 0, gradient + l1 * np.sign(weight), outside)


def _image(hessian: Array, step: Array) -> Array:
    product: Array = (hessian @ step[:, :, None])[:, :, 0]
    return product


@dataclass(frozen=True)
class Model:
    """Models of H heads in s unknowns each: `slope`, the values `at` present, `l1`, all (H, s).

    `hessian` (H, s, s); `real` (H, s) tells unknowns from padding, which stays where it is, at zero.
    """

    slope: Array
    hessian: Array
    at: Array
    l1: Array
    real: Mask

    def of(self, heads: NDArray[np.int64]) -> Model:
        """The models of these heads, which are in order: no copy where they are all of them."""
        if len(heads) == len(self.at):
            return self
        return Model(self.slope[heads], self.hessian[heads], self.at[heads], self.l1[heads], self.real[heads])

    def value(self, step: Array, image: Array) -> Array:
        """The models' changes by a step whose product with the Hessian is given, penalty included: (H,)."""
        moved = np.abs(self.at + step) - np.abs(self.at)
        total: Array = ((self.slope + image / 2) * step + self.l1 * moved).sum(1)
        return total

    def steepest(self, step: Array) -> Array:
        """The largest subgradient of the models after a step: (H,)."""
        slope = self.slope + _image(self.hessian, step)
        size: Array = np.abs(subgradient(slope, self.at + step, self.l1) * self.real).max(1)
        return size

    def minimise(self) -> tuple[Array, Array, Mask]:
        """The best steps found, (H, s), the models' changes by them, and whether they are the minima, (H,).

        They are where the last guess of zeros and signs proves right.
        """
        best, least = np.zeros_like(self.at), np.zeros(len(self.at))
        exact = np.ones(len(self.at), dtype=bool)
        sign = np.where(self.at != 0, np.sign(self.at), -np.sign(self.slope))
        moving = np.where(self.at == 0, np.abs(self.slope) - self.l1, 0) * self.real
        steep = moving > _STEEP * moving.max(1, keepdims=True)
        active = self.real & ((self.at != 0) | (self.l1 == 0) | steep)
        todo, part = np.arange(len(self.at)), self
        for _ in range(_GUESSES):
            step, image, failed = part.solve(active, sign)
            slope = part.slope + image
            penalised = part.l1 > 0
            bad = active & ((part.at + step) * sign < 0) & penalised
            back = part.real & ~active & (np.abs(slope) > part.l1 * _BEYOND)
            wrong = (bad | back).any(1) | failed
            if bad.any():
                step = np.where(bad, -part.at, step)
                image = _image(part.hessian, step)
            value = part.value(step, image)
            better = (value < least[todo]) | ~wrong  # rounding hides the descent of the last steps
            best[todo] = np.where(better[:, None], step, best[todo])
            least[todo] = np.where(better, value, least[todo])
            if not wrong.any():
                return best, least, exact
            sign = np.where(back, -np.sign(slope), sign)
            active = (active & ~bad) | back
            if wrong.sum() < WORTH * len(todo):  # heads that are done would find the same again
                keep = np.flatnonzero(wrong)
                sign, active, todo, part = sign[keep], active[keep], todo[keep], part.of(keep)
                wrong = wrong[keep]
        todo = todo[wrong]
        best[todo], least[todo] = self.of(todo)._approach(best[todo], least[todo])
        exact[todo] = False
        return best, least, exact

    def _approach(self, best: Array, least: Array) -> tuple[Array, Array]:
        """Better steps for heads whose guesses went wrong, where those steps leave their models steep.

        Accelerated proximal steps find zeros and signs even of more unknowns than rows can tell apart.
        """
        steep = self.steepest(best) > _INEXACT * self.steepest(np.zeros_like(best))
        if not steep.any():
            return best, least
        heads = np.flatnonzero(steep)
        part = self.of(heads)
        step = part._shrink(best[heads])
        sign = np.sign(part.at + step)
        active = part.real & ((sign != 0) | (part.l1 == 0))
        solved, _, _ = part.solve(active, np.where(part.l1 > 0, sign, 0))
        crossed = (part.at + solved) * sign < 0
        solved = np.where(crossed, -part.at, solved)
        for found in (step, solved):
            value = part.value(found, _image(part.hessian, found))
            better = value < least[heads]
            best[heads[better]], least[heads[better]] = found[better], value[better]
        return best, least

    def _shrink(self, step: Array) -> Array:
        """Where accelerated proximal steps lead from a step, restarted where the momentum points uphill."""
        diagonal = np.diagonal(self.hessian, axis1=1, axis2=2)
        root = self.real / np.sqrt(np.where(self.real & (diagonal > 0), diagonal, 1))
        vector = np.ones_like(root)
        for _ in range(_POWERS):
            vector /= np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-30)
            vector = root * _image(self.hessian, root * vector)
        # power iteration approaches the largest eigenvalue from below
        largest = np.linalg.norm(vector, axis=1, keepdims=True)
        pace = root**2 / np.maximum(1.2 * largest, 1e-30)
        threshold = pace * self.l1
        before = ahead = self.at + step
        momentum = np.ones((len(step), 1))
        for _ in range(_SHRINKS):
            after = ahead - pace * (self.slope + _image(self.hessian, ahead - self.at))
            after = np.sign(after) * np.maximum(np.abs(after) - threshold, 0)
            uphill = ((ahead - after) * (after - before)).sum(1, keepdims=True) > 0
            following = np.where(uphill, 1.0, (1 + np.sqrt(1 + 4 * momentum**2)) / 2)
            ahead = after + np.where(uphill, 0, (momentum - 1) / following) * (after - before)
            before, momentum = after, following
        return before - self.at

    def solve(self, active: Mask, sign: Array) -> tuple[Array, Array, Mask]:
        """Steps with the inactive unknowns at zero and the signs given, and the Hessian's product with them.

        The third tells the heads whose Hessians rounding left indefinite: their active unknowns stay.
        """
        right = self.slope + self.l1 * sign
        step = np.where(active, 0, -self.at)
        if step.any():
            right += _image(self.hessian, step)
        counts = active.sum(1)
        most = max(1, int(counts.max()))
        head = np.arange(len(active))[:, None]
        if most == active.shape[1]:
            index, inside = np.broadcast_to(np.arange(most), active.shape), active
            system, known = self.hessian.copy(), right
        else:
            index = np.argsort(~active, axis=1, kind="stable")[:, :most]  # the active ones first, in order
            inside = np.arange(most) < counts[:, None]
            system = self.hessian[head[:, :, None], index[:, :, None], index[:, None, :]]
            known = right[head, index]
        if not inside.all():
            system *= inside[:, :, None] & inside[:, None, :]
            known = known * inside
            padding, place = np.nonzero(~inside)
            system[padding, place, place] = 1
        factor, info = torch.linalg.cholesky_ex(torch.from_numpy(system))
        solved = torch.cholesky_solve(torch.from_numpy(known[:, :, None]), factor).numpy()[:, :, 0]
        failed: Mask = info.numpy() != 0
        if failed.any():
            solved = np.where(failed[:, None], 0, solved)
        step[head, index] -= solved
        return step, _image(self.hessian, step), failed
