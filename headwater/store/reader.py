"""Opening a store, a folder or one packed file, for reading; nothing is read before it is asked for.

Writing, checking and converting stores live elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterError, RequestError
from headwater.store.annotations import ANNOTATIONS, PACK_AGAIN, Annotations, read_annotations
from headwater.store.features import Features, Part, Parts
from headwater.store.files import NotPermittedError, explained_reading
from headwater.store.keys import difference, hash_keys, join_keys, nearest, show_key, split_keys
from headwater.store.plan import Plan, canonical_json, parse_plan
from headwater.store.sealed import checked_seal, read_seal, reading_sealed
from headwater.store.shard import ROW_OK, shard_name

PLAN = "plan.json"
KEYS = "plan.keys"
RUNS = "runs.jsonl"
INDEX = "index.h5"
CONTENT = "content"
"""The attribute of a packed file that holds `Store.content` of the folder it was made from."""

FINISH = "run the same extract command again to finish"


class _Layout(Protocol):
    """Where a store's plan, keys, runs, annotations and rows lie: in a folder, or in one packed file."""

    plan: Plan
    parts: list[Part]
    missing: list[int]

    def keys_content(self) -> bytes: ...
    def runs(self) -> list[dict[str, Any]]: ...
    def annotations(self) -> Annotations: ...
    def content(self) -> str: ...


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan = read_plan(path)
        present = {entry.name for entry in os.scandir(path)}
        self._annotations: Annotations | None = None
        self.missing = []
        self.parts = []
        for shard in range(self.plan.shards):
            name = shard_name(shard)
            found = name in present
            if not found:
                self.missing.append(shard)
            way_out = f"delete {name} and {FINISH}" if found else FINISH
            start, stop = self.plan.shard_range(shard)
            self.parts.append(Part(start, stop, path / name if found else None, "shard", way_out))

    def keys_content(self) -> bytes:
        return read_keys_content(self.path, self.plan)

    def runs(self) -> list[dict[str, Any]]:
        file = self.path / RUNS
        with explained_reading(file):
            return parse_runs(file.read_bytes()) if file.exists() else []

    def annotations(self) -> Annotations:
        self._annotations = read_annotations(self.path / ANNOTATIONS, self.plan, self._annotations)
        return self._annotations

    def content(self) -> str:
        seals = [part.path and checked_seal(part.path, part.kind, part.way_out) for part in self.parts]
        identity = [self.plan.keys_sha256, [seal and seal.checksum for seal in seals]]
        return hashlib.sha256(canonical_json(identity)).hexdigest()


class _Packed:
    def __init__(self, path: Path) -> None:
        self.path = path
        with reading_sealed(path, "packed", PACK_AGAIN) as file:
            self.plan = parse_plan(file["plan"][()], str(path))
        self._annotations: Annotations | None = None
        self.missing: list[int] = []
        self.parts = [Part(0, self.plan.rows, path, "packed", PACK_AGAIN)] if self.plan.rows else []

    def keys_content(self) -> bytes:
        with reading_sealed(self.path, "packed", PACK_AGAIN) as file:
            content = join_keys(file["key"][:].tolist())
        return checked_keys(content, self.plan, self.path)

    def runs(self) -> list[dict[str, Any]]:
        with reading_sealed(self.path, "packed", PACK_AGAIN) as file:
            return parse_runs(file["runs"][()])

    def annotations(self) -> Annotations:
        self._annotations = read_annotations(self.path, self.plan, self._annotations, packed=True)
        return self._annotations

    def content(self) -> str:
        with reading_sealed(self.path, "packed", PACK_AGAIN) as file:
            said = bytes(file.attrs.get(CONTENT, b"")).decode()
        return said or checked_seal(self.path, "packed", PACK_AGAIN).checksum


def open_store(path: str | os.PathLike[str], *, unfinished: bool = False) -> Store:
    """Open a store's folder or packed file for reading.

    RequestError when there is no store; HeadwaterError when shards are missing (unless `unfinished`), when
    the plan is damaged, or when it is of a newer format.
    """
    where = Path(path)
    with explained_reading(where):
        store = Store(where, _layout(where))
    if store.missing_shards and not unfinished:
        raise HeadwaterError(
            f"{where} is not finished: {len(store.missing_shards):,} of {store.plan.shards:,} shards "
            f"are missing; {FINISH}"
        )
    return store


def _layout(where: Path) -> _Layout:
    if where.is_dir():
        if not (where / PLAN).exists():
            raise RequestError(f"{where} is not a store: it has no {PLAN}; make one with `headwater extract`")
        return _Folder(where)
    if where.is_file():
        seal = read_seal(where)
        if seal is None or seal.kind != "packed":
            raise RequestError(
                f"{where} is not a store: neither a store's folder nor a file made by `headwater store pack`"
            )
        return _Packed(where)
    raise RequestError(f"there is no store at {where}; check the path, or make one with `headwater extract`")


