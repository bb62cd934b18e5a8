"""`headwater extract`: images to a store, told live and in the end; the work is `headwater.extract`'s."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from headwater.cli.console import (
    PLAIN_EVERY,
    console,
    duration,
    print_json,
    print_warnings,
    progress_console,
)
from headwater.errors import HeadwaterWarning
from headwater.printable import counted

if TYPE_CHECKING:
    from rich.console import Console

    from headwater.extract import ExtractReport, Progress

_NAMED_FAILURES = 3


def register(app: typer.Typer) -> None:
    """Add `headwater extract`."""
    app.command("extract")(extract)


def extract(  # noqa: PLR0917 - the command's options
    source: str = typer.Argument(
        help="A folder of images (in folders of classes, and these in train, val and test, or in labeled,"
        " unlabeled and target), a tar or zip of one, a .csv or .parquet manifest, an .npy/.npz file, or"
        " hf://datasets/owner/repo/file."
    ),
    out: Path = typer.Option(  # noqa: B008 - how typer declares one
        ..., "--out", metavar="STORE", help="The store's folder; the same command resumes it."
    ),
    backbone: str = typer.Option(
        "resnet50", help="A torchvision model, pixels, efficientnet_lite0, timm:NAME."
    ),
    weights: str | None = typer.Option(
        None,
        help="A name such as IMAGENET1K_V2, a .pth or .safetensors file, hf://owner/repo/file, or random.",
    ),
    preprocess: str | None = typer.Option(
        None, help="Resize, crop and normalise as imagenet or inat-contest. \\[default: as the weights want]"
    ),
    views: int = typer.Option(0, help="Augmented views kept next to each image's plain one."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    precision: str = typer.Option("auto", help="What the network computes in: auto, float32 or bfloat16."),
    dtype: str = typer.Option("float16", help="What features are stored as: float16 or float32."),
    compile_mode: str = typer.Option("auto", "--compile", help="auto (where it repays), on or off."),
    batch_size: int | None = typer.Option(
        None, help="Images per pass of the network. \\[default: by device]"
    ),
    workers: int | None = typer.Option(None, help="Decoding threads. \\[default: one per processor]"),
    strict: bool = typer.Option(False, "--strict", help="Fail at images that cannot be read."),
    path_column: str | None = typer.Option(None, help="The manifest's column of image paths."),
    rows_per_shard: int | None = typer.Option(None, help="Rows written together. \\[default: up to 4096]"),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Run a frozen backbone over every image once and keep the features.

    A job that was stopped goes on where it was when the same command is given again; one that is done is left
    alone.
    """
    from headwater.extract import extract_features  # noqa: PLC0415
    from headwater.extract.hub import SCHEME, fetch  # noqa: PLC0415
    from headwater.extract.sources import open_source  # noqa: PLC0415

    # Before the live line begins: downloads have a line of their own on a terminal.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HeadwaterWarning)
        opened: object = open_source(source, path_column=path_column) if source.startswith(SCHEME) else source
        if weights is not None and weights.startswith(SCHEME):
            fetch(weights)
    print_warnings(caught)
    screen = progress_console()
    shown: AbstractContextManager[Callable[[Progress], None] | None]
    shown = (
        nullcontext(None) if as_json else _Live(screen) if screen.is_terminal else nullcontext(_Lines(screen))
    )
    with shown as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", HeadwaterWarning)  # the weights are asked for again
        report = extract_features(
            opened,
            out,
            backbone=backbone,
            weights=weights,
            preprocessing=preprocess,
            views=views,
            device=device,
            precision=precision,
            dtype=dtype,
            compile=compile_mode,
            batch_size=batch_size,
            workers=workers,
            strict=strict,
            path_column=path_column,
            rows_per_shard=rows_per_shard,
            progress=progress,
        )
    if as_json:
        print_json(as_plain(report))
    else:
        _summary(report)


def as_plain(report: ExtractReport) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "store": str(report.store),
        "rows": report.rows,
        "failed": [{"key": key, "reason": reason} for key, reason in report.failed],
        "seconds": round(report.seconds, 3),
        "already_done": report.already_done,
        "rates": dict(report.rates),
        "slowest": report.slowest,
        "engine": report.engine,
        "notes": list(report.notes),
    }


class _Live:
    """One line that is redrawn: bar, count, rate, time left, slowest stage."""

    def __init__(self, screen: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

        self._bar = Progress(
            BarColumn(bar_width=12),
            TextColumn("{task.fields[text]}"),
            console=screen,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, text="starting")
        self._pace = _Pace()

    def __enter__(self) -> Callable[[Progress], None]:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, now: Progress) -> None:
        text = f"{now.rows_done:,}/{now.rows_total:,} {self._pace.text(now, short=True)}"
        self._bar.update(self._task, completed=now.rows_done, total=now.rows_total, text=text)


class _Lines:
    """Plain lines every few seconds, for files and pipes."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._pace = _Pace()
        self._last = 0.0
        self._done = -1

    def __call__(self, now: Progress) -> None:
        text = self._pace.text(now, short=False)
        ended = now.rows_done == now.rows_total
        if now.rows_done == self._done or (time.monotonic() - self._last < PLAIN_EVERY and not ended):
            return
        self._done = now.rows_done
        self._last = time.monotonic()
        self._screen.print(
            f"{now.rows_done:,} of {now.rows_total:,}, {text}", soft_wrap=True, highlight=False
        )


class _Pace:
    """Images per second since the first report, which a resumed job's earlier rows do not count into."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def text(self, now: Progress, *, short: bool) -> str:
        if self._first is None:
            self._first = (time.monotonic(), now.rows_done)
        seconds, rows = time.monotonic() - self._first[0], now.rows_done - self._first[1]
        rate = rows / seconds if seconds > 0 and rows else now.rates.get(now.slowest, 0.0)
        left = "" if now.eta is None else f" · {duration(now.eta)} left"
        slowest = f" · {now.slowest}" if now.slowest else ""
        if short:
            return f"{rate:,.0f}/s{left}{slowest}"
        return f"{rate:,.1f} images/s{left}" + (f" · slowest stage: {now.slowest}" if now.slowest else "")


def _summary(report: ExtractReport) -> None:
    from headwater.store import show_key  # noqa: PLC0415

    say = console()

    def line(text: str) -> None:
        say.print(text, highlight=False, markup=False, soft_wrap=False)

    if report.already_done:
        line(f"{report.store} is done already: {report.rows:,} rows, nothing was extracted.")
    else:
        line(f"{report.store}: {report.rows:,} rows in {duration(report.seconds)}.")
        for stage, rate in report.rates.items():
            note = " (slowest)" if stage == report.slowest else ""
            line(f"  {stage:<9}{rate:>12,.1f} images/s{note}")
    for note in report.notes:
        line(f"note: {note}")
    if not report.failed:
        return
    line(f"{len(report.failed):,} of {report.rows:,} rows have no features:")
    for reason, count in Counter(reason for _, reason in report.failed).most_common(_NAMED_FAILURES):
        example = next(key for key, why in report.failed if why == reason)
        line(f"  {counted(count, 'row')}: {reason}, such as {show_key(example)}")
