"""From a problem, its scan and its resolution to what the page shows; nothing is decided anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from headwater._version import __version__
from headwater.heads.ambiguity.evidence import Kind
from headwater.heads.ambiguity.meaning import Meaning, going_by
from headwater.heads.ambiguity.mix_rate import MixRate
from headwater.heads.ambiguity.problem import Problem
from headwater.heads.ambiguity.questions import Question
from headwater.heads.ambiguity.resolve import Resolution
from headwater.heads.ambiguity.scan import ALARM, FoundReading, Scan
from headwater.pixels import visible_range
from headwater.report.ambiguity.data import (
    AmbiguityData,
    Asked,
    ClusterShown,
    Dots,
    KindShown,
    MeantShown,
    Noticed,
    OpinionShown,
    Outcome,
    Picture,
    ReadingShown,
)
from headwater.report.ambiguity.pictures import difference_picture, image_picture, picture, strongest
from headwater.report.data import Estimate
from headwater.report.text import shown

RowPicture = Callable[[int], "NDArray[np.uint8] | None"]
"""Gives a target row's picture, uint8 (h, w) or (h, w, 3), None where it has none."""

_MOST_READINGS = 4
_TYPICAL = 4
_SAME = 0.9  # of the rows that the scan calls unseen: readings that agree on more are one


class Answered(Protocol):
    """A question with the class code that was answered."""

    @property
    def question(self) -> Question:
        """What was asked."""

    @property
    def answer(self) -> int:
        """The class code."""


def gather(
    problem: Problem,
    *,
    name: str,
    identity: str,
    scan: Scan | None = None,
    resolution: Resolution | None = None,
    exchanges: Sequence[Answered] | None = None,
    budget: int | None = None,
    row_picture: RowPicture | None = None,
    advice: tuple[bool, str] | None = None,
    accuracies: tuple[float, float] | None = None,
    notes: Sequence[str] = (),
) -> AmbiguityData:
    """Put the page's data together.

    `identity` is 64 hex digits that tell the data set's values; `exchanges` are the resolution's unless
    given; `advice` says whether to hand in, and why; `accuracies` are those of the target rows after and
    before, where the truth is known. `row_picture` shows target rows that are not images themselves.
    """
    classes = tuple(shown(each) for each in problem.classes)
    pictured = _Pictured(problem, row_picture)
    given = exchanges if exchanges is not None else resolution.exchanges if resolution is not None else ()
    meant = {} if resolution is None else _meant(resolution, scan, classes, pictured)
    return AmbiguityData(
        identity=identity,
        name=shown(name),
        classes=classes,
        rows=(len(problem.labeled), _unlabeled(problem), len(problem.target)),
        shape=problem.labeled.shape[1:],
        noticed=None if scan is None else _noticed(scan, problem, pictured),
        asked=tuple(_asked(number, each, classes, pictured, meant) for number, each in enumerate(given, 1)),
        budget=budget,
        outcome=None if resolution is None else _outcome(resolution, advice, accuracies, meant),
        notes=tuple(shown(each) for each in notes),
        version=__version__,
    )


class _Pictured:
    """Pictures of a problem's rows, if it has any."""

    def __init__(self, problem: Problem, row_picture: RowPicture | None) -> None:
        self._problem, self._row_picture = problem, row_picture
        self._ends = visible_range(problem.target) if problem.are_images else (0.0, 1.0)

    def shows(self, difference: NDArray[np.float32] | None) -> TypeGuard[NDArray[np.float32]]:
        """Whether a difference of rows is one of images."""
        return difference is not None and self._problem.are_images

    def of(self, image: NDArray[np.float32] | None, text: str) -> Picture | None:
        """Of values (channels, h, w)."""
        return None if image is None else image_picture(image, self._ends, text)

    def labeled(self, rows: Sequence[int], text: str) -> tuple[Picture, ...]:
        """Of labeled rows."""
        if not self._problem.are_images:
            return ()
        return tuple(image_picture(self._problem.labeled[row], self._ends, text) for row in rows)

    def target(self, rows: Sequence[int], text: str) -> tuple[Picture, ...]:
        """Of target rows that have any."""
        if self._problem.are_images:
            return tuple(image_picture(self._problem.target[row], self._ends, text) for row in rows)
        if self._row_picture is None:
            return ()
        found = [self._row_picture(row) for row in rows]
        return tuple(picture(each, text) for each in found if each is not None)


