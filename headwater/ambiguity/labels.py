"""Labels as they are given, whole numbers or names, brought to class codes, and the other way round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.heads.ambiguity.oracles.labels import code_of

Label = int | str


def read_labels(name: str, values: NDArray[Any], rows: int) -> tuple[NDArray[np.int64], tuple[Label, ...]]:
    """Class codes (rows,), and the labels that they stand for in ascending order.

    RequestError where there is not one whole number or name for each of the `rows`, or fewer than two
    different ones in all.
    """
    plain = plain_labels(name, values)
    if len(plain) != rows:
        raise RequestError(
            f"{name} has {len(plain):,} labels for {rows:,} labeled rows; give one for each, in their order"
        )
    distinct, codes = np.unique(plain, return_inverse=True)
    classes: tuple[Label, ...] = tuple(distinct.tolist())
    if len(classes) < 2:
        only = f"the label {classes[0]!r} alone" if classes else "no label"
        raise RequestError(f"{name} holds {only}; there have to be two classes at least to tell apart")
    return codes.reshape(-1).astype(np.int64), classes


def plain_labels(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Labels (n,) as int64 or text; RequestError where they are neither whole numbers nor names."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise RequestError(
            f"{name} has the shape {values.shape}, and labels are one value per row; "
            "of one column per class take the largest with argmax"
        )
    kind = values.dtype.kind
    if kind == "S":
        return np.char.decode(values, "utf-8", "backslashreplace")
    if kind == "U":
        return values
    if kind not in "biuf":
        raise RequestError(f"{name} holds {values.dtype}, and labels are whole numbers or text")
    if kind == "f":
        odd = ~(np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**53))
        if odd.any():
            raise RequestError(
                f"{name} holds {values[odd][0]:g} in row {int(np.flatnonzero(odd)[0])}, "
                "and labels are whole numbers or text"
            )
    if kind == "u" and len(values) and int(values.max()) > np.iinfo(np.int64).max:
        raise RequestError(f"{name} holds {int(values.max())}, too large a label; use 64-bit integers")
    return values.astype(np.int64)


def codes_of(labels: Iterable[Any], classes: Sequence[Label]) -> NDArray[np.int64]:
    """The class codes (n,) of labels however they are written, -1 for those that are none of the classes."""
    plain = list(labels)
    known = {label: code_of(label, classes) for label in set(plain)}
    codes = (known[label] for label in plain)
    return np.array([-1 if code is None else code for code in codes], dtype=np.int64)
