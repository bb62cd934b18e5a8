"""What tells kinds of rows and readings apart, to be shown: a map, mean images, differences, typical rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.bounds import FEWEST
from headwater.heads.ambiguity.clustering import find_clusters
from headwater.heads.ambiguity.problem import Problem

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

_MAPPED = 600
_TYPICAL = 6
_LEAST = 0.02
_MOSTLY = 0.5  # of the unseen rows are of the kinds that are named; else the names say too little


class SaysOfUnseen(Protocol):
    """A reading as class codes of the unseen unlabeled and target rows."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def unlabeled(self) -> Codes:
        """Of the unseen unlabeled rows, in order."""

    @property
    def target(self) -> Codes:
        """Of the unseen target rows, in order."""


@dataclass(frozen=True, eq=False)
class Kind:
    """Rows that belong together: a class as labeled, or one kind of unseen rows.

    `code` is the class, None for an unseen kind. `rows` counts labeled rows of a class, unlabeled and target
    rows of a kind. `mean` is their mean image (channels, height, width), None where rows are no images;
    `typical` the labeled rows of a class, target rows of a kind, nearest to the middle. `is_mixed`: unseen
    rows that nothing divides into kinds, whatever they are.
    """

    name: str
    code: int | None
    rows: int
    mean: Floats | None
    typical: tuple[int, ...]
    is_mixed: bool = False


@dataclass(frozen=True, eq=False)
class Difference:
    """What one reading goes by: the mean image of what it calls class `high`, less that of class `low`.

    Labeled and unseen rows count alike, so that what only another reading goes by cancels out.
    """

    reading: str
    low: int
    high: int
    image: Floats


@dataclass(frozen=True, eq=False)
class Evidence:
    """`places` (rows, 2) of a sample of rows in a plane that keeps kinds apart, scaled to [0, 1].

    `place_kinds` (rows,) says in which of `kinds` each lies, -1 for rows that are like labeled ones;
    `place_of` (rows,) is the number of the row among labeled, unlabeled and target rows together.
    """

    kinds: tuple[Kind, ...]
    differences: tuple[Difference, ...]
    places: NDArray[np.float64]
    place_kinds: Codes
    place_of: Codes


def gather_evidence(
    problem: Problem,
    whole: Floats,
    unseen: NDArray[np.bool_],
    disputed: NDArray[np.bool_],
    readings: Sequence[SaysOfUnseen],
    *,
    seed: int,
) -> Evidence:
    """Gather it from features (n + m + t, d); `unseen` (m + t,) are the rows that labels show no kind of.

    `disputed` (m + t,) are those of them of which the readings tell; all of them where there are none.
    """
    n, m = len(problem.labeled), len(problem.unlabeled)
    kind_of = np.full(len(whole), -1, dtype=np.int64)
    kind_of[:n] = problem.labels
    classes = len(problem.classes)
    new = np.flatnonzero(disputed) + n
    codes, names = _kinds(whole[new], readings, problem.classes, seed)
    told = (codes >= 0).sum() >= _MOSTLY * unseen.sum()
    mixed = classes + (len(names) if told else 0)
    kind_of[n + np.flatnonzero(unseen | disputed)] = mixed
    if told:
        kind_of[new] = np.where(codes >= 0, classes + codes, mixed)
        names = [*names, "other unseen"]
    else:
        names = ["unseen"]
    kinds = []
    for number in range(mixed + bool((kind_of == mixed).any())):
        rows = np.flatnonzero(kind_of == number)
        centre = whole[rows].mean(axis=0)
        shown = rows if number < classes else rows[rows >= n + m]
        order = np.argsort(((whole[shown] - centre) ** 2).sum(axis=1), kind="stable")[:_TYPICAL]
        first = 0 if number < classes else n + m
        name = str(problem.classes[number]) if number < classes else names[number - classes]
        kinds.append(
            Kind(
                name=name,
                code=number if number < classes else None,
                rows=len(shown) if problem.lacks_unlabeled else len(rows),
                mean=_mean(problem, rows) if problem.are_images else None,
                typical=tuple(int(each) - first for each in shown[order]),
                is_mixed=number == mixed,
            )
        )
    picked, places = _places(whole, kind_of, n, seed)
    return Evidence(tuple(kinds), _differences(problem, new - n, readings), places, kind_of[picked], picked)


