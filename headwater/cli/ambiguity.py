"""`headwater ambiguity`: labels that do not say what is meant; the work is `headwater.ambiguity`'s."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from headwater.cli.console import (
    PLAIN_EVERY,
    AsJson,
    between,
    percent,
    print_json,
    print_note,
    print_table,
    progress_console,
)
from headwater.errors import RequestError
from headwater.printable import counted, escaped

if TYPE_CHECKING:
    from headwater.ambiguity import Dataset, Solved
    from headwater.ambiguity.scanning import Scanned
    from headwater.ambiguity.solving import Telling
    from headwater.heads.ambiguity.questions import Question

_MOST_CLUSTERS = 8

app = typer.Typer(
    help="Notice labels that do not say which feature is meant, and settle them by a few questions.",
    no_args_is_help=True,
)

DatasetAt = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET",
        help="A folder with X_labeled.npy, y_labeled.npy, X_unlabeled.npy and X_val.npy, or a store.",
    ),
]
Seed = Annotated[int, typer.Option(help="Decides everything random.")]
LabelColumn = Annotated[str, typer.Option("--target", help="A store's column of labels.")]
SplitColumn = Annotated[str, typer.Option("--split", help="A store's column that says which rows are which.")]
LabeledRows = Annotated[
    str, typer.Option(help="Its value for labeled rows. [default: labeled or train]", show_default=False)
]
UnlabeledRows = Annotated[
    str, typer.Option(help="Its value for unlabeled rows. [default: unlabeled]", show_default=False)
]
TargetRows = Annotated[
    str,
    typer.Option(help="Its value for rows to predict. [default: target, test or val]", show_default=False),
]


def register(parent: typer.Typer) -> None:
    """Add `ambiguity` to the command."""
    parent.add_typer(app, name="ambiguity")


@app.command()
def scan(
    dataset: DatasetAt,
    *,
    seed: Seed = 0,
    target: LabelColumn = "class",
    split: SplitColumn = "split",
    labeled_rows: LabeledRows = "",
    unlabeled_rows: UnlabeledRows = "",
    target_rows: TargetRows = "",
    as_json: AsJson = False,
) -> None:
    """Say whether the labels are ambiguous: whether they fit several readings that differ on other rows."""
    from headwater.ambiguity.datasets import open_dataset  # noqa: PLC0415
    from headwater.ambiguity.scanning import scan as look  # noqa: PLC0415

    with _told(quiet=as_json) as telling:
        telling.now("reading the data set", 0, 0)
        opened = open_dataset(
            dataset,
            target=target,
            split=split,
            labeled_rows=labeled_rows,
            unlabeled_rows=unlabeled_rows,
            target_rows=target_rows,
        )
        telling.opened(opened)
        telling.now("looking for rows that the labels never show", 0, 0)
        found = look(opened, seed=seed)
    if as_json:
        print_json(found.summary())
    else:
        _scan_summary(found)


@app.command()
def solve(
    dataset: DatasetAt,
    *,
    oracle: Annotated[
        str,
        typer.Option(
            help="Who answers: a file of labels (.npy, .csv), terminal, browser, a reveal service's address, "
            "or column (a store's own labels)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The CSV of labels to write; OUT.journal keeps the answers.")],
    budget: Annotated[int, typer.Option(help="The most rows that may be asked about.")] = 5,
    exercise: Annotated[
        int | None, typer.Option(help="The contest's number of this data set, for a service.")
    ] = None,
    username: Annotated[
        str | None,
        typer.Option(
            help="Of the service; the password is HEADWATER_REVEAL_PASSWORD in the environment, or asked for."
        ),
    ] = None,
    seed: Seed = 0,
    target: LabelColumn = "class",
    split: SplitColumn = "split",
    labeled_rows: LabeledRows = "",
    unlabeled_rows: UnlabeledRows = "",
    target_rows: TargetRows = "",
    as_json: AsJson = False,
) -> None:
    """Ask at most --budget questions, settle what the labels mean, and write the target rows' labels.

    The same command after an interruption goes on with the answers there are; no row is paid for twice.
    """
    from headwater.ambiguity.datasets import open_dataset  # noqa: PLC0415
    from headwater.ambiguity.oracles import is_service  # noqa: PLC0415
    from headwater.ambiguity.solving import solve as run  # noqa: PLC0415
    from headwater.ambiguity.submission import SUFFIX, check_new  # noqa: PLC0415

    check_new(out, SUFFIX)
    password = _password() if is_service(oracle) else None
    with _told(quiet=as_json) as telling:
        telling.now("reading the data set", 0, 0)
        opened = open_dataset(
            dataset,
            target=target,
            split=split,
            labeled_rows=labeled_rows,
            unlabeled_rows=unlabeled_rows,
            target_rows=target_rows,
        )
        found = run(
            opened,
            oracle=oracle,
            budget=budget,
            out=out,
            seed=seed,
            exercise=exercise,
            username=username,
            password=password,
            telling=telling,
        )
    if as_json:
        print_json(as_plain(found))
    else:
        _summary(found)


def _password() -> str | None:
    """The service's password from the person at the terminal, where the environment does not say it."""
    from headwater.heads.ambiguity.oracles.reveal import PASSWORD  # noqa: PLC0415

    if os.environ.get(PASSWORD) or not sys.stdin.isatty():
        return None
    password: str = typer.prompt("password", hide_input=True, err=True)
    return password


