"""What the pipeline's threads hand work through, and the clocks that say how fast each stage is.

Nothing here knows about images.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):  # noqa: N818 - it ends a stage, it is no error
    """The channel takes or gives nothing more."""


class Channel(Generic[T]):
    """A bounded queue that can be closed, so that no thread ever waits for another that has died.

    `end` lets readers empty it first; `abort` wakes everyone at once.
    """

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._ended = False
        self._aborted = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Add an item, waiting while the channel is full; Closed when it takes no more."""
        with self._changed:
            while len(self._items) >= self._capacity and not (self._ended or self._aborted):
                self._changed.wait()
            if self._ended or self._aborted:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Take the oldest item, waiting while there is none; Closed when there will be none."""
        with self._changed:
            while not self._items and not (self._ended or self._aborted):
                self._changed.wait()
            if self._aborted or not self._items:
                raise Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self) -> None:
        """Take no more items; what is inside can still be read."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Take and give no more."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()


class StageClock:
    """Adds up a stage's busy seconds and rows over all its threads; time spent waiting is not in it."""

    def __init__(self, name: str, threads: int = 1) -> None:
        self.name = name
        self.threads = threads
        self.rows = 0
        self.busy = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def working(self, rows: int) -> Iterator[None]:
        """Count what happens inside as work on `rows` rows."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(time.perf_counter() - start, rows)

    def add(self, seconds: float, rows: int) -> None:
        """Count `seconds` of work on `rows` rows."""
        with self._lock:
            self.busy += seconds
            self.rows += rows

    @property
    def rate(self) -> float:
        """Rows per second that the stage can do with all its threads at work; 0 before the first row."""
        return self.rows / self.busy * self.threads if self.busy else 0.0
