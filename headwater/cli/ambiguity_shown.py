"""How scans and solves of ambiguous data sets look on the terminal, while they go on and in the end."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from headwater.cli.console import (
    PLAIN_EVERY,
    between,
    percent,
    print_note,
    print_pairs,
    print_table,
    print_warnings,
    progress_console,
    tell,
)
from headwater.errors import HeadwaterError, HeadwaterWarning
from headwater.printable import counted, escaped

if TYPE_CHECKING:
    from headwater.ambiguity import Dataset, Scanned, Solved
    from headwater.ambiguity.scoring import Line, Score
    from headwater.ambiguity.solving import Telling
    from headwater.extract import Progress
    from headwater.heads.ambiguity.questions import Question
    from headwater.heads.ambiguity.scan import Scan

_MOST_CLUSTERS = 8

_STEPS = {
    "features": "making features",
    "scan": "looking for rows that the labels never show",
    "readings": "training readings of the labels",
    "readings that know the answers": "training readings that know the answers",
    "questions": "choosing a question",
    "resolution": "settling",
}


def as_plain(found: Solved, warned: Sequence[str] = ()) -> dict[str, Any]:
    """The result as JSON, what was `warned` of on the way among its notes."""
    resolution = found.resolution
    classes, keys = found.dataset.problem.classes, found.dataset.target_keys

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        "dataset": str(found.dataset.place),
        "classes": list(classes),
        "out": None if found.out is None else str(found.out),
        "table": None if found.table is None else str(found.table),
        "journal": None if found.journal is None else str(found.journal),
        "head": None if found.head is None else str(found.head),
        "report": None if found.report is None else str(found.report),
        "ambiguity": {"score": found.scan.score, "is_ambiguous": found.scan.is_ambiguous},
        "settled": resolution.settled,
        "sentences": list(resolution.sentences),
        "budget": found.budget,
        "asked": [
            {
                "item": each.question.item,
                "key": None if keys is None else keys[each.question.item],
                "label": classes[each.answer],
                "speaks_for": each.question.speaks_for,
                "opinions": [
                    {"reading": opinion.name, "label": classes[opinion.code], "belief": opinion.belief}
                    for opinion in each.question.opinions
                ],
            }
            for each in found.exchanges
        ],
        "answered_earlier": found.earlier,
        "beliefs": dict(resolution.beliefs),
        "unexplained": resolution.unexplained,
        "mix_rate": number(resolution.mix_rate),
        "expected_accuracy": resolution.expected_accuracy,
        "interval": list(resolution.interval),
        "accuracy": number(found.accuracy),
        "accuracy_before": number(found.accuracy_before),
        "submit": found.advice.submit,
        "advice": found.advice.text,
        "seconds": dict(resolution.seconds),
        "notes": [*found.notes, *warned],
    }


def score_as_plain(found: Score) -> dict[str, Any]:
    """The score as JSON."""
    return {
        "total": found.total,
        "points": found.points,
        "sets": [
            {
                "id": line.set.id,
                "name": line.set.name,
                "points": line.set.points,
                "accuracy": line.accuracy,
                "score": line.score,
            }
            for line in found.lines
        ],
    }


def show_score(found: Score) -> None:
    """Every set's part of the score."""

    def counts(line: Line) -> str:
        if line.accuracy is not None:
            return percent(line.accuracy)
        return "withdrawn" if line.set.withdrawn else f"{percent(line.set.default)} *"

    print_table(
        f"{found.total:.2f} of {found.points} points",
        ["set", "points", "accuracy %", "score"],
        [
            (f"{line.set.id} {line.set.name}", line.set.points, counts(line), f"{line.score:.2f}")
            for line in found.lines
        ],
    )
    print_note("* not handed in: the default counts")


def described(dataset: Dataset) -> str:
    """A data set in a line."""
    problem = dataset.problem
    unlabeled = 0 if problem.lacks_unlabeled else len(problem.unlabeled)
    rows = (
        f"{len(problem.labeled):,} labeled, {unlabeled:,} unlabeled and "
        f"{counted(dataset.target_rows, 'target row')}"
    )
    size = " x ".join(map(str, problem.labeled.shape[1:]))
    what = f"images of {size}" if problem.are_images else f"vectors of {size}"
    if dataset.recipe is not None:
        what = f"{dataset.recipe} features of {size}"
    return f"{escaped(dataset.name)}: {rows}, {what}, classes {_few(problem.classes)}"


def _few(classes: Sequence[int | str], most: int = 6) -> str:
    """Labels for people, cut after a few."""
    more = f" and {len(classes) - most} more" if len(classes) > most else ""
    return escaped(", ".join(map(str, classes[:most])) + more)


def show_scan(found: Scanned) -> None:
    """What a scan found, in words, and the clusters that labeled rows are hardly in."""
    seen = found.found
    for note in found.notes:
        print_note(f"note: {escaped(note)}")
    print_note(f"{_verdict(seen)}.")
    for sentence in seen.sentences:
        print_note(escaped(sentence))
    for name, about in found.goes_by.items():
        print_note(f"Reading {name} goes by {about}.")
    unseen = [each for each in seen.clusters if each.is_unseen]
    if unseen:
        print_table(
            "Clusters that labeled rows are hardly in",
            ["cluster", "labeled", "unlabeled", "target", "typical target row"],
            [
                (
                    each.number,
                    f"{each.labeled:,}",
                    f"{each.unlabeled:,}",
                    f"{each.target:,}",
                    None if each.medoid is None else int(found.dataset.items[each.medoid]),
                )
                for each in sorted(unseen, key=lambda each: -each.unlabeled - each.target)[:_MOST_CLUSTERS]
            ],
        )
        if len(unseen) > _MOST_CLUSTERS:
            print_note(f"and {len(unseen) - _MOST_CLUSTERS} smaller ones")
    if found.report is not None:
        typer.echo(f"{escaped(str(found.report))}: the report")


