"""Working copies of features, with what solvers want to know of them, kept from one round to the next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.heads.hashed import Rows
from headwater.heads.reader import FeatureReader
from headwater.heads.solvers.curvature import Basis
from headwater.heads.solvers.span import Span

# Up to this many numbers a feature matrix is solved in float64: it fits the caches, and the optimum is exact.
SMALL = 2_000_000
# Copies are kept until together they hold this many bytes; the one in use is kept whatever its size.
_KEPT = 1 << 30


@dataclass(frozen=True)
class Prepared:
    """Rows ready to be solved on: `x` (n, dim) = (raw - centre) / scale, of mean zero over its rows."""

    x: Tensor
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def is_spanned(self) -> bool:
        """Whether there are fewer rows than features, so that L2 problems are solved in the rows' span."""
        return len(self.x) < self.x.shape[1]

    @cached_property
    def basis(self) -> Basis:
        """The eigenbasis of the rows' Gram matrix."""
        return Basis.of(self.x)

    @cached_property
    def span(self) -> Span:
        """The rows in an orthonormal basis of their span."""
        return Span.of(self.x)


class Workspace:
    """Prepares rows for solvers, and remembers the last ones it prepared."""

    def __init__(self, reader: FeatureReader) -> None:
        self._reader = reader
        self._kept: OrderedDict[Hashable, Prepared] = OrderedDict()

    def prepare(self, rows: Rows, scaler: Rows | None) -> Prepared:
        """Unique, ascending `rows`, centred on their own mean and scaled by the deviation over `scaler`."""
        key = (rows, scaler)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        centre = self._reader.moments(rows).mean
        scale = np.ones_like(centre) if scaler is None else self._reader.moments(scaler).scale
        n, dim = len(rows), len(centre)
        dtype = torch.float64 if n * min(n, dim) <= SMALL else torch.float32
        prepared = Prepared(self._reader.load(rows.index, centre, scale, dtype), centre, scale)
        self._kept[key] = prepared
        while len(self._kept) > 1 and sum(each.x.nbytes for each in self._kept.values()) > _KEPT:
            self._kept.popitem(last=False)
        return prepared
