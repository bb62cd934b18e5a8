"""One extraction job: the plan, resuming it, the run record, and the source's annotations.

The work itself is `pipeline.py`'s; the files are the store's.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from headwater.devices import choose_device
from headwater.errors import HeadwaterError, RequestError
from headwater.extract import fingerprint
from headwater.extract.backbone import Backbone
from headwater.extract.columns import add_source_columns, differing_columns, restore_columns
from headwater.extract.compiling import Decision
from headwater.extract.device import choose_precision, machine_record, usable_cores
from headwater.extract.engine import Engine
from headwater.extract.executor import Executor, Worker, local
from headwater.extract.identity import decoder_identity, decoder_versions
from headwater.extract.parts import Progress
from headwater.extract.pipeline import Pipeline, strict_error, unfit_feature
from headwater.extract.preprocessings import find_preprocessing
from headwater.extract.registry import find_backbone
from headwater.extract.rows import Raw, RowError
from headwater.extract.sources import Source, open_source
from headwater.extract.transform import Preprocessing
from headwater.extract.weights import LoadedBackbone, load_backbone
from headwater.store import Plan, StoreWriter, check_resumable, open_store

log = logging.getLogger(__name__)

MAX_SHARD_ROWS = 4096
MAX_SHARD_BYTES = 64 << 20


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction came to.

    `failed`: (key, reason) of every row without features, from this run and earlier ones. `rates`: images per
    second that each stage can do, {} when nothing was left to do. `seconds`: of this run. `engine`: what ran
    the backbone. `notes`: sentences about what the user may not expect.
    """

    store: Path
    rows: int
    failed: list[tuple[str, str]]
    seconds: float
    already_done: bool
    rates: Mapping[str, float]
    slowest: str
    engine: str
    notes: tuple[str, ...] = ()


def extract_features(
    source: object,
    out: str | os.PathLike[str],
    *,
    backbone: str | Backbone = "resnet50",
    weights: str | os.PathLike[str] | None = None,
    views: int = 0,
    device: str = "auto",
    precision: str = "auto",
    dtype: str = "float16",
    compile: str = "auto",  # noqa: A002 - the command's word
    batch_size: int | None = None,
    workers: int | None = None,
    rows_per_shard: int | None = None,
    strict: bool = False,
    path_column: str | None = None,
    preprocessing: Preprocessing | str | None = None,
    progress: Callable[[Progress], None] | None = None,
    executor: Executor = local,
) -> ExtractReport:
    """Run a frozen backbone over every image of `source` once and keep the features in the store `out`.

    Args:
        source: a folder of images, a tar or zip of one, a CSV or Parquet manifest, an .npy or .npz file, an
            `hf://datasets/owner/repository/file` of an archive or array file, an array, or a map-style data
            set.
        out: the store's folder. A job that was stopped goes on where it was; one that is done is left alone.
        backbone: a name, or a Backbone of one's own.
        weights: one of the backbone's names, a file, `hf://owner/repository/file`, or `random`; None: its
            default.
        views: augmented embeddings kept next to each image's plain one.
        device: auto, cpu, cuda or cuda:N.
        precision: what the network computes in: auto, float32 or bfloat16.
        dtype: what features are stored as: float16 or float32.
        compile: auto (where it repays, see `compiling.py`), on or off.
        batch_size: images per pass of the network; None: 16 on a CPU, 256 on CUDA.
        workers: decoding threads; None: one for each processor that may be used.
        rows_per_shard: rows that are written, and after a stop repeated, together; None: up to 4,096.
        strict: raise HeadwaterError at the first images that cannot be read, instead of keeping failed rows.
        path_column: the manifest's column of image paths, where its name does not say so itself.
        preprocessing: overrides the one that comes with the weights; one's own, or a name of
            `PREPROCESSINGS` such as `inat-contest`.
        progress: called from this thread a few times a second at most.
        executor: where shards are worked on.

    On a CPU under glibc the process keeps the memory that it frees until it ends, see `allocator.py`.

    Raises:
        RequestError: the request cannot be meant, or `out` holds features of another recipe.
        HeadwaterError: the work failed, such as weights that cannot be downloaded or a full disk; finished
            shards are kept.
    """
    began = time.perf_counter()
    _check(views=views, batch_size=batch_size, workers=workers, rows_per_shard=rows_per_shard)
    place = choose_device(device)
    chosen = find_backbone(backbone) if isinstance(backbone, str) else backbone
    # Contrasts are small differences, which bfloat16 cannot tell; whoever asks for it gets it.
    computing = choose_precision("float32" if chosen.fit and precision == "auto" else precision, place)
    rows = open_source(source, path_column=path_column)
    said: Sequence[str] = getattr(rows, "notes", ())  # a source of one's own need not have any
    loaded = load_backbone(
        chosen.fit(rows) if chosen.fit else chosen,
        weights,
        preprocessing=find_preprocessing(preprocessing) if isinstance(preprocessing, str) else preprocessing,
    )
    engine = Engine(loaded, place, computing, batch_size, compile)
    plan = make_plan(rows, loaded, place, computing, views=views, dtype=dtype, rows_per_shard=rows_per_shard)
    # A store notes the engine that it begins with, so it is chosen before; one that is there has chosen
    # already.
    decision = None
    if not _has_plan(Path(out)):
        engine.check_dim()  # before a store is begun that could never be finished
        decision = engine.decide(plan.rows, None)
        plan = replace(plan, details={**plan.details, "engine": decision.engine})
    if _is_finished(Path(out)) and not os.access(out, os.W_OK):  # nothing to write, and no lock to be had
        check_resumable(out, plan, rows.keys)
        notes = differing_columns(Path(out), rows)
        return _report(Path(out), strict, began, [*said, *notes], already_done=True)
    with StoreWriter(out, plan, rows.keys) as writer:
        if not writer.missing and _is_finished(writer.path):
            notes = [*restore_columns(writer.path, rows), *differing_columns(writer.path, rows)]
            return _report(writer.path, strict, began, [*said, *notes], already_done=True)
        finished_before = bool(open_store(writer.path, unfinished=True).runs)
        decision = decision or engine.decide(plan.rows, writer.plan.details.get("engine"))
        work = _Work(
            writer,
            _InPlanOrder(rows, writer),
            loaded.preprocessing,
            engine,
            decision,
            workers=workers,
            strict=strict,
            progress=progress,
        )
        if writer.missing:
            executor(list(writer.missing), work.make_worker)
        # Annotations come before the run record: a store that has the record has them, and one that was
        # stopped in between gets them when the job is asked for again. Columns that are missing in a store
        # with a record were dropped by its user.
        notes = []
        if finished_before:
            notes += restore_columns(writer.path, rows)
        else:
            add_source_columns(writer.path, rows)
        notes += differing_columns(writer.path, rows)
        writer.finish(work.record(time.perf_counter() - began, rows))
        if work.pipeline is not None:
            engine.learn(decision, work.pipeline.backbone_clock)
    return _report(writer.path, strict, began, [*said, *notes], already_done=False, work=work)


