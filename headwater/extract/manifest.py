"""A CSV or Parquet table of image paths as a source; every column but the paths becomes an annotation.

Reading a file is files.py's business.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from headwater.errors import RequestError
from headwater.extract.files import read_file
from headwater.extract.taxonomy import readable
from headwater.store import csv_values, show_key

_NOUNS = ("file", "image", "img")
PATH_COLUMNS = frozenset(
    ["path", "filepath", "filename", *_NOUNS]
    + [f"{noun}_{end}" for noun in _NOUNS for end in ("path", "file", "filename", "name")]
)
"""Column names, in lower case, that are taken for the images' paths."""

_log = logging.getLogger(__name__)


class ManifestSource:
    """The images that a table names, in the table's order.

    The key of a row is its path as it is written there. A relative path starts at the manifest's folder, an
    absolute one is used as it is; neither is tidied up, so `a.jpg` and `./a.jpg` are two rows.
    """

    skipped = 0

    def __init__(self, path: Path, keys: list[str], annotations: dict[str, list[Any]]) -> None:
        self.name = str(path)
        self.keys: Sequence[str] = keys
        self.annotations = annotations
        self._folder = os.fsencode(path.absolute().parent)

    def load(self, row: int) -> bytes:
        """The bytes of a row's file; ReadError when they cannot be had."""
        return read_file(os.path.join(self._folder, self.keys[row].encode("utf-8", "surrogateescape")))  # noqa: PTH118


def open_manifest(path: Path, *, path_column: str | None = None) -> ManifestSource:
    """Open a .csv, .tsv or .parquet manifest.

    Cells of CSV that are empty are missing. A column of CSV is integer or float when all its cells are and
    writing the numbers again would lose nothing that an identifier may need (leading zeros); else it is text.

    Args:
        path: the table; CSV in UTF-8 with a header line.
        path_column: the column of paths; None finds it by name (`PATH_COLUMNS`).

    Raises:
        RequestError: the table cannot be read, has no or several path columns, or a path is empty or twice.
    """
    shown = show_key(str(path))
    is_parquet = path.suffix.lower() == ".parquet"
    table, place = _read_parquet(path) if is_parquet else _read_csv(path)
    column = _path_column(list(table), path_column, shown)
    keys = table.pop(column)
    if not is_parquet:
        table = {name: typed(cells) for name, cells in table.items()}
    if not keys:
        raise RequestError(f"the manifest {shown} has no rows")
    _check_paths(keys, column, place, shown)
    return ManifestSource(path, keys, table)


def _path_column(columns: list[str], wanted: str | None, shown: str) -> str:
    listed = ", ".join(show_key(column) for column in columns)
    if wanted is not None:
        if wanted not in columns:
            raise RequestError(f"the manifest {shown} has no column {show_key(wanted)}; it has {listed}")
        return wanted
    found = [column for column in columns if column.strip().lower() in PATH_COLUMNS]
    if len(found) == 1:
        return found[0]
    which = "several columns that may hold" if found else "no column that is named like"
    raise RequestError(
        f"the manifest {shown} has {which} image paths (its columns: {listed}); name it with --path-column"
    )


def _check_paths(keys: Sequence[Any], column: str, place: Callable[[int], str], shown: str) -> None:
    first: dict[str, int] = {}
    for row, key in enumerate(keys):
        if not isinstance(key, str) or not key:
            what = "is empty" if not key else f"holds {key!r}, not text"
            raise RequestError(
                f"the path in column {show_key(column)}, {place(row)} of {shown}, {what}; fill it in"
            )
        if (other := first.setdefault(key, row)) != row:
            raise RequestError(
                f"the manifest {shown} names {show_key(key)} twice, in {place(other)} and {place(row)}; leave"
                " one of them out, since every image is one row"
            )


def _read_csv(path: Path) -> tuple[dict[str, list[Any]], Callable[[int], str]]:
    shown = show_key(str(path))
    lines: list[int] = []
    cells: list[list[str]] = []
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            header = next(reader, None)
            if not header:
                raise RequestError(f"the manifest {shown} is empty; its first line must name the columns")
            # pandas writes its row numbers as a first column without a name
            unnamed = int(header[0] == "" and len(header) > 1)
            for cell in reader:
                if not cell:
                    continue
                if len(cell) != len(header):
                    raise RequestError(
                        f"line {reader.line_num} of the manifest {shown} has {len(cell)} cells where the"
                        f" header has {len(header)}; quote cells that hold the separator"
                    )
                lines.append(reader.line_num)
                cells.append(cell)
    except csv.Error as error:
        raise RequestError(
            f"line {reader.line_num} of the manifest {shown} is no CSV ({error}); repair it"
        ) from error
    except OSError as error:
        raise RequestError(
            f"cannot read the manifest {shown} ({error.strerror}); check its permissions"
        ) from error
    header = header[unnamed:]
    cells = [cell[unnamed:] for cell in cells] if unnamed else cells
    _check_header(header, shown)
    columns = list(zip(*cells, strict=True)) if cells else [()] * len(header)
    table: dict[str, list[Any]] = {name: list(values) for name, values in zip(header, columns, strict=True)}
    return table, lambda row: f"line {lines[row]}"


def typed(cells: Sequence[str]) -> list[Any]:
    """One CSV column as int, float or readable text by the store's rule (`csv_values`); None where empty."""
    raw = [cell.encode("utf-8", "surrogateescape") for cell in cells]
    values = csv_values(pa.array(raw, pa.large_binary()))
    return [readable(value) if isinstance(value, str) else value for value in values]


def _check_header(header: Sequence[str], shown: str) -> None:
    for name in header:
        if not name.strip():
            raise RequestError(f"the manifest {shown} has a column without a name; name it in the first line")
        if header.count(name) > 1:
            raise RequestError(f"the manifest {shown} has two columns named {show_key(name)}; rename one")


def _read_parquet(path: Path) -> tuple[dict[str, list[Any]], Callable[[int], str]]:
    shown = show_key(str(path))
    try:
        arrow = parquet.read_table(path)
    except PermissionError as error:
        raise RequestError(f"the manifest {shown} may not be read; check its permissions") from error
    except (pa.ArrowException, OSError) as error:
        said = str(error).splitlines()[0]
        raise RequestError(f"cannot read the manifest {shown} as Parquet ({said}); write it again") from error
    _check_header(arrow.column_names, shown)
    table: dict[str, list[Any]] = {}
    for name, column in zip(arrow.column_names, arrow.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            _log.warning(
                "%s: left out the column %s of %s, which is no number or text", shown, show_key(name), kind
            )
            continue
        values = column.to_pylist()
        if pa.types.is_boolean(kind):
            values = [None if value is None else int(value) for value in values]
        elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            values = [None if value is None else str(value) for value in values]
        table[name] = values
    return table, lambda row: f"row {row + 1}"
