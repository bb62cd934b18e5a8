"""The largest linear function over weights, less their squared distance from 1: by filling to one level.

With weights w (n, 1 or H) of sum 1 and scores s (n, H), all float64, both find ratios a (n, H), a >= 0 and
Σ w_i a_i = 1, that maximise Σ w_i (a_i s_i - a_i²/2) over a set. The answers are a_i = (s_i - t)/c, cut off
where the set ends.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 100
_EXACT = 1e-13
# A ball of no radius at all would put the level infinitely low.
_FLAT = 1e-13


def fill_box(scores: Tensor, weights: Tensor, most: Tensor) -> Tensor:
    """Over 0 <= a_i <= `most` (H,) >= 1.

    The level t, where Σ w_i clip(s_i - t, 0, most) = 1, lies less than `most` below the score at which the
    weights, from the top, add up to 1/most. It is found by Newton steps kept in that bracket.
    """
    high = _top_share(scores, weights, 1 / most)
    low = high - most
    t = high
    # Scores are only known to their rounding, and so is the sum.
    exact = _EXACT * (1 + scores.abs().amax(0))
    for step in range(_STEPS):
        a = (scores - t).clamp_min_(0).minimum(most)
        over = (weights * a).sum(0) - 1
        low, high = torch.where(over >= 0, t, low), torch.where(over <= 0, t, high)
        if bool(((over.abs() <= exact) | (high - low <= exact)).all()):
            break
        slope = (weights * ((a > 0) & (a < most))).sum(0)
        newton = t + over / slope
        inside = (newton > low) & (newton < high) & (step % 4 != 3)
        t = torch.where(inside, newton, (low + high) / 2)
    return a / (weights * a).sum(0)


def _top_share(scores: Tensor, weights: Tensor, share: Tensor) -> Tensor:
    """The score (H,) at which the weights of the rows from the highest down first reach `share` (H,)."""
    if weights.shape[1] == 1 and bool((weights == weights[0]).all()):
        rows = (share * len(scores)).ceil().long().clamp(1, len(scores))
        top = torch.empty_like(share)
        for each in torch.unique(rows).tolist():
            chosen = rows == each
            top[chosen] = scores[:, chosen].kthvalue(len(scores) - each + 1, dim=0).values
        return top
    ordered, order = scores.sort(dim=0, descending=True)
    reached = weights.expand_as(scores).gather(0, order).cumsum(0) < share
    return ordered.gather(0, reached.sum(0, keepdim=True).clamp_max(len(scores) - 1))[0]


def fill_ball(scores: Tensor, weights: Tensor, radius: Tensor) -> Tensor:
    """Over a >= 0 with Σ w_i (a_i - 1)²/2 <= `radius` (H,).

    For the rows A above a level the two conditions on t and c have a closed form. The level that all rows
    give is too low, and the level that the rows above a level too low give lies between it and the right
    one, so that A shrinks until it is right.
    """
    weights = weights.expand_as(scores)
    t = torch.full_like(radius, -torch.inf)
    above = weights
    for _ in range(_STEPS):
        mass = above.sum(0)
        mean = (above * scores).sum(0) / mass
        variance = (above * (scores - mean).square()).sum(0) / mass
        curved = ((1 + 2 * radius) * mass - 1).clamp_min(_FLAT)
        level = mean - (variance / curved).sqrt()
        following = torch.maximum(torch.minimum(mean - 1 / mass, level), t)
        if bool((following <= t).all()):
            break
        t = following
        above = torch.where(scores > t, weights, 0)
    a = (scores - t).clamp_min(0)
    return a / (weights * a).sum(0)
