"""`headwater demo`: the whole run on data made here, told step by step; the work is `headwater.demo`'s."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from headwater.cli.console import PLAIN_EVERY, console, print_json, print_table, progress_console

if TYPE_CHECKING:
    from rich.console import Console

    from headwater.demo import DemoResult, Steps
    from headwater.extract import Progress
    from headwater.heads import FitResult


def register(app: typer.Typer) -> None:
    """Add `headwater demo`."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where everything is written.")] = Path(
        "demo-out"
    ),
    images: Annotated[
        int | None, typer.Option(help="How many images. \\[default: what suits the backbone]")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Which backbone. \\[default: the best one at hand]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show the main job from images to report, on real digits that were painted over two kinds of texture.

    The classes are curved and straight digits. In train nearly all curved ones stand on stripes and nearly
    all straight ones on clouds. A second call uses what is there.
    """
    from headwater.demo import run_demo  # noqa: PLC0415

    with _told(progress_console(), quiet=as_json) as steps:
        result = run_demo(out, images=images, backbone=backbone, steps=steps)
    if as_json:
        print_json(as_plain(result))
    else:
        _summary(result)


def as_plain(result: DemoResult) -> dict[str, Any]:
    """The result as JSON."""
    return {
        "folder": str(result.folder),
        "backbone": result.backbone.backbone,
        "images": result.images,
        "extraction": {
            "already_done": result.extraction.already_done,
            "rates": dict(result.extraction.rates),
            "slowest": result.extraction.slowest,
            "engine": result.extraction.engine,
            "failed": len(result.extraction.failed),
        },
        "methods": [
            {"method": each.fitted.method, "test": each.reports["test"].to_dict()} for each in result.results
        ],
        "report": str(result.report),
        "notes": list(result.notes),
        "seconds": {step: round(value, 2) for step, value in result.seconds.items()},
    }


def _summary(result: DemoResult) -> None:
    say = console()
    ranked = sorted(result.results, key=lambda each: -_worst(each))
    rows = [
        (
            each.fitted.method,
            f"{100 * _worst(each):.1f}",
            _span(each),
            f"{100 * each.reports['test'].overall:.1f}",
            f"{100 * each.reports['test'].balanced:.1f}",
        )
        for each in ranked
    ]
    say.print()
    print_table(
        "Accuracy on test, percent",
        ("method", "worst group", "95 % interval", "overall", "mean of groups"),
        rows,
    )
    erm = next(each for each in result.results if each.fitted.method == "ERM")
    group = erm.reports["test"].worst_group.name
    say.print()
    say.print(f"ERM's worst group is “{group}”. Nothing was trained but linear heads.", highlight=False)
    for note in result.notes:
        say.print(f"note: {note}", highlight=False, markup=False)
    total = sum(result.seconds.values())
    say.print(f"{total:.0f} seconds in all. The report: {result.report}", highlight=False, markup=False)


def _worst(each: FitResult) -> float:
    worst = each.reports["test"].worst_group
    return float(worst.correct / worst.count)


def _span(each: FitResult) -> str:
    interval = each.reports["test"].interval("worst_group")
    return "" if interval is None else f"{100 * interval.low:.0f} to {100 * interval.high:.0f}"


@contextmanager
def _told(screen: Console, *, quiet: bool) -> Iterator[Steps]:
    """Steps told on `screen`: a line when each ends and, on a terminal, a status line while it lasts."""
    from headwater.demo import Steps  # noqa: PLC0415

    if quiet:
        yield Steps()
        return
    status = screen.status("") if screen.is_terminal else None
    last = time.monotonic()

    def now(text: str) -> None:
        nonlocal last
        if status is not None:
            status.update(text)
        elif time.monotonic() - last > PLAIN_EVERY:
            last = time.monotonic()
            screen.print(f"          {text}", highlight=False, markup=False)

    def began(step: str, text: str) -> None:
        if status is not None:
            status.update(f"{step}: {text}")

    def ended(step: str, text: str) -> None:
        seconds = steps.seconds[step]
        line = Table.grid(padding=(0, 1))
        line.add_row(Text(f"{step:<9}", style="bold"), Text(f"{text} ({seconds:.1f} s)"))
        screen.print(line)

    def extracting(at: Progress) -> None:
        left = "" if at.eta is None else f", {at.eta:.0f} s left"
        slowest = f", slowest stage: {at.slowest}" if at.slowest else ""
        now(f"extract: {at.rows_done:,} of {at.rows_total:,} images{left}{slowest}")

    steps = Steps(
        began=began,
        ended=ended,
        drawing=lambda done, total: now(f"compose: {done:,} of {total:,} images"),
        extracting=extracting,
    )
    if status is None:
        yield steps
    else:
        with status:
            yield steps
    sys.stderr.flush()
