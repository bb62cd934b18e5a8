"""Arrays of a scikit-learn call as a task: who trains, who decides, and what is missing for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.heads.methods import Needs
from headwater.heads.tasks.columns import CodedColumn, coded, crossed
from headwater.heads.tasks.task import Task
from headwater.printable import listed


def on_host(array: Any) -> Any:
    """A torch tensor as a NumPy array, wherever it lies; anything else as it is."""
    if not hasattr(array, "detach"):
        return array
    tensor = array.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def group_columns(groups: Any, rows: int) -> list[CodedColumn]:
    """The columns of `groups`, (rows,) or (rows, columns) of names or whole numbers; none for None.

    None, NaN, "" and -1 mean unknown. RequestError for another number of rows, and for the codes -1 and 1,
    which would make half of the rows unknown.
    """
    if groups is None:
        return []
    named = getattr(groups, "columns", None)
    values = np.asarray(on_host(groups))
    if values.ndim == 1:
        names: list[str] = [str(getattr(groups, "name", None) or "groups")]
        values = values[:, None]
    else:
        names = [f"groups[{number}]" for number in range(values.shape[-1])] if named is None else list(named)
    if values.ndim != 2 or len(values) != rows:
        raise RequestError(
            f"groups must be one value, or one row of columns, for each of the {rows} rows of X, and their "
            f"shape is {np.shape(groups)}"
        )
    columns = []
    for name, column in zip(names, values.T, strict=True):
        if column.dtype.kind in "if" and set(np.unique(column).tolist()) == {-1, 1}:
            raise RequestError(
                f"{name!r} holds -1 and 1, and -1 means unknown here: code the groups as 0 and 1"
            )
        columns.append(coded(str(name), column))
    return columns


def joined(
    first: Sequence[CodedColumn], second: Sequence[CodedColumn], rows: tuple[int, int]
) -> list[CodedColumn]:
    """Columns of some rows and then of others, so many each; where one side gives none, they are unknown.

    RequestError where the sides have different numbers of columns.
    """
    first = first or [_unknown(column, rows[0]) for column in second]
    second = second or [_unknown(column, rows[1]) for column in first]
    if len(first) != len(second):
        raise RequestError(
            f"the groups of val have {len(second)} columns and those of the training rows {len(first)}"
        )
    columns = []
    for mine, its in zip(first, second, strict=True):
        names = tuple(dict.fromkeys((*mine.names, *its.names)))
        codes = np.concatenate([mine.in_terms_of(names).codes, its.in_terms_of(names).codes])
        columns.append(CodedColumn(mine.name, codes, names))
    return columns


def _unknown(column: CodedColumn, rows: int) -> CodedColumn:
    return CodedColumn(column.name, np.full(rows, -1, dtype=np.int64), column.names)


def as_task(
    features: NDArray[Any],
    target: CodedColumn,
    groups: Sequence[CodedColumn],
    splits: dict[str, NDArray[np.int64]],
) -> Task:
    """A task whose splits may share rows; groups are crossed with the classes, as everywhere."""
    made = crossed(target, groups)
    return Task(
        features=features,
        target=target.codes,
        classes=target.names,
        groups=made.codes,
        group_names=made.names,
        domains=made.domains,
        splits=splits,
        group_columns=tuple(column.name for column in groups),
    )


def held_out(
    task: Task, needs: Needs, method: str, fraction: float, random: np.random.Generator
) -> dict[str, NDArray[np.int64]]:
    """Splits that put `fraction` of every group of train into val, and at least what the method needs there.

    Rows of an unknown group are divided like a group. RequestError where a group has too few rows for both.
    """
    if not 0 < fraction < 1:
        raise RequestError(f"validation_fraction must lie between 0 and 1, not {fraction}")
    val: list[NDArray[np.int64]] = []
    rows = task.splits["train"]
    per_group = max(1, needs.rows_per_group if "val" in needs.groups_on else 1)
    short = []
    for code in np.unique(task.groups[rows]):
        mine = random.permutation(rows[task.groups[rows] == code])
        kept = max(round((1 - fraction) * len(mine)), 1)
        taken = max(per_group, len(mine) - kept)
        if code >= 0 and taken >= len(mine):
            short.append(task.group_names[code])
        val.append(mine[:taken])
    if short:
        raise RequestError(
            f"{method} holds rows of every group out to choose its settings by, and {listed(short)} "
            f"{'has' if len(short) == 1 else 'have'} not enough of them (at least {per_group + 1}); give "
            "val=(X, y, groups), or one value per setting, so that nothing is chosen"
        )
    chosen = np.sort(np.concatenate(val))
    return {"train": np.setdiff1d(rows, chosen), "val": chosen}
