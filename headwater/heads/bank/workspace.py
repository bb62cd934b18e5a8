"""Rows made ready for solvers, with what solvers want to know of them, kept from one round to the next.

Rows are copied into memory once, or, where there are too many, read anew on every pass.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.errors import RequestError
from headwater.heads.bank.whitening import HalfWhitening
from headwater.heads.rows.blocks import Blocks, Resident, Streamed
from headwater.heads.rows.reader import FeatureReader
from headwater.heads.solvers.preconditioner import Directions
from headwater.heads.solvers.span import Span
from headwater.heads.specs.hashed import Rows

# Up to this many numbers a feature matrix is solved in float64: it fits the caches, and the optimum is exact.
SMALL = 2_000_000
# Up to this dimension a full eigenbasis costs nothing worth saving.
_SMALL_DIM = 512
# Copies are kept until together they hold this many bytes; the one in use is kept whatever its size.
_KEPT = 1 << 30
# Larger copies are made only for so few columns of heads that standardising anew on every pass would cost as
# much as the products, and only where they take no more than this share of the memory.
_COPIED, _FEW_COLUMNS, _SHARE = 1 << 28, 64, 3
# Of memory that was asked for, one part in so many is left to the many small things that are not counted.
_SPARE = 12

# Rows, the rows that scale them, and whether these half-whiten them too.
_Key = tuple[Rows, Rows | None, bool]


@dataclass(frozen=True)
class Passes:
    """Rows to be passed over: `rows` are (raw - centre) / scale, of mean zero, half-whitened if so asked."""

    rows: Blocks
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    whitening: HalfWhitening | None

    @cached_property
    def directions(self) -> Directions:
        """All eigenvectors of the rows' second moments."""
        return Directions.full(self.rows)

    @cached_property
    def leading(self) -> Directions:
        """The leading ones, for a fraction of the cost."""
        return Directions.sketched(self.rows)

    def directions_for(self, products: float = 0.0) -> Directions:
        """All directions where they cost little in itself or beside `products` multiplications, else some."""
        rows, dim = self.rows.shape
        # A full eigenbasis costs about 25 d³ multiplications beside its Gram matrix.
        thorough = dim <= _SMALL_DIM or products > dim**2 * (25 * dim + min(rows, 16 * dim))
        return self.directions if thorough else self.leading


@dataclass(frozen=True)
class Prepared(Passes):
    """Rows held in memory, `x` (n, dim)."""

    x: Tensor

    @staticmethod
    def of(
        x: Tensor,
        centre: NDArray[np.float64],
        scale: NDArray[np.float64],
        whitening: HalfWhitening | None = None,
    ) -> Prepared:
        """From the working copy and how it was made."""
        return Prepared(Resident(x), centre, scale, whitening, x)

    @property
    def is_spanned(self) -> bool:
        """Whether there are fewer rows than features, so that L2 problems are solved in the rows' span."""
        return len(self.x) < self.x.shape[1]

    @cached_property
    def span(self) -> Span:
        """The rows in an orthonormal basis of their span."""
        return Span.of(self.x)


class Workspace:
    """Prepares rows for solvers, and remembers the last ones it prepared.

    `memory`: bytes that working copies, logits and heads may take together; None: a quarter of the machine's.
    """

    def __init__(self, reader: FeatureReader, memory: int | None = None) -> None:
        self._reader = reader
        self._asked = memory
        self.memory = (
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
            if memory is None
            else memory - memory // _SPARE
        )
        self._kept: OrderedDict[_Key, Passes] = OrderedDict()

    def _frame(self, rows: Rows, scaler: Rows | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        centre = self._reader.moments(rows).mean
        return centre, np.ones_like(centre) if scaler is None else self._reader.moments(scaler).scale

    def shift(self, passes: Passes, scaler: Rows | None) -> NDArray[np.float64]:
        """What the rows of `passes` lack, (dim,), to be seen from the scaler's mean; without one, from zero.

        Where biases go free their own mean does as well, but it does not for steps or penalised biases.
        """
        origin = 0.0 if scaler is None else self._reader.moments(scaler).mean
        return np.asarray((passes.centre - origin) / passes.scale)

    def prepare(self, rows: Rows, scaler: Rows | None, half_whitened: bool = False) -> Prepared:
        """Unique, ascending `rows`, centred on their own mean and scaled by the deviation over `scaler`.

        Half-whitened, they are scaled by its root instead, and multiplied by what `scaler` makes of it.
        RequestError where memory was asked to be bounded and no copy of the rows fits.
        """
        key = (rows, scaler, half_whitened)
        kept = self._kept.get(key)
        if isinstance(kept, Prepared):
            self._kept.move_to_end(key)
            return kept
        n, dim = len(rows), self._reader.shape[1]
        if self._asked is not None and 4 * n * dim > self._asked:
            raise RequestError(
                f"these heads need a working copy of {n} rows, {4 * n * dim >> 20} MiB, and the memory is "
                f"{self._asked >> 20} MiB; give more, or heads with a plain L2 penalty, which need none"
            )
        centre, scale = self._frame(rows, scaler)
        dtype = _precision(n, dim)
        if half_whitened and scaler is not None:
            scale = np.sqrt(scale)
            whitening = self._whitening(scaler, scale)
            x = whitening.apply(self._reader.load(rows.index, centre, scale, dtype))
            prepared = Prepared.of(x, centre, scale, whitening)
        else:
            prepared = Prepared.of(self._reader.load(rows.index, centre, scale, dtype), centre, scale)
        self._keep(key, prepared)
        return prepared

    def _whitening(self, scaler: Rows, scale: NDArray[np.float64]) -> HalfWhitening:
        """That of the rows `scaler`, scaled so: measured anew where no rows multiplied by it are kept."""
        for (_, measured, half_whitened), kept in self._kept.items():
            if half_whitened and measured == scaler and kept.whitening is not None:
                return kept.whitening
        centre = self._reader.moments(scaler).mean
        rows = self._reader.load(scaler.index, centre, scale, _precision(len(scaler), len(centre)))
        return HalfWhitening.of(rows)

    def passes(self, rows: Rows, scaler: Rows | None, columns: int, half_whitened: bool = False) -> Passes:
        """The same rows for solvers that pass over them block by block, for `columns` columns of heads."""
        key = (rows, scaler, half_whitened)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        few = 4 * len(rows) * self._reader.shape[1] <= _COPIED or columns < _FEW_COLUMNS
        if half_whitened or (few and self.holds(len(rows))):
            return self.prepare(rows, scaler, half_whitened)
        centre, scale = self._frame(rows, scaler)
        streamed = Passes(Streamed(self._reader, rows.index, centre, scale), centre, scale, None)
        self._keep(key, streamed)
        return streamed

    def holds(self, rows: int) -> bool:
        """Whether a copy of so many rows takes no more than its share of the memory."""
        return 4 * rows * self._reader.shape[1] <= self.memory // _SHARE

    def _keep(self, key: _Key, ready: Passes) -> None:
        self._kept[key] = ready
        room = min(_KEPT, self.memory // _SHARE)
        while len(self._kept) > 1 and self._held() > room:
            self._kept.popitem(last=False)

    def _held(self) -> int:
        copies = [each for each in self._kept.values() if isinstance(each, Prepared)]
        whitenings = {id(each.whitening): each.whitening for each in copies if each.whitening is not None}
        return sum(each.x.nbytes for each in copies) + sum(each.nbytes for each in whitenings.values())


def _precision(rows: int, dim: int) -> torch.dtype:
    return torch.float64 if rows * min(rows, dim) <= SMALL else torch.float32