def _kinds(
    rows: Floats, readings: Sequence[SaysOfUnseen], classes: Sequence[int | str], seed: int
) -> tuple[Codes, list[str]]:
    """Kinds of unseen rows, and names: what the two foremost readings make of them, else clusters.

    Rows of combinations that hardly any row has are of no kind, -1.
    """
    if not len(rows):
        return np.empty(0, dtype=np.int64), []
    if len(readings) >= 2:
        said = np.stack([np.concatenate([each.unlabeled, each.target]) for each in readings[:2]])
        every, codes, counts = np.unique(said, axis=1, return_inverse=True, return_counts=True)
        large = counts >= max(FEWEST, _LEAST * len(rows))
        large |= counts == counts.max()
        place = np.where(large, np.cumsum(large) - 1, -1)
        names = [f"unseen {classes[first]} / {classes[second]}" for first, second in every.T[large]]
        return np.asarray(place[codes.ravel()], dtype=np.int64), names
    codes = find_clusters(rows, seed=seed, counts=(2, 3, 4, 6)).codes
    return codes, [f"unseen {number + 1}" for number in range(int(codes.max()) + 1)]


def _differences(problem: Problem, unseen: Codes, readings: Sequence[SaysOfUnseen]) -> tuple[Difference, ...]:
    if not problem.are_images:
        return ()
    m, out = len(problem.unlabeled), []
    rows = np.concatenate([problem.unlabeled[unseen[unseen < m]], problem.target[unseen[unseen >= m] - m]])
    low, high = 0, len(problem.classes) - 1
    ordinary = _between(problem.labeled, problem.labels, low, high)
    for reading in readings:
        said = np.concatenate([reading.unlabeled, reading.target])
        if (said == low).any() and (said == high).any():
            image = (ordinary + _between(rows, said, low, high)) / 2
            out.append(Difference(reading.name, low, high, image.astype(np.float32)))
    return tuple(out)


def _between(rows: Floats, codes: Codes, low: int, high: int) -> Floats:
    return np.asarray(rows[codes == high].mean(axis=0) - rows[codes == low].mean(axis=0))


def _mean(problem: Problem, rows: Codes) -> Floats:
    ends = np.cumsum([0, len(problem.labeled), len(problem.unlabeled), len(problem.target)])
    parts = (problem.labeled, problem.unlabeled, problem.target)
    total = sum(
        part[rows[(rows >= first) & (rows < last)] - first].sum(axis=0, dtype=np.float64)
        for part, first, last in zip(parts, ends[:-1], ends[1:], strict=True)
    )
    return np.asarray(total / max(len(rows), 1), dtype=np.float32)


def _places(whole: Floats, kind_of: Codes, n: int, seed: int) -> tuple[Codes, NDArray[np.float64]]:
    """A sample of labeled and of other rows, and where they lie in the plane that keeps kinds apart best."""
    from sklearn.decomposition import PCA  # noqa: PLC0415  (slow to import)
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # noqa: PLC0415

    random = np.random.default_rng(seed)
    ours, others = random.permutation(n)[:_MAPPED], n + random.permutation(len(whole) - n)[: 2 * _MAPPED]
    picked = np.sort(np.concatenate([ours, others]))
    # A kind of hardly any rows has no spread to be told.
    counts = np.bincount(kind_of[kind_of >= 0])
    known = (kind_of >= 0) & (counts[kind_of] >= FEWEST)
    if len(np.unique(kind_of[known])) >= 3 and whole.shape[1] >= 2:
        model = LinearDiscriminantAnalysis(n_components=2, solver="eigen", shrinkage=0.1)
        places = model.fit(whole[known], kind_of[known]).transform(whole[picked])
    elif not (whole != whole[0]).any():
        places = np.zeros((len(picked), 2))
    else:
        places = PCA(min(2, whole.shape[1]), random_state=seed).fit(whole).transform(whole[picked])
        places = np.column_stack([places, np.zeros((len(picked), 2 - places.shape[1]))])
    low, high = np.quantile(places, [0.005, 0.995], axis=0)
    return picked, np.clip((places - low) / np.maximum(high - low, 1e-12), 0, 1)
