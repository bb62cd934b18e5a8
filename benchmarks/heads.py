"""64 ERM heads on a path of L2 strengths against scikit-learn, one by one, at equal objective."""

from __future__ import annotations

import resource
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks.common import Claim, Result, Table, median, seconds
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows

GAP = 1e-5  # relative to the best known optimum; both sides must reach it
STRENGTHS = (1e-6, 1e2)


@dataclass(frozen=True)
class Size:
    """Rows, features, classes and heads of the problem, and how many heads scikit-learn is timed on."""

    rows: int
    dim: int
    classes: int
    heads: int
    sampled: int


FULL = Size(100_000, 2048, 13, 64, 4)
QUICK = Size(3_000, 128, 5, 16, 2)


def features_like_resnet(size: Size, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rectified, non-negative, correlated features with a decaying spectrum, and noisy labels."""
    generator = torch.Generator().manual_seed(seed)
    rank = min(256, size.dim)
    spectrum = torch.arange(1, rank + 1, dtype=torch.float32) ** -0.7
    mixing = torch.randn(rank, size.dim, generator=generator)
    truth = torch.randn(rank, size.classes, generator=generator)
    features = np.empty((size.rows, size.dim), dtype=np.float32)
    labels = np.empty(size.rows, dtype=np.int64)
    for first in range(0, size.rows, 10_000):
        count = min(10_000, size.rows - first)
        latent = torch.randn(count, rank, generator=generator) * spectrum
        block = torch.relu(
            0.5 * latent @ mixing + 0.5 * torch.randn(count, size.dim, generator=generator) - 0.2
        )
        score = latent @ truth
        score = 2 * score / score.std() + torch.randn(count, size.classes, generator=generator)
        features[first : first + count] = block.numpy()
        labels[first : first + count] = score.argmax(1).numpy()
    return features, labels


def product_rate(rows: int, dim: int, columns: int) -> float:
    """GFLOP/s of the float32 matrix product of the bank's shape: over both directions, medians."""
    x, d, r = torch.randn(rows, dim), torch.randn(dim, columns), torch.randn(rows, columns)
    flops = 2e-9 * rows * dim * columns
    forward = median([seconds(lambda: x @ d) for _ in range(3)])
    backward = median([seconds(lambda: x.T @ r) for _ in range(3)])
    return 2 * flops / (forward + backward)


def objective(
    x: NDArray[np.float32],
    labels: NDArray[np.int64],
    weight: Any,
    bias: Any,
    l2: float,
    *,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Mean cross-entropy, by row weights of mean 1, plus penalty in float64, by blocks of rows."""
    weight, bias = np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64)
    total = 0.0
    for first in range(0, len(x), 5_000):
        z = x[first : first + 5_000].astype(np.float64) @ weight.T + bias
        z -= z.max(axis=1, keepdims=True)
        own = z[np.arange(len(z)), labels[first : first + 5_000]]
        loss = np.log(np.exp(z).sum(axis=1)) - own
        total += float((loss if weights is None else loss * weights[first : first + 5_000]).sum())
    return total / len(x) + l2 / 2 * float((weight**2).sum())


def peer_at_equal_objective(
    x: NDArray[np.float32],
    labels: NDArray[np.int64],
    l2: float,
    target: float,
    weights: NDArray[np.float64] | None = None,
) -> tuple[float, float, int, float]:
    """Seconds, objective, iterations and tol of scikit-learn's loosest fit that comes down to `target`.

    Only the fit that gets there is counted, not the looser tries before it; a float32 fit that never gets
    there is reported as it ended.
    """
    for tol in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7):
        peer = LogisticRegression(C=1 / (l2 * len(x)), tol=tol, max_iter=3_000)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer.fit(x, labels, sample_weight=weights)
        took = time.perf_counter() - start
        reached = objective(x, labels, peer.coef_, peer.intercept_, l2, weights=weights)
        if reached <= target:
            break
    return took, reached, int(peer.n_iter_[0]), tol


class PeakMemory:
    """The most resident memory of this process since it was made, features and libraries included."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._resets = True
        except OSError:  # elsewhere the peak is that of the whole life of the process
            self._resets = False

    def bytes(self) -> int:
        """So far."""
        if self._resets:
            lines = Path("/proc/self/status").read_text().splitlines()
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


GAPS = ("our gap", "peer's gap", "our iterations", "peer's iterations", "peer's tol", "peer's seconds")
"""The last columns of the table of sampled heads."""

EQUAL_OBJECTIVE = (
    f"Equal objective: within {GAP:g} of the best optimum known to either; the peer's tol is tightened until "
    "it gets there, and only its last fit counts."
)


def speed_table(
    title: str, heads: int, took: tuple[float, float], timed: int, rates: tuple[float, float]
) -> Table:
    """Seconds, ours and the peer's of whose heads `timed` were, and GFLOP/s, ours and a product's."""
    (ours, peer), (achieved, rate) = took, rates
    return Table(
        title,
        ("", "seconds", "seconds per head", "GFLOP/s", "share of product rate"),
        [
            ("headwater, all heads measured", ours, ours / heads, achieved, achieved / rate),
            (f"scikit-learn, {timed} timed, scaled to all", peer, peer / heads, None, None),
        ],
    )


def inside_rows(evaluations: list[int], peak: int, before: int, features: int) -> list[tuple[str, float]]:
    """Gradient evaluations of every head; bytes at the peak, held before, and of the features."""
    return [
        ("gradient evaluations per head, mean", sum(evaluations) / len(evaluations)),
        ("gradient evaluations per head, most", max(evaluations)),
        ("peak memory while training, MiB", peak / 2**20),
        ("  of which held before, MiB", before / 2**20),
        ("float32 features, MiB", features / 2**20),
    ]


def run(quick: bool) -> Result:
    """Measure ours, then a sample of the peer's heads over the path; both see standardised float32 rows."""
    size = QUICK if quick else FULL
    x, labels = features_like_resnet(size)
    x -= x.mean(axis=0)
    x /= x.std(axis=0)
    strengths = np.geomspace(*STRENGTHS, size.heads)
    rows = Rows(np.arange(size.rows))
    specs = [HeadSpec(rows, Penalty(l2=float(l2)), tolerance=GAP / 2) for l2 in strengths]

    rate = product_rate(min(size.rows, 20_000), size.dim, size.classes * size.heads)
    memory = PeakMemory()
    before = memory.bytes()
    start = time.perf_counter()
    heads = HeadBank(x, labels, size.classes, device="cpu").train(specs)
    ours = time.perf_counter() - start
    peak = memory.bytes()
    evaluations = [head.convergence.iterations + 1 for head in heads]
    work = 4e-9 * size.rows * size.dim * size.classes * sum(evaluations)
    achieved = work / ours

    sample = np.linspace(0, size.heads - 1, size.sampled).round().astype(int)
    table, peer_times, worst = [], [], 0.0
    for i in sample:
        l2 = float(strengths[i])
        spec = HeadSpec(rows, Penalty(l2=l2), tolerance=1e-8, start=heads[i])
        (tight,) = HeadBank(x, labels, size.classes, device="cpu").train([spec])
        mine = objective(x, labels, heads[i].weight, heads[i].bias, l2)
        best = min(mine, objective(x, labels, tight.weight, tight.bias, l2))
        took, reached, iterations, tol = peer_at_equal_objective(x, labels, l2, best * (1 + GAP))
        best = min(best, reached)
        worst = max(worst, mine / best - 1)
        peer_times.append(took)
        table.append(
            (
                f"{l2:.1e}",
                mine / best - 1,
                reached / best - 1,
                heads[i].convergence.iterations,
                iterations,
                tol,
                took,
            )
        )
    # The trapezoid rule over the path: an untimed head costs what lies linearly between its timed neighbours.
    peer = float(np.interp(np.arange(size.heads), sample, peer_times).sum())
    converged = sum(head.convergence.converged for head in heads)
    return Result(
        tables=[
            speed_table(
                f"{size.heads} heads on {size.rows} x {size.dim}, {size.classes} classes, L2 from "
                f"{STRENGTHS[0]:g} to {STRENGTHS[1]:g}",
                size.heads,
                (ours, peer),
                size.sampled,
                (achieved, rate),
            ),
            Table("the sampled heads", ("l2", *GAPS), table),
            Table(
                "inside",
                ("", "value"),
                [
                    ("float32 product rate, GFLOP/s", rate),
                    *inside_rows(evaluations, peak, before, x.nbytes),
                    ("heads converged by their own record", converged),
                ],
            ),
        ],
        claims=[
            Claim.at_least("speed-up over scikit-learn at equal objective", peer / ours, 10),
            Claim.at_most("largest relative gap of ours among the sampled heads", worst, GAP),
            Claim.at_least("heads that converged", converged, size.heads),
        ],
        notes=[
            "L2 strengths stand beside the mean loss: scikit-learn's C is 1 / (l2 x rows).",
            EQUAL_OBJECTIVE,
            "Untimed heads of the peer are interpolated between timed ones.",
        ],
    )
