"""The order of a run's steps: features, columns, split, heads, report, submission; each told as it ends."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.heads.evaluation import small_groups, without_group
from headwater.printable import counted
from headwater.store import open_store
from headwater.store.files import explained, refuse_unwritable
from headwater.store.lock import holding
from headwater.workflow.check import REPORT, RESULTS, check
from headwater.workflow.columns import annotate_store, draw_split
from headwater.workflow.config import Asked, load_config
from headwater.workflow.contest import CROPS
from headwater.workflow.features import Images, extract_store, images_of
from headwater.workflow.figures import COLUMNS, Figures, measure, read_figures, write_figures
from headwater.workflow.record import FILE as RECORD
from headwater.workflow.record import Record, digest_of, file_digest
from headwater.workflow.training import Trained, identity_of, task_of, train

if TYPE_CHECKING:
    from headwater.extract import Progress
    from headwater.heads import Task
    from headwater.workflow.submission import Submitted

_LOCK = "run"


@dataclass(frozen=True)
class Said:
    """What a step came to: whether it changed anything, and a sentence about it."""

    step: str
    changed: bool
    text: str
    seconds: float


@dataclass(frozen=True)
class RunResult:
    """What there is after a run, and what of it is new.

    `steps` in their order. `figures` of every head on every split. `picked`: the head that was selected, or
    the only one, and `picked_method` whose it is. Paths are None where the file was not asked for.
    `preprocessing`: how the submission's images must be prepared. `left_out`, `without_group` and
    `small_groups`: rows that take no part, or count in no figure of groups, and groups with hardly any rows
    in train, or none. `notes`: what its user may not expect. `failed`: heads of a sweep that came to nothing,
    and why; the same run again tries them again.
    """

    folder: Path
    store: Path
    steps: tuple[Said, ...]
    classes: tuple[str, ...] = ()
    heads: Path | None = None
    picked: Path | None = None
    picked_method: str | None = None
    figures: tuple[Figures, ...] = ()
    table: Path | None = None
    report: Path | None = None
    submission: Path | None = None
    preprocessing: Mapping[str, Any] | None = None
    left_out: str = ""
    without_group: Mapping[str, int] = field(default_factory=dict)
    small_groups: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was to do."""
        return any(step.changed for step in self.steps)


@dataclass
class Telling:
    """Where a run tells what it is doing; each is called as a step begins, goes on, or ends."""

    began: Callable[[str], None] = lambda step: None
    now: Callable[[str], None] = lambda text: None
    ended: Callable[[Said], None] = lambda said: None
    extracting: Callable[[Progress], None] | None = None
    steps: list[Said] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[bool, str], None]]:
        """Times a step; the block calls what it is given with what was done, and the words for it."""
        self.began(name)
        start = time.perf_counter()

        def end(changed: bool, text: str) -> None:
            said = Said(name, changed, text, time.perf_counter() - start)
            self.steps.append(said)
            self.ended(said)

        yield end


def run_config(config: Asked | str | PathLike[str], telling: Telling | None = None) -> RunResult:
    """Do what a config, read already or a file, asks for and is not done yet.

    Everything that is there for the same request is used again: the store, columns, heads, a sweep, the
    report and the submission. What a change touches is made anew; nothing that this run did not make itself
    is written over. RequestError, with file and line, before any work where that is possible.
    """
    asked = config if isinstance(config, Asked) else load_config(Path(config))
    telling = telling or Telling()
    folder = asked.config.out
    with asked.at("out"):
        if folder.exists() and not folder.is_dir():
            raise RequestError(f"{str(folder)!r} is a file; name a folder for the run")
        refuse_unwritable(folder / RECORD)
        known = Record.of(folder)
    images = images_of(asked)
    check(asked, known, images)
    with explained(folder / RECORD):
        folder.mkdir(parents=True, exist_ok=True)
    with holding(folder, _LOCK), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HeadwaterWarning)
        result = _run(asked, Record.of(folder), images, telling)
    notes = dict.fromkeys(str(each.message) for each in caught if issubclass(each.category, HeadwaterWarning))
    return replace(result, notes=tuple(dict.fromkeys([*result.notes, *notes])))


