"""Writes a page to its place, and never over what is not an earlier page of the same thing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from headwater.errors import HeadwaterError, RequestError
from headwater.report.text import shown
from headwater.store.files import write_whole

_MARK = re.compile(rb'<meta name="headwater-report" content="([0-9a-f]{64})">')
_HEAD_BYTES = 4096  # the mark stands within the first bytes of a page


@dataclass(frozen=True)
class PageKind:
    """What a page is of, by which option it is named, and whether `--replace` writes over any file."""

    of: str
    option: str
    replaces: bool


def place_page(page: str, place: Path, identity: str, kind: PageKind, *, replace: bool = False) -> None:
    """Write the page to `place`: over one of the same `identity`, over any other file only with `replace`.

    RequestError where it may not be written, HeadwaterError where it cannot be.
    """
    if not replace:
        refuse_foreign(place, identity, kind)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HeadwaterError(
            f"cannot make the folder {shown(place.parent)!r}: {error.strerror}; "
            f"choose another place with {kind.option}"
        ) from error
    write_whole(place, page.encode("utf-8"))


def refuse_foreign(place: Path, identity: str, kind: PageKind) -> None:
    """RequestError where there is something at `place` that is no page of this identity."""
    if place.is_dir():
        raise RequestError(f"{shown(place)!r} is a folder; give the name of a file in it")
    if not place.exists():
        return
    with place.open("rb") as file:
        mark = _MARK.search(file.read(_HEAD_BYTES))
    if mark is None or mark[1].decode() != identity:
        what = "is no headwater report" if mark is None else f"is the report of another {kind.of}"
        insist = ", or say --replace" if kind.replaces else ""
        raise RequestError(
            f"{shown(place)!r} exists and {what}; choose another name with {kind.option}{insist}"
        )
