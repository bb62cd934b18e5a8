"""What the sub-commands share on the terminal: options, the console, tables, values, warnings, `--json`."""

from __future__ import annotations

import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.errors import HeadwaterWarning
from headwater.printable import counted, escaped

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

Views = Annotated[
    bool, typer.Option("--views", help="Train on the store's augmented views of each image, too.")
]

PLAIN_EVERY = 5.0
"""Seconds between lines of progress where nothing can be redrawn."""

# What a line may not end within: up to a blank before something else, and of quotes all, escapes included.
_QUOTED = r"""(?<![^ (\[=])(?:'(?:[^'\\]|\\.)+'|"(?:[^"\\]|\\.)+")"""
_WORD = re.compile(rf"(?:{_QUOTED}|[^ ]|\A | (?![^ ]))+")


def console() -> Console:
    """A console on standard output, for results."""
    return Console()


def progress_console() -> Console:
    """A console on standard error, so that standard output stays free for results."""
    return Console(stderr=True)


def tell(text: str, screen: Console | None = None) -> None:
    """Print a sentence on standard error, wrapped on a terminal.

    Elsewhere it stays on a line, as logs want it. A line ends in the place of one blank, never within quotes
    that follow one, and nothing else is lost; an address longer than a line is cut by the terminal alone.
    """
    screen = screen or progress_console()
    text = escaped(text)
    if screen.is_terminal:
        text = _wrapped(text, screen.width)
    screen.print(Text(text), soft_wrap=True, highlight=False)


def _wrapped(text: str, width: int) -> str:
    """The text with newlines for some of its blanks, so that lines fill at most `width` cells if they can."""
    lines: list[str] = []
    for word in _WORD.findall(text):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def print_json(value: Any) -> None:
    """Write `value` as JSON to standard output, undecodable file names escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, spare: Sequence[str] = ()
) -> None:
    """Print a table; the first column is left-aligned and wraps, the others are right-aligned.

    `spare`: columns left out, one after the other, until the rest fits the terminal without wrapping.
    """
    said = [["" if cell is None else str(cell) for cell in row] for row in rows]
    screen, left = console(), list(spare)
    while True:
        table = _table(title, columns, said)
        if (
            not left
            or table.__rich_measure__(screen, screen.options.update(width=10_000)).maximum <= screen.width
        ):
            break
        place = list(columns).index(left.pop(0))
        columns = [*columns[:place], *columns[place + 1 :]]
        said = [[*row[:place], *row[place + 1 :]] for row in said]
    screen.print(_table(title, columns, said))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def print_texts(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of words, aligned to the left."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def print_pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Names with what they come to, a line each; what is longer wraps beside its name."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    console().print(table)


def print_warnings(caught: Sequence[warnings.WarningMessage]) -> None:
    """Our own warnings, one after the other, on standard error."""
    for warning in caught:
        if issubclass(warning.category, HeadwaterWarning):
            tell(f"warning: {warning.message}")


def parts_of(text: str) -> list[str]:
    """The parts of a text with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def shown(value: Any) -> str:
    """A setting's value for people."""
    if isinstance(value, (tuple, list)):
        return ",".join(shown(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings for people, without those that are empty."""
    return ", ".join(f"{key} = {shown(value)}" for key, value in settings.items() if shown(value))


def percent(value: float | None) -> str:
    """An accuracy in percent; a missing one is a dash."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def between(low: float | None, high: float | None, form: Callable[[float], str] = percent) -> str:
    """An interval by its ends, each as `form` shows it; empty where there is none."""
    return "" if low is None or high is None else f"{form(low)}-{form(high)}"


def print_note(text: str) -> None:
    """Print a sentence, wrapped at words."""
    console().print(Text(text))


def in_sample_note(methods: Sequence[str], split: str) -> str:
    """The footnote of figures marked with a star."""
    verb, whose = ("was", "its") if len(methods) == 1 else ("were", "their")
    return (
        f"* in sample: {', '.join(methods)} {verb} fitted, tuned or standardised on rows of {split}, "
        f"so {whose} figures there say little about new rows"
    )


def print_rows(left_out: str, without_group: Mapping[str, int], small_groups: Mapping[str, int]) -> None:
    """Say how many rows take no part, or count in no figure of groups, and which groups have hardly any."""
    if left_out:
        print_note(left_out)
    if without_group:
        counts = ", ".join(f"{count:,} of {split}" for split, count in without_group.items())
        print_note(f"rows without a known group, which count in no figure of groups: {counts}")
    unseen = [name for name, rows in small_groups.items() if not rows]
    if unseen:
        more = f" and {len(unseen) - 5:,} more" if len(unseen) > 5 else ""
        print_note(f"{counted(len(unseen), 'group')} without a row in train: {', '.join(unseen[:5])}{more}")
    small_groups = {name: rows for name, rows in small_groups.items() if rows}
    if small_groups:
        named = "; ".join(f"{name}: {counted(rows, 'row')}" for name, rows in list(small_groups.items())[:5])
        more = f"; and {len(small_groups) - 5:,} more groups" if len(small_groups) > 5 else ""
        print_note(
            f"hardly any rows in train ({named}{more}); methods that cut groups to the smallest keep"
            " no more of each"
        )


def duration(seconds: float) -> str:
    """A time for people: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
