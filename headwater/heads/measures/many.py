"""The figures of many heads on the same rows, as arrays: what a sweep asks thousands of times.

One head's figures with names and intervals are a `GroupReport`, which agrees with these.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import RequestError
from headwater.heads.measures.grouped import Grouped
from headwater.heads.measures.scores import auroc, blocks, calibration_error, check_logits, scored
from headwater.heads.measures.tail import worst_area


@dataclass(frozen=True)
class ManyFigures:
    """`figures`: one array (heads,) per name, NaN where a figure is not defined on these rows.

    `by_group` (heads, groups) and `by_class` (heads, classes) are accuracies, NaN where there is no row.
    """

    figures: dict[str, NDArray[np.float64]]
    by_group: NDArray[np.float64]
    by_class: NDArray[np.float64]


def measure_many(
    y_true: ArrayLike,
    logits: NDArray[np.floating[Any]] | Iterable[NDArray[np.floating[Any]]],
    *,
    groups: ArrayLike | None = None,
    n_groups: int | None = None,
    train_counts: ArrayLike | None = None,
) -> ManyFigures:
    """Measure heads by their scores, (heads, rows, classes) at once or in blocks of heads.

    `y_true` (rows,) class codes, all known; `groups` (rows,) codes, -1 where unknown, None: the classes are
    the groups. `n_groups`: how many there are, with those that have no rows here; `train_counts` (groups,)
    for `train_weighted`. The figures are `overall`, `balanced`, `train_weighted`, `worst_group`,
    `worst_area` (of the worst-K curve, see `tail`), `worst_class`, `log_loss`, `ece`, `auroc`; all are NaN
    for a head whose scores hold NaN.
    RequestError where lengths or codes do not fit, and where there are no heads.
    """
    true = np.asarray(y_true, dtype=np.int64)
    if true.ndim != 1 or not len(true) or true.min() < 0:
        raise RequestError("y_true must be the known class code of every row, and there must be rows")
    group = true if groups is None else np.asarray(groups, dtype=np.int64)
    if group.shape != true.shape:
        raise RequestError(f"{len(group)} groups for {len(true)} rows")
    parts: list[dict[str, NDArray[np.float64]]] = []
    by_class: Grouped | None = None
    by_group: Grouped | None = None
    # Sorting and the elementwise functions let go of the interpreter, so that threads run side by side.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for given in [logits] if isinstance(logits, np.ndarray) else logits:
            check_logits(given, len(true))
            classes = given.shape[2]
            if true.max() >= classes:
                raise RequestError(f"class code {true.max()} has no column in logits of shape {given.shape}")
            by_class = by_class or Grouped.by(true, classes)
            by_group = by_group or (by_class if groups is None else Grouped.by(group, n_groups))
            parts += pool.map(partial(_measured, true, by_class, by_group), blocks(given))
    if not parts:
        raise RequestError("there are no heads to measure")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    of_groups, of_classes = joined.pop("by_group"), joined.pop("by_class")
    joined["train_weighted"] = _train_weighted(of_groups, train_counts)
    return ManyFigures(joined, of_groups, of_classes)


def _measured(
    true: NDArray[np.int64], classes: Grouped, groups: Grouped, logits: NDArray[np.floating[Any]]
) -> dict[str, NDArray[np.float64]]:
    found = scored(logits, true)
    right = found.predicted == true
    by_class, by_group = classes.shares(right), groups.shares(right)
    measured = {
        "overall": right.mean(axis=1),
        "balanced": _over_present(np.mean, by_group),
        "worst_group": _over_present(np.min, by_group),
        "worst_area": worst_areas(by_group),
        "worst_class": _over_present(np.min, by_class),
        "log_loss": found.log_loss.mean(axis=1, dtype=np.float64),
        "ece": calibration_error(found.confidence, right),
        "auroc": auroc(found.log_odds, true),
        "by_group": by_group,
        "by_class": by_class,
    }
    lost = np.isnan(measured["log_loss"])
    for values in measured.values():
        values[lost] = np.nan
    return measured


def worst_areas(by_group: NDArray[np.float64]) -> NDArray[np.float64]:
    """The areas (heads,) of worst-K curves of accuracies (heads, groups), over the groups that have rows."""
    return _over_present(lambda present, axis: worst_area(present), by_group)


def _over_present(statistic: Any, accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
    """A statistic over the groups that have rows, which are the same for every head."""
    present = accuracies[:, ~np.isnan(accuracies).all(axis=0)]
    if not present.shape[1]:
        return np.full(len(accuracies), np.nan)
    found: NDArray[np.float64] = statistic(present, axis=1)
    return found


def _train_weighted(by_group: NDArray[np.float64], train_counts: ArrayLike | None) -> NDArray[np.float64]:
    if train_counts is None:
        return np.full(len(by_group), np.nan)
    counts = np.asarray(train_counts, dtype=np.float64)
    if counts.shape != (by_group.shape[1],):
        raise RequestError(f"{counts.size} train counts for {by_group.shape[1]} groups")
    wanted = counts > 0
    if not wanted.any():
        return np.full(len(by_group), np.nan)
    weighted: NDArray[np.float64] = by_group[:, wanted] @ (counts[wanted] / counts[wanted].sum())
    return weighted  # NaN where a group of train has no rows here
