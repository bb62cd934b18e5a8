"""What a sweep has before it and how far it is, on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headwater.cli.console import (
    PLAIN_EVERY,
    duration,
    print_json,
    print_note,
    print_rows,
    print_table,
    progress_console,
)
from headwater.printable import counted, escaped

if TYPE_CHECKING:
    from headwater.heads.sweeps.candidates import Skipped
    from headwater.heads.sweeps.design import Design
    from headwater.heads.sweeps.sweeping import SweepProgress


@contextmanager
def showing(design: Design) -> Iterator[Callable[[SweepProgress], None]]:
    """Says what is planned, then how far it is: a bar on a terminal, elsewhere lines now and then."""
    screen = progress_console()
    if not screen.is_terminal:
        yield _Lines(design)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen, transient=True) as bar:
        place = bar.add_task("planning", total=None)
        told = False

        def show(at: SweepProgress) -> None:
            nonlocal told
            if not told:
                screen.print(_planned(design, at), highlight=False, markup=False)
            told = True
            bar.update(place, description=_now(at), completed=at.ended, total=at.recipes, refresh=True)

        yield show


class _Lines:
    """A line when it begins, every few seconds, and when it measures."""

    def __init__(self, design: Design) -> None:
        self._design = design
        self._begun = self._last = time.monotonic()
        self._first = True

    def __call__(self, at: SweepProgress) -> None:
        now = time.monotonic()
        if self._first:
            typer.echo(_planned(self._design, at), err=True)
        elif at.heads and now - self._last < PLAIN_EVERY:
            return
        self._first, self._last = False, now
        typer.echo(
            f"{_now(at)}; {at.ended:,} of {at.recipes:,} recipes done after {duration(now - self._begun)}",
            err=True,
        )


def _now(at: SweepProgress) -> str:
    return f"round {at.round}: training {counted(at.heads, 'head')}" if at.heads else "measuring"


def _planned(design: Design, at: SweepProgress) -> str:
    """What a sweep has before it, in one sentence."""
    methods = len({each.method for each in design.candidates})
    rows, crossed = len(design.trials), at.recipes - len(design.trials)
    kept = f", {at.kept:,} of them kept from before" if at.kept else ""
    what = "of train all of them, for there is no val" if design.folds.of_train else "what reads val"
    judging = f", and {crossed:,} more judge on held-out rows {what}" if crossed else ""
    return (
        f"{counted(at.recipes, 'recipe')} planned{kept}: {counted(methods, 'method')}, "
        f"{counted(len(design.candidates), 'setting')}, {counted(len(design.seeds), 'seed')}, so "
        f"{counted(rows, 'head')}{judging}; each trains what it needs on the way in rounds that all share"
    )


def print_plan(design: Design, out: Path, *, replace: bool, as_json: bool) -> None:
    """Show by method what would be trained: heads of the table, what judges them, what there is already."""
    from headwater.heads.sweeps.run_folder import check_folder, kept  # noqa: PLC0415

    check_folder(out, design.request(), replace=replace)
    there = {} if replace else kept(design, out)
    plan: dict[str, dict[str, int]] = {}
    for job in design.jobs():
        mine = plan.setdefault(
            job.candidate.method, {"settings": 0, "heads": 0, "held_out": 0, "recipes": 0, "kept": 0}
        )
        mine["recipes"] += 1
        mine["heads" if job.task is design.task else "held_out"] += 1
        mine["kept"] += job.key in there
    for each in design.candidates:
        plan[each.method]["settings"] += 1
    if as_json:
        skipped = [asdict(each) for each in design.skipped]
        print_json({"out": str(out), "methods": plan, "skipped": skipped, "draws": design.wanted.draws})
        return
    columns = ("settings", "heads", "held_out", "recipes", "kept")
    total = ("all", *(sum(mine[name] for mine in plan.values()) for name in columns))
    print_table(
        "What would be trained, as recipes: heads of the table, and what judges them on held-out rows of "
        + design.folds.split,
        ["method", "settings", "heads", "held out", "recipes", "kept"],
        [
            (*(f"{cell:,}" if isinstance(cell, int) else cell for cell in row),)
            for row in [*((name, *(mine[c] for c in columns)) for name, mine in plan.items()), total]
        ],
    )
    request = design.request()
    print_asked(request)
    print_skipped(design.skipped, set(plan))
    print_note(
        "A recipe trains from one head to some dozens on the way; `recipes` less `kept` is what "
        "is left to train. Nothing was trained."
    )


def print_asked(request: Mapping[str, Any]) -> None:
    """The groups, the rows that take no part, and the methods that had fewer settings to try than asked."""
    from headwater.heads.sweeps.results import fewer_settings  # noqa: PLC0415
    from headwater.heads.tasks.task import LeftOut  # noqa: PLC0415

    if not request["groups"]:
        print_note(f"groups: the classes of {request['target']}, since no --groups were given")
    left_out = LeftOut(**request["left_out"]).describe()
    print_rows(left_out, request["without_group"], request["small_groups"])
    few = fewer_settings(request)
    if few:
        made = ", ".join(f"{name} {count}" for name, count in few.items())
        print_note(f"fewer than {request['draws']} different settings to draw: {made}")


def print_skipped(skipped: Sequence[Skipped], tried: Collection[str]) -> None:
    """Name the methods, and settings of those `tried`, that could not be run, and why."""
    for each in skipped:
        some = f"{counted(each.settings, 'setting')} of " if each.method in tried else ""
        typer.echo(f"skipped {some}{each.method}: {escaped(each.reason)}")