def _verdict(seen: Scan) -> str:
    how = "the labels are ambiguous" if seen.is_ambiguous else "nothing shows that the labels are ambiguous"
    return f"ambiguity score {seen.score:.2f}: {how}"


def show_solved(found: Solved) -> None:
    """What came of the questions, in words."""
    resolution = found.resolution
    for note in found.notes:
        print_note(f"note: {escaped(note)}")
    for sentence in resolution.sentences:
        print_note(escaped(sentence))
    lines = [
        ("asked", _asked(found)),
        ("settled", _settled(found)),
        (
            "expected accuracy",
            f"{percent(resolution.expected_accuracy)} % ({between(*resolution.interval)})",
        ),
    ]
    if not math.isnan(found.accuracy):
        before = f"a head trained on the labeled rows alone: {percent(found.accuracy_before)} %"
        lines.append(("true accuracy", f"{percent(found.accuracy)} % ({before})"))
    lines.append(("advice", found.advice.text))
    print_pairs(lines)
    typer.echo(f"{escaped(str(found.out))}: {counted(len(found.codes), 'label')}")
    if found.table is not None:
        typer.echo(f"{escaped(str(found.table))}: the table of them")
    if found.head is not None:
        typer.echo(f"{escaped(str(found.head))}: the head")
    if found.report is not None:
        typer.echo(f"{escaped(str(found.report))}: the report")


def _settled(found: Solved) -> str:
    if found.resolution.settled:
        return "yes"
    if len(found.resolution.beliefs) == 1 and not found.exchanges:
        return "no, but no reading of the labels contradicts another"
    return "NO: the labels may still mean something else"


def _asked(found: Solved) -> str:
    asked = len(found.exchanges)
    if asked > found.budget:
        return f"{asked}, {found.earlier} of them in earlier runs; the budget is {found.budget}"
    earlier = f", {found.earlier} of them in earlier runs" if found.earlier else ""
    return f"{asked} of at most {found.budget}{earlier}"


@contextmanager
def told_live(*, quiet: bool) -> Iterator[tuple[Telling, list[str]]]:
    """A line for every question and answer and, on a terminal, a status line in between.

    Where that would be in the way of JSON, nothing is printed; the list that comes with it holds in the end
    what was warned of.
    """
    from headwater.ambiguity.solving import Telling  # noqa: PLC0415
    from headwater.store import show_key  # noqa: PLC0415

    warned: list[str] = []
    if quiet:
        with _headwater_s_warnings() as caught:
            yield Telling(), warned
        warned += [str(each.message) for each in caught if issubclass(each.category, HeadwaterWarning)]
        return
    screen = progress_console()
    status = screen.status("") if screen.is_terminal else None
    last = time.monotonic()
    keys: Sequence[str] | None = None

    def now(step: str, done: int, of: int) -> None:
        nonlocal last
        text = _STEPS.get(step, step) + (f": {done} of {of}" if of > 1 else "")
        if status is not None:
            status.update(Text(escaped(text)))
            status.start()
        elif time.monotonic() - last > PLAIN_EVERY:
            last = time.monotonic()
            tell(text, screen)

    def extracting(at: Progress) -> None:
        now("features", at.rows_done, at.rows_total)

    def opened(dataset: Dataset) -> None:
        nonlocal keys
        keys = dataset.target_keys
        tell(described(dataset), screen)

    def scanned(seen: Scan) -> None:
        tell(_verdict(seen), screen)

    def asking(question: Question) -> None:
        if status is not None:  # a person may have to type
            status.stop()

    def answered(question: Question, label: int | str, earlier: bool) -> None:
        known = ", as was answered before" if earlier else ""
        speaks = f"; it speaks for {counted(question.speaks_for, 'row')}" if question.speaks_for > 1 else ""
        row = f"target row {question.item:,}"
        if keys is not None:
            row += f" ({show_key(keys[question.item])})"
        tell(f"question {question.number}: {row} is {label}{known}{speaks}", screen)

    told = Telling(
        opened=opened,
        extracting=extracting,
        scanned=scanned,
        now=now,
        asking=asking,
        answered=answered,
    )
    with _headwater_s_warnings() as caught, _logged_by(lambda text: tell(text, screen)):
        try:
            yield told, warned
        finally:
            if status is not None:
                status.stop()
    print_warnings(caught)


@contextmanager
def going_on(**files: Path | None) -> Iterator[None]:
    """Where the user stops it, and wherever that is: one sentence that says how to go on.

    `files`: what the command makes and never writes over, by its options' names, the labels as `out`.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise HeadwaterError(f"stopped by the user; {_way_on(files)}") from None


def _way_on(files: Mapping[str, Path | None]) -> str:
    from headwater.store import show_key  # noqa: PLC0415

    again = "what was answered is kept, and the same command again goes on from there"
    out = files.get("out")
    if out is None or not os.path.lexists(out):
        return again
    there = [f"--{name}" for name, place in files.items() if place is not None and os.path.lexists(place)]
    return (
        f"the labels are in {show_key(str(out))} already, and what else was wanted may be missing; the same "
        f"command with another {' and another '.join(there)} makes all anew, and pays for no answer twice"
    )


@contextmanager
def _logged_by(say: Callable[[str], None]) -> Iterator[None]:
    """What the rooms log as a warning is said, too: that a service is tried again, say."""

    class Saying(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    log, handler = logging.getLogger("headwater"), Saying(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def _headwater_s_warnings() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        # Libraries warn of sets that are too small or even for them; what matters of that is said elsewhere.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", HeadwaterWarning)
        yield caught
