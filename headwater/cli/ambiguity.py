"""`headwater ambiguity`: labels that do not say what is meant; the work is `headwater.ambiguity`'s."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headwater.cli.ambiguity_shown import (
    as_plain,
    score_as_plain,
    show_scan,
    show_score,
    show_solved,
    told_live,
)
from headwater.cli.console import AsJson, print_json
from headwater.errors import RequestError

if TYPE_CHECKING:
    from headwater.ambiguity.features import Extraction

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


Report = Annotated[
    Path | None, typer.Option(help="An HTML page to write, or an earlier one of this data set to replace.")
]
Backbone = Annotated[
    str,
    typer.Option(
        help="Of images: resnet50, pixels … [default: patches learned from them]", show_default=False
    ),
]
Weights = Annotated[
    str | None, typer.Option(help="The backbone's: a name, a file, hf://owner/repo/file. [default: its own]")
]
FeaturesAt = Annotated[
    Path | None, typer.Option("--features", help="The store that keeps them. [default: in the user's cache]")
]
Device = Annotated[str, typer.Option(help="What the backbone runs on: auto, cpu or cuda.")]


def register(parent: typer.Typer) -> None:
    """Add `ambiguity` to the command."""
    parent.add_typer(app, name="ambiguity")


@app.command()
def scan(
    dataset: DatasetAt,
    *,
    report: Report = None,
    backbone: Backbone = "",
    weights: Weights = None,
    features: FeaturesAt = None,
    device: Device = "auto",
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
    from headwater.ambiguity.features import user_cache  # noqa: PLC0415
    from headwater.ambiguity.scanning import scan as look  # noqa: PLC0415

    with told_live(quiet=as_json) as telling:
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
        telling.now("scan", 0, 0)
        found = look(
            opened,
            report=report,
            features=_extraction(backbone, weights, features, device),
            cache=user_cache(),
            seed=seed,
            extracting=telling.extracting,
            progress=telling.now,
        )
    if as_json:
        print_json(found.summary())
    else:
        show_scan(found)


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
    out: Annotated[Path, typer.Option(help="The CSV of labels to write.")],
    journal: Annotated[
        Path | None,
        typer.Option(help="The file that keeps the answers. [default: DATASET.journal, beside the data set]"),
    ] = None,
    report: Report = None,
    budget: Annotated[int, typer.Option(help="The most rows that may be asked about.")] = 5,
    exercise: Annotated[int | None, typer.Option(help="The service's number of this data set.")] = None,
    username: Annotated[
        str | None,
        typer.Option(
            help="Of the service; the password is HEADWATER_REVEAL_PASSWORD in the environment, or asked for."
        ),
    ] = None,
    backbone: Backbone = "",
    weights: Weights = None,
    features: FeaturesAt = None,
    device: Device = "auto",
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
    from headwater.ambiguity.features import user_cache  # noqa: PLC0415
    from headwater.ambiguity.oracles import is_service  # noqa: PLC0415
    from headwater.ambiguity.solving import solve as run  # noqa: PLC0415
    from headwater.ambiguity.submission import SUFFIX, check_new  # noqa: PLC0415

    check_new(out, SUFFIX)
    password = _password() if is_service(oracle) else None
    with told_live(quiet=as_json) as telling:
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
            journal=journal,
            report=report,
            features=_extraction(backbone, weights, features, device),
            cache=user_cache(),
            seed=seed,
            exercise=exercise,
            username=username,
            password=password,
            telling=telling,
        )
    if as_json:
        print_json(as_plain(found))
    else:
        show_solved(found)


def _extraction(backbone: str, weights: str | None, store: Path | None, device: str) -> Extraction | None:
    from headwater.ambiguity.features import Extraction  # noqa: PLC0415

    if not backbone:
        options = {
            "--weights": weights is not None,
            "--features": store is not None,
            "--device": device != "auto",
        }
        given = next((option for option, is_given in options.items() if is_given), "")
        if given:
            raise RequestError(f"{given} is for features of a backbone; name one with --backbone, too")
        return None
    return Extraction(backbone, weights, store, device)


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
