"""The `headwater` command: joins the rooms' sub-commands and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from headwater._version import __version__
from headwater.cli import ambiguity, demo, extract, heads, report, run, store
from headwater.cli.console import tell
from headwater.errors import HeadwaterError


class _Command(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run a sub-command; typer alone would end at an interrupt without a word and with exit code 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise HeadwaterError("stopped by the user; what was finished is kept") from None


app = typer.Typer(
    name="headwater",
    cls=_Command,
    help="Run the frozen backbone once. Train every head in seconds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"headwater {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_version, is_eager=True
    ),
) -> None:
    pass


for _room in (extract, store, heads, ambiguity, report, run, demo):
    _room.register(app)


def main() -> None:
    """Run the command line; exit 0 done, 1 the work failed, 2 the request was wrong."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except HeadwaterError as error:
        tell(f"error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        # The rooms put their own files' refusals into words, so one that names no file is the output's.
        if error.filename is not None:
            raise
        _drop_output()
        if error.errno != errno.EPIPE:
            why = error.strerror or error
            tell(f"error: the output cannot be written: {why}; send it somewhere else")
        sys.exit(1)


def _drop_output() -> None:
    """Send what standard output still holds nowhere, lest the interpreter fail at it again when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
