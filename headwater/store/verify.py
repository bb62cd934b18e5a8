"""Checking every byte of a store against its checksums and every row against the plan.

Finds and reports; it changes nothing but, when asked, the index.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterError, RequestError
from headwater.store.annotations import (
    ANNOTATE_AGAIN,
    ANNOTATIONS,
    PACK_AGAIN,
    Annotations,
    read_annotations,
)
from headwater.store.files import CHANGE_PERMISSIONS, TEMPORARY, NotPermittedError, explained_reading
from headwater.store.index import write_index
from headwater.store.keys import show_key, show_keys
from headwater.store.lock import holding
from headwater.store.plan import NewerFormatError, Plan, parse_plan, render_plan
from headwater.store.reader import FINISH, INDEX, KEYS, PLAN, RUNS, read_keys_content, read_plan
from headwater.store.sealed import broken_seal, read_seal, reading_sealed
from headwater.store.shard import dataset_layout, shard_name, shard_number
from headwater.store.writer import LOCK

_BLOCK_ROWS = 4096
RESTORE = "restore it from a copy, or extract into a new folder"


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a store, and the way out."""

    what: str
    way_out: str


@dataclass
class VerifyReport:
    """What a verification found; `notes` are oddities that harm nobody."""

    path: Path
    rows: int = 0
    failed_rows: int = 0
    files: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def add(self, what: str, way_out: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(what, way_out))


