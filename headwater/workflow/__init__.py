"""A whole run from one file: images to features, heads, report and submission.

Each step is the room's own call; what is here is their order, the file that asks for them, and what may be
used again.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.workflow.config import Config, load_config
    from headwater.workflow.run import RunResult, Said, run_config

_HOMES = {
    "Config": "config",
    "RunResult": "run",
    "Said": "run",
    "load_config": "config",
    "run_config": "run",
}

__all__ = ["Config", "RunResult", "Said", "load_config", "run_config"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"headwater.workflow.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'headwater.workflow' has no attribute {name!r}")
