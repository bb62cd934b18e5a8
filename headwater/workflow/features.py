"""The store of a run: extracted for it, or there already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.extract import extract_features
from headwater.printable import counted
from headwater.store import open_store
from headwater.workflow.config import Asked
from headwater.workflow.record import Record, digest_of, request_of

if TYPE_CHECKING:
    from headwater.extract import Progress

FOLDER = "features.store"
_NO_IDENTITY = ("out", "compile", "batch_size", "workers", "strict", "rows_per_shard")


@dataclass(frozen=True)
class Extracted:
    """A run's store, whether anything was extracted, words for it, and what its user may not expect."""

    store: Path
    done: bool
    said: str
    notes: tuple[str, ...] = ()


def extract_store(
    asked: Asked, record: Record, progress: Callable[[Progress], None] | None = None
) -> Extracted:
    """Extract what the file asks for, or go on with it; a store that is named is opened."""
    config = asked.config
    if config.store is not None:
        with asked.at("store"):
            opened = open_store(config.store)
        return Extracted(config.store, False, f"{config.store} is there: {counted(len(opened), 'row')}")
    section = config.extract
    assert section is not None
    place = section.out
    if place is None:
        request = digest_of(request_of(section, *_NO_IDENTITY))
        name = record.place_for("store", request, FOLDER)
        place = record.folder / name
        record.begin("store", name, request)
    options: dict[str, Any] = section.model_dump(exclude={"source", "out", "preprocess"})
    with asked.at("extract"):
        report = extract_features(
            section.source,
            place,
            **options,
            preprocessing=named(section.preprocess),
            device=config.device,
            progress=progress,
        )
    failed = f", {len(report.failed):,} of them without features" if report.failed else ""
    rows = counted(report.rows, "row")
    if report.already_done:
        return Extracted(place, False, f"{place} is done already: {rows}{failed}", report.notes)
    return Extracted(place, True, f"{place}: {rows}{failed}", report.notes)


def named(name: str | None) -> Any:
    """The preprocessing of that name; None for the one that comes with the weights."""
    if name is None:
        return None
    from headwater.extract.transform import Preprocessing  # noqa: PLC0415

    return Preprocessing(224, 224, mean=(0.4556, 0.4714, 0.3700), std=(0.2370, 0.2318, 0.2431))
