"""`headwater run`: a whole run from one file, told step by step; the work is `headwater.workflow`'s."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from headwater.cli.console import (
    PLAIN_EVERY,
    AsJson,
    between,
    duration,
    percent,
    print_json,
    print_note,
    print_rows,
    print_table,
    progress_console,
)
from headwater.errors import HeadwaterError, RequestError
from headwater.printable import counted, escaped

if TYPE_CHECKING:
    from rich.console import Console

    from headwater.extract import Progress
    from headwater.workflow import RunResult, Said
    from headwater.workflow.run import Telling

_MOST_ROWS = 12


def register(app: typer.Typer) -> None:
    """Add `headwater run`."""
    app.command("run")(run)


def run(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="The YAML file that says what to do.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The images, instead of those that the file names.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="The run's folder, instead of the file's.")] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print a file with every key, to start from.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run everything that a file asks for: features, columns, split, heads, report, submission.

    The same file again does nothing that is done already; a changed one redoes what the change touches.
    Paths in the file start where the command is called.
    """
    if example:
        from headwater.workflow.example import EXAMPLE  # noqa: PLC0415

        typer.echo(EXAMPLE, nl=False)
        return
    if config is None:
        raise RequestError("say what to do: --config FILE, or print a file to start from with --example")
    from headwater.workflow import load_config, run_config  # noqa: PLC0415

    asked = load_config(config, source=source, out=out)
    with _told(progress_console(), quiet=as_json) as telling:
        result = run_config(asked, telling)
    if as_json:
        print_json(as_plain(result))
    else:
        _summary(result, config)
    if result.failed:
        name, reason = result.failed[0]
        raise HeadwaterError(
            f"{counted(len(result.failed), 'head')} of the sweep failed, such as {name}: {reason}; the same "
            f"run again tries them again, and all others are in {str(result.folder)!r}"
        )


def as_plain(result: RunResult) -> dict[str, Any]:
    """The result as JSON."""

    def path(value: Path | None) -> str | None:
        return None if value is None else str(value)

    def number(value: Any) -> Any:
        return None if isinstance(value, float) and math.isnan(value) else value

    return {
        "out": str(result.folder),
        "changed": result.changed,
        "steps": [asdict(step) for step in result.steps],
        "store": path(result.store),
        "classes": list(result.classes),
        "heads": path(result.heads),
        "picked": path(result.picked),
        "picked_method": result.picked_method,
        "figures": [{name: number(value) for name, value in asdict(each).items()} for each in result.figures],
        "results": path(result.table),
        "report": path(result.report),
        "submission": path(result.submission),
        "preprocessing": None if result.preprocessing is None else dict(result.preprocessing),
        "left_out": result.left_out,
        "without_group": dict(result.without_group),
        "small_groups": dict(result.small_groups),
        "notes": list(result.notes),
        "failed": [{"id": name, "reason": reason} for name, reason in result.failed],
    }


def _summary(result: RunResult, config: Path) -> None:
    shown = [each for each in result.figures if each.split == _best_split(result)]
    if shown:
        split = shown[0].split
        ranked = sorted(
            shown, key=lambda each: -each.worst_area if each.worst_area == each.worst_area else 1.0
        )
        # The picked head is always among them.
        listed = [
            each
            for place, each in enumerate(ranked)
            if place < _MOST_ROWS or each.method == result.picked_method
        ]
        marks = {result.picked_method: " <- picked"} if len(shown) > 1 else {}
        print_table(
            f"Accuracy on {split} in %, {shown[0].rows:,} rows",
            ("method", "worst area", "95 %", "worst group", "mean of groups", "overall"),
            [
                (
                    f"{each.method}{' *' if each.note else ''}{marks.get(each.method, '')}",
                    percent(each.worst_area),
                    between(each.low, each.high),
                    *map(percent, (each.worst_group, each.balanced, each.overall)),
                )
                for each in listed
            ],
            spare=("overall", "mean of groups", "95 %"),
        )
        print_note(
            "worst area: the mean accuracy of the worst K % of the groups, averaged over K from 10 to 50"
        )
        if result.picked_method is not None and marks:
            exported = "" if result.submission is None else " and exported"
            print_note(f"<- the head that was picked{exported}: {result.picked}")
        if any(each.note for each in shown):
            print_note(f"* in sample: the head was {next(each.note for each in shown if each.note)}")
        if len(ranked) > len(listed):
            print_note(f"{len(ranked) - len(listed):,} more methods are in {result.table}")
    print_rows(result.left_out, result.without_group, result.small_groups)
    for note in result.notes:
        typer.echo(f"note: {escaped(note)}")
    if not result.changed and not result.failed:
        typer.echo(
            f"Nothing to do: all that {escaped(str(config))} asks for is in {escaped(str(result.folder))}."
        )


def _best_split(result: RunResult) -> str:
    there = {each.split for each in result.figures}
    return next((split for split in ("test", "val", "train") if split in there), "")


@contextmanager
def _told(screen: Console, *, quiet: bool) -> Iterator[Telling]:
    """A line on `screen` when a step ends and, on a terminal, a status line while it lasts."""
    from headwater.workflow.run import Telling  # noqa: PLC0415

    if quiet:
        yield Telling()
        return
    status = screen.status("") if screen.is_terminal else None
    last = time.monotonic()
    step = ""

    def now(text: str) -> None:
        nonlocal last
        if status is not None:
            status.update(Text(escaped(f"{step}: {text}")))
        elif time.monotonic() - last > PLAIN_EVERY:
            last = time.monotonic()
            screen.print(Text(f"{'':<9} {escaped(text)}"), soft_wrap=True)

    def began(name: str) -> None:
        nonlocal step
        step = name
        if status is not None:
            status.update(name)

    def ended(said: Said) -> None:
        took = f" ({duration(said.seconds)})" if said.changed else ""
        line = Text.assemble((f"{said.step:<9} ", "bold"), f"{escaped(said.text)}{took}")
        screen.print(line, soft_wrap=True, highlight=False)

    def extracting(at: Progress) -> None:
        left = "" if at.eta is None else f", {duration(at.eta)} left"
        slowest = f", slowest stage: {at.slowest}" if at.slowest else ""
        now(f"{at.rows_done:,} of {at.rows_total:,} images{left}{slowest}")

    telling = Telling(began=began, now=now, ended=ended, extracting=extracting)
    if status is None:
        yield telling
    else:
        with status:
            yield telling
    sys.stderr.flush()
