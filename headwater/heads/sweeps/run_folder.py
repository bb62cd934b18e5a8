"""Whether a sweep may use a folder: a free one, or one that holds the very same sweep, unfinished or done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headwater.errors import RequestError
from headwater.heads.sweeps.parts import FOLDER
from headwater.heads.sweeps.results import SWEEP
from headwater.store.files import explained, explained_reading, refuse_unwritable, write_whole
from headwater.store.lock import holding

_LOCK = "sweep"
# What must agree for a sweep to go on, and what to call it.
_ASKED = {
    "fingerprint": "the store's features",
    "target": "target",
    "groups": "groups",
    "split": "split",
    "annotations": "the values in those columns",
    "methods": "methods",
    "draws": "draws",
    "grid": "grid",
    "settings": "settings",
    "seeds": "seeds",
    "folds": "folds",
    "candidates": "the settings to try",
}


def check_folder(folder: Path, request: Mapping[str, Any]) -> None:
    """RequestError, naming what differs, unless the folder is free or holds this very sweep."""
    refuse_unwritable(folder / SWEEP)
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{str(folder)!r} is a file; give a folder for the sweep")
    if not (folder / SWEEP).is_file():
        if folder.is_dir() and any(not _is_ours(each) for each in folder.iterdir()):
            raise RequestError(f"{str(folder)!r} holds something that is no sweep; choose another folder")
        return
    try:
        with explained_reading(folder / SWEEP):
            there = json.loads((folder / SWEEP).read_text())
        asked = json.loads(json.dumps(dict(request)))
        differing = [what for key, what in _ASKED.items() if there[key] != asked[key]]
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{str(folder / SWEEP)!r} is damaged; choose another folder") from error
    # Other methods, draws and the like always try other settings, which then need no mention.
    if len(differing) > 1 and differing[-1] == _ASKED["candidates"]:
        del differing[-1]
    if differing:
        raise RequestError(
            f"{str(folder)!r} holds another sweep, which differs in {', '.join(differing)}; "
            "choose another folder, or ask for the same"
        )


def _is_ours(path: Path) -> bool:
    """What a sweep leaves that was stopped before it had written `sweep.json`."""
    return path.name.startswith(f".{_LOCK}.") or (path.name == FOLDER and not any(path.iterdir()))


@contextmanager
def claimed(folder: Path, request: Mapping[str, Any]) -> Iterator[None]:
    """Make the folder with its `sweep.json` and hold its lock; HeadwaterError when another process does."""
    with explained(folder / SWEEP):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with holding(folder, _LOCK):
        if not (folder / SWEEP).is_file():
            write_whole(folder / SWEEP, (json.dumps(dict(request), indent=1) + "\n").encode())
        check_folder(folder, request)  # again, now that nobody else can write here
        yield
