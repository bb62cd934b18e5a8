"""The command line as a user gives it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from headwater.cli import main as entry


@pytest.fixture
def headwater(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `headwater …` in this process; exit code, standard output, standard error."""

    def run(*words: object, columns: int = 80) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "argv", ["headwater", *map(str, words)])
        code = 0
        try:
            entry.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run
