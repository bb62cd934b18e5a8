"""What can be said to a person of a row that has no picture: the rows whose classes are known near it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.problem import Problem
from headwater.printable import counted, escaped

_NEAR = 10  # labeled rows
_SHOWN = 4  # values of a row


def notes_on(problem: Problem, item: int, answers: Mapping[int, int] | None = None) -> tuple[str, ...]:
    """Sentences about target row `item`: its values where they are few, its neighbours, what was answered.

    Distances are Euclidean after every column is scaled by its spread over the target rows. `answers` are
    the codes of target rows that were asked about before.
    """
    target = problem.target.reshape(len(problem.target), -1)
    spread = target.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    row = target[item] / scale
    notes = []
    if target.shape[1] <= _SHOWN:
        notes.append(f"Its values are {', '.join(f'{value:.3g}' for value in target[item].tolist())}.")
    labeled = problem.labeled.reshape(len(problem.labeled), -1) / scale
    near = np.argsort(_distances(labeled, row), kind="stable")[:_NEAR]
    found = np.bincount(problem.labels[near], minlength=len(problem.classes))
    parts = [
        f"{found[code]} {_are(found[code])} {_name(problem, code)}"
        for code in np.argsort(-found)
        if found[code]
    ]
    notes.append(f"Of its {counted(len(near), 'nearest labeled row')}, {' and '.join(parts)}.")
    known = [each for each in (answers or {}) if each != item]
    if answers and known:
        gaps = _distances(target[known] / scale, row)
        nearest = known[int(gaps.argmin())]
        nearer = int((_distances(target / scale, row) < gaps.min()).sum()) - 1
        between = f"{counted(max(0, nearer), 'target row')} {_are(nearer)} nearer"
        answer = _name(problem, answers[nearest])
        notes.append(f"The nearest row asked about is {nearest:,}, which was answered {answer}; {between}.")
    return tuple(notes)


def _distances(rows: NDArray[np.floating[Any]], row: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(rows - row, axis=1), dtype=np.float64)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _name(problem: Problem, code: int) -> str:
    return escaped(str(problem.classes[code]))
