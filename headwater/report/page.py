"""Turns report data into one self-contained HTML page. It reads no store and computes no accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headwater.report import curves, words
from headwater.report.data import GroupResult, MethodResult, ReportData
from headwater.report.template import fill

_LEVELS = 8  # shades of a heat-map cell above the plain one
_DARKEST = 0.4  # the accuracy, as 1 - this share of errors, from which a cell is darkest


def render(data: ReportData) -> str:
    """The page as text.

    Everything from the data is escaped. The page asks the browser to load nothing: images are `data:` URIs,
    and its own policy forbids scripts and every address.
    """
    filters: dict[str, Callable[..., Any]] = {
        "percent": words.percent,
        "points": words.points,
        "span": words.span,
        "x": _x,
        "right": _right,
        "up": _up,
        "heat": _heat,
        "group": _group,
        "seconds": _seconds,
        "rate": _rate,
        "seen": _seen,
        "curve_axis": curves.axis,
        "band": curves.band,
        "line": curves.line,
    }
    return fill(
        "page.html",
        ("page.css",),
        filters,
        data=data,
        headline=words.headline(data),
        answer=words.answer(data),
        warning=words.unconverged(data.methods),
        level=words.percent(data.level, 0),
    )


def _x(share: float) -> str:
    """A share as an SVG position, so that drawings stretch with the page while their text does not."""
    return f"{100 * share:.2f}%"


def _right(share: float, lowest: float) -> str:
    return f"{100 * (share - lowest) / (1 - lowest):.1f}"


def _up(share: float) -> str:
    return f"{100 - 100 * share:.1f}"


def _heat(accuracy: float) -> str:
    level = round(_LEVELS * min(1.0, (1 - accuracy) / (1 - _DARKEST)))
    return f"h{level}"


def _seen(alike: tuple[str, list[MethodResult]]) -> tuple[str, str]:
    """Why some heads' figures are in sample, and their names."""
    return alike[0], ", ".join(method.name for method in alike[1])


def _group(method: MethodResult, name: str) -> GroupResult | None:
    return next((group for group in method.groups if group.name == name), None)


def _seconds(value: float) -> str:
    if value < 10:
        return f"{value:.2g}\u202fs"
    if value < 120:
        return f"{value:.0f}\u202fs"
    minutes = round(value / 60)
    return f"{minutes}\u202fmin" if minutes < 120 else f"{value / 3600:.1f}\u202fh"


def _rate(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f") if value >= 10 else f"{value:.1f}"
