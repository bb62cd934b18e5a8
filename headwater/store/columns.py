"""A column of annotations: text categories, whole numbers or real numbers, each with its own missing value.

Turns plain Python values into columns; knows no files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.store.keys import show_key

MISSING_INT = np.iinfo(np.int64).min
MISSING_CODE = -1


@dataclass(frozen=True, eq=False)
class Column:
    """One value per row. `values` are int32 codes into the sorted `categories`, or int64, or float64 numbers.

    Missing is code -1, the smallest int64, or NaN.
    """

    name: str
    values: NDArray[Any]
    categories: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def kind(self) -> str:
        """`category`, `int` or `float`."""
        if self.categories is not None:
            return "category"
        return "int" if self.values.dtype.kind == "i" else "float"

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which rows have no value, shape (rows,)."""
        if self.categories is not None:
            mask: NDArray[np.bool_] = self.values == MISSING_CODE
        elif self.values.dtype.kind == "i":
            mask = self.values == MISSING_INT
        else:
            mask = np.isnan(self.values)
        return mask

    def codes(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """The column as categories: codes (rows,) int64, -1 where missing, and the categories' names.

        Numbers become categories in ascending order, named as Python writes them. Every name of a text column
        is kept, also one that no row has.
        """
        if self.categories is not None:
            return self.values.astype(np.int64), self.categories
        present = ~self.missing
        distinct, inverse = np.unique(self.values[present], return_inverse=True)
        codes = np.full(len(self.values), MISSING_CODE, np.int64)
        codes[present] = inverse.reshape(-1)
        return codes, tuple(str(value) for value in distinct.tolist())

    def texts(self) -> list[str | None]:
        """Every row's value as text, None where missing."""
        codes, names = self.codes()
        shown: list[str | None] = [*names, None]
        return [shown[code] for code in codes.tolist()]

    def take(self, rows: NDArray[np.int64]) -> Column:
        """The column of these rows; row -1 gives a missing value."""
        blank = MISSING_CODE if self.kind == "category" else MISSING_INT if self.kind == "int" else math.nan
        padded = np.append(self.values, np.array([blank], self.values.dtype))
        return Column(self.name, padded[rows], self.categories)


def column_from_values(name: str, values: Sequence[Any] | NDArray[Any]) -> Column:
    """A column from plain values, None, NaN and "" being missing.

    Text becomes categories, truth values and whole numbers int64, real numbers, or a mix of both kinds,
    float64. RequestError for text mixed with numbers, and for values of any other type.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        if values.ndim != 1:
            raise RequestError(
                f"the column {name!r} must be one value per row, and it has shape {values.shape}"
            )
        return _from_numbers(name, values)
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    present = [value for value in plain if not _is_missing(value)]
    kinds = {_kind(name, value) for value in present}
    if kinds == {"text"}:
        return _from_texts(name, [None if _is_missing(value) else str(value) for value in plain])
    if "text" in kinds:
        example = next(value for value in present if not isinstance(value, str))
        raise RequestError(
            f"the column {name!r} mixes text with numbers such as {example!r}; "
            "make all of its values text or numbers"
        )
    if kinds <= {"int"}:
        # An empty column is one of text with no category: no number was ever seen in it.
        if not present:
            return Column(name, np.full(len(plain), MISSING_CODE, np.int32), ())
        return _from_ints(name, [None if _is_missing(value) else int(value) for value in plain])
    return Column(name, np.array([math.nan if _is_missing(v) else float(v) for v in plain], dtype=np.float64))


def _from_numbers(name: str, values: NDArray[Any]) -> Column:
    if values.dtype.kind == "f":
        return Column(name, values.astype(np.float64))
    if values.dtype.kind == "u" and values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise RequestError(
            f"the column {name!r} holds {int(values.max())}, which is too large for a 64-bit integer"
        )
    if values.dtype == np.int64 and values.size and int(values.min()) == MISSING_INT:
        raise RequestError(
            f"the column {name!r} holds {MISSING_INT}, which marks a missing value; use another number"
        )
    return Column(name, values.astype(np.int64))


def _from_ints(name: str, values: list[int | None]) -> Column:
    bad = next((v for v in values if v is not None and not MISSING_INT < v <= np.iinfo(np.int64).max), None)
    if bad is not None:
        raise RequestError(f"the column {name!r} holds {bad}, which is out of range for a 64-bit integer")
    return Column(name, np.array([MISSING_INT if v is None else v for v in values], dtype=np.int64))


def _from_texts(name: str, values: list[str | None]) -> Column:
    # By code point, so that no locale can change the order.
    categories = sorted({value for value in values if value is not None})
    bad = next((category for category in categories if "\0" in category), None)
    if bad is not None:
        raise RequestError(f"the column {name!r} holds {show_key(bad)}, with a NUL character; remove it")
    code = {category: number for number, category in enumerate(categories)}
    codes = [MISSING_CODE if value is None else code[value] for value in values]
    return Column(name, np.array(codes, dtype=np.int32), tuple(categories))


def _is_missing(value: Any) -> bool:
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return value is None or (isinstance(value, str) and value == "")


def _kind(name: str, value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return "int"
    if isinstance(value, (float, np.floating)):
        return "float"
    raise RequestError(
        f"the column {name!r} holds {value!r} of type {type(value).__name__}; use text, whole or real numbers"
    )
