"""The pictures of a page: which of a head's mistakes are shown, and what is said beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.heads import Task
from headwater.report.data import Gallery, MethodResult, Picture
from headwater.report.pictures import Pictures
from headwater.report.run import Run, RunHead
from headwater.report.text import shown

MOST_PICTURES = 14  # in each of at most two galleries


@dataclass(frozen=True)
class _Said:
    """What one head says of the rows of the reported split."""

    method: MethodResult
    predicted: NDArray[np.int64]


@dataclass(frozen=True)
class _Mistakes:
    """Of a head in its worst group: which of the split's rows are `wrong`, among how many, and `shown`."""

    wrong: NDArray[np.int64]
    shown: list[int]
    count: int


def galleries_of(
    run: Run,
    split: str,
    baseline: tuple[MethodResult, RunHead],
    best: tuple[MethodResult, RunHead],
    place: Any,
) -> tuple[tuple[Gallery, ...], str]:
    """The baseline's mistakes in its worst group beside what the best head says, and the best head's own."""
    rows = run.task.plain(split)
    predicted = run.task.predict([baseline[1].head, best[1].head], rows)
    base, top = _Said(baseline[0], predicted[0]), _Said(best[0], predicted[1])
    pairs = [(base, top), (top, base)] if baseline[0] is not best[0] else [(top, None)]
    mistakes = [_mistakes(run.task, rows, mine) for mine, _ in pairs]
    chosen = [row for each in mistakes for row in rows[each.shown]]
    pictures = Pictures(place, [str(run.store.keys[row]) for row in chosen])
    found: list[Gallery] = []
    lost: list[str] = []
    for (mine, theirs), each in zip(pairs, mistakes, strict=True):
        gallery, without = _gallery(run, pictures, rows, (mine, theirs), each)
        found.append(gallery)
        lost += without
    note = pictures.without(lost) if lost else pictures.note
    return tuple(found), note


def _mistakes(task: Task, rows: NDArray[np.int64], said: _Said) -> _Mistakes:
    group = next(g for g, name in enumerate(task.group_names) if shown(name) == said.method.worst_group)
    inside = task.groups[rows] == group
    wrong = np.flatnonzero(inside & (said.predicted != task.target[rows]))
    return _Mistakes(wrong, _spread(wrong, MOST_PICTURES), int(inside.sum()))


def _gallery(
    run: Run,
    pictures: Pictures,
    rows: NDArray[np.int64],
    pair: tuple[_Said, _Said | None],
    mistakes: _Mistakes,
) -> tuple[Gallery, list[str]]:
    """The mistakes of a pair's first head, and the keys of the chosen that have no picture."""
    task, (mine, theirs), wrong = run.task, pair, mistakes.wrong
    truth = task.target[rows]
    taken: list[Picture] = []
    lost: list[str] = []
    for place in mistakes.shown if not pictures.note else []:
        key = str(run.store.keys[rows[place]])
        uri = pictures.thumbnail(key)
        if uri is None:
            lost.append(key)
            continue
        taken.append(
            Picture(
                uri=uri,
                key=shown(key),
                truth=shown(task.classes[truth[place]]),
                predicted=shown(task.classes[mine.predicted[place]]),
                other=None if theirs is None else shown(task.classes[theirs.predicted[place]]),
                other_right=theirs is not None and bool(theirs.predicted[place] == truth[place]),
            )
        )
    gallery = Gallery(
        method=mine.method.name,
        group=mine.method.worst_group,
        wrong=len(wrong),
        count=mistakes.count,
        rescued=0 if theirs is None else int((theirs.predicted[wrong] == truth[wrong]).sum()),
        other_method=None if theirs is None else theirs.method.name,
        pictures=tuple(taken),
    )
    return gallery, lost


def _spread(values: NDArray[np.int64], most: int) -> list[int]:
    """At most `most` of the values, evenly spread over them."""
    chosen = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(np.int64)
    return [int(value) for value in values[chosen]]