@app.command()
def score(
    results: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID=ACCURACY|ID=SUBMISSION,TRUTH", help="What was handed in for a set."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add up the contest's score: accuracy times points, with the default for sets not handed in.

    A set's accuracy is given as a share, or as its submission and the true labels (.csv or .npy).
    """
    from headwater.ambiguity.scoring import score as add_up  # noqa: PLC0415

    accuracies = dict(map(_result, results or []))
    found = add_up(accuracies)
    if as_json:
        print_json(
            {
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
        )
        return
    print_table(
        f"{found.total:.2f} of {found.points} points",
        ["set", "points", "accuracy %", "score"],
        [
            (
                f"{line.set.id} {line.set.name}",
                line.set.points,
                "withdrawn"
                if line.accuracy is None and line.set.withdrawn
                else f"{percent(line.set.default)} *"
                if line.accuracy is None
                else percent(line.accuracy),
                f"{line.score:.2f}",
            )
            for line in found.lines
        ],
    )
    print_note("* not handed in: the default counts")


def _result(text: str) -> tuple[int, float]:
    from headwater.ambiguity.submission import accuracy_of  # noqa: PLC0415

    number, equals, given = text.partition("=")
    if not equals or not number.strip().isdigit() or not given:
        raise RequestError(f"{text!r} is no result; give ID=ACCURACY, or ID=SUBMISSION.csv,TRUTH.npy")
    submission, comma, truth = given.partition(",")
    if comma:
        return int(number), accuracy_of(Path(submission), Path(truth))
    try:
        return int(number), float(given)
    except ValueError:
        raise RequestError(
            f"{given!r} is no accuracy; give a share between 0 and 1, or SUBMISSION.csv,TRUTH.npy"
        ) from None


def as_plain(found: Solved) -> dict[str, Any]:
    """The result as JSON."""
    resolution = found.resolution
    classes = found.dataset.problem.classes

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        "dataset": str(found.dataset.place),
        "classes": list(classes),
        "out": None if found.out is None else str(found.out),
        "journal": None if found.journal is None else str(found.journal),
        "settled": resolution.settled,
        "sentences": list(resolution.sentences),
        "budget": found.budget,
        "asked": [
            {
                "item": each.question.item,
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
        "notes": list(found.notes),
    }


def described(dataset: Dataset) -> str:
    """A data set in a line."""
    problem = dataset.problem
    rows = (
        f"{len(problem.labeled):,} labeled, {len(problem.unlabeled):,} unlabeled and "
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


def _scan_summary(found: Scanned) -> None:
    seen = found.found
    for note in found.notes:
        print_note(f"note: {escaped(note)}")
    print_note(
        f"Ambiguity score {seen.score:.2f}: the labels are {'' if seen.is_ambiguous else 'not '}ambiguous."
    )
    for sentence in seen.sentences:
        print_note(escaped(sentence))
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
        typer.echo(f"report: {escaped(str(found.report))}")


def _summary(found: Solved) -> None:
    resolution = found.resolution
    for note in found.notes:
        print_note(f"note: {escaped(note)}")
    if not found.exchanges:
        print_note("Nothing was asked.")
    for sentence in resolution.sentences:
        print_note(escaped(sentence))
    state = "The labels are settled" if resolution.settled else "The labels are NOT settled"
    sure = between(*resolution.interval)
    print_note(f"{state}: expected accuracy {percent(resolution.expected_accuracy)} % ({sure}).")
    if not math.isnan(found.accuracy):
        print_note(
            f"By the labels of the oracle it is {percent(found.accuracy)} %; a head trained on the labeled "
            f"rows alone has {percent(found.accuracy_before)} %."
        )
    print_note(f"Advice: {found.advice.text}.")
    typer.echo(f"{escaped(str(found.out))}: {counted(len(found.codes), 'label')}")


@contextmanager
def _told(*, quiet: bool) -> Iterator[Telling]:
    """A line for every question and answer and, on a terminal, a status line in between."""
    from headwater.ambiguity.solving import Telling  # noqa: PLC0415

    if quiet:
        yield Telling()
        return
    screen = progress_console()
    status = screen.status("") if screen.is_terminal else None
    last = time.monotonic()

    def line(text: str) -> None:
        screen.print(Text(escaped(text)), soft_wrap=True, highlight=False)

    def now(step: str, done: int, of: int) -> None:
        nonlocal last
        text = f"{step}: {done} of {of}" if of > 1 else step
        if status is not None:
            status.update(Text(escaped(text)))
            status.start()
        elif time.monotonic() - last > PLAIN_EVERY:
            last = time.monotonic()
            line(text)

    def asking(question: Question) -> None:
        if status is not None:  # a person may have to type
            status.stop()

    def answered(question: Question, label: int | str, earlier: bool) -> None:
        known = ", as was answered before" if earlier else ""
        speaks = f"; it speaks for {counted(question.speaks_for, 'row')}" if question.speaks_for > 1 else ""
        line(f"question {question.number}: target row {question.item:,} is {label}{known}{speaks}")

    yield_to = Telling(opened=lambda dataset: line(described(dataset)), now=now, asking=asking)
    yield_to.answered = answered
    try:
        yield yield_to
    finally:
        if status is not None:
            status.stop()
