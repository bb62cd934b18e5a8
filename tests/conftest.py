"""The command line as a user gives it, and tests that no busy machine fails."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import pytest
from hypothesis import settings

from headwater.cli import main as entry


def pytest_configure() -> None:
    """A shell's background job ignores the interrupts that some tests send; its tests are to hear them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes is the machine's business; hypothesis would call a busy one's tests failed.
    settings.register_profile("any machine", deadline=None)
    settings.load_profile("any machine")


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
