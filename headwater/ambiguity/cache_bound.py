"""Keeps a folder of stores within bounds: those used longest ago make room for the newest."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

BYTES = 8 << 30
"""How large a folder of the user's cache may grow."""
_log = logging.getLogger(__name__)


def note_use(store: Path) -> None:
    """Note that a store of the folder was just used; one that cannot be noted is taken for old."""
    try:
        os.utime(store)
    except OSError as error:
        _log.info("that %s was used cannot be noted: %s", store, error)


def make_room(newest: Path, most: int = BYTES) -> None:
    """Take stores away from the folder of `newest`, which stays, until all together are `most` bytes at most.

    A process that reads one of them in the meantime has to make it anew, and loses nothing else.
    """
    others = [each for each in newest.parent.glob("*.store") if each != newest]
    sizes = {each: _size(each) for each in others}
    total = _size(newest) + sum(sizes.values())
    for each in sorted(others, key=_last_used):
        if total <= most:
            return
        shutil.rmtree(each, ignore_errors=True)
        total -= sizes[each]
        _log.info("%s made room for %s", each, newest)


def _size(store: Path) -> int:
    return sum(_bytes(file) for file in store.rglob("*"))


def _bytes(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:  # it is gone
        return 0


def _last_used(store: Path) -> float:
    try:
        return store.stat().st_mtime
    except OSError:
        return 0.0
