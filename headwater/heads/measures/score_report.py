"""One head's log-loss, calibration error and AUROC on one split, with intervals, as plain data.

How the figures are computed lives in `scores`; how spread is measured is here. An interval
speaks of drawing the rows anew within each stratum (class and group), as the accuracies' bootstrap does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.heads.measures.intervals import Interval, check_level, wilson_ends
from headwater.heads.measures.scores import BINS, Floats, Placements, Scored, bins_of, check_logits, scored

METHOD = "spread within groups"


@dataclass(frozen=True, eq=False)
class ScoreReport:
    """`log_loss` (nats), `ece` in [0, 1], `auroc` in [0, 1] (None where it is not defined).

    The errors are standard deviations; `gaps` (bins,) sums of right minus confidence, `gaps_spread` their
    covariance (bins, bins); `fewest` the rows of the smallest side of any class against the rest.
    """

    rows: int
    log_loss: float
    log_loss_error: float
    gaps: NDArray[np.float64]
    gaps_spread: NDArray[np.float64]
    auroc: float | None
    auroc_error: float
    fewest: int

    @staticmethod
    def of(y_true: NDArray[np.int64], found: Scored, strata: NDArray[np.int64]) -> ScoreReport:
        """From one head's rows; `strata` (rows,) says within what the rows are drawn anew."""
        strata = _pooled(strata)
        bins = bins_of(found.confidence[0])
        gap = (found.predicted[0] == y_true) - found.confidence[0].astype(np.float64)
        losses = found.log_loss[0].astype(np.float64)
        placed = Placements.of(found.log_odds, y_true)
        return ScoreReport(
            rows=len(y_true),
            log_loss=float(losses.mean()),
            log_loss_error=float(np.sqrt(_spread(losses, strata)) / len(y_true)),
            gaps=np.bincount(bins, gap, minlength=BINS).astype(np.float64),
            gaps_spread=_gaps_spread(gap, bins, strata),
            auroc=placed.area if placed else None,
            auroc_error=float(np.sqrt(_spread(placed.shares, strata))) if placed else 0.0,
            fewest=placed.fewest if placed else 0,
        )

    @property
    def ece(self) -> float:
        """Expected calibration error of the predicted class, see `scores.calibration_error`."""
        return float(np.abs(self.gaps).sum() / self.rows)

    def intervals(
        self, level: float = 0.95, *, resamples: int = 1000, seed: int = 0
    ) -> dict[str, Interval | None]:
        """An interval for each of `log_loss`, `ece` and `auroc`; None where the figure is None."""
        check_level(level)
        z = NormalDist().inv_cdf((1 + level) / 2)
        half = z * self.log_loss_error
        return {
            "log_loss": Interval(
                self.log_loss, max(0.0, self.log_loss - half), self.log_loss + half, level, METHOD
            ),
            "ece": self._ece_interval(level, resamples, seed),
            "auroc": None if self.auroc is None else self._auroc_interval(self.auroc, level, z),
        }

    def _ece_interval(self, level: float, resamples: int, seed: int) -> Interval:
        """Sums of absolute values grow with any noise: the bootstrap's shift is taken off, not doubled."""
        random = np.random.default_rng(seed)
        values, vectors = np.linalg.eigh(self.gaps_spread)
        noise = random.standard_normal((resamples, len(values))) * np.sqrt(np.maximum(values, 0))
        drawn = np.abs(self.gaps + noise @ vectors.T).sum(axis=1) / self.rows
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        ends = max(0.0, min(self.ece, 2 * self.ece - high)), min(1.0, max(self.ece, 2 * self.ece - low))
        return Interval(self.ece, *ends, level, f"basic bootstrap, {METHOD}")

    def _auroc_interval(self, area: float, level: float, z: float) -> Interval:
        """Wilson's for a share of so many trials as would have this spread; without any, the fewest rows."""
        variance = self.auroc_error**2
        spread = 0 < area < 1 and variance > 0
        trials = min(area * (1 - area) / variance, self.rows) if spread else self.fewest
        low, high = wilson_ends(np.array([area * trials]), np.array([trials]), z)
        ends = min(area, float(low[0])), max(area, float(high[0]))
        return Interval(area, *ends, level, f"Wilson, {METHOD}")


def scored_rows(
    y_true: NDArray[np.int64], logits: Floats | Iterable[Floats], classes: int | None = None
) -> Scored:
    """Read one head's scores, (rows, classes) at once or in blocks of rows, which are not kept.

    RequestError where they are of other rows than `y_true` (rows,), or hold NaN or infinity.
    """
    parts: list[Scored] = []
    first = 0
    for block in [logits] if isinstance(logits, np.ndarray) else logits:
        part = block[None]
        check_logits(part, len(block), classes)
        parts.append(scored(part, y_true[first : first + len(block)]))
        first += len(block)
    if first != len(y_true):
        raise RequestError(f"the logits have {first} rows, y_true {len(y_true)}")
    if any(np.isnan(part.log_loss).any() for part in parts):
        raise RequestError("the logits hold NaN or infinite scores, which predict nothing")
    return Scored(
        *(
            np.concatenate([getattr(part, name) for part in parts], axis=-1)
            for name in ("predicted", "log_loss", "confidence", "log_odds")
        )
    )


def _pooled(strata: NDArray[np.int64]) -> NDArray[np.int64]:
    """Strata of a single row become one stratum: alone, a row would seem to have no spread."""
    _, codes, counts = np.unique(strata, return_inverse=True, return_counts=True)
    single = counts == 1
    return np.where(single[codes], len(counts), codes)


def _spread(values: NDArray[np.float64], strata: NDArray[np.int64]) -> float:
    """The variance of the sum of `values` when the rows of each stratum are drawn anew."""
    count = np.maximum(np.bincount(strata), 1)
    centred = values - (np.bincount(strata, values) / count)[strata]
    within = np.bincount(strata, centred**2) * count / np.maximum(count - 1, 1)
    return float(within.sum())


def _gaps_spread(
    gap: NDArray[np.float64], bins: NDArray[np.int64], strata: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The covariance of the bins' sums when the rows of each stratum are drawn anew."""
    count = np.bincount(strata)
    sums = np.bincount(strata * BINS + bins, gap, minlength=len(count) * BINS).reshape(-1, BINS)
    between = sums.T @ (sums / np.maximum(count, 1)[:, None])
    spread: NDArray[np.float64] = np.diag(np.bincount(bins, gap**2, minlength=BINS)) - between
    return spread