def _noticed(scan: Scan, problem: Problem, pictured: _Pictured) -> Noticed:
    evidence = scan.evidence
    goes_by = {each.reading: each for each in evidence.differences}
    full = strongest([each.image for each in evidence.differences])
    about = going_by(problem, scan)
    readings = []
    for each in scan.readings[:_MOST_READINGS]:
        found = goes_by.get(each.name)
        low, high = (0, len(problem.classes) - 1) if found is None else (found.low, found.high)
        ends = shown(problem.classes[low]), shown(problem.classes[high])
        text = f"what reading {each.name} tells {ends[1]} from {ends[0]} by"
        seen = None if found is None else difference_picture(found.image, full, text)
        calls = _calls(each, scan, problem, pictured)
        readings.append(ReadingShown(each.name, each.fits, seen, *ends, calls, about.get(each.name, "")))
    return Noticed(
        score=scan.score,
        alarm=ALARM,
        is_ambiguous=scan.is_ambiguous,
        novelty=scan.novelty,
        contradiction=scan.contradiction,
        mix_rate=_estimate(scan.mix_rate),
        target_rate=_estimate(scan.target_rate),
        kinds=tuple(_kind(each, problem, pictured) for each in evidence.kinds),
        readings=tuple(readings),
        map=_map(scan, len(evidence.kinds)),
        clusters=tuple(
            ClusterShown(
                name=str(each.number),
                is_unseen=each.is_unseen,
                classes=each.classes,
                unlabeled=each.unlabeled,
                target=each.target,
                typical=pictured.target(each.typical[:_TYPICAL], f"typical of cluster {each.number}"),
            )
            for each in sorted(scan.clusters, key=lambda each: (not each.is_unseen, each.number))
            if each.labeled + each.unlabeled + each.target
        ),
        sentences=scan.sentences,
    )


def _calls(
    reading: FoundReading, scan: Scan, problem: Problem, pictured: _Pictured
) -> tuple[tuple[str, tuple[Picture, ...]], ...]:
    """Typical target rows of unseen kinds, by what the reading calls them."""
    typical = [row for kind in scan.evidence.kinds if kind.code is None for row in kind.typical]
    said = dict(zip(scan.unseen_target.tolist(), reading.target.tolist(), strict=True))
    out = []
    for code, label in enumerate(problem.classes):
        rows = [row for row in typical if said.get(row) == code][:_TYPICAL]
        out.append((shown(label), pictured.target(rows, f"called {shown(label)} by reading {reading.name}")))
    return tuple(each for each in out if each[1])


def _kind(kind: Kind, problem: Problem, pictured: _Pictured) -> KindShown:
    name = shown(kind.name)
    is_unseen = kind.code is None
    total = _unlabeled(problem) + len(problem.target) if is_unseen else len(problem.labeled)
    take = pictured.target if is_unseen else pictured.labeled
    what = f"the {name} {'rows' if kind.is_mixed else 'kind'}" if is_unseen else f"rows labeled {name}"
    return KindShown(
        name=name,
        is_unseen=is_unseen,
        rows=kind.rows,
        share=kind.rows / max(total, 1),
        mean=pictured.of(kind.mean, f"mean of {what}"),
        typical=take(kind.typical[:_TYPICAL], f"one of {what}"),
        is_mixed=kind.is_mixed,
    )


def _unlabeled(problem: Problem) -> int:
    return 0 if problem.lacks_unlabeled else len(problem.unlabeled)


def _map(scan: Scan, kinds: int) -> tuple[Dots, ...]:
    evidence = scan.evidence
    out = []
    # Rows of no kind in particular are many and lie everywhere: the others are drawn over them.
    for number in sorted(range(-1, kinds), key=lambda each: each >= 0 and not evidence.kinds[each].is_mixed):
        places = evidence.places[evidence.place_kinds == number]
        dots = tuple((float(x), float(y)) for x, y in places)
        out.append(Dots(None if number < 0 else number, dots))
    return tuple(each for each in out if each.places)


