"""Asks the person at the terminal: the picture in half blocks, what the readings say, and a key or a line."""

from __future__ import annotations

import io
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.heads.ambiguity.oracles.blocks import drawn
from headwater.heads.ambiguity.oracles.labels import Classes, keys_of, typed
from headwater.heads.ambiguity.questions import PATIENCE, OracleError, Question, Stopped
from headwater.printable import counted, escaped

_LEAST_SHOWN = 0.005  # belief that would be shown as 0 %
_BAR = 12  # cells of a share of one
_BESIDES = 16  # lines of the screen that are not the picture
_END = b"\x04"  # Ctrl-D, which ends the input where a terminal gives lines
_HEARS = 0.5  # seconds after which a Ctrl-C is heard that came just before the wait for a line began


class TerminalOracle:
    """Shows each question on standard error and reads the answer, a key or a class's name, from `stdin`.

    Where that is a terminal, and classes are called by one letter or digit each, the key is the answer;
    elsewhere a line is. `timeout` is in seconds, for one question. Nothing is printed to standard output.
    """

    def __init__(
        self,
        classes: Classes,
        *,
        timeout: float = PATIENCE,
        console: Console | None = None,
        stdin: TextIO | None = None,
    ) -> None:
        self._classes = classes
        self._keys = keys_of(classes)
        self._timeout = timeout
        self._console = console or Console(stderr=True, highlight=False)
        self._stdin = stdin
        self._typed = b""
        names = {str(each) for each in classes}
        self._one_key = len(names) == len(classes) and all(len(each) == 1 for each in names)

    def ask(self, question: Question) -> int:
        """The code that was typed; Stopped on Ctrl-C, OracleError when the input ends or time is up."""
        self._show(question)
        try:
            code = self._answer(question)
        except KeyboardInterrupt:
            self._console.print()
            raise Stopped from None
        self._console.print(Text(f"Noted: {self._name(code)}."))
        return code

    def _answer(self, question: Question) -> int:
        file = self._descriptor()
        self._forget_what_was_typed_early(file)
        deadline = time.monotonic() + self._timeout
        by_key = self._one_key and os.isatty(file)
        with _by_keys(file) if by_key else nullcontext():
            while True:
                self._console.print(self._choices(), end="", soft_wrap=True)
                text = (self._key if by_key else self._line)(file, deadline, question)
                code = typed(text, self._classes)
                if code is not None:
                    return code
                said = escaped(text.strip())
                told = f"{said!r} is none of the classes." if said else "Nothing was typed."
                self._console.print(Text(told))

    def _show(self, question: Question) -> None:
        console = self._console
        of = "" if question.budget is None else f" of at most {question.budget}"
        console.print()
        console.rule(
            Text(f"Question {question.number}{of} · row {question.item:,}", style="bold"), align="left"
        )
        if question.picture is not None:
            height = max(8, console.height - _BESIDES - len(question.opinions))
            # With sixteen colours, most greys would be one.
            coloured = console.color_system in ("256", "truecolor") and not console.no_color
            console.print(drawn(question.picture, console.width, height, coloured=coloured))
        for note in question.notes:
            console.print(Text(escaped(note)))
        if question.opinions:
            console.print(self._opinions(question))
        if question.speaks_for > 1:
            console.print(Text(f"The answer decides {counted(question.speaks_for, 'target row')}."))

    def _opinions(self, question: Question) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("says", "reading", "belief", ""):
            table.add_column(heading, justify="right" if heading == "" else "left")
        says = [
            (self._name(each.code), escaped(each.name), each.belief)
            for rank, each in enumerate(question.opinions)
            if rank < 2 or each.belief >= _LEAST_SHOWN
        ]
        if question.doubt >= _LEAST_SHOWN:
            says.append(("?", "another is meant", question.doubt))
        for name, reading, belief in says:
            cells = round(_BAR * min(1.0, max(0.0, belief)))
            table.add_row(
                Text(name, style="bold"),
                Text(reading),
                Text("━" * cells + "╌" * (_BAR - cells), no_wrap=True),
                Text(f"{100 * belief:.0f} %", no_wrap=True),
            )
        return table

    def _choices(self) -> Text:
        line = Text("Which is it? ")
        for code in range(len(self._classes)):
            name, key = self._name(code), self._keys[code]
            line.append(", " if code else "").append(name, style="bold")
            line.append("" if key in ("", name) else f" ({key})")
        return line.append(" > ")

    def _name(self, code: int) -> str:
        return escaped(str(self._classes[code]))

    def _descriptor(self) -> int:
        stream = self._stdin or sys.stdin
        try:
            return stream.fileno()
        except (AttributeError, ValueError, io.UnsupportedOperation):
            raise OracleError(
                "there is no terminal to ask at; run it in one, or choose another oracle (browser, or a file)"
            ) from None

    def _forget_what_was_typed_early(self, file: int) -> None:
        """Keys pressed before the question was on the screen are no answer to it."""
        if os.isatty(file):
            self._typed = b""
            termios.tcflush(file, termios.TCIFLUSH)

    def _key(self, file: int, deadline: float, question: Question) -> str:
        """What one press of a key gave; the sequence of an arrow or a function key is one, too."""
        key = self._read(file, deadline, question)
        if key in (b"", _END):
            self._console.print()
            raise _unanswered(question, "the input ended")
        said = key.decode("utf-8", "replace")
        self._console.print(Text(escaped(said.strip())))  # which the terminal does not show by itself now
        return said

    def _line(self, file: int, deadline: float, question: Question) -> str:
        while b"\n" not in self._typed:
            read = self._read(file, deadline, question)
            if not read and not self._typed.strip():
                self._console.print()
                raise _unanswered(question, "the input ended")
            self._typed += read or b"\n"
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode("utf-8", "replace")

    def _read(self, file: int, deadline: float, question: Question) -> bytes:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                self._console.print()
                raise _unanswered(question, f"nothing was typed in {self._timeout:g} s")
            if select.select([file], [], [], min(left, _HEARS))[0]:
                return os.read(file, 4096)


@contextmanager
def _by_keys(file: int) -> Iterator[None]:
    """A terminal that gives every key at once, and does not show it; Ctrl-C still interrupts."""
    before = termios.tcgetattr(file)
    try:
        tty.setcbreak(file, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _unanswered(question: Question, why: str) -> OracleError:
    return OracleError(
        f"question {question.number} (row {question.item}) has no answer, since {why}; nothing is lost"
    )
