"""What the sub-commands share on the terminal: the console, tables, and `--json` output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def console() -> Console:
    """A console on standard output, for results."""
    return Console()


def progress_console() -> Console:
    """A console on standard error, so that standard output stays free for results."""
    return Console(stderr=True)


def visible(text: str) -> str:
    """Text on one line: line breaks, controls and undecodable bytes of names become escapes."""
    if text.isprintable():
        return text
    from headwater.store.keys import show_key  # noqa: PLC0415

    return "".join(c if c.isprintable() else show_key(c)[1:-1] for c in text)


def print_json(value: Any) -> None:
    """Write `value` as JSON to standard output, undecodable file names escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; the first column is left-aligned and wraps, the others are right-aligned."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console().print(table)
