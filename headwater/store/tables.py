"""Tables from CSV and parquet files as plain columns, with text that only looks like a number left as text.

What a table is for (annotations, a manifest of images) is its reader's business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from headwater.errors import RequestError

_CSV = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
_PARQUET = (".parquet", ".pq")

# Canonical forms only: `007`, `+5` or `1_000` are names, and turning them into numbers would change them.
_WHOLE = r"^(0|-?[1-9][0-9]{0,18})$"
_REAL = r"^(-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[nN][aA][nN])$"
_LONG = r"^-?[0-9]{16,}$"


def read_table(file: str | os.PathLike[str], *, key: str | Collection[str] = "path") -> dict[str, list[Any]]:
    """The columns of a CSV (.csv, .tsv) or parquet file, in order, None where a cell is empty or null.

    A CSV column whose cells are all whole numbers in their shortest form becomes int, one of numbers float,
    all others stay text, as do the columns `key`; bytes that are no UTF-8 become surrogate escapes.
    RequestError when the file is absent, torn, or has columns that are no values.
    """
    path = Path(file)
    ending = path.suffix.lower()
    if ending not in _CSV and ending not in _PARQUET:
        raise RequestError(f"{path} is no table that can be read; give a .csv, .tsv or .parquet file")
    if not path.is_file():
        raise RequestError(f"there is no table at {path}; check the path")
    read: Callable[[], pa.Table] = (
        (lambda: _read_csv(path, _CSV[ending])) if ending in _CSV else (lambda: parquet.read_table(path))
    )
    try:
        table = read()
    except (pa.ArrowException, OSError) as error:
        raise RequestError(
            f"{path} cannot be read as a table: {_first_line(error)}; correct the file"
        ) from None
    names: list[str] = list(table.column_names)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestError(f"{path} has two columns named {twice!r}; rename one")
    texts = {key} if isinstance(key, str) else set(key)
    if ending in _CSV:
        return {name: csv_values(table.column(name), text=name in texts) for name in names}
    return {name: arrow_values(table.column(name), name, text=name in texts) for name in names}


def _read_csv(path: Path, delimiter: str) -> pa.Table:
    with path.open("rb") as file:
        head = file.readline()
    if delimiter == "," and b"," not in head and b";" in head:
        delimiter = ";"
    parsing = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    reading = arrow_csv.ReadOptions(block_size=1 << 24)
    # As bytes, so that nothing is guessed and nothing that is no UTF-8 is refused.
    names = arrow_csv.open_csv(
        path,
        read_options=reading,
        parse_options=parsing,
        convert_options=arrow_csv.ConvertOptions(check_utf8=False),
    ).schema.names
    return arrow_csv.read_csv(
        path,
        read_options=reading,
        parse_options=parsing,
        convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.large_binary())),
    )


def csv_values(column: pa.Array | pa.ChunkedArray, *, text: bool = False) -> list[Any]:
    """The cells of a CSV column, given as bytes, as int, float or text, whichever fits all; None where empty.

    Numbers are read only where writing them again would lose nothing that an identifier may need, such as
    leading zeros, and never if `text`; bytes that are no UTF-8 become surrogate escapes.
    """
    try:
        cells = column.cast(pa.large_string())
    except pa.ArrowInvalid:
        return [_decode(raw) or None for raw in column.to_pylist()]
    cells = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.large_string()), cells)
    if not text and cells.null_count < len(cells):
        for pattern, dtype in ((_WHOLE, pa.int64()), (_REAL, pa.float64())):
            numbers = _all_match(cells, pattern)
            if numbers and not (dtype == pa.float64() and _any_match(cells, _LONG)):
                try:
                    values: list[Any] = cells.cast(dtype).to_pylist()
                except pa.ArrowInvalid:
                    continue
                return values
    texts: list[Any] = cells.to_pylist()
    return texts


def _all_match(cells: pa.Array | pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, pattern)).as_py())


def _any_match(cells: pa.Array | pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(cells, pattern)).as_py())


def arrow_values(column: pa.ChunkedArray, name: str, *, text: bool = False) -> list[Any]:
    """An Arrow column as plain values: text, int, float or None; dates and times as text.

    RequestError for lists and other nested values.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return arrow_values(column.cast(kind.value_type), name, text=text)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return [None if raw is None else _decode(raw) for raw in column.to_pylist()]
    if pa.types.is_nested(kind):
        raise RequestError(
            f"the column {name!r} holds {kind}, not one value per row; leave it out of the table"
        )
    if pa.types.is_temporal(kind):
        column = column.cast(pa.string())
    elif pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column = column.cast(pa.float64())
    values: list[Any] = column.to_pylist()
    return [None if value is None else str(value) for value in values] if text else values


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".; ")
