"""Measuring a head on a split of a store, or of a task."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headwater.errors import RequestError
from headwater.heads.checkpoint import HeadInfo, load_head
from headwater.heads.head import LinearHead
from headwater.heads.metrics import GroupReport
from headwater.heads.task import Task

if TYPE_CHECKING:
    from headwater.store import Store


def report_on(task: Task, heads: Sequence[LinearHead], split: str) -> list[GroupReport]:
    """One report per head on a split of a task; the features are read once."""
    rows = task.rows(split).index
    predicted = task.predict(heads, rows)
    return [
        GroupReport(
            y_true=task.target[rows],
            y_pred=each,
            groups=task.groups[rows],
            classes=task.classes,
            group_names=task.group_names,
            train_counts=task.group_counts("train") if "train" in task.splits else None,
        )
        for each in predicted
    ]


def evaluate(
    head: str | os.PathLike[str], store: Store | str | os.PathLike[str], split: str = "test"
) -> GroupReport:
    """Measure a head file on a split of a store, by the columns that the head was fitted with.

    Raises RequestError when the store's features are not those the head was trained on, or its columns are
    gone.
    """
    from headwater.store import open_store  # noqa: PLC0415

    trained, info = load_head(head)
    opened = open_store(store) if isinstance(store, (str, os.PathLike)) else store
    check_fits(trained, info, opened, os.fspath(head))
    task = Task.from_store(opened, info.target, info.group_columns, info.split, classes=info.classes)
    (report,) = report_on(task, [trained], split)
    return report


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
