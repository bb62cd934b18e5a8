"""Features of images and of their augmented views as one matrix, for training on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class WithViews:
    """Matrices (rows, dim), one per view, seen as one: row r of view v is row r + v·rows. Nothing is copied.

    Index it with a slice or an array of row numbers from 0; both give a fresh array, unless a slice lies
    within one view.
    """

    ndim = 2

    def __init__(self, views: Sequence[Any]) -> None:
        self._views = list(views)
        self._rows, dim = (int(size) for size in self._views[0].shape)
        self.shape = (len(self._views) * self._rows, dim)
        self.dtype = np.dtype(self._views[0].dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self[np.arange(start, stop, step)]
            return self._run(start, max(start, stop), read=False)
        rows = np.asarray(index)
        out = np.empty((*rows.shape, self.shape[1]), self.dtype)
        view = rows // self._rows
        for number in np.unique(view).tolist():
            mine = view == number
            out[mine] = np.asarray(self._views[number][rows[mine] - number * self._rows])
        return out

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` in a fresh array, read without mapping where the views can do that."""
        return self._run(start, stop, read=True)

    def _run(self, start: int, stop: int, *, read: bool) -> NDArray[Any]:
        parts = []
        for number, view in enumerate(self._views):
            first = number * self._rows
            low, high = max(start - first, 0), min(stop - first, self._rows)
            if low < high:
                parts.append(
                    view.read(low, high) if read and hasattr(view, "read") else np.asarray(view[low:high])
                )
        if len(parts) == 1:
            return parts[0].copy() if read and parts[0].base is not None else parts[0]
        return np.concatenate(parts) if parts else np.empty((0, self.shape[1]), self.dtype)
