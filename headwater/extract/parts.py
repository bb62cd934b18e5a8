"""What moves through the pipeline and what it needs from others: batches, growing shards, progress.

How they move is `pipeline.py`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headwater.extract.rows import Raw


@dataclass(frozen=True)
class Progress:
    """Where a job stands: `rates` in images per second by stage, `eta` in seconds (None while unknown)."""

    rows_done: int
    rows_total: int
    rates: Mapping[str, float]
    slowest: str
    eta: float | None


class Loader(Protocol):
    """The part of a source that the pipeline needs."""

    def load(self, row: int) -> Raw:
        """The undecoded picture of a row; raises RowError or OSError when it cannot be had."""


@dataclass
class Batch:
    """Rows of one shard on their way to the backbone: crops (1 + views, batch, h, w, 3), views first."""

    shard: int
    start: int
    rows: int
    crops: NDArray[np.uint8]
    left: int
    deferred: dict[int, bytes] = field(default_factory=dict)  # slots whose bytes the device decodes


@dataclass(frozen=True)
class Running:
    """A batch that the backbone has begun: when, and the calls that wait for its views' features."""

    batch: Batch
    began: float
    results: list[Callable[[], NDArray[np.float32]]]


@dataclass
class Shard:
    """One shard being put together."""

    first: int
    features: NDArray[np.generic]
    augmented: NDArray[np.generic] | None
    status: NDArray[np.uint8]
    error: list[str]
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    left: int


class DeviceDecoder(Protocol):
    """Decodes on the device what it can: see `cuda.py`."""

    def takes(self, raw: Raw) -> tuple[int, int] | None:
        """(width, height) when this picture can be decoded on the device, None when the CPU must do it."""

    def decode(self, raws: Sequence[bytes]) -> list[NDArray[np.uint8] | None]:
        """Crops (h, w, 3); None where the device failed and the CPU must try."""
