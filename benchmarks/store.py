"""The store against numpy's own files and a raw memory map: writing, reading, random rows, opening."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.common import Claim, Result, Table, alternate, median, seconds
from headwater.store import Plan, ShardRows, StoreWriter, open_store
from headwater.store.reader import KEYS, PLAN
from headwater.store.sealed import new_dataset, writing_sealed
from headwater.store.shard import dataset_layout, shard_name

DIM = 2048
RANDOM_ROWS = 5_000

NOTES = (
    "writing: the same rows in the same number of files; every file on both sides is written to a temporary "
    "name, fsynced, renamed, and its folder fsynced; the store adds keys, status, sizes, checksums, the plan "
    "and the index; best of the repetitions",
    "sequential: the whole matrix into fresh memory, files in the page cache on both sides",
    "random rows: fresh random rows in every repetition, in random order, mappings open on both sides",
    "opening: in a process of its own; memory is that process's peak, interpreter and imports included",
)


def run(quick: bool) -> Result:
    rows, shard_rows, repeats = (2_000, 500, 3) if quick else (100_000, 8_192, 7)
    folder = Path(tempfile.mkdtemp(prefix="headwater-benchmark-"))
    try:
        features = np.random.default_rng(0).standard_normal((rows, DIM), dtype=np.float32).astype(np.float16)
        written, write_claim = _writing(folder, features, shard_rows, 3)
        read, read_claims = _reading(folder, features, repeats)
        opened, open_claims = _opening(folder, shards=20 if quick else 1_000, rows_per_shard=10_000)
    finally:
        shutil.rmtree(folder)
    return Result([written, read, opened], [*read_claims, write_claim, *open_claims], NOTES)


def _writing(folder: Path, features: np.ndarray, shard_rows: int, repeats: int) -> tuple[Table, Claim]:
    keys = [f"images/{row:08d}.jpg" for row in range(len(features))]
    recipe: dict[str, Any] = {"weights": "none"}
    plan = Plan.for_keys(keys, recipe=recipe, dim=DIM, rows_per_shard=shard_rows)
    times = alternate(
        {
            "np.save, one file a shard": lambda: _save(_fresh(folder / "saved"), features, shard_rows),
            "store": lambda: _store(_fresh(folder / "store"), features, plan, keys),
        },
        repeats,
    )
    numpy_seconds, our_seconds = min(times["np.save, one file a shard"]), min(times["store"])
    table = Table(
        f"writing {len(features):,} x {DIM} float16",
        ("writer", "seconds", "MB/s"),
        [
            (name, value, features.nbytes / value / 1e6)
            for name, value in (("np.save, one file a shard", numpy_seconds), ("store", our_seconds))
        ],
    )
    return table, Claim.at_least("writing: speed relative to np.save", numpy_seconds / our_seconds, 0.8)


def _fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    os.sync()
    return path


def _save(folder: Path, features: np.ndarray, shard_rows: int) -> None:
    folder.mkdir()
    for start in range(0, len(features), shard_rows):
        target = folder / f"{start}.npy"
        with target.with_suffix(".tmp").open("wb") as file:
            np.save(file, features[start : start + shard_rows])
            file.flush()
            os.fsync(file.fileno())
        target.with_suffix(".tmp").rename(target)
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _store(path: Path, features: np.ndarray, plan: Plan, keys: list[str]) -> None:
    with StoreWriter(path, plan, keys) as writer:
        for shard in list(writer.missing):
            start, stop = plan.shard_range(shard)
            size = np.full(stop - start, 224, np.int32)
            status = np.zeros(stop - start, np.uint8)
            rows = ShardRows(features[start:stop], None, status, [""] * (stop - start), size, size)
            writer.write(shard, rows)
        writer.finish({"job": "benchmark"})


def _reading(folder: Path, features: np.ndarray, repeats: int) -> tuple[Table, list[Claim]]:
    single = folder / "features.npy"
    np.save(single, features)
    store = open_store(folder / "store")
    mapped = np.load(single, mmap_mode="r")
    if not np.array_equal(np.asarray(store.features), features):
        raise AssertionError("the store gives other features than were written")
    generator = np.random.default_rng(1)
    count = min(RANDOM_ROWS, len(features))
    rows = [np.empty(0, np.int64)]

    def draw(read: Callable[[np.ndarray], Any]) -> Callable[[], None]:
        # Drawn outside the measured call, and the same rows for both sides.
        return lambda: read(rows[0])

    sequential = alternate(
        {"np.load": lambda: np.load(single), "store": lambda: np.asarray(store.features)}, repeats
    )
    random: dict[str, list[float]] = {"raw memory map": [], "store": []}
    for _ in range(4 * repeats):
        rows[0] = generator.choice(len(features), count, replace=False)
        sides = {"raw memory map": draw(mapped.__getitem__), "store": draw(store.features.__getitem__)}
        turns = alternate(sides, 2)
        for name, values in turns.items():
            random[name] += values
    ascending = np.sort(rows[0])
    ordered = alternate(
        {"raw memory map": lambda: mapped[ascending], "store": lambda: store.features[ascending]}, 4 * repeats
    )
    first = seconds(lambda: open_store(folder / "store").features[rows[0]])
    table = Table(
        f"reading {len(features):,} x {DIM} float16 from {store.plan.shards} shards (median milliseconds)",
        ("what", "numpy", "store", "store / numpy"),
        [
            _compared("all rows into memory", sequential["np.load"], sequential["store"]),
            _compared(f"{count:,} random rows", random["raw memory map"], random["store"]),
            _compared(f"{count:,} random rows, ascending", ordered["raw memory map"], ordered["store"]),
            (f"open, then {count:,} random rows", None, 1e3 * first, None),
        ],
    )
    speed = median(sequential["np.load"]) / median(sequential["store"])
    time = median(random["store"]) / median(random["raw memory map"])
    return table, [
        Claim.at_least("sequential read: speed relative to np.load", speed, 0.9),
        Claim.at_most(f"{count:,} random rows: time relative to a raw memory map", time, 1.2),
    ]


def _compared(what: str, theirs: list[float], ours: list[float]) -> tuple[str, float, float, float]:
    return what, 1e3 * median(theirs), 1e3 * median(ours), median(ours) / median(theirs)


_OPEN = """
import json, sys, time
start = time.perf_counter()
from headwater.store import open_store
imported = time.perf_counter()
store = open_store(sys.argv[1])
opened = time.perf_counter()
row = store.features[len(store) // 2]
read = time.perf_counter()
peak = lambda: int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024
peak_opened = peak()
ok = int(store.ok.sum())
masked = time.perf_counter()
print(json.dumps({
    "rows": len(store), "import": imported - start, "open": opened - imported, "row": read - opened,
    "peak": peak_opened, "ok": ok, "mask": masked - read, "peak_mask": peak(),
}))
"""


def _opening(folder: Path, shards: int, rows_per_shard: int) -> tuple[Table, list[Claim]]:
    path = folder / "large"
    _sparse_store(path, shards, rows_per_shard)
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, str(path)], check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    table = Table(
        f"opening {shards:,} shards, {found['rows']:,} rows x {DIM} float16 (sparse files)",
        ("step", "seconds", "peak MB"),
        [
            ("import headwater.store", found["import"], None),
            ("open_store and one row", found["open"] + found["row"], found["peak"]),
            ("then the mask of good rows (touches every shard)", found["mask"], found["peak_mask"]),
        ],
    )
    return table, [
        Claim.at_most(f"opening {shards:,} shards: seconds", found["open"] + found["row"], 1.0),
        Claim.at_most(f"opening {shards:,} shards: peak MB", found["peak"], 300),
    ]


def _sparse_store(path: Path, shards: int, rows_per_shard: int) -> None:
    """A finished store of this size whose features are holes; every shard is a copy of one."""
    rows = shards * rows_per_shard
    keys = [f"images/{row:08d}.jpg" for row in range(rows)]
    plan = Plan.for_keys(keys, recipe={"weights": "none"}, dim=DIM, rows_per_shard=rows_per_shard)
    with StoreWriter(path, plan, keys):
        pass
    assert (path / PLAN).exists()
    assert (path / KEYS).exists()
    template = path / "template"
    with writing_sealed(template, "shard") as file:
        for name, (shape, dtype) in dataset_layout(plan, rows_per_shard).items():
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            if name != "error":
                new_dataset(file, name, shape=shape, dtype=dtype, dcpl=layout)
    for shard in range(shards):
        _copy_sparse(template, path / shard_name(shard))
    template.unlink()


def _copy_sparse(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as write:
        size = os.fstat(read.fileno()).st_size
        write.truncate(size)
        position = 0
        while position < size:
            try:
                position = os.lseek(read.fileno(), position, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(read.fileno(), position, os.SEEK_HOLE)
            os.pwrite(write.fileno(), os.pread(read.fileno(), end - position, position), position)
            position = end
