"""Measuring a head on a split of a store, or of a task."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterWarning, RequestError
from headwater.heads.checkpoint import HeadInfo, load_head
from headwater.heads.measures.metrics import GroupReport, Level
from headwater.heads.specs.head import LinearHead
from headwater.heads.tasks.columns import coded
from headwater.heads.tasks.task import SCORES_AT_ONCE, Task
from headwater.printable import listed, nearest

if TYPE_CHECKING:
    from headwater.store import Store

FEW = 5
"""Fewer rows of a group in train than this are worth a word."""


def report_on(
    task: Task, heads: Sequence[LinearHead], split: str, *, levels: Mapping[str, Level] | None = None
) -> list[GroupReport]:
    """One report per head on a split of a task, with the figures that need scores.

    `levels`: coarser levels of the classes by name, for accuracy there.
    """
    rows = task.plain(split)
    common: dict[str, Any] = {
        "y_true": task.target[rows],
        "groups": task.groups[rows],
        "classes": task.classes,
        "group_names": task.group_names,
        "train_counts": task.group_counts("train") if "train" in task.splits else None,
        "levels": levels,
        "hierarchy": task.hierarchy,
    }
    reports = []
    at_once = SCORES_AT_ONCE // (len(rows) * len(task.classes))
    for first in range(0, len(heads), max(1, at_once)):
        here = heads[first : first + max(1, at_once)]
        if at_once:
            reports += [GroupReport(logits=scores, **common) for scores in task.logits(here, rows)]
        else:
            reports.append(GroupReport(logits=_in_blocks(task, here[0], rows), **common))
    return reports


def _in_blocks(task: Task, head: LinearHead, rows: NDArray[np.int64]) -> Iterator[NDArray[np.floating[Any]]]:
    step = max(1, SCORES_AT_ONCE // len(task.classes))
    for first in range(0, len(rows), step):
        yield task.logits([head], rows[first : first + step])[0]


def evaluate(
    head: str | os.PathLike[str],
    store: Store | str | os.PathLike[str],
    split: str = "test",
    *,
    levels: Sequence[str] = (),
) -> GroupReport:
    """Measure a head file on a split of a store, by the columns that the head was fitted with.

    Warns where rows of val or test are not new to the head: it was fitted, tuned or chosen on them, in this
    store or in another that holds them. Rows are known again by their keys and features; for a head file that
    marks none, as older ones do, the split's name decides.

    `levels`: columns of the store that hold coarser levels of the classes, such as genus and family, for
    `GroupReport.by_level`. Raises RequestError when the store's features are not those the head was trained
    on, its columns are gone, or a class has several values at a level.
    """
    report, why = measured(head, store, split, levels=levels)
    if why and split != "train":  # which everyone expects of train
        warnings.warn(
            f"figures on {split} are in sample: {os.fspath(head)!r} was {why}", HeadwaterWarning, stacklevel=2
        )
    return report


def measured(
    head: str | os.PathLike[str],
    store: Store | str | os.PathLike[str],
    split: str,
    *,
    levels: Sequence[str] = (),
) -> tuple[GroupReport, str]:
    """What `evaluate` gives, and why it says little about new rows instead of a warning; empty if it does."""
    from headwater.store import open_store  # noqa: PLC0415

    trained, info = load_head(head)
    opened = open_store(store) if isinstance(store, (str, os.PathLike)) else store
    check_fits(trained, info, opened, os.fspath(head))
    task = Task.from_store(opened, info.target, info.group_columns, info.split, classes=info.classes)
    (report,) = report_on(task, [trained], split, levels=_levels(opened, task, levels))
    return report, info.in_sample(split, task)


def without_group(task: Task) -> dict[str, int]:
    """How many rows of each split have no known group, and so count in no figure of groups."""
    counts = {split: int((task.groups[task.plain(split)] < 0).sum()) for split in task.splits}
    return {split: count for split, count in counts.items() if count}


def small_groups(task: Task) -> dict[str, int]:
    """The groups of fewer than `FEW` rows in train, with how many: what balancing by groups rests on."""
    if "train" not in task.splits:
        return {}
    counts = zip(task.group_names, task.group_counts("train").tolist(), strict=True)
    return {name: count for name, count in counts if count < FEW}


def _levels(store: Store, task: Task, names: Sequence[str]) -> dict[str, Level]:
    """Where each class lies at each level, read off the rows that have both."""
    known = list(store.annotations.names)
    found = {}
    for name in [names] if isinstance(names, str) else names:
        if name not in known:
            raise RequestError(f"the store has no column {name!r} for a level{nearest(name, known)}")
        column = coded(name, store.annotations[name])
        both = (task.target >= 0) & (column.codes >= 0)
        pairs = np.unique(np.stack([task.target[both], column.codes[both]], axis=1), axis=0)
        codes = np.full(len(task.classes), -1, dtype=np.int64)
        codes[pairs[:, 0]] = pairs[:, 1]
        several = pairs[codes[pairs[:, 0]] != pairs[:, 1], 0]
        if len(several):
            its = [column.names[code] for code in pairs[pairs[:, 0] == several[0], 1]]
            raise RequestError(
                f"column {name!r} is no level above {task.target_name!r}: {task.classes[several[0]]!r} has "
                f"{listed(its)}; a level gives every class one value"
            )
        lost = np.setdiff1d(task.target[(task.target >= 0) & ~both], pairs[:, 0])
        if len(lost):
            raise RequestError(
                f"column {name!r} is empty for all rows of {task.classes[lost[0]]!r}; "
                "a level gives every class one value"
            )
        found[name] = Level(codes, column.names)
    return found


def check_fits(head: LinearHead, info: HeadInfo, store: Store, name: str) -> None:
    """RequestError unless the store's features are of the kind that the head was trained on."""
    dim = head.weight.shape[1]
    if dim != store.dim:
        raise RequestError(
            f"the head {name!r} takes {dim} features and the store {str(store.path)!r} has {store.dim}; "
            "evaluate it on a store made with the same backbone"
        )
    if info.store_fingerprint and info.store_fingerprint != store.fingerprint:
        differing = sorted(
            key
            for key in {*info.store_recipe, *store.plan.recipe}
            if info.store_recipe.get(key) != store.plan.recipe.get(key)
        )
        what = f" (they differ in {', '.join(differing)})" if differing else ""
        raise RequestError(
            f"the head {name!r} was trained on other features than those in {str(store.path)!r}{what}; "
            "evaluate it on a store made by the same recipe"
        )
