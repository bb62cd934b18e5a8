"""From a run's folder to a report file, without ever writing over what is not ours."""

from __future__ import annotations

import os
from pathlib import Path

from headwater.errors import RequestError
from headwater.report.gather import gather
from headwater.report.page import render
from headwater.report.placing import PageKind, place_page
from headwater.report.run import open_run
from headwater.report.text import shown

FILE = "report.html"
_KIND = PageKind("run", "--out", replaces=True)


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
    place_page(render(data), place, data.identity, _KIND, replace=replace)
    return place
