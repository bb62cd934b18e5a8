"""The page about a data set, what was found in it and how it was settled; `headwater.report` draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.scoring import Advice
from headwater.errors import RequestError
from headwater.store import show_key
from headwater.store.files import refuse_unwritable

if TYPE_CHECKING:
    from headwater.heads.ambiguity.dialogue import Exchange
    from headwater.heads.ambiguity.resolve import Resolution
    from headwater.heads.ambiguity.scan import Scan

_SUFFIXES = (".html", ".htm")


def check_report(place: Path, dataset: Dataset) -> None:
    """Refuse, before any work, a place that cannot be written or holds anything but an earlier page of it.

    RequestError, or HeadwaterError when the system is in the way.
    """
    from headwater.report.ambiguity.page import KIND  # noqa: PLC0415
    from headwater.report.placing import refuse_foreign  # noqa: PLC0415

    if place.is_dir() or place.suffix.lower() not in _SUFFIXES:
        raise RequestError(
            f"--report is {show_key(str(place))}, and has to be the name of a file that ends in .html"
        )
    refuse_foreign(place, dataset.content, KIND)
    refuse_unwritable(place)


def write_scan(place: Path, dataset: Dataset, scan: Scan, notes: Sequence[str]) -> None:
    """Write the page of a scan."""
    from headwater.report.ambiguity.gather import gather  # noqa: PLC0415
    from headwater.report.ambiguity.page import write_page  # noqa: PLC0415

    data = gather(
        dataset.problem,
        name=dataset.name,
        identity=dataset.content,
        scan=scan,
        row_picture=dataset.picture,
        notes=notes,
    )
    write_page(data, place)


def write_solved(
    place: Path,
    dataset: Dataset,
    scan: Scan,
    resolution: Resolution,
    exchanges: Sequence[Exchange],
    *,
    budget: int,
    advice: Advice,
    accuracies: tuple[float, float],
    notes: Sequence[str],
) -> None:
    """Write the page of a scan, its questions and what came of them; `accuracies` are NaN where unknown."""
    from headwater.report.ambiguity.gather import gather  # noqa: PLC0415
    from headwater.report.ambiguity.page import write_page  # noqa: PLC0415

    data = gather(
        dataset.problem,
        name=dataset.name,
        identity=dataset.content,
        scan=scan,
        resolution=resolution,
        exchanges=exchanges,
        budget=budget,
        row_picture=dataset.picture,
        advice=(advice.submit, advice.text),
        accuracies=None if any(map(math.isnan, accuracies)) else accuracies,
        notes=notes,
    )
    write_page(data, place)
