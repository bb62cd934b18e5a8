"""What a reading goes by, as far as rows themselves show it: a place in images, a column of vectors.

Which reading is believed is not asked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.bounds import FEWEST
from headwater.heads.ambiguity.problem import Problem

if TYPE_CHECKING:
    from headwater.heads.ambiguity.scan import Scan

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

_NEARLY_ALL = 0.9  # of what tells classes apart lies in one half, or one column: then it goes by that
_FORETOLD = 0.85  # of any two classes that place alone foretells, by its likeness to either mean
_RARE = 0.25  # of an even share of rows: classes that have less do not count
_EXACT = 1e-9  # beyond rounding: what rows leave open is then seen to be open

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Meaning:
    """What a reading says of target rows, `codes` (t,), and what it goes by.

    `rows` are those that it calls otherwise than its rival does. `difference` (the shape of a row) is by how
    much the mean of what it calls class `high` exceeds that of class `low` whatever the rival calls them, so
    that what the rival goes by cancels out; None where too few rows tell. `about` names the place that shows
    nearly all of what tells any of its classes apart, empty where no one place does.
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
    found = {}
    for name, codes in said.items():
        rival = next((said[other] for other in said if other != name), None)
        rows = np.flatnonzero(codes != rival) if rival is not None else np.empty(0, dtype=np.int64)
        effects = None if rival is None else _effects(problem, codes, rival, rows)
        low, high, difference, about = 0, len(problem.classes) - 1, None, ""
        if effects is not None:
            low, high = max(effects.pairs, key=lambda pair: pair[1] - pair[0])
            difference = np.asarray(effects.means[high] - effects.means[low], dtype=np.float32)
            place, where = _place(effects.told(), problem)
            about = where if where and _foretells(effects, place, problem, codes) else ""
        found[name] = Meaning(codes, rows, low, high, difference, about)
    return found


def going_by(problem: Problem, scan: Scan) -> dict[str, str]:
    """The place or the column that a reading of the scan goes by, of those that go by one alone, by name."""
    rows = np.concatenate([problem.unlabeled[scan.unseen_unlabeled], problem.target[scan.unseen_target]])
    said = {each.name: np.concatenate([each.unlabeled, each.target]) for each in scan.readings}
    found = meanings(replace(problem, target=rows), said)
    return {name: each.about for name, each in found.items() if each.about}


@dataclass(frozen=True, eq=False)
class _Effects:
    """`means` (classes, the shape of a row) of what a reading calls each class, without the rival's part.

    Only the differences of `pairs` of classes are known, to a variance of `noise` (the shape of a row) by
    their `spreads`. `labeled` are the means of labeled rows, which hold the rival's part, too.
    """

    means: Floats
    labeled: Floats
    noise: Floats
    pairs: dict[Pair, float]

    def told(self) -> NDArray[np.float64]:
        """How much tells the pairs apart, by place, the surest pairs most, beyond what chance makes."""
        total = -len(self.pairs) * self.noise.astype(np.float64)
        for (low, high), spread in self.pairs.items():
            total += (self.means[high].astype(np.float64) - self.means[low]) ** 2 / spread
        return np.maximum(total, 0)