def verify(
    path: str | os.PathLike[str],
    *,
    rebuild_index: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Read every byte of a store (folder or packed file) and report all that is wrong with it.

    `rebuild_index` first writes a folder's index anew. `progress` is told files done and in all. RequestError
    when there is no store, HeadwaterError when it is of a newer format.
    """
    where = Path(path)
    if where.is_dir() and ((where / PLAN).exists() or (where / KEYS).exists()):
        return _Folder(where, progress).check(rebuild_index=rebuild_index)
    if where.is_file():
        return _packed(where)
    raise RequestError(f"there is no store at {where}; check the path")


class _Folder:
    def __init__(self, path: Path, progress: Callable[[int, int], None] | None) -> None:
        self.path = path
        self.report = VerifyReport(path)
        self.progress = progress or (lambda done, total: None)

    def check(self, *, rebuild_index: bool) -> VerifyReport:
        plan = self._plan()
        if plan is None:
            return self.report
        self.report.rows = plan.rows
        try:
            keys = read_keys_content(self.path, plan).split(b"\0")[:-1]
        except NotPermittedError:
            raise
        except HeadwaterError as error:
            self.report.add(f"{KEYS} is damaged or absent: {error}", RESTORE)
            return self.report
        complete = True
        for shard in range(plan.shards):
            complete &= self._shard(plan, shard, keys)
            self.progress(shard + 1, plan.shards)
        if rebuild_index and complete:
            with holding(self.path, LOCK):
                write_index(self.path / INDEX, plan)
        self._index(plan, complete=complete)
        self._annotations(plan)
        self._oddities(plan)
        return self.report

    def _plan(self) -> Plan | None:
        self.report.files += 2
        try:
            plan = read_plan(self.path)
            if (self.path / PLAN).read_bytes() != render_plan(plan):
                self.report.add(f"{PLAN} has changed since it was written", RESTORE)
        except (NewerFormatError, NotPermittedError):
            raise
        except HeadwaterError as error:
            self.report.add(str(error).partition(";")[0], RESTORE)
            return None
        return plan

    def _shard(self, plan: Plan, shard: int, keys: list[bytes]) -> bool:
        """Check one shard; whether it is there."""
        name = shard_name(shard)
        file = self.path / name
        again = f"delete {name} and {FINISH}"
        if not file.exists():
            self.report.add(f"{name} is missing", FINISH)
            return False
        self.report.files += 1
        problem = None
        try:
            problem = broken_seal(file, "shard", deep=True)
            if problem is None:
                with reading_sealed(file, "shard", again) as opened:
                    start, stop = plan.shard_range(shard)
                    said = (bytes(opened.attrs["fingerprint"]).decode(), int(opened.attrs["shard"]))
                    if said != (plan.fingerprint, shard):
                        problem = f"it is shard {said[1]} of the recipe {said[0][:12]}…"
                    else:
                        check_rows(self.report, opened, plan, keys[start:stop], name=name, way_out=again)
        except NotPermittedError:
            self._refused(name)
        except (OSError, KeyError, HeadwaterError) as error:
            problem = str(error)
        if problem is not None:
            self.report.add(f"{name} is damaged: {problem}", again)
        return True

    def _index(self, plan: Plan, *, complete: bool) -> None:
        file = self.path / INDEX
        rebuild = f"run `headwater store verify --rebuild-index {_argument(self.path)}`"
        if not file.exists():
            if complete:
                self.report.add(f"{INDEX} is missing", rebuild)
            return
        self.report.files += 1
        try:
            problem = broken_seal(file, "index", deep=True)
        except NotPermittedError:
            self._refused(INDEX)
            return
        if problem is None:
            with reading_sealed(file, "index", rebuild) as opened:
                if bytes(opened.attrs["keys_sha256"]).decode() != plan.keys_sha256:
                    problem = "it belongs to another store"
        if problem is not None:
            self.report.add(f"{INDEX} is damaged: {problem}", rebuild)

    def _annotations(self, plan: Plan) -> None:
        file = self.path / ANNOTATIONS
        if not file.exists():
            return
        self.report.files += 1
        try:
            problem = broken_seal(file, "annotations", deep=True)
        except NotPermittedError:
            self._refused(ANNOTATIONS)
            return
        if problem is not None:
            self.report.add(f"{ANNOTATIONS} is damaged: {problem}", ANNOTATE_AGAIN)
            return
        try:
            check_columns(self.report, read_annotations(file, plan), plan.rows)
        except HeadwaterError as error:
            self.report.add(str(error).partition(";")[0], ANNOTATE_AGAIN)

    def _refused(self, name: str) -> None:
        self.report.add(f"{name} may not be read", CHANGE_PERMISSIONS)

    def _oddities(self, plan: Plan) -> None:
        for name in sorted(entry.name for entry in self.path.iterdir()):
            number = shard_number(name)
            if number is not None and number >= plan.shards:
                self.report.notes.append(f"{name} is no part of the plan and is not read")
            elif name.endswith(TEMPORARY):
                self.report.notes.append(f"{name} was left by a writer that died, or is being written now")
        runs = self.path / RUNS
        try:
            with explained_reading(runs):
                torn = runs.exists() and not runs.read_bytes().endswith(b"\n")
        except NotPermittedError:
            self._refused(RUNS)
            return
        if torn:
            self.report.notes.append(f"the last line of {RUNS} is torn and is not read")


def _argument(path: Path) -> str:
    """A path as one types it in a shell, on one line."""
    return shlex.quote(str(path)) if str(path).isprintable() else show_key(str(path))


def _packed(path: Path) -> VerifyReport:
    report = VerifyReport(path, files=1)
    with explained_reading(path):
        seal = read_seal(path)
    problem = broken_seal(path, "packed", deep=True)
    if problem is not None:
        if seal is None and not h5py.is_hdf5(path):
            raise RequestError(f"{path} is not a store: neither a store's folder nor a packed file")
        report.add(f"{path.name} is damaged: {problem}", PACK_AGAIN)
        return report
    with reading_sealed(path, "packed", PACK_AGAIN) as file:
        plan = parse_plan(file["plan"][()], str(path))
        report.rows = plan.rows
        keys = file["key"][:].tolist()
        check_rows(report, file, plan, keys, name=path.name, way_out=PACK_AGAIN)
    try:
        check_columns(report, read_annotations(path, plan, packed=True), plan.rows)
    except HeadwaterError as error:
        report.add(str(error).partition(";")[0], PACK_AGAIN)
    return report


def check_rows(
    report: VerifyReport, file: h5py.File, plan: Plan, keys: list[bytes], *, name: str, way_out: str
) -> None:
    """Compare one file's datasets with the plan, and look for values that are not finite in good rows."""
    for dataset, (shape, dtype) in dataset_layout(plan, len(keys)).items():
        if dataset not in file or file[dataset].shape != shape or file[dataset].dtype != dtype:
            report.add(f"{name} has no {dataset} of shape {shape} and type {dtype}", way_out)
            return
    found: list[bytes] = file["key"][:].tolist()
    wrong = [row for row, (one, other) in enumerate(zip(found, keys, strict=True)) if one != other]
    if wrong:
        report.add(f"{name} holds other row keys than the plan in {len(wrong):,} rows", way_out)
    status = file["status"][:]
    failed = np.flatnonzero(status)
    report.failed_rows += len(failed)
    if len(failed) and not all(file["error"][:][failed].tolist()):
        report.add(f"{name} has failed rows that do not say why", way_out)
    bad = _not_finite(file, plan, status == 0)
    if len(bad):
        shown = show_keys([keys[row].decode("utf-8", "surrogateescape") for row in bad.tolist()])
        report.add(f"{name} has features that are not finite in {len(bad):,} good rows: {shown}", way_out)


def _not_finite(file: h5py.File, plan: Plan, good: NDArray[np.bool_]) -> NDArray[np.int64]:
    bits, exponent = (np.uint16, 0x7C00) if plan.dtype == "float16" else (np.uint32, 0x7F800000)
    bad = np.zeros(len(good), bool)
    for start in range(0, len(good), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        views = [file["features"][rows], *(file["augmented"][view, rows] for view in range(plan.views))]
        for values in views:
            # All exponent bits set: infinite or not a number. On bits this is far faster than isfinite.
            bad[rows] |= ((values.view(bits) & exponent) == exponent).any(axis=1)
    return np.flatnonzero(bad & good)


def check_columns(report: VerifyReport, annotations: Annotations, rows: int) -> None:
    """Look for columns that do not fit the rows or their own categories."""
    columns: Mapping[str, Any] = annotations
    for name, column in columns.items():
        if column.values.shape != (rows,):
            report.add(f"the column {name!r} has {len(column)} values for {rows} rows", ANNOTATE_AGAIN)
        elif column.categories is not None and rows:
            low, high = int(column.values.min()), int(column.values.max())
            if low < -1 or high >= len(column.categories):
                report.add(f"the column {name!r} has codes without a category", ANNOTATE_AGAIN)
