"""`headwater report`: a run's heads as one page; the work is `headwater.report`'s."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater.cli.console import console


def register(app: typer.Typer) -> None:
    """Add `headwater report`."""
    app.command("report")(report)


def report(
    run: Annotated[Path, typer.Argument(help="The folder that `headwater heads fit` or `sweep` wrote.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page. \\[default: RUN/report.html]")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Where the store is, if not where the heads say.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Where the images are, if not where the store says.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over a file that is no report of this run.")
    ] = False,
) -> None:
    """Write what came out as one page that needs no network: methods, groups, mistakes, speed."""
    from headwater.report import build_report  # noqa: PLC0415

    place = build_report(run, out, store=store, images=images, replace=replace)
    console().print(str(place), highlight=False, markup=False, soft_wrap=True)
