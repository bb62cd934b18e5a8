"""Standardised rows in blocks: held in memory, or read and standardised anew each time they are wanted.

Solvers see a matrix (rows, dim) block by block and cannot tell which it is; what a block is used for is not
known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.heads.rows.reader import FeatureReader

_BLOCK_BYTES = 1 << 24  # of a block or its logits


class Blocks(Protocol):
    """A matrix of rows (n, dim) that is seen block by block."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers in a block."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the blocks are."""
        ...

    def blocks(self, size: int, step: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """Every `step`-th row, `size` at a time: their places among these rows, and the rows (b, dim).

        A block is overwritten by the next one.
        """
        ...

    def at(self, places: Tensor) -> Tensor:
        """Copies of the rows at `places` (m,), ascending: (m, dim)."""
        ...

    def held(self) -> Resident:
        """The same rows in memory."""
        ...


@dataclass(frozen=True)
class Resident:
    """Rows that are held in memory, `x` (n, dim)."""

    x: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.x.shape[0], self.x.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers in a block."""
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        """Where the blocks are."""
        return self.x.device

    def blocks(self, size: int, step: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """Views of the rows; a copy where rows are left out."""
        chosen = self.x if step == 1 else self.x[::step]
        for first in range(0, len(chosen), size):
            part = slice(first, min(first + size, len(chosen)))
            yield part, chosen[part]

    def at(self, places: Tensor) -> Tensor:
        """See Blocks."""
        return self.x[places]

    def held(self) -> Resident:
        """These."""
        return self


@dataclass(frozen=True, eq=False)
class Streamed:
    """Rows `index` of a feature matrix, minus `centre`, over `scale`, in float32, read on every pass."""

    reader: FeatureReader
    index: NDArray[np.int64]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return len(self.index), len(self.centre)

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers in a block."""
        return torch.float32

    @property
    def device(self) -> torch.device:
        """Where the blocks are."""
        return self.reader.device

    def blocks(self, size: int, step: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """Blocks made one after the other in the same memory."""
        return self.reader.standardised(self.index[::step], self.centre, self.scale, size)

    def at(self, places: Tensor) -> Tensor:
        """See Blocks."""
        return self.reader.load(self.index[places.cpu().numpy()], self.centre, self.scale, self.dtype)

    def held(self) -> Resident:
        """All of them read into memory."""
        return Resident(self.reader.load(self.index, self.centre, self.scale, self.dtype))


def block_rows(dim: int, columns: int, itemsize: int) -> int:
    """Rows of a block, so that it and its logits stay in a cache and the products are still large."""
    return max(256, min(4096, _BLOCK_BYTES // (itemsize * max(dim, columns))))
