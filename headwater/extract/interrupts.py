"""Hands the user's interrupt to another thread, so that no lock is ever left half taken by it.

Python raises KeyboardInterrupt in the main thread wherever that happens to be: also inside `Condition`, whose
lock then stays taken for ever, or in a finaliser, where it is printed and lost. Nothing here stops anything.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupt_calls(stop: Callable[[], object]) -> Iterator[None]:
    """Within the block the first interrupt calls `stop()` in another thread; a second one raises as ever.

    When the block ends, every such call has returned. Outside the main thread, where no interrupt is raised,
    and under a handler that is not Python's own, nothing changes.
    """
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return
    asked: queue.SimpleQueue[bool] = queue.SimpleQueue()  # which alone may be used from a signal's handler

    def wait() -> None:
        if asked.get():
            stop()

    def handler(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked.put(True)

    waiting = threading.Thread(target=wait, name="headwater-interrupt", daemon=True)
    waiting.start()
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked.put(False)
        waiting.join()
