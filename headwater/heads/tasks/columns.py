"""Label columns as codes: reading any column as categories, crossing columns into groups, naming splits.

The sentences for columns that cannot play their part are here; which column plays which part is the task's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.printable import listed
from headwater.store.labels import labels_in

SPLITS = ("train", "val", "test")
_ALSO_CALLED = {"labeled": "train", "labelled": "train", "target": "test"}
_IN_NONE = ("unlabeled", "unlabelled")
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
    """A store's column, or an array of strings or whole numbers, as categories, see `labels_in`."""
    return CodedColumn(name, *labels_in(name, column))


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


def refuse_twins(names: Sequence[str], what: str) -> None:
    """RequestError for two classes or groups of one name, which no table could tell apart."""
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise RequestError(f"two {what} are both called {twice!r}, path and all; rename one")


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

    What ambiguous data sets call their parts counts, too: labeled rows are train, target rows test, and
    unlabeled ones in no split. RequestError for any other name, and for two names of one split.
    """
    names = column.names
    present = {names[code] for code in np.unique(column.codes[column.codes >= 0])}
    if present <= {"0", "1", "2"}:
        return {SPLITS[int(name)]: code for code, name in enumerate(names) if name in present}
    unknown = sorted(present - {*SPLITS, *_ALSO_CALLED, *_IN_NONE})
    if unknown:
        raise RequestError(
            f"split column {column.name!r} holds {listed(unknown)}, which names no split; "
            "use train, val and test, and leave the cell empty for rows in none"
        )
    called: dict[str, str] = {}
    for name in sorted(present - set(_IN_NONE)):
        split = split_called(name)
        if split in called:
            raise RequestError(
                f"split column {column.name!r} holds {called[split]!r} and {name!r}, which both mean "
                f"{split}; call the rows of a split by one name"
            )
        called[split] = name
    return {split: names.index(called[split]) for split in SPLITS if split in called}


def split_called(name: str) -> str:
    """The split that a value of a split column names, the value itself where it is no other name of one."""
    return _ALSO_CALLED.get(name, name)
