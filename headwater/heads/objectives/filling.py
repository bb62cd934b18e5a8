"""The largest linear function over weights, less their squared distance from 1: by filling to one level.

With weights w (n, 1 or H) of sum 1 and scores s (n, H), all float64, both find ratios a (n, H), a >= 0 and
Σ w_i a_i = 1, that maximise Σ w_i (a_i s_i - a_i²/2) over a set. The answers are a_i = (s_i - t)/c, cut off
where the set ends.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 100
_EXACT = 1e-11
# A ball of no radius at all would put the level infinitely low.
_FLAT = 1e-13


def fill_box(scores: Tensor, weights: Tensor, most: Tensor) -> Tensor:
    """Over 0 <= a_i <= `most` (H,) >= 1.

    The level t, where Σ w_i clip(s_i - t, 0, most) = 1, lies less than `most` below the score at which the
    weights, from the top, add up to 1/most. It is found by Newton steps kept in that bracket, each of a few
    numbers, since of ordered scores the sums to any level are known.
    """
    falling, order = (-scores).T.contiguous().sort(dim=1)  # (H, n), minus the scores
    mass = weights.expand_as(scores).T.gather(1, order)
    reached = mass.cumsum(1)
    top = (reached < (1 / most).unsqueeze(1)).sum(1, keepdim=True).clamp_max(len(scores) - 1)
    first = -falling.gather(1, top)
    # From here on levels and scores are counted from the first, lest large numbers cancel.
    falling = falling + first
    zero = torch.zeros_like(first)
    masses = torch.cat([zero, reached], dim=1)
    sums = torch.cat([zero, (mass * -falling).cumsum(1)], dim=1)
    cap = most.unsqueeze(1)
    t, low, high = zero, -cap, zero
    exact = _EXACT * (1 + first.abs())
    for step in range(_STEPS):
        above, capped = torch.searchsorted(falling, -t), torch.searchsorted(falling, -t - cap)
        full = masses.gather(1, capped)
        slope = masses.gather(1, above) - full
        over = sums.gather(1, above) - sums.gather(1, capped) - t * slope + cap * full - 1
        low, high = torch.where(over >= 0, t, low), torch.where(over <= 0, t, high)
        if bool(((over.abs() <= _EXACT) | (high - low <= exact)).all()):
            break
        newton = t + over / slope
        inside = (newton > low) & (newton < high) & (step % 4 != 3)
        t = torch.where(inside, newton, (low + high) / 2)
    a = (scores - (t + first).T).clamp_min_(0).minimum(most)
    return a / (weights * a).sum(0)


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
