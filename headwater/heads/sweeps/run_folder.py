"""Whether a sweep may use a folder: a free one, or one that holds this very sweep or a part of it."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.heads.methods.recipes import Ended, FittedHead
from headwater.heads.sweeps.design import Design
from headwater.heads.sweeps.parts import FOLDER, read_parts, write_part
from headwater.heads.sweeps.results import GROUPS, PICKED, SELECTION, SWEEP, TABLE, TEXT, is_finished
from headwater.store.files import explained, explained_reading, refuse_unwritable, write_whole
from headwater.store.lock import holding

_LOCK = "sweep"
# What must agree for a sweep to go on, and what to call it.
_SAME = {
    "fingerprint": "how the features were made",
    "content": "the rows and their features",
    "target": "target",
    "groups": "groups",
    "split": "split",
    "views": "the augmented views trained on",
    "annotations": "the values in those columns",
    "folds": "folds",
}
# Of these there may be more than before; what else they ask for is told by the heads of the table.
_MORE = {"methods": "methods", "draws": "draws", "grid": "grid", "settings": "settings", "seeds": "seeds"}
_TRAINED_BY = ("headwater", "training")


def check_folder(folder: Path, request: Mapping[str, Any], *, replace: bool = False) -> None:
    """RequestError, naming what differs, unless the folder is free, or holds this sweep or a part of it.

    `replace`: any sweep may be in it.
    """
    refuse_unwritable(folder / SWEEP)
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{str(folder)!r} is a file; give a folder for the sweep")
    if not (folder / SWEEP).is_file():
        if folder.is_dir() and any(not _is_ours(each) for each in folder.iterdir()):
            raise RequestError(f"{str(folder)!r} holds something that is no sweep; choose another folder")
        return
    if replace:
        return
    asked = _plain(request)
    try:
        there = _there(folder)
        # Sweeps of earlier revisions do not say it; those of the same store are taken on trust.
        there.setdefault("content", asked["content"] if there["store"] == asked["store"] else "")
        lost = _trials(there) - _trials(asked)
        differing = [what for key, what in _SAME.items() if there[key] != asked[key]]
        if lost:
            differing += [what for key, what in _MORE.items() if there[key] != asked[key]]
        more = bool(_trials(asked) - _trials(there))
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{str(folder / SWEEP)!r} is damaged; choose another folder, or say --replace"
        ) from error
    if lost or differing:
        raise RequestError(
            f"{str(folder)!r} holds another sweep, which differs in "
            f"{', '.join(differing) or 'the settings to try'}; ask for all that it holds and more, "
            "choose another folder, or say --replace"
        )
    older = [there.get(name, 0) for name in _TRAINED_BY]
    if older != [asked[name] for name in _TRAINED_BY] and (more or not is_finished(folder)):
        raise RequestError(
            f"the heads in {str(folder)!r} were trained by another revision of headwater "
            f"({older[0]}, revision {older[1]}), and this one may come to others; choose another folder, or "
            "say --replace to train all of them anew"
        )


def _there(folder: Path) -> dict[str, Any]:
    with explained_reading(folder / SWEEP):
        found: dict[str, Any] = json.loads((folder / SWEEP).read_text())
    return {"views": 0, **found}


def _plain(request: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dict(request)))
    return found


def _trials(request: Mapping[str, Any]) -> set[tuple[str, str, int]]:
    """The rows that a request asks for, whatever it calls them."""
    return {
        (each["method"], _text(each["settings"]), seed)
        for each in request["candidates"]
        for seed in request["seeds"]
    }


def _text(settings: Mapping[str, Any]) -> str:
    return json.dumps(dict(settings), sort_keys=True)


def kept(design: Design, folder: Path) -> dict[str, Ended]:
    """What a folder holds of a design's recipes, by the keys that they have in this design.

    What failed there is not kept, so that it is tried again. Told by method, settings, seed and fold: where a
    sweep is asked for more, another candidate may have the key that one had before, and a fold another seed.
    """
    there = {
        (each.method, _text(each.settings), each.seed, _fold(key)): each
        for key, each in read_parts(folder / FOLDER)
        if isinstance(each, FittedHead)
    }
    found: dict[str, Ended] = {}
    for job in design.jobs():
        asked = job.candidate
        ended = there.get((asked.method, _text(asked.settings), job.seed, _fold(job.key)))
        if ended is not None:
            found[job.key] = ended
    return found


def trained_alike(folder: Path, request: Mapping[str, Any]) -> bool:
    """Whether the heads of a sweep's folder were trained by the revision that would add to them."""
    there = _there(folder)
    return [there.get(name, 0) for name in _TRAINED_BY] == [request[name] for name in _TRAINED_BY]


