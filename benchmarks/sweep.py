"""256 heads, 64 L2 strengths by 4 weightings, trained as one stack; scikit-learn on a sample of them.

Speed at equal objective, share of the machine's product rate, peak memory, and what one more head costs.
Part of the peer's heads is timed: `SAMPLED=N python -m benchmarks sweep` times N of them.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Claim, Result, Table
from benchmarks.heads import (
    EQUAL_OBJECTIVE,
    GAP,
    GAPS,
    STRENGTHS,
    PeakMemory,
    Size,
    features_like_resnet,
    inside_rows,
    objective,
    peer_at_equal_objective,
    product_rate,
    speed_table,
)
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows, Weights

FULL, QUICK = Size(100_000, 2048, 13, 64, 4), Size(3_000, 96, 4, 8, 1)
CURVE_ROWS = 10_000
WEIGHTINGS = ("uniform", "1/class", "1/sqrt(class)", "1/group")


def weightings(labels: NDArray[np.int64], seed: int = 0) -> list[NDArray[np.float64]]:
    """Four row weightings of mean 1; groups are classes crossed with a rare attribute."""
    attribute = np.random.default_rng(seed).random(len(labels)) < 0.1
    group = 2 * labels + attribute
    by_class, by_group = np.bincount(labels), np.bincount(group)
    found = [
        np.ones(len(labels)),
        1 / by_class[labels],
        1 / np.sqrt(by_class[labels]),
        1 / by_group[group],
    ]
    return [weights / weights.mean() for weights in found]


def specs_for(rows: int, heads: int, weights: list[NDArray[np.float64]]) -> list[HeadSpec]:
    """`heads` specs over the strengths, as many under each weighting as there are."""
    every = Rows(np.arange(rows))
    used = [None, *(Weights(each[:rows]) for each in weights[1:])][: min(len(weights), heads)]
    strengths = np.geomspace(*STRENGTHS, max(1, heads // len(used)))
    return [HeadSpec(every, Penalty(l2=float(l2)), w, tolerance=GAP / 2) for w in used for l2 in strengths]


def curve(
    x: NDArray[np.float32], labels: NDArray[np.int64], weights: list[NDArray[np.float64]], most: int
) -> list[tuple[int, float, float, float]]:
    """Heads, seconds, seconds per head and evaluations per head of ever larger stacks, setup included."""
    classes = int(labels.max()) + 1
    found = []
    for heads in (2**power for power in range(most.bit_length())):
        specs = specs_for(len(x), heads, weights)
        start = time.perf_counter()
        trained = HeadBank(x, labels, classes, device="cpu").train(specs)
        took = time.perf_counter() - start
        evaluations = sum(head.convergence.iterations + 1 for head in trained)
        found.append((heads, took, took / heads, evaluations / heads))
    return found


def run(quick: bool) -> Result:
    """Train all of ours, time a sample of the peer's; both see the same standardised float32 rows."""
    size = QUICK if quick else FULL
    size = replace(size, sampled=int(os.environ.get("SAMPLED", size.sampled)))
    x, labels = features_like_resnet(size)
    x -= x.mean(axis=0)
    for first in range(0, size.dim, 64):  # by columns: the square of all of x would be a second copy
        x[:, first : first + 64] /= x[:, first : first + 64].std(axis=0)
    weights = weightings(labels)
    total = size.heads * len(weights)
    specs = specs_for(size.rows, total, weights)

    columns = size.classes * size.heads
    rates = [product_rate(min(size.rows, 20_000), size.dim, columns)]
    memory = PeakMemory()
    before = memory.bytes()
    start = time.perf_counter()
    heads = HeadBank(x, labels, size.classes, device="cpu").train(specs)
    ours = time.perf_counter() - start
    peak = memory.bytes()
    rates.append(product_rate(min(size.rows, 20_000), size.dim, columns))
    rate = sum(rates) / len(rates)
    evaluations = [head.convergence.iterations + 1 for head in heads]
    achieved = 4e-9 * size.rows * size.dim * size.classes * sum(evaluations) / ours

    table, timed, worst = [], {}, 0.0
    # A strength of each part of the path, the weightings in turns.
    places = np.linspace(0, size.heads - 1, size.sampled).round().astype(int)
    for turn, place in enumerate(places):
        number = (turn % len(weights)) * size.heads + int(place)
        spec, used = specs[number], weights[turn % len(weights)]
        l2 = spec.penalty.l2
        tight = replace(spec, tolerance=1e-7, start=heads[number])
        (best_head,) = HeadBank(x, labels, size.classes, device="cpu").train([tight])
        mine = objective(x, labels, heads[number].weight, heads[number].bias, l2, weights=used)
        best = min(mine, objective(x, labels, best_head.weight, best_head.bias, l2, weights=used))
        took, reached, iterations, tol = peer_at_equal_objective(x, labels, l2, best * (1 + GAP), used)
        best = min(best, reached)
        worst = max(worst, mine / best - 1)
        timed[int(place)] = took
        named = WEIGHTINGS[turn % len(weights)]
        ended = heads[number].convergence.iterations
        table.append((f"{l2:.1e}", named, mine / best - 1, reached / best - 1, ended, iterations, tol, took))
    # An untimed head costs what lies linearly between its timed neighbours on the path.
    path = np.interp(np.arange(size.heads), list(timed), list(timed.values()))
    peer = len(weights) * float(path.sum())
    converged = sum(head.convergence.converged for head in heads)
    held = min(size.rows, CURVE_ROWS)
    marginal = curve(x[:held], labels[:held], [each[:held] for each in weights], 16 if quick else 512)
    alone, last = marginal[0][2], marginal[-1][2]
    return Result(
        tables=[
            speed_table(
                f"{total} heads on {size.rows} x {size.dim}, {size.classes} classes, {size.heads} L2 "
                f"strengths from {STRENGTHS[0]:g} to {STRENGTHS[1]:g} by {len(weights)} weightings",
                total,
                (ours, peer),
                len(timed),
                (achieved, rate),
            ),
            Table("the sampled heads", ("l2", "weighting", *GAPS), table),
            Table(
                f"stacks of heads on {held} rows",
                ("heads", "seconds", "seconds per head", "evaluations per head"),
                marginal,
            ),
            Table(
                "inside",
                ("", "value"),
                [
                    ("float32 product rate, GFLOP/s, mean of before and after", rate),
                    *inside_rows(evaluations, peak, before, x.nbytes),
                ],
            ),
        ],
        claims=[
            Claim.at_least("speed-up over scikit-learn at equal objective", peer / ours, 50),
            Claim.at_least("share of the float32 product rate", achieved / rate, 0.5),
            Claim.at_most("peak memory in float32 features", peak / x.nbytes, 2.5),
            Claim.at_most("largest relative gap of ours among the sampled heads", worst, GAP),
            Claim.at_least("heads that converged", converged, total),
            Claim.at_most("seconds per head in the largest stack, against alone", last / alone, 1),
        ],
        notes=[
            f"scikit-learn is timed on {len(timed)} of the {total} heads, spread over the strengths, the "
            "weightings in turns; the others are interpolated along the path.",
            EQUAL_OBJECTIVE,
            "Peak memory is the process's, libraries and the features themselves included.",
            f"The curve is measured on the first {held} rows; each stack pays its own setup.",
        ],
    )