def _meant(
    resolution: Resolution, scan: Scan | None, classes: Sequence[str], pictured: _Pictured
) -> dict[str, MeantShown]:
    """The readings in the end by their names, the most believed one first, then the foremost."""
    found = resolution.readings
    full = strongest([each.difference for each in found.values() if pictured.shows(each.difference)])
    best = max(found, key=lambda name: resolution.beliefs[name], default="")
    names = sorted(found, key=lambda name: name != best)
    out = {}
    for name in names:
        each = found[name]
        text = f"what reading {name} tells {classes[each.high]} from {classes[each.low]} by"
        seen = each.difference if pictured.shows(each.difference) else None
        out[name] = MeantShown(
            name=shown(name),
            belief=resolution.beliefs[name],
            about=each.about,
            goes_by=None if seen is None else difference_picture(seen, full, text),
            low=classes[each.low],
            high=classes[each.high],
            calls=_called(each, name, classes, pictured),
            scanned="" if scan is None else _scanned(each, scan),
        )
    return out


def _called(
    meaning: Meaning, name: str, classes: Sequence[str], pictured: _Pictured
) -> tuple[tuple[str, tuple[Picture, ...]], ...]:
    """Rows that a reading and its rival call otherwise, by what it calls them, drawn evenly from all."""
    out = []
    for code, label in enumerate(classes):
        rows = meaning.rows[meaning.codes[meaning.rows] == code]
        rows = rows[np.linspace(0, len(rows) - 1, min(_TYPICAL, len(rows))).astype(int)]
        out.append((label, pictured.target(rows.tolist(), f"called {label} by reading {name}")))
    return tuple(each for each in out if each[1])


def _scanned(meaning: Meaning, scan: Scan) -> str:
    """The reading of the scan that says the same of the rows that it calls unseen."""
    agreed = {
        each.name: float((each.target == meaning.codes[scan.unseen_target]).mean())
        for each in scan.readings
        if len(each.target)
    }
    best = max(agreed, key=lambda name: agreed[name], default="")
    return best if best and agreed[best] > _SAME else ""


def _asked(
    number: int,
    exchange: Answered,
    classes: Sequence[str],
    pictured: _Pictured,
    meant: Mapping[str, MeantShown],
) -> Asked:
    question = exchange.question
    text = f"target row {question.item}"
    seen = None if question.picture is None else picture(question.picture, text)
    return Asked(
        number=number,
        item=question.item,
        picture=seen,
        opinions=tuple(
            OpinionShown(
                shown(each.name),
                classes[each.code],
                each.belief,
                each.code == exchange.answer,
                meant[each.name].goes_by if each.name in meant else None,
                meant[each.name].about if each.name in meant else "",
            )
            for each in question.opinions
        ),
        speaks_for=question.speaks_for,
        answer=classes[exchange.answer],
        notes=tuple(shown(each) for each in question.notes),
        doubt=question.doubt,
    )


def _outcome(
    resolution: Resolution,
    advice: tuple[bool, str] | None,
    accuracies: tuple[float, float] | None,
    meant: Mapping[str, MeantShown],
) -> Outcome:
    known = accuracies is not None and bool(np.isfinite(accuracies).all())
    return Outcome(
        settled=resolution.settled,
        expected=Estimate(resolution.expected_accuracy, *resolution.interval),
        beliefs=tuple((shown(name), float(share)) for name, share in resolution.beliefs.items()),
        unexplained=resolution.unexplained,
        sentences=tuple(shown(each) for each in resolution.sentences),
        submit=None if advice is None else advice[0],
        advice="" if advice is None else shown(advice[1]),
        accuracy=accuracies[0] if accuracies is not None and known else None,
        before=accuracies[1] if accuracies is not None and known else None,
        seconds=float(sum(resolution.seconds.values())),
        readings=tuple(meant.values())[:_MOST_READINGS],
    )


def _estimate(rate: MixRate) -> Estimate:
    return Estimate(rate.share, rate.low, rate.high)
