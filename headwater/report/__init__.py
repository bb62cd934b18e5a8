"""Results as a page that a person can read: one HTML file from a folder of heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.report.build import build_report

__all__ = ["build_report"]


def __getattr__(name: str) -> Any:
    if name == "build_report":
        from headwater.report.build import build_report  # noqa: PLC0415

        return build_report
    raise AttributeError(f"module 'headwater.report' has no attribute {name!r}")
