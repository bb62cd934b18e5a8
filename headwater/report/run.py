"""A run as the report needs it: the head files of one folder that belong together, their store and task."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.errors import RequestError
from headwater.heads import HeadInfo, LinearHead, Task, load_head
from headwater.heads.evaluation import check_fits
from headwater.heads.sweeps.results import SWEEP, load_sweep
from headwater.report.text import shown
from headwater.store import open_store

if TYPE_CHECKING:
    from headwater.heads.sweeps.results import SweepResult
    from headwater.store import Store


@dataclass(frozen=True)
class RunHead:
    """One head file."""

    file: Path
    head: LinearHead
    info: HeadInfo


@dataclass(frozen=True)
class Run:
    """Heads that were trained on the same task, with their store, and the sweep that they are the best of."""

    folder: Path
    heads: tuple[RunHead, ...]
    store: Store
    task: Task
    sweep: SweepResult | None = None


def open_run(folder: str | os.PathLike[str], store: str | os.PathLike[str] | None = None) -> Run:
    """Read the heads in `folder`, or of the sweep in it, and open their store, or the one given for it.

    RequestError when the folder holds no heads, when two of them answer different questions, when the store
    is not where they say, or when its features are not theirs.
    """
    place = Path(folder)
    if not place.is_dir():
        raise RequestError(
            f"there is no folder of heads at {shown(place)!r}; "
            "give the folder that `headwater heads fit` or `headwater heads sweep` wrote with --out"
        )
    sweep = load_sweep(place) if (place / SWEEP).is_file() else None
    files = sorted((place if sweep is None else place / "heads").glob("*.safetensors"))
    if sweep is not None and sweep.failed and not files:
        lost = sweep.failures[0]
        raise RequestError(
            f"the sweep in {shown(place)!r} chose no head, since {shown(lost.what)} failed: "
            f"{shown(lost.reason)}; mend that and give its command again"
        )
    if not files:
        raise RequestError(
            f"{shown(place)!r} holds no heads (*.safetensors); make some with `headwater heads fit`"
        )
    heads = tuple(RunHead(file, *load_head(file)) for file in files)
    _check_alike(heads)
    first = heads[0].info
    opened = open_store(_store_place(heads[0], store))
    for each in heads:
        check_fits(each.head, each.info, opened, shown(each.file))
    task = Task.from_store(opened, first.target, first.group_columns, first.split, classes=first.classes)
    return Run(place, heads, opened, task, sweep)


def _store_place(head: RunHead, given: str | os.PathLike[str] | None) -> Path:
    if given is not None:
        return Path(given)
    place = Path(head.info.store_path)
    if not head.info.store_path or not place.exists():
        raise RequestError(
            f"the store that {shown(head.file.name)!r} was trained on is not at "
            f"{shown(head.info.store_path)!r}; name it with --store"
        )
    return place


def _check_alike(heads: Sequence[RunHead]) -> None:
    first = heads[0]
    for other in heads[1:]:
        for name, what in (
            ("target", "target"),
            ("group_columns", "groups"),
            ("split", "split column"),
            ("classes", "classes"),
            ("store_fingerprint", "features"),
        ):
            mine, theirs = getattr(first.info, name), getattr(other.info, name)
            if mine != theirs:
                raise RequestError(
                    f"{shown(first.file.name)!r} and {shown(other.file.name)!r} cannot stand in one report: "
                    f"they differ in {what} ({_short(mine)} and {_short(theirs)}); "
                    "keep them in folders of their own"
                )


def _short(value: object) -> str:
    text = shown(", ".join(value) if isinstance(value, tuple) else value) or "none"
    return repr(text if len(text) <= 40 else text[:30] + "…")
