"""Domains, what groups say beside the class, such as the place; and heads that must be alike on them."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from headwater.heads.specs.criterion import Invariance
from headwater.heads.specs.spec import HeadSpec
from headwater.heads.tasks.task import Task

# No penalty between domains is convex, and a local optimum found to this estimate of its gap, relative, moves
# no accuracy further.
_TOLERANCE = 1e-4


def domains(task: Task, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each row's domain, a code from 0, (rows,); without group columns there is only one."""
    of_group = np.zeros(len(task.group_names), dtype=np.int64)
    codes: dict[str, int] = {}
    groups, first = np.unique(task.groups[rows], return_index=True)
    for group, row in zip(groups.tolist(), rows[first].tolist(), strict=True):
        place = task.group_names[group].removeprefix(task.classes[task.target[row]])
        of_group[group] = codes.setdefault(place, len(codes))
    return np.asarray(of_group[task.groups[rows]])


def invariant_spec(spec: HeadSpec, penalty: Invariance) -> HeadSpec:
    """The same head with a penalty on how it differs between domains."""
    return dataclasses.replace(spec, invariance=penalty, tolerance=_TOLERANCE)
