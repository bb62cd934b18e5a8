"""Where shards are worked on: an executor hands shard numbers to workers made by one function.

`local` is the only one here. Another (a cluster's job array, say) is a file that provides the same call: the
plan never depends on it, and a worker is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Worker = Callable[[Sequence[int]], None]
"""Extracts the shards given to it, one after the other, and returns when all are written."""


class Executor(Protocol):
    """Calls `make_worker` once for each place that works, and gives every shard to exactly one worker."""

    def __call__(self, shards: Sequence[int], make_worker: Callable[[], Worker]) -> None:
        """Return when all shards are written; raise what a worker raised."""


def local(shards: Sequence[int], make_worker: Callable[[], Worker]) -> None:
    """One worker in this process takes all shards in order."""
    make_worker()(shards)
