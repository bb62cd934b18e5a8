"""What a reading goes by, as far as rows themselves show it: a place in images, a column of vectors.

Which reading is believed is not asked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.bounds import FEWEST
from headwater.heads.ambiguity.problem import Problem

if TYPE_CHECKING:
    from headwater.heads.ambiguity.scan import Scan

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

_NEARLY_ALL = 0.9  # of what tells rows apart lies in one half, or one column: then it goes by that
_FORETOLD = 0.85  # of its classes that place alone foretells, by its likeness to either mean


@dataclass(frozen=True, eq=False)
class Meaning:
    """What a reading says of target rows, `codes` (t,), and what it goes by.

    `rows` are those that it calls otherwise than its rival does. `difference` (the shape of a row) is the
    mean of what it calls class `high` less that of class `low`, where rows that the rival calls so, too,
    count as much as rows that it does not, so that what the rival goes by cancels out; None where too few
    rows tell. `about` names the place that shows nearly all of it, empty where no one place does.
    """

    codes: Codes
    rows: Codes
    low: int
    high: int
    difference: Floats | None
    about: str


def meanings(problem: Problem, said: Mapping[str, Codes]) -> dict[str, Meaning]:
    """What readings go by that say `said`, class codes (t,) of target rows by name, the foremost first.

    A reading's rival is the first of the others. Where there is none, it goes by whatever labels show.
    """
    names, low, high = list(said), 0, len(problem.classes) - 1
    ordinary = _between(problem.labeled, problem.labels, low, high)
    found = {}
    for name in names:
        rival = next((said[other] for other in names if other != name), None)
        rows = np.flatnonzero(said[name] != rival) if rival is not None else np.empty(0, dtype=np.int64)
        crossed = _between(problem.target[rows], said[name][rows], low, high)
        difference, about = None, ""
        if ordinary is not None and crossed is not None:
            difference = np.asarray((ordinary[0] + crossed[0]) / 2, dtype=np.float32)
            noise = np.asarray((ordinary[1] + crossed[1]) / 4, dtype=np.float32)
            place, where = _place(difference, noise, problem)
            template = np.where(place, difference, np.float32(0))
            about = where if _foretells(template, problem.target, said[name], low, high) else ""
        found[name] = Meaning(said[name], rows, low, high, difference, about)
    return found


def going_by(problem: Problem, scan: Scan) -> dict[str, str]:
    """The place or the column that a reading of the scan goes by, of those that go by one alone, by name."""
    rows = np.concatenate([problem.unlabeled[scan.unseen_unlabeled], problem.target[scan.unseen_target]])
    said = {each.name: np.concatenate([each.unlabeled, each.target]) for each in scan.readings}
    found = meanings(replace(problem, target=rows), said)
    return {name: each.about for name, each in found.items() if each.about}


def _between(rows: Floats, codes: Codes, low: int, high: int) -> tuple[Floats, Floats] | None:
    """The difference of two classes' means, and the variance of its errors; None of too few rows."""
    parts = [rows[codes == high], rows[codes == low]]
    if min(map(len, parts)) < FEWEST:
        return None
    means = [part.mean(axis=0, dtype=np.float64) for part in parts]
    errors = [part.var(axis=0, dtype=np.float64) / len(part) for part in parts]
    return (means[0] - means[1]).astype(np.float32), (errors[0] + errors[1]).astype(np.float32)


def _place(difference: Floats, noise: Floats, problem: Problem) -> tuple[NDArray[np.bool_], str]:
    """Where nearly all of a difference lies, beyond what chance makes, as a mask and in words."""
    places = {}
    if problem.are_images:
        told = np.maximum(difference.astype(np.float64) ** 2 - noise, 0)
        height, width = difference.shape[1:]
        y, x = np.indices(difference.shape)[1:]
        places["the left half of the images"] = x < width // 2
        places["the right half of the images"] = x >= (width + 1) // 2
        places["the upper half of the images"] = y < height // 2
        places["the lower half of the images"] = y >= (height + 1) // 2
    else:
        scale = problem.labeled.var(axis=0, dtype=np.float64) + 1e-12
        told = np.maximum(difference.astype(np.float64) ** 2 - noise, 0) / scale
        column = int(told.argmax())
        places[f"column {column} of the rows"] = np.arange(len(told)) == column
    for name, place in places.items():
        if told[place].sum() > _NEARLY_ALL * told.sum():
            return place, name
    return np.zeros(difference.shape, dtype=bool), ""


def _foretells(template: Floats, rows: Floats, codes: Codes, low: int, high: int) -> bool:
    """Whether rows are more like the mean of their class, in what the template keeps, than of the other."""
    scores = rows.reshape(len(rows), -1) @ template.ravel()
    parts = scores[codes == low], scores[codes == high]
    if min(map(len, parts)) < FEWEST:
        return False
    middle = (parts[0].mean() + parts[1].mean()) / 2
    return bool(((parts[0] < middle).mean() + (parts[1] > middle).mean()) / 2 > _FORETOLD)
