"""The command's entry: errors become one line and the exit code the house promises."""

from __future__ import annotations

import builtins
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from typer.main import get_command

import headwater.__main__ as first_line
from headwater.cli import main as entry
from headwater.cli.console import tell
from headwater.errors import HeadwaterError, RequestError
from tests.heads.ambiguity.oracles.screen import under_terminal


@pytest.mark.parametrize(("kind", "code"), [(HeadwaterError, 1), (RequestError, 2)])
def test_an_error_is_one_line_and_an_exit_code(
    kind: type[BaseException], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise kind("the disk is full; free 3 GB and run it again")

    monkeypatch.setattr(entry, "app", fail)
    with pytest.raises(SystemExit) as stop:
        entry.main()
    assert stop.value.code == code
    assert capsys.readouterr().err == "error: the disk is full; free 3 GB and run it again\n"


def test_an_interrupt_within_a_command_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headwater.store.info", interrupted)
    monkeypatch.setattr(sys, "argv", ["headwater", "store", "info", "any.store"])
    with pytest.raises(SystemExit) as stop:
        entry.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: stopped by the user; what was finished is kept\n"


def test_help_shows_all_that_it_says() -> None:
    """What is in brackets would be taken for a style, and vanish."""

    def walk(command: Any) -> Iterator[Any]:
        yield from command.params
        for each in getattr(command, "commands", {}).values():
            yield from walk(each)

    helps = [each.help for each in walk(get_command(entry.app)) if getattr(each, "help", None)]
    assert sum("[default: " in text for text in helps) > 10
    for text in helps:
        assert Text.from_markup(text).plain == text.replace("\\[", "[")


def test_an_unknown_command_is_a_wrong_request() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "headwater", "extrcat"], check=False, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert "Traceback" not in run.stderr


def test_the_version_is_the_package_s() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "headwater", "--version"], check=False, capture_output=True, text=True
    )
    assert run.stdout.split() == ["headwater", entry.__version__]


@pytest.mark.parametrize("arguments", [["--version"], ["heads", "methods"], ["heads", "methods", "--json"]])
def test_an_output_that_takes_nothing_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "headwater", *arguments],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert run.returncode == 1
    assert run.stderr == (
        "error: the output cannot be written: No space left on device; send it somewhere else\n"
    )


def test_what_the_output_s_encoding_lacks_is_escaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(entry, "app", lambda: print("caf\xe9 \u9dfa"))
    entry.main()
    assert output.buffer.getvalue() == b"caf\xe9 \\u9dfa\n"  # type: ignore[attr-defined]


def test_an_interrupt_while_the_command_loads_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str, *_rest: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(SystemExit) as stop:
        first_line.main()
    monkeypatch.undo()
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: stopped by the user; what was finished is kept\n"


@pytest.mark.parametrize("columns", [30, 60, 200])
def test_sentences_are_wrapped_at_words_on_a_terminal_alone(
    columns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/a-long/path-that-is-longer/than-the-window/of-thirty-columns.npy"
    said = f"error: there is no {path}; give the path of another file, and never mind how long that is"

    def work() -> None:
        tell(said)

    shown = under_terminal(work, [], columns=columns).text
    assert shown.split() == said.split()
    lines = shown.splitlines()
    assert [line for line in lines if len(line) > columns] in ([], [f"{path};"])
    assert len(lines) > len(said) // columns
    tell(said)
    assert capsys.readouterr().err == f"{said}\n"
