"""`headwater ambiguity`: labels that do not say what is meant; the work is `headwater.ambiguity`'s."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from headwater.cli.ambiguity_given import Given, with_given
from headwater.cli.ambiguity_shown import (
    as_plain,
    going_on,
    score_as_plain,
    show_scan,
    show_score,
    show_solved,
    told_live,
)
from headwater.cli.console import AsJson, print_json
from headwater.errors import RequestError

if TYPE_CHECKING:
    from headwater.heads.ambiguity.clustering import Clusterer

app = typer.Typer(
    help="Notice labels that do not say which feature is meant, and settle them by a few questions.",
    no_args_is_help=True,
)


def register(parent: typer.Typer) -> None:
    """Add `ambiguity` to the command."""
    parent.add_typer(app, name="ambiguity")


@app.command()
@with_given
def scan(
    given: Given,
    *,
    clusterer: Annotated[
        str, typer.Option(help="How rows are clustered: kmeans, gmm or density.")
    ] = "kmeans",
) -> None:
    """Say whether the labels are ambiguous: whether they fit several readings that differ on other rows."""
    from headwater.ambiguity.features import user_cache  # noqa: PLC0415
    from headwater.ambiguity.scanning import scan as look  # noqa: PLC0415

    with told_live(quiet=given.as_json) as (telling, warned):
        telling.now("reading the data set", 0, 0)
        opened = given.opened()
        telling.opened(opened)
        telling.now("scan", 0, 0)
        found = look(
            opened,
            report=given.report,
            features=given.extraction(),
            cache=user_cache(),
            seed=given.seed,
            device=given.device,
            clusterer=cast("Clusterer", clusterer),
            extracting=telling.extracting,
            progress=telling.now,
        )
    if given.as_json:
        plain = found.summary()
        print_json({**plain, "notes": [*plain["notes"], *warned]})
    else:
        show_scan(found)


@app.command()
@with_given
def solve(
    given: Given,
    *,
    oracle: Annotated[
        str,
        typer.Option(
            help="Who answers: a file of labels (.npy, .csv), terminal, browser, a reveal service's address, "
            "or column (a store's own labels)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The CSV to write: a label a line, in the target rows' order.")],
    table: Annotated[
        Path | None,
        typer.Option(
            help="A further CSV, with a heading: a row's key in a store, else its number; solved_label; "
            "solved_probability. It holds the target rows alone: `store annotate --allow-missing` adds a "
            "store's to it."
        ),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(help="The file that keeps the answers. \\[default: DATASET.journal, beside DATASET]"),
    ] = None,
    budget: Annotated[
        int, typer.Option(help="The most rows that may be asked about, in all runs with this journal.")
    ] = 5,
    exercise: Annotated[int | None, typer.Option(help="The service's number of this data set.")] = None,
    username: Annotated[
        str | None, typer.Option(help="Your name at the service. \\[default: from the environment]")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long an answer is waited for. \\[default: 3600 of a person, 30 of a service]",
        ),
    ] = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Choose all rows to ask about before the first answer.")
    ] = False,
    head: Annotated[
        Path | None,
        typer.Option(
            help="The final head of vectors, a store's or a backbone's features, as a file (.safetensors). "
            "`heads evaluate` takes it with a store of the same features that has the columns of labels and "
            "splits: `store import` makes one of vectors, --features keeps a backbone's."
        ),
    ] = None,
) -> None:
    """Ask at most --budget questions, settle what the labels mean, and write the target rows' labels.

    The same command after an interruption goes on with the answers there are; no row is paid for twice.

    Of a reveal service's account, the environment may hold HEADWATER_REVEAL_USERNAME and
    HEADWATER_REVEAL_PASSWORD; a password that is not there is asked for.
    """
    from headwater.ambiguity.features import user_cache  # noqa: PLC0415
    from headwater.ambiguity.oracles import is_service  # noqa: PLC0415
    from headwater.ambiguity.solving import solve as run  # noqa: PLC0415
    from headwater.ambiguity.submission import SUFFIX, check_new  # noqa: PLC0415

    check_new(out, SUFFIX)
    password = _password() if is_service(oracle) else None
    with going_on(out=out, table=table, head=head), told_live(quiet=given.as_json) as (telling, warned):
        telling.now("reading the data set", 0, 0)
        found = run(
            given.opened(),
            oracle=oracle,
            budget=budget,
            out=out,
            table=table,
            journal=journal,
            report=given.report,
            head=head,
            features=given.extraction(),
            cache=user_cache(),
            seed=given.seed,
            device=given.device,
            exercise=exercise,
            username=username,
            password=password,
            timeout=timeout,
            at_once=at_once,
            telling=telling,
        )
    if given.as_json:
        print_json(as_plain(found, warned))
    else:
        show_solved(found)


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

    accuracies: dict[int, float] = {}
    for number, accuracy in map(_result, results or []):
        if number in accuracies:
            raise RequestError(f"set {number} is given twice; give one result of it")
        accuracies[number] = accuracy
    found = add_up(accuracies)
    if as_json:
        print_json(score_as_plain(found))
    else:
        show_score(found)


def _result(text: str) -> tuple[int, float]:
    from headwater.ambiguity.submission import accuracy_of  # noqa: PLC0415

    number, equals, given = text.partition("=")
    if not equals or not number.strip().isdecimal() or not given:
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
