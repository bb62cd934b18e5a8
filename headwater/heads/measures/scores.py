"""Figures that need a head's scores and not only its predictions: log-loss, calibration error, AUROC.

Everything here is for many heads at once; what is counted by group lives in `metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError

BINS = 15
"""Bins of the calibration error, the number of Guo et al. 2017 and of most tables since."""

MOST_AREAS = 256
"""Above so many classes there is no AUROC: each class against the rest costs a sort and says little."""

Floats = NDArray[np.floating[Any]]

_BLOCK = 1_000_000  # scores worked on at once: about what the processor's caches hold


@dataclass(frozen=True)
class Scored:
    """What scores say about rows of known class, for `heads` heads; float32 or float64 as the scores.

    `predicted` (heads, rows) class codes; `log_loss` (heads, rows) -log of the true class's probability;
    `confidence` (heads, rows) the predicted class's probability; `log_odds` (columns, heads, rows): for two
    classes one column, of class 1, else one per class against the rest, and none above `MOST_AREAS` classes.
    Log odds order rows as probabilities do, and still tell apart those that round to 1.
    """

    predicted: NDArray[np.int64]
    log_loss: Floats
    confidence: Floats
    log_odds: Floats


def scored(logits: Floats, y_true: NDArray[np.int64]) -> Scored:
    """Read `logits` (heads, rows, classes) against the class codes `y_true` (rows,)."""
    z = np.array(np.moveaxis(logits, 2, 0), order="C")  # class first: every step below runs along rows
    predicted = np.zeros(z.shape[1:], dtype=np.int64)
    highest = z[0].copy()
    for code in range(1, len(z)):
        better = z[code] > highest
        predicted[better] = code
        np.maximum(highest, z[code], out=highest)  # carries NaN on, which the figures then show
    with np.errstate(invalid="ignore"):  # infinite less infinite: NaN, and so are its figures
        z -= highest
    share = np.exp(z)
    # The highest score's own term is kept out of the sum and added as an exact 1 where it is wanted: the
    # probability of all other classes would be lost in 1 - p.
    place = predicted * predicted.size + np.arange(predicted.size).reshape(predicted.shape)
    share.reshape(-1)[place] = 0.0
    others = share.sum(axis=0)
    log_loss = np.log1p(others) - z[y_true, :, np.arange(len(y_true))].T
    if len(z) == 2:
        odds = (z[1] - z[0])[None]
    elif len(z) > MOST_AREAS:
        odds = z[:0]
    else:
        odds = z - np.log(1 + others - share)
        with np.errstate(divide="ignore"):
            odds.reshape(-1)[place] = -np.log(others)
    return Scored(predicted, log_loss, 1 / (1 + others), odds)


def blocks(logits: Floats) -> Iterator[Floats]:
    """Cut (heads, rows, classes) along the heads into pieces that are cheap to work on."""
    step = max(1, _BLOCK // max(1, logits.shape[1] * logits.shape[2]))
    for first in range(0, len(logits), step):
        yield logits[first : first + step]


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> NDArray[np.float64]:
    """Expected calibration error of the predicted class over equal-width bins, per head; in [0, 1].

    Σ_bins (rows in the bin / rows)·|accuracy - mean confidence|, bins being (0, 1/B], …, ((B - 1)/B, 1]
    (Naeini et al. 2015; Guo et al. 2017, equation 3). `confidence`, `right` (heads, rows).
    """
    heads, rows = confidence.shape
    place = bins_of(confidence, bins) + np.arange(heads)[:, None] * bins
    gap: NDArray[np.float64] = right - confidence.astype(np.float64)
    sums = np.bincount(place.ravel(), gap.ravel(), minlength=heads * bins).reshape(heads, bins)
    error: NDArray[np.float64] = np.abs(sums).sum(axis=1) / rows
    return error


def bins_of(confidence: Floats, bins: int = BINS) -> NDArray[np.int64]:
    """The number of each confidence's bin, 0 to bins - 1; NaN is in the first."""
    place = np.ceil(np.nan_to_num(confidence) * bins).astype(np.int64) - 1
    return np.clip(place, 0, bins - 1)


