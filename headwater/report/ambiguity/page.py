"""Turns the data of an ambiguous data set into one self-contained HTML page, and writes it."""

from __future__ import annotations

import os
from pathlib import Path

from headwater.report import words as shared
from headwater.report.ambiguity import words
from headwater.report.ambiguity.data import AmbiguityData, Dots
from headwater.report.data import Estimate
from headwater.report.placing import PageKind, place_page
from headwater.report.template import fill

KIND = PageKind("data set", "--report", replaces=False)

_HUES = 8  # of kinds and of classes, each; further ones start again, as squares
_SIDE = 100.0
_EDGE = 0.2  # a name nearer to an edge of the map than this begins or ends there


def write_page(data: AmbiguityData, out: str | os.PathLike[str]) -> Path:
    """Write the page to `out`, over nothing but an earlier one of the same data set."""
    place = Path(out)
    place_page(render(data), place, data.identity, KIND)
    return place


def render(data: AmbiguityData) -> str:
    """The page as text; it loads nothing, and its policy forbids scripts and every address."""
    return fill(
        "ambiguity/page.html",
        ("page.css", "ambiguity/page.css"),
        {
            "percent": shared.percent,
            "span": shared.span,
            "dots": _dots,
            "hue": _hue,
            "alone": Estimate,
            "x": lambda share: f"{_SIDE * share:.2f}%",
        },
        data=data,
        words=words,
        headline=words.headline(data),
        answer=words.answer(data),
        first_unseen=sum(not kind.is_unseen for kind in data.noticed.kinds) if data.noticed else 0,
        middles=_middles(data),
    )


def _hue(place: int, unseen: bool) -> str:
    """What a kind's dots look like, by its place among the kinds of its sort."""
    return f"{'u' if unseen else 'k'}{place % _HUES}{' square' if place // _HUES % 2 else ''}"


def _dots(dots: Dots) -> str:
    """The places as a path of lines of no length, which round ends make dots of."""
    return "".join(f"M{_SIDE * x:.1f} {_SIDE * (1 - y):.1f}h0" for x, y in dots.places)


def _middles(data: AmbiguityData) -> dict[int, tuple[str, str, str]]:
    """Where the name of each kind stands in the map."""
    if data.noticed is None:
        return {}
    out = {}
    for dots in data.noticed.map:
        if dots.kind is not None:
            xs, ys = zip(*dots.places, strict=True)
            x, y = sorted(xs)[len(xs) // 2], sorted(ys)[len(ys) // 2]
            anchor = "start" if x < _EDGE else "end" if x > 1 - _EDGE else "middle"
            x = min(max(x, 0.0), 1.0) if anchor == "middle" else round(x)
            out[dots.kind] = f"{_SIDE * x:.1f}%", f"{_SIDE * min(max(1 - y, 0.04), 1):.1f}%", anchor
    return out
