"""Keeps a folder of stores within bounds: those used longest ago make room for the newest."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

from headwater.errors import HeadwaterError
from headwater.store.lock import holding
from headwater.store.reader import INDEX
from headwater.store.writer import LOCK

BYTES = 8 << 30
"""How large a folder of the user's cache may grow."""
# A store that was left unfinished is gone on with within so many seconds, or never.
_GONE_ON_WITH = 7 * 86_400.0
_log = logging.getLogger(__name__)


def note_use(store: Path) -> None:
    """Note that a store of the folder was just used; one that cannot be noted is taken for old."""
    try:
        os.utime(store)
    except OSError as error:
        _log.info("that %s was used cannot be noted: %s", store, error)


def make_room(newest: Path, most: int | None = None) -> None:
    """Take stores away from the folder of `newest`, which stays, until all together are `most` bytes at most.

    `most` is `BYTES` unless told. Those that are written just now stay, too, and so do unfinished ones of the
    last days, which may be gone on with. A process that reads one of the others in the meantime has to make
    it anew, and loses nothing else.
    """
    bound = BYTES if most is None else most
    others = [each for each in newest.parent.glob("*.store") if each != newest]
    total = _size(newest) + sum(map(_size, others))
    for each in sorted(others, key=_last_used):
        if total <= bound:
            return
        freed = _taken_away(each)
        if freed:
            total -= freed
            _log.info("%s made room for %s", each, newest)


def _taken_away(store: Path) -> int:
    """How many bytes are free without a store; none where it is needed, or cannot be taken away."""
    if not (store / INDEX).exists() and time.time() - _last_used(store) < _GONE_ON_WITH:
        return 0
    before = _size(store)
    try:
        with holding(store, LOCK):
            shutil.rmtree(store, ignore_errors=True)
    except (HeadwaterError, OSError) as error:
        _log.info("%s stays: %s", store, error)
    return before - _size(store)


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