def _run(asked: Asked, record: Record, images: Images, telling: Telling) -> RunResult:
    config = asked.config
    with telling.step("extract") as end:
        features = extract_store(asked, record, images, telling.extracting)
        end(features.done, features.said)
    store = features.store
    if config.annotate:
        with telling.step("annotate") as end:
            added = annotate_store(asked, store, record)
            end(bool(added), "added " + "; ".join(added) if added else "all columns are there")
    if config.fit is None and config.sweep is None:
        if config.split.shares:
            _split(asked, store, record, telling)
        return RunResult(record.folder, store, tuple(telling.steps), notes=tuple(features.notes))
    _split(asked, store, record, telling)
    step = "fit" if config.fit is not None else "sweep"
    with telling.step(step) as end:
        task = task_of(asked, store)
        trained = train(asked, task, record, telling.now)
        figures, table = figures_of(task, trained, record)
        end(bool(trained.done), "; ".join([*trained.done, trained.said]))
    report, submission, preprocessing = None, None, None
    notes = [*features.notes, *([CROPS] if asked.contest else [])]
    if config.report is not None:
        with telling.step("report") as end:
            report, done = _report(asked, trained, store, record)
            end(done, str(report) if done else f"{report} is up to date")
    if config.export is not None:
        with telling.step("export") as end:
            made = _submit(asked, trained, store, record, images)
            submission, preprocessing = made.path, made.preprocessing
            notes += [made.trial.untried] if made.trial.untried else []
            end(made.exported is not None, _told(made))
    return RunResult(
        folder=record.folder,
        store=store,
        steps=tuple(telling.steps),
        classes=task.classes,
        heads=trained.folder,
        picked=trained.picked,
        picked_method=trained.chosen,
        figures=tuple(figures),
        table=table,
        report=report,
        submission=submission,
        preprocessing=preprocessing,
        left_out=task.left_out.describe(),
        without_group=without_group(task),
        small_groups=small_groups(task),
        notes=tuple(notes),
        failed=trained.failed,
    )


def _split(asked: Asked, store: Path, record: Record, telling: Telling) -> None:
    with telling.step("split") as end:
        end(*draw_split(asked, store, record))


def figures_of(task: Task, trained: Trained, record: Record) -> tuple[list[Figures], Path]:
    """Every head on every split, and the table that holds them; read from it where nothing has changed."""
    table = record.folder / RESULTS
    files = {name: file_digest(path) for name, path in trained.heads.items()}
    request = digest_of(files, identity_of(task), COLUMNS)
    if record.is_done("results", request, table):
        return read_figures(table), table
    found = measure(task, trained.heads)
    record.expect("results", table)
    write_figures(table, found)
    record.remember("results", request, table)
    return found, table


def _report(asked: Asked, trained: Trained, store: Path, record: Record) -> tuple[Path, bool]:
    from headwater.report import build_report  # noqa: PLC0415

    section = asked.config.report
    assert section is not None
    out = section.out or record.folder / REPORT
    made_of = [
        *trained.heads.values(),
        *trained.folder.glob("results.parquet"),
        *store.glob("annotations.h5"),
    ]
    made_of += list(trained.folder.glob("selection.json"))
    opened = open_store(store)
    request = digest_of(
        [file_digest(path) for path in made_of], opened.fingerprint, opened.content, section.images
    )
    if record.is_done("report", request, out):
        return out, False
    record.expect("report", out)
    with asked.at("report"):
        build_report(trained.folder, out, store=store, images=section.images, replace=True)
    record.remember("report", request, out)
    return out, True


def _submit(asked: Asked, trained: Trained, store: Path, record: Record, images: Images) -> Submitted:
    from headwater.workflow.submission import submit  # noqa: PLC0415

    if trained.picked is None and trained.failed:
        raise HeadwaterError(
            f"{counted(len(trained.failed), 'head')} failed, such as {trained.failed[0][0]}: "
            f"{trained.failed[0][1]}; there is no other to export"
        )
    if trained.picked is None:
        raise asked.error(("export",), "no head was selected, so there is none to export")
    return submit(asked, trained.picked, store, record, images)


def _told(made: Submitted) -> str:
    if made.exported is None:
        return f"{made.path} is up to date"
    tried = ""
    if made.trial.images:
        tried = (
            f"; its logits on {counted(made.trial.images, 'image')} equal the head's on kept features to "
            f"{made.trial.gap:.0e} of the largest"
        )
    classes, own = len(made.exported.classes), made.exported.replaced
    instead = f" (the checkpoint's own was for {own})" if own not in (None, classes) else ""
    prepared = f"; prepare its images so: {made.exported.described_preprocessing}"
    return f"{made.path}, fc for {classes} classes{instead}{tried}{prepared}"
