"""Columns and plain arrays read as labels: which values are categories, how called, and what is missing.

The one reading that trees and tasks share; which label plays which part is not known here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import RequestError
from headwater.store.columns import MISSING_INT, Column


def labels_in(name: str, values: Column | ArrayLike) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Codes (rows,) of a store's column, or of strings or whole numbers, and the names that they stand for.

    Missing, with code -1, are None, "", NaN and the number -1. Raises RequestError for fractional numbers.
    """
    if not isinstance(values, Column):
        return _in_array(name, np.asarray(values))
    return _in_array(name, values.values) if values.categories is None else values.codes()


def _in_array(name: str, values: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
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
        missing = (numbers == -1) | (numbers == MISSING_INT)
        unique, inverse = np.unique(numbers[~missing], return_inverse=True)
        codes = np.full(len(values), -1, dtype=np.int64)
        codes[~missing] = inverse
        return codes, tuple(str(number) for number in unique.tolist())
    texts = ["" if _is_missing(value) else str(value) for value in values.tolist()]
    names = sorted(set(texts) - {""})
    place = {"": -1, **{text: code for code, text in enumerate(names)}}
    return np.fromiter((place[text] for text in texts), np.int64, len(texts)), tuple(names)


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
