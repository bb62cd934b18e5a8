"""A task that methods have an optimum on even without a penalty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headwater.heads.tasks.task import Task

Made = Callable[..., dict[str, Any]]


@pytest.fixture
def noisy(world: Made) -> Task:
    """A task whose classes overlap, so that there is an optimum without a penalty."""
    made = world({"train": (60, 40, 45, 70), "val": (40, 30, 25, 50)}, dim=4, signal=0.3)
    return Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])
