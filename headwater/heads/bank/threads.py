"""How many threads torch runs on while rows are measured or a stack is solved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Run torch on `count` threads, None as many as before.

    Small operations cost more in waiting for each other than they save.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