def make_plan(
    source: Source,
    loaded: LoadedBackbone,
    device: torch.device,
    precision: str,
    *,
    views: int,
    dtype: str,
    rows_per_shard: int | None,
) -> Plan:
    """The plan of a new job; with a store in place, the store's own takes its part if the recipe agrees.

    RequestError where the source holds no images.
    """
    if len(source.keys) == 0:
        raise RequestError(f"{source.name} holds no images; check the path")
    row_bytes = loaded.backbone.dim * (2 if dtype == "float16" else 4) * (1 + views)
    return Plan.for_keys(
        source.keys,
        recipe=fingerprint.recipe(
            loaded, precision=precision, decoder=decoder_name(device, views), views=views
        ),
        dim=loaded.backbone.dim,
        dtype=dtype,
        views=views,
        rows_per_shard=rows_per_shard or max(min(MAX_SHARD_ROWS, MAX_SHARD_BYTES // row_bytes), 1),
        source=source.name,
        details=fingerprint.details(loaded),
    )


def decoder_name(device: torch.device, views: int) -> str:
    """What turns bytes into pixels, for the recipe; views need whole pictures, which the CPU decodes."""
    if device.type == "cuda" and not views:
        return f"nvjpeg, else {decoder_identity()}"
    return decoder_identity()


class _InPlanOrder:
    """The source's rows in the order of the store's plan, which may come from an earlier listing."""

    def __init__(self, source: Source, writer: StoreWriter) -> None:
        self._source = source
        self._place: dict[int, int] | None = None
        if writer.gone:
            place = {key: row for row, key in enumerate(source.keys)}
            planned = [key for shard in range(writer.plan.shards) for key in writer.keys(shard)]
            self._place = {row: place[key] for row, key in enumerate(planned) if key in place}

    def load(self, row: int) -> Raw:
        if self._place is None:
            return self._source.load(row)
        if row not in self._place:
            raise RowError("it has vanished since the job was planned")
        return self._source.load(self._place[row])


class _Work:
    """One run over a store's missing shards, and what is known about it afterwards."""

    def __init__(
        self,
        writer: StoreWriter,
        source: _InPlanOrder,
        preprocessing: Preprocessing,
        engine: Engine,
        decision: Decision,
        *,
        workers: int | None,
        strict: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._writer, self._source, self._preprocessing = writer, source, preprocessing
        self._engine, self._decision = engine, decision
        self._workers = workers or usable_cores()
        self._strict, self._progress = strict, progress
        self.pipeline: Pipeline | None = None
        self.engine_name, self.engine_note = decision.engine, decision.why

    def make_worker(self) -> Worker:
        """A worker with a pipeline of its own around the one engine of this process."""
        plan = self._writer.plan
        on_cpu = self._engine.device.type == "cpu"
        forward, self.engine_note = self._engine.forward(self._decision)
        self.engine_name = forward.engine
        decoder = None
        if plan.recipe["decoder"] != decoder_identity():
            from headwater.extract.cuda import NvJpeg  # noqa: PLC0415

            decoder = NvJpeg(self._engine.device, self._preprocessing)
        missing = sum(stop - start for start, stop in map(plan.shard_range, self._writer.missing))
        self.pipeline = Pipeline(
            self._source,
            plan,
            self._writer.keys,
            self._preprocessing,
            forward,
            self._writer.write,
            workers=self._workers,
            take_turns=on_cpu,
            strict=self._strict,
            device_decoder=decoder,
            progress=self._progress,
            rows_done=plan.rows - missing,
        )
        return self.pipeline.run

    def record(self, seconds: float, source: Source) -> dict[str, Any]:
        """The run record that the store keeps, as plain JSON."""
        clocks = self.pipeline.clocks if self.pipeline else ()
        return {
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(seconds, 3),
            "moving_seconds": round(self.pipeline.seconds, 3) if self.pipeline else 0.0,
            "rows": self.pipeline.backbone_clock.rows if self.pipeline else 0,
            "rates": self.rates,
            "slowest": self.slowest,
            "stages": {c.name: {"threads": c.threads, "busy_seconds": round(c.busy, 3)} for c in clocks},
            "device": str(self._engine.device),
            "precision": self._engine.precision,
            "engine": self.engine_name,
            "compile": {"asked": self._engine.compile, "why": self.engine_note, **self._decision.figures},
            "batch": self._engine.batch,
            "workers": self._workers,
            "skipped_files": source.skipped,
            "columns": list(source.annotations),
            "machine": machine_record(self._engine.device),
            "decoder": decoder_versions(),
        }

    @property
    def rates(self) -> dict[str, float]:
        """Images per second that each stage can do."""
        return self.pipeline.rates() if self.pipeline else {}

    @property
    def slowest(self) -> str:
        """The stage that takes most of the time."""
        return self.pipeline.slowest() if self.pipeline else ""


def _has_plan(path: Path) -> bool:
    """Whether a job has begun here, finished or not."""
    return (path / "plan.json").is_file()


def _is_finished(path: Path) -> bool:
    """Whether an earlier run came to its end: all shards and the index are there, and it left its record."""
    try:
        return bool(open_store(path).runs) and (path / "index.h5").is_file()
    except HeadwaterError:
        return False


def _report(
    path: Path,
    strict: bool,
    began: float,
    notes: Sequence[str],
    *,
    already_done: bool,
    work: _Work | None = None,
) -> ExtractReport:
    store = open_store(path)
    keys = store.keys
    failed = [(str(keys[row]), reason) for row, reason in store.errors]
    if strict and failed:
        raise strict_error(failed)
    if len(failed) == len(store):
        unfit = sum(reason == unfit_feature(store.plan.dtype) for _, reason in failed)
        if unfit:
            narrow = store.plan.dtype == "float16"
            way_out = "extract with --dtype float32 into another --out" if narrow else "check the weights"
            raise HeadwaterError(
                f"none of the {len(failed):,} images has features, {unfit:,} of them because "
                f"{unfit_feature(store.plan.dtype)}; {way_out}"
            )
        raise HeadwaterError(
            f"none of the {len(failed):,} images could be read, the first because: {failed[0][1]}; "
            "check the source"
        )
    return ExtractReport(
        store=path,
        rows=len(store),
        failed=failed,
        seconds=time.perf_counter() - began,
        already_done=already_done,
        rates=work.rates if work else {},
        slowest=work.slowest if work else "",
        engine=work.engine_name if work else "",
        notes=tuple(notes),
    )


def _check(**numbers: int | None) -> None:
    for name, value in numbers.items():
        least = 0 if name == "views" else 1
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise RequestError(
                f"{name.replace('_', ' ')} must be a whole number of {least} or more, not {value!r}"
            )
