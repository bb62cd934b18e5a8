"""headwater: run the frozen backbone once, train every head in seconds.

The public names are re-exported here and load their room when first used, so that importing the package
stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from headwater._version import __version__
from headwater.errors import HeadwaterError, RequestError

if TYPE_CHECKING:
    from headwater import ambiguity, extract, heads, report, store, taxonomy, workflow
    from headwater.extract import extract_features, register_backbone
    from headwater.report import build_report
    from headwater.store import open_store
    from headwater.workflow import run_config

_HOMES = {
    "extract_features": "headwater.extract",
    "register_backbone": "headwater.extract",
    "open_store": "headwater.store",
    "build_report": "headwater.report",
    "run_config": "headwater.workflow",
}
_ROOMS = ("ambiguity", "extract", "heads", "report", "store", "taxonomy", "workflow")

__all__ = [
    "HeadwaterError",
    "RequestError",
    "__version__",
    "ambiguity",
    "build_report",
    "extract",
    "extract_features",
    "heads",
    "open_store",
    "register_backbone",
    "report",
    "run_config",
    "store",
    "taxonomy",
    "workflow",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"headwater.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'headwater' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