class Store:
    """A store opened for reading; safe to use from several threads.

    Rows stand in the plan's order. Arrays are read when first asked for and then kept, features are mapped.
    """

    def __init__(self, path: Path, layout: _Layout) -> None:
        self.path = path
        self.plan = layout.plan
        self.missing_shards = layout.missing
        self._layout = layout
        self._parts = Parts(layout.parts)

    def __len__(self) -> int:
        return self.plan.rows

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, rows={len(self)}, dim={self.dim}, views={self.views})"

    @property
    def packed(self) -> bool:
        """Whether this is one packed file, which is read-only."""
        return isinstance(self._layout, _Packed)

    @property
    def dim(self) -> int:
        """Numbers per feature vector."""
        return self.plan.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Float16 or float32."""
        return self.plan.feature_dtype

    @property
    def views(self) -> int:
        """Augmented views next to the plain one."""
        return self.plan.views

    @property
    def fingerprint(self) -> str:
        """The plan's fingerprint: equal for equal recipes."""
        return self.plan.fingerprint

    @cached_property
    def content(self) -> str:
        """An id, in hex, of all rows, their keys and features; the same for a copy, one moved, one packed.

        Made of the checksums that the store's files carry, so that no features are read. HeadwaterError where
        one of them is damaged.
        """
        return self._layout.content()

    @property
    def runs(self) -> list[dict[str, Any]]:
        """One record per extraction run: rates, seconds, machine, …"""
        return self._layout.runs()

    @cached_property
    def keys(self) -> NDArray[np.object_]:
        """Every row's key, shape (rows,), as str; undecodable bytes as surrogate escapes."""
        keys = np.empty(len(self), dtype=object)
        keys[:] = split_keys(self._layout.keys_content())
        keys.flags.writeable = False
        return keys

    @cached_property
    def status(self) -> NDArray[np.uint8]:
        """0 where a row is good, shape (rows,); rows of missing shards count as failed."""
        return self._gathered("status", np.dtype("u1"), 1)

    @cached_property
    def ok(self) -> NDArray[np.bool_]:
        """Which rows have features, shape (rows,)."""
        ok: NDArray[np.bool_] = self.status == ROW_OK
        ok.flags.writeable = False
        return ok

    @cached_property
    def errors(self) -> list[tuple[int, str]]:
        """Row number and reason of every failed row."""
        found = []
        for part in self._layout.parts:
            failed = np.flatnonzero(self.status[part.start : part.stop])
            if part.path is None or len(failed) == 0:
                continue
            with reading_sealed(part.path, part.kind, part.way_out) as file:
                texts = file["error"][:]
            found += [(part.start + int(row), bytes(texts[row]).decode("utf-8", "replace")) for row in failed]
        return found

    @cached_property
    def sizes(self) -> NDArray[np.int32]:
        """Width and height of every upright image, shape (rows, 2); 0 where unknown."""
        columns = [self._gathered(name, np.dtype("<i4"), 0) for name in ("width", "height")]
        sizes: NDArray[np.int32] = np.stack(columns, axis=1)
        sizes.flags.writeable = False
        return sizes

    @cached_property
    def features(self) -> Features:
        """The plain features (view 0), shape (rows, dim), on disk."""
        return Features(self._parts, self.dim, self.dtype)

    def augmented(self, view: int) -> Features:
        """The features of augmented view 1 to `views`, shape (rows, dim), on disk.

        RequestError for a view that the store does not have.
        """
        if not 1 <= view <= self.views:
            have = f"views 1 to {self.views}" if self.views else "no augmented views"
            raise RequestError(
                f"{self.path} has {have}, not view {view}; extract again with --views to have more"
            )
        return Features(self._parts, self.dim, self.dtype, view)

    @property
    def annotations(self) -> Annotations:
        """The columns that were added to the store, by name; as they are on disk now."""
        return self._layout.annotations()

    def rows_of(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """The row numbers of these keys, in order; RequestError for an unknown one, naming the nearest."""
        wanted = set(keys)
        known = self.keys.tolist()
        rows = {key: row for row, key in enumerate(known) if key in wanted}
        unknown = [key for key in keys if key not in rows]
        if unknown:
            near = nearest(unknown[0], known)
            hint = difference(unknown, known) or (
                f"; the nearest is {show_key(near)}" if near is not None else ""
            )
            raise RequestError(f"{self.path} has no row with the key {show_key(unknown[0])}{hint}")
        return np.fromiter((rows[key] for key in keys), np.int64, len(keys))

    def part_arrays(self, names: Sequence[str]) -> Iterator[tuple[Part, dict[str, NDArray[Any]]]]:
        """Each file of the store in row order with some of its contiguous datasets, as read-only views."""
        for number, part in enumerate(self._layout.parts):
            mapped = self._parts.mapped(number)
            yield part, {name: mapped.array(name) for name in names}

    def _gathered(self, name: str, dtype: np.dtype[Any], missing: int) -> NDArray[Any]:
        out = np.full(len(self), missing, dtype)
        for number, part in enumerate(self._layout.parts):
            if part.path is not None:
                out[part.start : part.stop] = self._parts.mapped(number).array(name)
        out.flags.writeable = False
        return out


def read_plan(folder: Path) -> Plan:
    """The plan of a store's folder; HeadwaterError when it is damaged or of a newer format."""
    file = folder / PLAN
    with explained_reading(file):
        content = file.read_bytes()
    return parse_plan(content, str(file))


def read_keys_content(folder: Path, plan: Plan) -> bytes:
    """The content of `plan.keys`; HeadwaterError when it is absent or not the plan's."""
    file = folder / KEYS
    try:
        content = file.read_bytes()
    except PermissionError as error:
        raise NotPermittedError(file) from error
    except OSError as error:
        raise HeadwaterError(
            f"{file} cannot be read ({error.strerror or error}); "
            "restore it from a copy or extract into a new folder"
        ) from error
    return checked_keys(content, plan, file)


def checked_keys(content: bytes, plan: Plan, where: Path) -> bytes:
    """The same content; HeadwaterError when these are not the plan's keys."""
    if hash_keys(content) != plan.keys_sha256:
        raise HeadwaterError(
            f"the row keys in {where} are not those of the plan; "
            "restore the file from a copy or extract into a new folder"
        )
    return content


def parse_runs(content: bytes) -> list[dict[str, Any]]:
    """The records in a `runs.jsonl`; lines that are torn are left out."""
    runs = []
    for line in content.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            runs.append(record)
    return runs