def _effects(problem: Problem, codes: Codes, rival: Codes, crossed: Codes) -> _Effects | None:
    """What a reading's and its rival's classes add to a row's mean, by least squares; None of too few rows.

    A row is taken to be the sum of what belongs to its class by the reading, of what belongs to that by the
    rival, and of what sets the `crossed` rows apart from labeled ones; of two classes, that is the mean of
    their difference among labeled rows and of that among crossed ones.
    """
    classes, n = len(problem.classes), len(problem.labels)
    own = np.concatenate([problem.labels, codes[crossed]])
    other = np.concatenate([problem.labels, rival[crossed]])
    enough = np.bincount(problem.labels, minlength=classes) >= FEWEST
    enough &= np.bincount(codes[crossed], minlength=classes) >= FEWEST
    enough &= _are_common(problem.labels, classes) | _are_common(codes, classes)
    wanted = list(combinations(np.flatnonzero(enough).tolist(), 2))
    if not wanted:
        return None
    is_crossed = np.arange(len(own)) >= n
    cells, cell_of, counts = np.unique(
        np.stack([own, other, is_crossed]), axis=1, return_inverse=True, return_counts=True
    )
    rows = np.concatenate([problem.labeled, problem.target[crossed]])
    means = np.empty((len(counts), *rows.shape[1:]))
    squares = np.zeros(rows.shape[1:])
    for cell in range(len(counts)):
        part = rows[cell_of.ravel() == cell]
        means[cell] = part.mean(axis=0, dtype=np.float64)
        squares += part.var(axis=0, dtype=np.float64) * len(part)
    one = np.eye(classes)
    design = np.column_stack([one[cells[0]], one[cells[1]], cells[2]])
    weighted = design.T * counts
    spread = np.linalg.pinv(weighted @ design, rcond=_EXACT, hermitian=True)
    known = spread @ (weighted @ design)
    solved = (spread @ weighted)[:classes] @ means.reshape(len(counts), -1)
    pairs = {}
    for low, high in wanted:
        contrast = np.zeros(len(spread))
        contrast[[low, high]] = -1, 1
        if np.abs(contrast @ known - contrast).max() < _EXACT:
            pairs[low, high] = float(contrast @ spread @ contrast)
    if not pairs:
        return None
    present = np.bincount(problem.labels, minlength=classes) > 0
    labeled = np.zeros((classes, *rows.shape[1:]), dtype=np.float32)
    for code in np.flatnonzero(present):
        labeled[code] = problem.labeled[problem.labels == code].mean(axis=0, dtype=np.float64)
    return _Effects(
        solved.reshape(labeled.shape).astype(np.float32),
        labeled,
        (squares / (len(own) - len(counts))).astype(np.float32),
        pairs,
    )


def _are_common(codes: Codes, classes: int) -> NDArray[np.bool_]:
    """Which classes are not rare among rows of these codes; two of enough rows never are."""
    counts = np.bincount(codes, minlength=classes)
    least = min(_RARE * len(codes) / classes, np.sort(counts)[-2:][0])
    return np.asarray(counts >= max(FEWEST, least))


def _place(told: NDArray[np.float64], problem: Problem) -> tuple[NDArray[np.bool_], str]:
    """Where nearly all that tells classes apart lies, as a mask and in words."""
    places = {}
    if problem.are_images:
        height, width = told.shape[1:]
        y, x = np.indices(told.shape)[1:]
        places["the left half of the images"] = x < width // 2
        places["the right half of the images"] = x >= (width + 1) // 2
        places["the upper half of the images"] = y < height // 2
        places["the lower half of the images"] = y >= (height + 1) // 2
    else:
        told = told / (problem.labeled.var(axis=0, dtype=np.float64) + 1e-12)
        column = int(told.argmax())
        places[f"column {column} of the rows"] = np.arange(len(told)) == column
    for name, place in places.items():
        if told[place].sum() > _NEARLY_ALL * told.sum():
            return place, name
    return np.zeros(told.shape, dtype=bool), ""


def _foretells(effects: _Effects, place: NDArray[np.bool_], problem: Problem, codes: Codes) -> bool:
    """Whether rows are more like the mean of their class, at that place, than of any other common class."""
    templates = [np.where(place, each, 0).reshape(len(each), -1) for each in (effects.means, effects.labeled)]
    enough = np.bincount(problem.labels, minlength=len(problem.classes)) >= FEWEST
    for rows, of in ((problem.target, codes), (problem.labeled, problem.labels)):
        flat = rows.reshape(len(rows), -1)
        alone, whole = (flat @ each.T for each in templates)
        common = np.flatnonzero(_are_common(of, len(problem.classes)))
        if len(common) < 2 or not enough[common].all():
            return False
        for low, high in combinations(common.tolist(), 2):
            likeness = alone if (low, high) in effects.pairs else whole
            score = likeness[:, high] - likeness[:, low]
            parts = score[of == low], score[of == high]
            middle = (parts[0].mean() + parts[1].mean()) / 2
            if ((parts[0] < middle).mean() + (parts[1] > middle).mean()) / 2 <= _FORETOLD:
                return False
    return True
