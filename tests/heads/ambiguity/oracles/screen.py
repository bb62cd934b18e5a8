"""A terminal for tests: runs work under a pseudo-terminal, types, and reads characters with their colours."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PROMPT = " > "
_PARTS = re.compile(r"\x1b\[([0-9;?]*)([a-zA-Z])|(.)", re.DOTALL)


@dataclass(frozen=True)
class Cell:
    """A character on the screen and its colours (red, green, blue), None where none was set."""

    text: str
    above: tuple[int, int, int] | None
    below: tuple[int, int, int] | None


@dataclass(frozen=True)
class Shown:
    """What a program wrote on its terminal, and what it returned."""

    raw: str
    returned: object

    @property
    def lines(self) -> list[list[Cell]]:
        """The screen's lines of cells."""
        lines: list[list[Cell]] = [[]]
        above = below = None
        for style, command, text in _PARTS.findall(self.raw.replace("\r", "")):
            if command == "m":
                above, below = _colours(style, above, below)
            elif text == "\n":
                lines.append([])
            elif text:
                lines[-1].append(Cell(text, above, below))
        return lines

    @property
    def text(self) -> str:
        """The characters alone."""
        return "\n".join("".join(cell.text for cell in line) for line in self.lines)


def _colours(style: str, above: object, below: object) -> tuple[object, object]:
    numbers = [int(each or 0) for each in style.split(";")]
    while numbers:
        number = numbers.pop(0)
        if number == 0:
            above = below = None
        elif number in (38, 48):
            assert numbers.pop(0) == 2
            colour, numbers = tuple(numbers[:3]), numbers[3:]
            above, below = (colour, below) if number == 38 else (above, colour)
    return above, below


def under_terminal(
    work: Callable[[], object],
    keys: Sequence[bytes],
    *,
    columns: int,
    rows: int = 50,
    environment: dict[str, str] | None = None,
    first: bytes = b"",
    more: Sequence[bytes] = (),
) -> Shown:
    """Run `work` in a process with a terminal of that size; type `first` at once, and a key at every prompt.

    `more` follows once the terminal has shown the last of these keys.
    Standard output is not the terminal: what `work` returns goes there, and must be all that does.
    """
    reading, writing = os.pipe()
    child, terminal = pty.fork()
    if not child:
        _in_the_terminal(work, writing, columns, rows, environment or {})
    os.close(writing)
    if first:
        os.write(terminal, first)
    rest = list(more)
    waiting, written, deadline = list(keys), b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.5)[0]:
            continue
        try:
            read = os.read(terminal, 1 << 16)
        except OSError:
            break
        if not read:
            break
        written += read
        if waiting and re.sub(rb"\x1b\[[0-9;]*m", b"", written).endswith(PROMPT.encode()):
            os.write(terminal, waiting.pop(0))
        elif not waiting and rest and not written.endswith((PROMPT.encode(), b"\x1b[0m")):
            os.write(terminal, rest.pop(0))
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        returned = pipe.read()
    os.close(terminal)
    assert not waiting, written.decode(errors="replace")[-2000:]
    return Shown(written.decode(errors="replace"), json.loads(returned))


def _in_the_terminal(
    work: Callable[[], object], writing: int, columns: int, rows: int, environment: dict[str, str]
) -> None:
    try:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        for name in ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"):
            os.environ.pop(name, None)
        os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor", **environment})
        os.dup2(writing, 1)
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        returned = work()
        sys.stderr.flush()
        print(json.dumps(returned), flush=True)
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
    os._exit(0)
