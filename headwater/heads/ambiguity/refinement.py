"""A pair of readings made sharper: heads begun at them, judged by rows that one should disagree on and not.

Labeled rows are ordinary, others a mixture of ordinary and crossed ones. So a pair's disagreement is right
where others show much of it and labeled rows kept apart show little, which needs no answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.coupled_readings import coupled_readings
from headwater.heads.ambiguity.problem import Problem, Reading

Floats = NDArray[np.float32]

# Mix rates that are tried, as multiples of how often the pair disagrees.
_FACTORS = (1.0, 1.1)
_LEAST_RATE = 0.02
# Where a pair came to disagree on more rows by this, it may on even more, and is begun at once more.
_WIDER = 1.05
_PENALTIES = (1e-5, 1e-3)
_MOST_ROUNDS = 8
# Each setting is trained so many times, every time without another fifth of the labeled rows.
_TIMES = 5


@dataclass(frozen=True, eq=False)
class Refined:
    """Pairs of one setting: `readings` by turns of the first and the second reading, and their `merit`.

    With a share m of crossed rows, rows are best called crossed where others are 2 (1 - m) times as dense as
    labeled ones, which is the region of the largest difference of its share of others and 2 (1 - m) times
    its share of labeled rows. `merit` is this difference for the rows on which the pair disagrees; `error`
    is how far it may be off by the number of labeled rows.
    """

    readings: tuple[Reading, ...]
    merit: float
    error: float


def refined(
    problem: Problem, views: Mapping[str, Floats], pair: tuple[Reading, Reading], seed: int = 0
) -> list[Reading]:
    """Readings like the `pair`, by turns the first and the second, of the settings of most merit.

    `views` are features (n + m + t, dim) by name. Kept are settings whose merit is within a standard error
    of the largest (Breiman et al. 1984), so that their mean is no worse by what can be told. The pair is
    replaced by this mean as long as its disagreement grows, a few times at most.
    """
    price = 2 * (1 - _crossed(*pair))
    readings: list[Reading] = []
    for _ in range(_MOST_ROUNDS):
        rate = _crossed(*pair)
        tried = [each for rows in views.values() for each in _settings(problem, rows, pair, price, seed)]
        best = max(tried, key=lambda each: each.merit - each.error)
        least = best.merit - 2 * best.error
        readings = [one for each in tried if each.merit - each.error >= least for one in each.readings]
        pair = _mean(readings[::2]), _mean(readings[1::2])
        if _crossed(*pair) < _WIDER * rate:
            break
    return readings


def _mean(readings: list[Reading]) -> Reading:
    """What readings say on average."""
    parts = [np.mean([getattr(each, part) for each in readings], axis=0) for part in ("unlabeled", "target")]
    return Reading(parts[0], parts[1], readings[0].error, readings[0].origin)


def _settings(
    problem: Problem, rows: Floats, pair: tuple[Reading, Reading], price: float, seed: int
) -> list[Refined]:
    rate = _crossed(*pair)
    rates = {float(np.clip(factor * rate, _LEAST_RATE, 1)) for factor in _FACTORS}
    readings = coupled_readings(
        rows,
        problem.labels,
        len(problem.target),
        len(problem.classes),
        mix_rates=sorted(rates),
        seed=seed,
        kinds=("DivDis", "cells"),
        starts=_TIMES,
        kept=_TIMES,
        l2=_PENALTIES,
        near=(said(pair[0]), said(pair[1])),
    )
    settings: dict[str, list[Reading]] = {}
    for each in readings:
        settings.setdefault(each.setting, []).append(each)
    return [_judged(tuple(mine), price, len(problem.labels)) for mine in settings.values()]


def _judged(readings: tuple[Reading, ...], price: float, labeled: int) -> Refined:
    pairs = list(zip(readings[::2], readings[1::2], strict=True))
    # On labeled rows the two disagree where either errs.
    errors = [error for pair in pairs if np.isfinite(error := pair[0].error + pair[1].error)]
    wrong = min(1.0, float(np.mean(errors))) if errors else 0.0
    merit = float(np.mean([_crossed(*each) for each in pairs])) - price * wrong
    known = float(np.clip(wrong, 1 / labeled, 1 - 1 / labeled))
    return Refined(readings, merit, price * float(np.sqrt(known * (1 - known) / labeled)))


def said(reading: Reading) -> Floats:
    """What a reading says of unlabeled and target rows, (m + t, classes)."""
    return np.concatenate([reading.unlabeled, reading.target])


def _crossed(one: Reading, other: Reading) -> float:
    return float((said(one).argmax(axis=1) != said(other).argmax(axis=1)).mean())
