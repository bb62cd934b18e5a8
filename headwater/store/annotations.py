"""The annotations file: columns aligned with the plan's rows, rewritten whole on every change.

Which columns go in is `annotate.py`'s business; reading tables and drawing splits live elsewhere, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from headwater.errors import HeadwaterError, RequestError
from headwater.store.columns import Column
from headwater.store.plan import FORMAT, Plan
from headwater.store.sealed import Kind, new_dataset, reading_sealed, text_dtype, writing_sealed

ANNOTATIONS = "annotations.h5"
ANNOTATE_AGAIN = f"delete {ANNOTATIONS} and annotate again, or restore it from a copy"
PACK_AGAIN = "get a fresh copy of it, or pack the store again"


class Annotations(Mapping[str, Column]):
    """A store's columns by name, in the order in which they were added; each is read when first asked for.

    `levels`: the columns that are levels of one taxonomy, from the root, if the store remembers any.
    """

    def __init__(
        self, file: Path | None, kind: Kind = "annotations", stamp: tuple[int, ...] | None = None
    ) -> None:
        self.stamp = stamp
        self._file = file
        self._kind = kind
        self._columns: dict[str, Column | None] = {}
        self.levels: tuple[str, ...] = ()
        if file is not None:
            with self._open() as group:
                self._columns = dict.fromkeys(_column_names(group))
                said = bytes(group.attrs.get("levels", b"")).decode("utf-8", "surrogateescape")
                self.levels = tuple(unquote(name) for name in said.split("/") if name)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(self._columns)

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            have = f"it has {', '.join(self._columns)}" if self._columns else "it has none"
            raise RequestError(f"the store has no column {name!r}; {have}")
        column = self._columns[name]
        if column is None:
            with self._open() as group:
                column = self._columns[name] = _read_column(group, name)
        return column

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def _open(self) -> _GroupOf:
        assert self._file is not None
        return _GroupOf(self._file, self._kind)


class _GroupOf:
    """The HDF5 group that holds the columns, open while the block runs."""

    def __init__(self, file: Path, kind: Kind) -> None:
        self._opened = reading_sealed(file, kind, PACK_AGAIN if kind == "packed" else ANNOTATE_AGAIN)
        self._name = "annotations" if kind == "packed" else "/"

    def __enter__(self) -> h5py.Group:
        return self._opened.__enter__()[self._name]

    def __exit__(self, *failure: Any) -> None:
        self._opened.__exit__(*failure)


def read_annotations(
    file: Path, plan: Plan, known: Annotations | None = None, *, packed: bool = False
) -> Annotations:
    """The annotations in a file, none when it is absent; `known` comes back while the file is unchanged.

    HeadwaterError when the columns belong to other rows than the plan's.
    """
    try:
        entry = file.stat()
    except FileNotFoundError:
        return Annotations(None)
    stamp = (entry.st_ino, entry.st_mtime_ns, entry.st_size)
    if known is not None and known.stamp == stamp:
        return known
    kind: Kind = "packed" if packed else "annotations"
    with _GroupOf(file, kind) as group:
        if bytes(group.attrs["keys_sha256"]).decode() != plan.keys_sha256:
            way_out = PACK_AGAIN if packed else ANNOTATE_AGAIN
            raise HeadwaterError(f"{file} belongs to other rows than this store's; {way_out}")
    return Annotations(file, kind, stamp)


def write_annotations(
    path: Path, plan: Plan, columns: Mapping[str, Column], levels: Sequence[str] = ()
) -> None:
    """Write `annotations.h5` whole, with these columns in this order; `levels` are those that are levels."""
    with writing_sealed(path, "annotations") as file:
        fill_annotations(file, plan, columns, levels)


def fill_annotations(
    group: h5py.Group, plan: Plan, columns: Mapping[str, Column], levels: Sequence[str] = ()
) -> None:
    """Write the columns into a group: `columns/NAME`, and `categories/NAME` for those of text."""
    group.attrs["format"] = np.int32(FORMAT)
    group.attrs["keys_sha256"] = np.bytes_(plan.keys_sha256)
    if levels:
        group.attrs["levels"] = np.bytes_("/".join(map(quote, levels)).encode())
    for kind in ("columns", "categories"):
        group.create_group(kind, track_order=False)
    for position, (name, column) in enumerate(columns.items()):
        quoted = quote(name)
        values = new_dataset(group, f"columns/{quoted}", data=column.values)
        values.attrs["kind"] = np.bytes_(column.kind)
        values.attrs["position"] = np.int32(position)
        if column.categories is not None:
            raw = [category.encode("utf-8", "surrogateescape") for category in column.categories]
            dtype = text_dtype(max(map(len, raw), default=1))
            texts = np.array(raw, dtype=f"S{dtype.itemsize}").astype(dtype)
            packing = {"chunks": (min(len(raw), 4096),), "compression": "gzip"} if raw else {}
            new_dataset(group, f"categories/{quoted}", data=texts, **packing)


def _column_names(group: h5py.Group) -> list[str]:
    columns = group["columns"]
    return [unquote(name) for name in sorted(columns, key=lambda name: int(columns[name].attrs["position"]))]


def _read_column(group: h5py.Group, name: str) -> Column:
    quoted = quote(name)
    dataset = group["columns"][quoted]
    values = dataset[...]
    values.flags.writeable = False
    if bytes(dataset.attrs["kind"]) != b"category":
        return Column(name, values)
    raw: Sequence[bytes] = group["categories"][quoted][...].tolist()
    return Column(name, values, tuple(text.decode("utf-8", "surrogateescape") for text in raw))


def quote(name: str) -> str:
    """A column's name as HDF5 can hold it: `%`, `/` and a lone `.` as %25, %2F and %2E.

    RequestError for an empty name and for one with a character that HDF5 cannot hold.
    """
    if name == "":
        raise RequestError("a column needs a name, and this one's is empty")
    if "\0" in name or not _encodable(name):
        raise RequestError(f"the column name {name!r} holds a character that no name may; rename the column")
    quoted = name.replace("%", "%25").replace("/", "%2F")
    return "%2E" if quoted == "." else quoted


def unquote(name: str) -> str:
    """The column's name that was quoted so."""
    return name.replace("%2E", ".").replace("%2F", "/").replace("%25", "%")


def _encodable(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
