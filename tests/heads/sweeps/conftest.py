"""A small sweep to ask for, banks that count or refuse, and methods for one test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from headwater.heads import HeadBank, Task
from headwater.heads.methods import registry
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec

SMALL: dict[str, Any] = {
    "methods": ["ERM", "SUBG", "DFR-val"],
    "draws": 2,
    "seeds": 2,
    "settings": {"DFR-val.subsets": 2, "DFR-val.C": [1.0], "DFR-val.penalty": "l2"},
}


class Bank:
    """The task's bank, counting calls, or failing where it must not be called."""

    def __init__(self, task: Task, most: int = 1_000) -> None:
        self._bank = HeadBank(task.features, task.target, len(task.classes))
        self.calls: list[list[HeadSpec]] = []
        self._most = most

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        assert len(self.calls) < self._most, "nothing was left to train"
        self.calls.append(list(specs))
        return self._bank.train(specs)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Registers methods for one test."""
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    return registry.method


def by_id(table: Any) -> dict[str, dict[str, Any]]:
    """The rows of a sweep's table."""
    return {row["id"]: row for row in table.to_pylist()}


def split_of(task: Task) -> list[str]:
    """The column of splits that a task was made of."""
    split = [""] * len(task.target)
    for name, rows in task.splits.items():
        for row in rows:
            split[row] = name
    return split
