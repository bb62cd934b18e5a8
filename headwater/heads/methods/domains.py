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
    """Each row's domain, a code from 0 among those in `rows`, (rows,); every group must be known."""
    return np.unique(task.domains[rows], return_inverse=True)[1].reshape(-1).astype(np.int64)


def invariant_spec(spec: HeadSpec, penalty: Invariance) -> HeadSpec:
    """The same head with a penalty on how it differs between domains."""
    return dataclasses.replace(spec, invariance=penalty, tolerance=_TOLERANCE)
