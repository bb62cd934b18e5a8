"""From a run's folder to a report file, without ever writing over what is not ours."""

from __future__ import annotations

import os
import re
from pathlib import Path

from headwater.errors import HeadwaterError, RequestError
from headwater.report.gather import gather
from headwater.report.page import render
from headwater.report.run import open_run
from headwater.report.text import shown
from headwater.store.files import write_whole

FILE = "report.html"
_MARK = re.compile(rb'<meta name="headwater-report" content="([0-9a-f]{64})">')
_HEAD_BYTES = 4096  # the mark stands within the first bytes of a page


def build_report(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    store: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    replace: bool = False,
) -> Path:
    """Write the report of the heads in the folder `run` as one HTML file, and return its path.

    A file `about.txt` in `run` is shown at the top: what the data are, in its maker's words. `out`: the
    file, RUN/report.html unless given. `store`: where the store is, if not where the heads say. `images`:
    the folder, manifest, array file or archive with the images, if not where the store says. An earlier
    report of the same run is replaced; any other file only with `replace`. RequestError for a request that
    cannot be meant, HeadwaterError when writing fails.
    """
    opened = open_run(run, store)
    if images is not None and not Path(images).exists():
        raise RequestError(
            f"there is nothing at {shown(images)!r}; --images names the folder with the images"
        )
    place = opened.folder / FILE if out is None else Path(out)
    data = gather(opened, images)
    if not replace:
        _refuse_foreign(place, data.identity)
    page = render(data)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HeadwaterError(
            f"cannot make the folder {shown(place.parent)!r}: {error.strerror}; "
            "choose another place with --out"
        ) from error
    write_whole(place, page.encode("utf-8"))
    return place


def _refuse_foreign(place: Path, identity: str) -> None:
    if place.is_dir():
        raise RequestError(f"{shown(place)!r} is a folder; give the name of a file in it")
    if not place.exists():
        return
    with place.open("rb") as file:
        mark = _MARK.search(file.read(_HEAD_BYTES))
    if mark is None or mark[1].decode() != identity:
        what = "is no headwater report" if mark is None else "is the report of another run"
        raise RequestError(
            f"{shown(place)!r} exists and {what}; choose another name with --out, or say --replace"
        )