def differences(folder: Path, request: Mapping[str, Any]) -> list[str]:
    """What sets the heads of a folder apart from those of a request, in words; [] where they are alike.

    Which of them there are does not count.
    """
    asked = _plain(request)
    try:
        there = _there(folder)
    except (HeadwaterError, ValueError):
        return ["what can be read of it"]
    found = [what for key, what in _SAME.items() if there.get(key) != asked[key]]
    if any(there.get(key) != asked[key] for key in _TRAINED_BY):
        found.append("the revision of headwater that trained it")
    return found


def take_over(design: Design, earlier: Sequence[Path], folder: Path) -> int:
    """Begin a sweep in a free folder with what earlier ones trained of its recipes; how many these are."""
    request = design.request()
    found: dict[str, Ended] = {}
    with claimed(folder, request):
        for each in earlier:
            if not differences(each, request):
                found = {**kept(design, each), **found}
        write_part(folder / FOLDER, found)
    return len(found)


def _fold(key: str) -> int | None:
    """The fold of val in a recipe's key; None for a recipe on the whole task."""
    found = re.search(r"\.f(\d+)$", key)
    return int(found[1]) if found else None


def _is_ours(path: Path) -> bool:
    """What a sweep leaves that was stopped before it had written `sweep.json`."""
    return path.name.startswith(f".{_LOCK}.") or (path.name == FOLDER and not any(path.iterdir()))


@contextmanager
def claimed(folder: Path, request: Mapping[str, Any], *, replace: bool = False) -> Iterator[None]:
    """Make the folder with its `sweep.json` and hold its lock; HeadwaterError when another process does.

    A folder that asks for less, or was measured by another revision, asks for this from now on; `replace`
    deletes the sweep in it.
    """
    with explained(folder / SWEEP):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with holding(folder, _LOCK):
        check_folder(folder, request, replace=replace)  # again, now that nobody else can write here
        asked = _plain(request)
        if not (folder / SWEEP).is_file() or replace:
            if replace:
                _clear(folder)
            _write(folder, asked)
        else:
            there = _there(folder)
            older = there.get("measuring", 1)
            if older != asked["measuring"]:
                warnings.warn(
                    f"the figures in {str(folder)!r} were measured by another revision of headwater "
                    f"({older}, this is {asked['measuring']}) and are measured anew from the heads it kept",
                    HeadwaterWarning,
                    stacklevel=5,
                )
            # The same trials under other names, as of a grid in another order, are measured under those.
            if there["candidates"] != asked["candidates"] or (
                _trials(there) != _trials(asked) or older != asked["measuring"]
            ):
                _write(folder, {**asked, **{name: there.get(name) for name in _TRAINED_BY}})
        yield


def _write(folder: Path, request: Mapping[str, Any]) -> None:
    write_whole(folder / SWEEP, (json.dumps(request, indent=1) + "\n").encode())


def _clear(folder: Path) -> None:
    """Delete what a sweep made but `sweep.json`, the results before the heads, so that none are stale."""
    names = (SELECTION, TABLE, TEXT, GROUPS, PICKED)
    with explained(folder):
        for path in (
            *(folder / name for name in names),
            *folder.glob("heads/*"),
            *folder.glob(f"{FOLDER}/*"),
        ):
            path.unlink(missing_ok=True)
