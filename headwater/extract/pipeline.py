"""Moves rows from the source through decoding and the backbone into whole shards.

Each stage has threads of its own:

    source (loaders) → decode + transform (workers) → backbone (the calling thread) → writer (one thread)

Every hand-over is bounded, and a row's place is fixed before it is read: batch and slot follow from its
number in the plan, never from timing. What a job is and when it is done is `job.py`'s business.

Where the backbone runs on the same cores as the decoders, the two take turns: decoders pause while a batch is
in the network. Cores shared between a parallel network and decoders make every thread of the network wait
for the slowest, so taking turns costs less than overlapping; reading from disk goes on meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterError
from headwater.extract.channels import Channel, Closed, StageClock
from headwater.extract.decode import decode
from headwater.extract.interrupts import interrupt_calls
from headwater.extract.parts import Batch, DeviceDecoder, Loader, Progress, Running, Shard
from headwater.extract.rows import Raw, RowError
from headwater.extract.transform import Preprocessing, view_seed
from headwater.store import ROW_FAILED, ROW_OK, Plan, ShardRows, show_key

if TYPE_CHECKING:
    from headwater.extract.forward import Forward

log = logging.getLogger(__name__)

LOADERS = 4
BATCHES_IN_FLIGHT = 3
_REPORT_EVERY = 0.2  # seconds between calls of the progress callback
NAMED_FAILURES = 3


class Pipeline:
    """Extracts the shards of one plan. Use once."""

    def __init__(  # noqa: PLR0917 - the stages in the order of the flow
        self,
        source: Loader,
        plan: Plan,
        keys: Callable[[int], list[str]],
        preprocessing: Preprocessing,
        forward: Forward,
        write: Callable[[int, ShardRows], None],
        *,
        workers: int,
        take_turns: bool,
        strict: bool = False,
        device_decoder: DeviceDecoder | None = None,
        progress: Callable[[Progress], None] | None = None,
        rows_done: int = 0,
    ) -> None:
        self._source, self._plan, self._keys, self._preprocessing = source, plan, keys, preprocessing
        self._forward, self._write, self._strict = forward, write, strict
        self._device_decoder = device_decoder
        self._progress, self._done = progress, rows_done
        self._started_with = rows_done
        self.source_clock = StageClock("source", LOADERS)
        self.decode_clock = StageClock("decode", workers)
        self.backbone_clock = StageClock("backbone")
        self.writer_clock = StageClock("writer")
        self._raw: Channel[tuple[Batch, int, str, Raw]] = Channel(4 * workers)
        self._in_flight = BATCHES_IN_FLIGHT + forward.ahead
        self._ready: Channel[Batch] = Channel(self._in_flight)
        self._buffers: Channel[NDArray[np.uint8]] = Channel(self._in_flight)
        self._running: deque[Running] = deque()
        self._backbone_free_since = 0.0
        self._whole: Channel[tuple[int, Shard]] = Channel(1)
        self._turn = threading.Event()
        self._turn.set()
        self._take_turns = take_turns
        self._shards: dict[int, Shard] = {}
        self._failed: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        self._error: BaseException | None = None
        self._reported = 0.0
        self._began = time.perf_counter()
        self.seconds = 0.0  # from the first row taken to the last shard written

    @property
    def clocks(self) -> tuple[StageClock, ...]:
        """The clocks of all stages, in the order of the flow."""
        return self.source_clock, self.decode_clock, self.backbone_clock, self.writer_clock

    def run(self, shards: Iterable[int]) -> None:
        """Extract these shards; returns when the last is written, raises what any stage raised."""
        height, width = self._preprocessing.size
        for _ in range(self._in_flight):
            shape = (1 + self._plan.views, self._forward.batch, height, width, 3)
            self._buffers.put(self._forward.allocate(shape))
        self._began = time.perf_counter()
        places = self._places(shards)
        loaders = [self._thread("source", self._load, places) for _ in range(LOADERS)]
        decoders = [self._thread("decode", self._decode) for _ in range(self.decode_clock.threads)]
        writer = self._thread("writer", self._write_shards)
        closer = self._thread("close", self._end_in_order, loaders, decoders)
        threads = [*loaders, *decoders, writer, closer]
        with interrupt_calls(lambda: self._fail(KeyboardInterrupt())):
            try:
                for thread in threads:
                    thread.start()
                self._run_backbone()
                self._whole.end()
                writer.join()
            except Closed:
                pass  # another stage failed first; its error is raised below
            except BaseException as error:
                self._fail(error)
            finally:
                if self._error is not None:
                    self._abort()
                for thread in threads:
                    if thread.ident is not None:  # it was started
                        thread.join()
        if self._error is not None:
            raise self._error
        self.seconds = time.perf_counter() - self._began
        self._report(last=True)

    def _thread(self, stage: str, work: Callable[..., None], *arguments: object) -> threading.Thread:
        def body() -> None:
            try:
                work(*arguments)
            except Closed:
                pass
            except BaseException as error:
                self._fail(error)

        return threading.Thread(target=body, name=f"headwater-{stage}", daemon=True)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._error is None and not isinstance(error, Closed):
                self._error = error
        self._abort()

    def _abort(self) -> None:
        for channel in (self._raw, self._ready, self._buffers, self._whole):
            channel.abort()
        self._turn.set()

    def _end_in_order(self, loaders: list[threading.Thread], decoders: list[threading.Thread]) -> None:
        for thread in loaders:
            thread.join()
        self._raw.end()
        for thread in decoders:
            thread.join()
        self._ready.end()

    # source

    def _places(self, shards: Iterable[int]) -> Iterator[tuple[Batch, int, str]]:
        """Every row's batch, slot and key, in plan order; waits for a free buffer before each batch."""
        size = self._forward.batch
        for shard in shards:
            first, stop = self._plan.shard_range(shard)
            keys = self._keys(shard)
            with self._lock:
                self._shards[shard] = self._empty_shard(first, stop - first)
            for start in range(0, stop - first, size):
                rows = min(size, stop - first - start)
                batch = Batch(shard, start, rows, self._buffers.get(), rows)
                for slot in range(rows):
                    yield batch, slot, keys[start + slot]

    def _empty_shard(self, first: int, rows: int) -> Shard:
        dtype, dim, views = self._plan.feature_dtype, self._plan.dim, self._plan.views
        return Shard(
            first=first,
            features=np.zeros((rows, dim), dtype),
            augmented=np.zeros((views, rows, dim), dtype) if views else None,
            status=np.full(rows, ROW_OK, dtype=np.uint8),
            error=[""] * rows,
            width=np.zeros(rows, dtype=np.int32),
            height=np.zeros(rows, dtype=np.int32),
            left=rows,
        )

    def _load(self, places: Iterator[tuple[Batch, int, str]]) -> None:
        while True:
            with self._taking:
                place = next(places, None)
            if place is None:
                return
            batch, slot, key = place
            row = self._shards[batch.shard].first + batch.start + slot
            try:
                with self.source_clock.working(1):
                    raw = self._source.load(row)
            except RowError as error:
                self._failed_row(batch, slot, key, error.reason)
            except OSError as error:
                self._failed_row(batch, slot, key, error.strerror or str(error))
            else:
                self._raw.put((batch, slot, key, raw))

    # decode

    def _decode(self) -> None:
        while True:
            batch, slot, key, raw = self._raw.get()
            self._turn.wait()
            with self.decode_clock.working(1):
                size = self._device_decoder.takes(raw) if self._device_decoder else None
                if size is not None and isinstance(raw, bytes):
                    batch.deferred[slot] = raw
                    self._sized(batch, slot, *size)
                    reason = None
                else:
                    reason = self._decode_row(batch, slot, key, raw)
            if reason is None:
                self._row_ready(batch)
            else:
                self._failed_row(batch, slot, key, reason)

    def _decode_row(self, batch: Batch, slot: int, key: str, raw: Raw) -> str | None:
        """Fill the row's crops; the reason when it has no pixels."""
        try:
            image = decode(raw)
        except RowError as error:
            return error.reason
        batch.crops[0, slot] = self._preprocessing.apply(image)
        for view in range(1, 1 + self._plan.views):
            batch.crops[view, slot] = self._preprocessing.augment(image, view_seed(key, view))
        self._sized(batch, slot, image.width, image.height)
        return None

    def _sized(self, batch: Batch, slot: int, width: int, height: int) -> None:
        shard = self._shards[batch.shard]
        shard.width[batch.start + slot], shard.height[batch.start + slot] = width, height

    def _failed_row(self, batch: Batch, slot: int, key: str, reason: str) -> None:
        self._mark_failed(batch, slot, key, reason)
        self._row_ready(batch)

    def _mark_failed(self, batch: Batch, slot: int, key: str, reason: str) -> None:
        shard = self._shards[batch.shard]
        shard.status[batch.start + slot] = ROW_FAILED
        shard.error[batch.start + slot] = reason
        batch.crops[:, slot] = 0  # the buffer still holds the picture of an earlier batch
        with self._lock:
            self._failed.append((key, reason))

    def _row_ready(self, batch: Batch) -> None:
        with self._lock:
            batch.left -= 1
            ready = batch.left == 0
        if ready:
            batch.crops[:, batch.rows :] = 0
            self._ready.put(batch)

    # backbone

    def _run_backbone(self) -> None:
        while True:
            try:
                batch = self._ready.get()
            except Closed:
                break
            if self._take_turns:
                self._turn.clear()
            try:
                began = time.perf_counter()
                self._decode_deferred(batch)
                self._running.append(
                    Running(batch, began, [self._forward.start(crops) for crops in batch.crops])
                )
                while len(self._running) > self._forward.ahead:
                    self._finish_oldest()
            finally:
                self._turn.set()
            self._report()
        while self._running:
            self._finish_oldest()

    def _finish_oldest(self) -> None:
        running = self._running.popleft()
        features = [finish() for finish in running.results]
        now = time.perf_counter()
        # Batches overlap where several are started ahead: each counts from where the one before it ended.
        busy = now - max(running.began, self._backbone_free_since)
        self._backbone_free_since = now
        self.backbone_clock.add(busy, running.batch.rows)
        self._place(running.batch, features)
        self._buffers.put(running.batch.crops)
        if self._strict and self._failed:
            raise strict_error(list(self._failed), stopped=True)
        self._done += running.batch.rows

    def _decode_deferred(self, batch: Batch) -> None:
        if not batch.deferred or self._device_decoder is None:
            return
        slots = sorted(batch.deferred)
        for slot, crop in zip(
            slots, self._device_decoder.decode([batch.deferred[slot] for slot in slots]), strict=True
        ):
            if crop is not None:
                batch.crops[0, slot] = crop
                continue
            key = self._keys(batch.shard)[batch.start + slot]
            reason = self._decode_row(batch, slot, key, batch.deferred[slot])
            if reason is not None:
                self._mark_failed(batch, slot, key, reason)

    def _place(self, batch: Batch, features: list[NDArray[np.float32]]) -> None:
        """Put a batch's features where its rows belong, and hand the shard over when it is whole."""
        shard = self._shards[batch.shard]
        rows = slice(batch.start, batch.start + batch.rows)
        with np.errstate(over="ignore"):  # told below
            values = [view[: batch.rows].astype(shard.features.dtype) for view in features]
        finite = np.logical_and.reduce([np.isfinite(view).all(axis=1) for view in values])
        ok = shard.status[rows] == ROW_OK
        for slot in np.flatnonzero(ok & ~finite).tolist():
            key = self._keys(batch.shard)[batch.start + slot]
            self._mark_failed(batch, slot, key, unfit_feature(self._plan.dtype))
        shard.features[rows] = np.where((ok & finite)[:, None], values[0], 0)
        if shard.augmented is not None:
            shard.augmented[:, rows] = np.where((ok & finite)[:, None], np.stack(values[1:]), 0)
        shard.left -= batch.rows
        if shard.left == 0:
            del self._shards[batch.shard]
            self._whole.put((batch.shard, shard))

    # writer

    def _write_shards(self) -> None:
        while True:
            number, shard = self._whole.get()
            failed = shard.status != ROW_OK
            shard.width[failed], shard.height[failed] = 0, 0
            with self.writer_clock.working(len(shard.status)):
                self._write(
                    number,
                    ShardRows(
                        features=shard.features,
                        augmented=shard.augmented,
                        status=shard.status,
                        error=shard.error,
                        width=shard.width,
                        height=shard.height,
                    ),
                )

    # progress

    def rates(self) -> dict[str, float]:
        """Images per second that each stage can do, by name."""
        return {clock.name: round(clock.rate, 2) for clock in self.clocks if clock.rows}

    def slowest(self) -> str:
        """The stage that takes the largest share of the time; "" before the first row."""
        rates = self.rates()
        return min(rates, key=rates.__getitem__) if rates else ""

    def _report(self, *, last: bool = False) -> None:
        now = time.perf_counter()
        if self._progress is None or (not last and now - self._reported < _REPORT_EVERY):
            return
        self._reported = now
        here = self._done - self._started_with
        eta = (self._plan.rows - self._done) * (now - self._began) / here if here else None
        self._progress(Progress(self._done, self._plan.rows, self.rates(), self.slowest(), eta))


def unfit_feature(dtype: str) -> str:
    """Why a row fails whose features do not fit the store's type."""
    return f"a feature is too large for {dtype} or not a number"


def strict_error(failed: Sequence[tuple[str, str]], *, stopped: bool = False) -> HeadwaterError:
    """What a strict job says about rows that failed: (key, reason) each; `stopped`: there may be more."""
    count = "one image" if len(failed) == 1 else f"{len(failed)} images"
    if stopped:
        count = f"at least {count}"
    named = "; ".join(f"{show_key(key)}: {reason}" for key, reason in failed[:NAMED_FAILURES])
    more = f" and {len(failed) - NAMED_FAILURES} more" if len(failed) > NAMED_FAILURES else ""
    return HeadwaterError(
        f"{count} could not be read ({named}{more}); "
        "mend or remove the files, or leave --strict out to keep such rows as failed ones"
    )
