"""Label columns as codes: reading any column as categories, crossing columns into groups, naming splits.

The sentences for columns that cannot play their part are here; which column plays which part is the task's.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError

SPLITS = ("train", "val", "test")
_MANY = 32  # so many groups are never too many, however few rows there are
FRACTIONS = "train=0.7 val=0.1 test=0.2"  # for the way out in messages


@dataclass(frozen=True, eq=False)
class CodedColumn:
    """A column as codes (rows,) into `names`; -1 where the value is missing."""

    name: str
    codes: NDArray[np.int64]
    names: tuple[str, ...]

    def only(self, rows: NDArray[np.bool_], *, keep_names: bool = False) -> CodedColumn:
        """The column with the other rows made missing; names that no longer occur go, unless kept."""
        codes = np.where(rows, self.codes, -1)
        if keep_names:
            return CodedColumn(self.name, codes, self.names)
        present = np.unique(codes[codes >= 0])
        renumbered = np.full(len(self.names) + 1, -1, dtype=np.int64)  # the last entry serves code -1
        renumbered[present] = np.arange(len(present))
        return CodedColumn(self.name, renumbered[codes], tuple(self.names[i] for i in present))

    def in_terms_of(self, names: Sequence[str]) -> CodedColumn:
        """The column recoded into the given names; RequestError when it holds a value not among them."""
        place = {name: code for code, name in enumerate(names)}
        present = np.unique(self.codes[self.codes >= 0])
        unknown = [self.names[i] for i in present if self.names[i] not in place]
        if unknown:
            raise RequestError(
                f"column {self.name!r} holds {listed(unknown)}, which the head does not know; "
                f"it was trained on {listed(names)}"
            )
        recoded = np.full(len(self.names) + 1, -1, dtype=np.int64)
        for i in present:
            recoded[i] = place[self.names[i]]
        return CodedColumn(self.name, recoded[self.codes], tuple(names))


def coded(name: str, column: Any) -> CodedColumn:
    """Read a store's column, or an array of strings or whole numbers, as categories.

    Missing are None, "", NaN and -1. Raises RequestError for fractional numbers.
    """
    if hasattr(column, "codes"):
        if column.categories is None:
            return _from_array(name, np.asarray(column.values))
        codes, names = column.codes()
        return CodedColumn(name, np.asarray(codes, dtype=np.int64), tuple(names))
    return _from_array(name, np.asarray(column))


def _from_array(name: str, values: NDArray[Any]) -> CodedColumn:
    if values.ndim != 1:
        raise RequestError(f"column {name!r} must have one value per row, not the shape {values.shape}")
    kind = values.dtype.kind
    if kind == "f":
        missing = np.isnan(values)
        whole = np.where(missing, -1, values)
        if (whole != np.floor(whole)).any():
            example = whole[whole != np.floor(whole)][0]
            raise RequestError(
                f"column {name!r} holds fractional numbers such as {example:g}, and categories are needed; "
                "give a column of names or whole numbers"
            )
        values, kind = whole.astype(np.int64), "i"
    if kind in "iub":
        numbers = values.astype(np.int64)
        missing = (numbers == -1) | (numbers == np.iinfo(np.int64).min)
        unique, inverse = np.unique(numbers[~missing], return_inverse=True)
        codes = np.full(len(values), -1, dtype=np.int64)
        codes[~missing] = inverse
        return CodedColumn(name, codes, tuple(str(number) for number in unique.tolist()))
    texts = ["" if _is_missing(value) else str(value) for value in values.tolist()]
    names = sorted(set(texts) - {""})
    place = {"": -1, **{text: code for code, text in enumerate(names)}}
    return CodedColumn(name, np.fromiter((place[text] for text in texts), np.int64, len(texts)), tuple(names))


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def combine(columns: Sequence[CodedColumn]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Codes and names of the combinations that occur, ordered by the first column, then the second, …

    A row that misses a value in any column has no combination (-1).
    """
    known = np.all([column.codes >= 0 for column in columns], axis=0)
    table = np.stack([column.codes[known] for column in columns], axis=1)
    unique, inverse = np.unique(table, axis=0, return_inverse=True)
    codes = np.full(len(known), -1, dtype=np.int64)
    codes[known] = inverse.reshape(-1)
    names = tuple(", ".join(c.names[i] for c, i in zip(columns, row, strict=True)) for row in unique.tolist())
    return codes, names


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of a task: `codes` (rows,) into `names`, and `domains` (rows,), each -1 where unknown.

    A domain is what the group columns say beside the target, such as the place: a code from 0 for every
    combination of their values; without group columns there is only the one.
    """

    codes: NDArray[np.int64]
    names: tuple[str, ...]
    domains: NDArray[np.int64]


def crossed(target: CodedColumn, groups: Sequence[CodedColumn]) -> Groups:
    """The groups that the target makes with the group columns, see `combine`.

    RequestError where most groups have a single row, as a column of names or numbers of the rows makes them.
    """
    codes, names = combine([target, *groups])
    if groups:
        refuse_single_rows(codes, len(names), groups)
    domains = combine(groups)[0] if groups else np.zeros(len(codes), dtype=np.int64)
    return Groups(codes, names, np.where(codes >= 0, domains, -1))


def refuse_single_rows(codes: NDArray[np.int64], made: int, columns: Sequence[CodedColumn]) -> None:
    """RequestError where `columns` make more than one group, of those in `codes`, for every two rows."""
    rows = int((codes >= 0).sum())
    if made > _MANY and made > rows / 2:
        finest = max(columns, key=lambda column: len(np.unique(column.codes)))
        values = len(np.unique(finest.codes[finest.codes >= 0]))
        raise RequestError(
            f"column {finest.name!r} has {values:,} values and makes {made:,} groups of {rows:,} rows, "
            "fewer than two rows each; make groups by columns of few values, such as a background or a site"
        )


def check_classes(target: CodedColumn) -> None:
    """Refuse a target that is an id: with nearly a class for every row there is nothing to learn."""
    rows, classes = int((target.codes >= 0).sum()), len(target.names)
    if classes > _MANY and classes > rows / 2:
        raise RequestError(
            f"column {target.name!r} has {classes:,} values for {rows:,} rows, fewer than two rows a class; "
            "that is an id: predict a column of few values, such as a class"
        )


def split_names(column: CodedColumn) -> dict[str, int]:
    """The code of each split in a split column; the numbers 0, 1, 2 stand for train, val, test.

    RequestError for any other name.
    """
    names = column.names
    present = {names[code] for code in np.unique(column.codes[column.codes >= 0])}
    if present <= {"0", "1", "2"}:
        return {SPLITS[int(name)]: code for code, name in enumerate(names) if name in present}
    unknown = sorted(present - set(SPLITS))
    if unknown:
        raise RequestError(
            f"split column {column.name!r} holds {listed(unknown)}, which names no split; "
            "use train, val and test, and leave the cell empty for rows in none"
        )
    return {name: names.index(name) for name in SPLITS if name in present}


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names in quotes for a message, cut after a few."""
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"


def nearest(name: str, names: Iterable[str]) -> str:
    """What to add, in brackets, after a name that does not exist: the nearest one, or what there is."""
    names = list(names)
    close = difflib.get_close_matches(name.lower(), [other.lower() for other in names], n=1)
    if close:
        return f" (did you mean {next(other for other in names if other.lower() == close[0])!r}?)"
    return f" (there is {listed(names)})"
