"""The user's interrupt stops a job wherever it arrives, and a second one is Python's own again."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headwater.extract import channels
from headwater.extract.interrupts import interrupt_calls
from headwater.store import open_store

from .tiny import run


class Unlucky(threading.Condition):
    """The interrupt arrives when the lock has just been taken, and whoever took it does not know yet."""

    sent = False

    def __enter__(self) -> bool:
        entered = super().__enter__()
        if not Unlucky.sent and threading.current_thread() is threading.main_thread() and _at_work():
            Unlucky.sent = True
            signal.raise_signal(signal.SIGINT)
        return entered


def _at_work() -> bool:
    return any(thread.name == "headwater-writer" for thread in threading.enumerate())


@pytest.mark.timeout(60)
def test_an_interrupt_that_finds_a_lock_half_taken_ends_the_job(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())
    ours = SimpleNamespace(Condition=Unlucky, Lock=threading.Lock)
    monkeypatch.setattr(channels, "threading", ours)
    monkeypatch.setattr(Unlucky, "sent", False)
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "s", rows_per_shard=4)
    assert Unlucky.sent
    assert set(threading.enumerate()) <= before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    assert not run(images, tmp_path / "s", rows_per_shard=4).already_done
    assert len(open_store(tmp_path / "s")) == 11


@pytest.mark.timeout(60)
def test_an_interrupt_at_any_report_ends_the_job(images: Path, tmp_path: Path) -> None:
    def interrupt(_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "s", rows_per_shard=4, progress=interrupt)
    assert set(threading.enumerate()) <= before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_first_interrupt_calls_once_and_the_second_raises() -> None:
    called: list[str] = []

    def press_twice() -> None:
        with interrupt_calls(lambda: called.append(_thread())):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        press_twice()
    assert called == ["headwater-interrupt"]
    with interrupt_calls(lambda: called.append(_thread())):
        pass
    assert len(called) == 1


def test_a_handler_of_the_users_own_is_left_in_place() -> None:
    seen: list[int] = []
    own = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        with interrupt_calls(lambda: seen.append(-1)):
            signal.raise_signal(signal.SIGINT)
        assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, own)


def _thread() -> str:
    return threading.current_thread().name
