"""Arrays that are given as a task's features, checked; what a task makes of them is task.py's business."""

from __future__ import annotations

from typing import Any

import numpy as np
import xxhash
from numpy.typing import ArrayLike, NDArray

from headwater.errors import RequestError

_BLOCK = 1024


def checked_features(features: Any) -> Any:
    """The features as something of shape (rows, dim); RequestError where they are not."""
    if getattr(features, "ndim", None) != 2:
        features = np.asarray(features)
    if features.ndim != 2:
        raise RequestError(f"features must have shape (rows, dim), not {features.shape}")
    return features


def checked_views(views: ArrayLike | None, features: Any) -> list[NDArray[Any]]:
    """Each augmented view's features (rows, dim); RequestError where they are of another shape."""
    given = np.zeros((0, *features.shape)) if views is None else np.asarray(views)
    if given.ndim != 3 or given.shape[1:] != features.shape:
        rows, dim = features.shape
        raise RequestError(f"views must have shape (views, {rows}, {dim}), not {given.shape}")
    return list(given)


def check_rows(what: str, found: int, rows: int) -> None:
    """RequestError where something has not a value for every row."""
    if found != rows:
        raise RequestError(f"{what} has {found} rows, the features {rows}")


def check_finite(features: Any, rows: NDArray[np.int64], split: str) -> None:
    """RequestError naming the first of the rows of a split that holds NaN or an infinite value."""
    if np.dtype(features.dtype).kind != "f":
        return
    for first in range(0, len(rows), _BLOCK):
        here = rows[first : first + _BLOCK]
        finite = np.isfinite(np.asarray(features[here]))
        if not finite.all():
            row, column = np.argwhere(~finite)[0].tolist()
            raise RequestError(
                f"row {here[row]} of split {split!r} holds NaN or an infinite value (in feature {column}); "
                "leave such rows out"
            )


def digest_of(features: Any) -> str:
    """A digest, in hex, of shape, type and values of features (rows, dim)."""
    digest = xxhash.xxh3_128(f"{tuple(features.shape)} {features.dtype}".encode())
    for first in range(0, int(features.shape[0]), _BLOCK):
        digest.update(np.asarray(features[first : first + _BLOCK]).tobytes())
    return digest.hexdigest()
