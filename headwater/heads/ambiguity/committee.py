"""Readings of the labels by a committee of pairs of linear heads, on several views of a problem's rows.

What is asked, and which reading is believed, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.devices import choose_device
from headwater.heads.ambiguity.pairs import Pairs, Start, Told, told_by, train_pairs
from headwater.heads.ambiguity.problem import Problem, Reading

MIX_RATES = (0.1, 0.3, 0.5, 0.7, 0.9)  # that pairs start from
COMPONENTS = (32, 64, 128)  # that pairs see: few make features easy to part, many let them be seen
REPEATS = 2
AS_WIDE = 0.9  # times the largest estimated mix rate: pairs below are left out
KEPT = 0.25  # share of the others that is kept

Progress = Callable[[int, int], None]


def pair_readings(
    problem: Problem,
    *,
    views: Mapping[str, NDArray[np.float32]] | None = None,
    answers: Mapping[int, int] | None = None,
    wrong: Reading | None = None,
    mix_rates: Sequence[float] = MIX_RATES,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Reading]:
    """Two readings of every pair of heads that is kept, the clearest pairs of each view first.

    `views` maps names to features (n + m + t, d) of labeled, unlabeled and target rows, in this order; None:
    the rows' own values. Each of `mix_rates` is a start for pairs, which then follow what labeled rows kept
    apart say of it. `answers` (target row → class code) must hold for the first head of every pair; `wrong`,
    a reading that answers refuted, is what the second ones are tied to, so that the first are independent
    of it.
    """
    on = choose_device(device)
    views = own_values(problem) if views is None else views
    tied = None
    if wrong is not None:
        tied = torch.from_numpy(np.concatenate([wrong.unlabeled, wrong.target])).to(on)
    told = told_by(answers or {}, len(problem.unlabeled), tied, on)
    readings: list[Reading] = []
    for place, (name, features) in enumerate(views.items()):
        pairs = _pairs(problem, features, told, mix_rates, seed * len(views) + place)
        readings += _kept(pairs, name, len(problem.unlabeled))
        if progress:
            progress(place + 1, len(views))
    return readings


def own_values(problem: Problem) -> dict[str, NDArray[np.float32]]:
    """The rows' own values as the only view."""
    parts = (problem.labeled, problem.unlabeled, problem.target)
    return {"values": np.concatenate([part.reshape(len(part), -1) for part in parts])}


def components(features: NDArray[np.float32], most: int, device: torch.device) -> Tensor:
    """The rows' `most` leading principal components, each of deviation 1, (rows, components)."""
    x = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)).to(device)
    x = x - x.mean(0)
    values, vectors = torch.linalg.eigh((x.T @ x).double() / len(x))
    # Directions that rows hardly differ in are rounding, which a deviation of 1 would blow up.
    real = int((values > 1e-6 * values[-1]).sum())
    found = x @ vectors[:, -min(most, max(real, 1)) :].flip(1).float()
    scaled: Tensor = found / found.std(0).clamp(min=1e-12)
    return scaled


def _pairs(
    problem: Problem, features: NDArray[np.float32], told: Told, mix_rates: Sequence[float], seed: int
) -> Pairs:
    n = len(problem.labeled)
    x = components(features, max(COMPONENTS), told.codes.device)
    sizes = sorted({min(size, x.shape[1]) for size in COMPONENTS})
    repeats = REPEATS * len(COMPONENTS) // len(sizes)
    starts = [Start(size, rate) for _ in range(repeats) for size in sizes for rate in mix_rates]
    labels = torch.from_numpy(problem.labels).to(x.device)
    return train_pairs(x[:n], labels, x[n:], len(problem.classes), starts=starts, seed=seed, told=told)


def _kept(pairs: Pairs, view: str, m: int) -> list[Reading]:
    """Readings of pairs that tell most rows apart, of those the ones whose rows fall into cells most clearly.

    A pair that disagrees less than another one, without mistakes in either, takes crossed rows for others.
    """
    rates = pairs.mix_rates.cpu()
    wide = torch.nonzero(rates >= AS_WIDE * rates.max()).flatten()
    order = wide[pairs.doubt.cpu()[wide].argsort(stable=True)].tolist()
    said = pairs.said.cpu().numpy().astype(np.float32)
    return [
        Reading(
            said[:m, head, :, pair],
            said[m:, head, :, pair],
            float(pairs.errors[head, pair]),
            f"{view}: pair {pair + 1}, head {head + 1}, mix rate {float(rates[pair]):.2f}, doubt"
            f" {float(pairs.doubt[pair]):.3f}",
        )
        for pair in order[: max(1, round(KEPT * len(order)))]
        for head in range(2)
    ]
