"""The store of a run: extracted for it, or there already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import HeadwaterError
from headwater.extract import Source, extract_features, hub, open_source
from headwater.printable import counted
from headwater.store import Store, open_store
from headwater.workflow.config import Asked, Extract
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


class Images:
    """The images that a store is made of, listed once, since an archive may have to be read through."""

    def __init__(self, place: str, path_column: str | None = None) -> None:
        self.place = place
        self._path_column = path_column

    @cached_property
    def source(self) -> Source:
        """The images; RequestError where there are none, HeadwaterError where they cannot be fetched."""
        return open_source(self.place, path_column=self._path_column)


def images_of(asked: Asked, store: Store | None = None) -> Images:
    """The images that the file names, or those that a store says it was made of."""
    section = asked.config.extract
    if section is not None:
        return Images(section.source, section.path_column)
    return Images("" if store is None else store.plan.source)


def extract_store(
    asked: Asked, record: Record, images: Images, progress: Callable[[Progress], None] | None = None
) -> Extracted:
    """Extract what the file asks for, or go on with it; a store that is named is opened."""
    config = asked.config
    if config.store is not None:
        with asked.at("store"):
            opened = open_store(config.store)
        return Extracted(config.store, False, f"{config.store} is there: {counted(len(opened), 'row')}")
    section = config.extract
    assert section is not None
    place = finished_store(asked, record)
    if place is not None:
        return Extracted(place, False, f"{place} is done already: {counted(len(open_store(place)), 'row')}")
    place = _place(section, record)
    if section.out is None:
        record.begin("store", place.name, _request(section))
    options: dict[str, Any] = section.model_dump(exclude={"source", "out", "preprocess", "path_column"})
    with asked.at("extract"):
        report = extract_features(
            images.source,
            place,
            **options,
            preprocessing=section.preprocess,
            device=config.device,
            progress=progress,
        )
    record.remember("extract", _stamped(section, place))
    failed = f", {len(report.failed):,} of them without features" if report.failed else ""
    rows = counted(report.rows, "row")
    if report.already_done:
        return Extracted(place, False, f"{place} is done already: {rows}{failed}", report.notes)
    return Extracted(place, True, f"{place}: {rows}{failed}", report.notes)


def local(text: str) -> str:
    """A checkpoint's path on this machine, once it is fetched if it has to be."""
    return str(hub.fetch(text)) if text.startswith(hub.SCHEME) else text


def finished_store(asked: Asked, record: Record) -> Path | None:
    """The store, where this very extraction ended before and its files are unchanged; None: to be looked at.

    A folder of images has to be listed to tell that; an archive, which may have to be read through, has not.
    """
    section = asked.config.extract
    if section is None or Path(section.source).is_dir():
        return None
    place = _place(section, record)
    if record.made.get("extract", {}).get("request") != _stamped(section, place):
        return None
    try:
        open_store(place)
    except HeadwaterError:
        return None
    return place


def begun_store(asked: Asked, record: Record) -> Store | None:
    """The store that this extraction would go on with, done or not; None where there is none."""
    section = asked.config.extract
    if section is None:
        return None
    try:
        return open_store(_place(section, record), unfinished=True)
    except HeadwaterError:
        return None


def _place(section: Extract, record: Record) -> Path:
    if section.out is not None:
        return section.out
    return record.folder / record.place_for("store", _request(section), FOLDER)


def _request(section: Extract) -> str:
    return digest_of(request_of(section, *_NO_IDENTITY))


def _stamped(section: Extract, place: Path) -> str:
    """The request with the size and time of the files that it names."""
    stamps = []
    for named in (section.source, section.weights):
        if named is not None and not named.startswith(hub.SCHEME) and Path(named).is_file():
            status = Path(named).stat()
            stamps.append((status.st_size, status.st_mtime_ns))
    return digest_of(_request(section), str(place.absolute()), stamps)