def auroc(log_odds: Floats, y_true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Area under the ROC curve per head; ties count half. `log_odds` (columns, heads, rows) as in `Scored`.

    More than two classes: the plain mean over the classes of each against the rest (Fawcett 2006, section 9),
    over the classes that have rows and are not alone; NaN where there is none, or more than `MOST_AREAS`.
    """
    areas = [area_under(column, positive) for column, positive in _against_the_rest(log_odds, y_true)]
    if not areas:
        return np.full(log_odds.shape[1], np.nan)
    mean: NDArray[np.float64] = np.mean(areas, axis=0)
    return mean


def _against_the_rest(
    log_odds: Floats, y_true: NDArray[np.int64]
) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
    single = len(log_odds) == 1
    for code, column in enumerate(log_odds, start=int(single)):
        positive = y_true == code
        if 0 < positive.sum() < len(positive):
            yield column, positive


def area_under(scores: Floats, positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The chance that a positive row scores above a negative one, plus half that of a tie.

    `scores` (heads, rows), `positive` (rows,); exact, from the ranks (Mann & Whitney 1947). NaN scores: NaN.
    """
    few = positive if 2 * positive.sum() <= len(positive) else ~positive
    ascending, mine = np.sort(scores, axis=1), np.sort(scores[:, few], axis=1)
    wins = np.array([_wins(*pair) for pair in zip(ascending, mine, strict=True)])
    areas: NDArray[np.float64] = wins / (mine.shape[1] * (scores.shape[1] - mine.shape[1]))
    areas[np.isnan(ascending[:, -1])] = np.nan  # NaN is sorted to the end
    return areas if few is positive else 1 - areas


def _wins(ascending: Floats, mine: Floats) -> float:
    """How many of the other rows lie below mine, ties by half; `mine` are some of `ascending`, in order."""
    below = ascending.searchsorted(mine)
    beside = ascending[np.minimum(below + 1, len(ascending) - 1)] == mine
    tied = beside & (below + 1 < len(ascending))
    upto = below + 1
    upto[tied] = ascending.searchsorted(mine[tied], "right")
    return float((below.sum() + upto.sum() - len(mine) ** 2) / 2)


@dataclass(frozen=True, eq=False)
class Placements:
    """What each row adds to one head's AUROC: `area`, and `shares` (rows,) whose spread is the area's.

    A positive row's placement is the part of negatives that it scores above, a negative's the part of
    positives above it (DeLong et al. 1988); a share is that over the rows of its side, averaged over the
    classes. `fewest`: the rows of the smallest side.
    """

    area: float
    shares: NDArray[np.float64]
    fewest: int

    @staticmethod
    def of(log_odds: Floats, y_true: NDArray[np.int64]) -> Placements | None:
        """`log_odds` (columns, 1, rows); None where `auroc` is NaN."""
        shares, areas, fewest = np.zeros(len(y_true)), [], len(y_true)
        for column, positive in _against_the_rest(log_odds, y_true):
            for side, sign in ((~positive, -1), (positive, 1)):
                mine, others = sign * column[0][side], np.sort(sign * column[0][~side])
                below = others.searchsorted(mine, "left") + others.searchsorted(mine, "right")
                placed = below / (2 * len(others))
                shares[side] += placed / len(mine)
                fewest = min(fewest, len(mine))
            areas.append(float(placed.mean()))
        if not areas:
            return None
        return Placements(float(np.mean(areas)), shares / len(areas), fewest)


def check_logits(logits: Floats, rows: int, classes: int | None = None) -> None:
    """RequestError unless `logits` are scores (heads, rows, classes) of these rows and of two classes."""
    if logits.ndim != 3 or logits.shape[1] != rows or logits.shape[2] < 2 or logits.dtype.kind != "f":
        raise RequestError(
            f"logits must be floats, one row of at least two scores for each of the {rows} rows, and not "
            f"{logits.dtype} of shape {logits.shape}"
        )
    if classes is not None and logits.shape[2] != classes:
        raise RequestError(f"the logits have {logits.shape[2]} columns, and there are {classes} classes")
