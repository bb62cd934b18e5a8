"""Fitting methods on a store from one call: plan everything, run in lock-step, measure, save."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import HeadwaterWarning, RequestError
from headwater.heads.checkpoint import SUFFIX, HeadInfo, check_place, save_head
from headwater.heads.evaluation import report_on, small_groups, without_group
from headwater.heads.measures.metrics import GroupReport
from headwater.heads.methods import find_method, plan
from headwater.heads.methods.recipes import FittedHead, Planned, run_recipes
from headwater.heads.specs.head import LinearHead
from headwater.heads.tasks.task import LeftOut, Task

if TYPE_CHECKING:
    from headwater.store import Store


@dataclass(frozen=True)
class FitResult:
    """A fitted head, its reports on val and test where there are such rows, and its file if it was saved.

    `left_out` counts the rows of the store that took no part, `without_group` by split those of no known
    group, `small_groups` the rows in train of groups that have hardly any. Whether a report is on rows that
    the head has seen says `info.in_sample(split)`.
    """

    fitted: FittedHead
    info: HeadInfo
    reports: Mapping[str, GroupReport]
    left_out: LeftOut
    path: Path | None = None
    without_group: Mapping[str, int] = field(default_factory=dict)
    small_groups: Mapping[str, int] = field(default_factory=dict)

    @property
    def head(self) -> LinearHead:
        """The head itself."""
        return self.fitted.head


def fit(
    store: Store | Task | str | os.PathLike[str],
    *,
    target: str | int = "class",
    groups: str | int | Sequence[str | int] = (),
    method: str = "ERM",
    settings: Mapping[str, Any] | None = None,
    split: str = "split",
    views: bool = False,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    replace: bool = False,
    device: str = "auto",
) -> FitResult:
    """Fit one method on a store (or a Task) and measure it on val and test.

    `groups`: annotation columns crossed with the target, or levels by name or number, one or several; none:
    the groups are the classes. `settings`: the method's own, listed by `headwater heads methods`. `views`:
    train on the store's augmented views, too. `out`: where to save the head. Raises RequestError before any
    work for anything that is wrong with the request.
    """
    (result,) = fit_many(
        store,
        target=target,
        groups=groups,
        methods=[(method, settings or {})],
        split=split,
        views=views,
        seed=seed,
        out=None if out is None else [Path(out)],
        replace=replace,
        device=device,
    )
    return result


def fit_many(
    store: Store | Task | str | os.PathLike[str],
    *,
    methods: Sequence[tuple[str, Mapping[str, Any]]],
    target: str | int = "class",
    groups: str | int | Sequence[str | int] = (),
    split: str = "split",
    views: bool = False,
    seed: int = 0,
    out: Sequence[Path] | None = None,
    replace: bool = False,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> list[FitResult]:
    """Fit several methods, each a name with its settings, in lock-step on the same features.

    `out`: one file per method. `progress(round, heads)` is called before each round of training. RequestError
    before any training for columns, methods, settings or files that cannot be meant.
    """
    if out is not None:
        for path in out:
            if path.suffix != SUFFIX:
                raise RequestError(f"a head's file is named *{SUFFIX}, and this is {str(path)!r}")
            check_place(path, replace=replace)
    task = as_task(store, target, groups, split, views=views)
    planned: list[Planned] = [plan(task, name, given, seed=seed) for name, given in methods]
    fitted = run_recipes(task, planned, device=device, progress=progress)
    reports = {
        name: report_on(task, [each.head for each in fitted], name)
        for name in ("val", "test")
        if name in task.splits
    }
    results = []
    for place, each in enumerate(fitted):
        mine = {name: found[place] for name, found in reports.items()}
        info = HeadInfo.of(task, each, {name: report.to_dict() for name, report in mine.items()})
        saved = None if out is None else out[place]
        if saved is not None:
            save_head(saved, each.head, info, replace=replace)
        if each.unconverged:
            warnings.warn(
                f"{each.method} did not converge ({each.unconverged} of {each.trained} heads)"
                + (
                    f": {each.obstacle}"
                    if each.obstacle
                    else f"; raise its setting max_iterations, now {each.settings['max_iterations']}"
                ),
                HeadwaterWarning,
                stacklevel=3,
            )
        results.append(
            FitResult(each, info, mine, task.left_out, saved, without_group(task), small_groups(task))
        )
    return results


def as_task(
    store: Store | Task | str | os.PathLike[str],
    target: str | int,
    groups: str | int | Sequence[str | int],
    split: str,
    *,
    views: bool = False,
) -> Task:
    """The task in a store's columns, with its augmented views if wanted; a Task is given back as it is."""
    if isinstance(store, Task):
        return store
    names = _named(groups)
    if isinstance(store, (str, os.PathLike)):
        from headwater.store import open_store  # noqa: PLC0415

        store = open_store(store)
    return Task.from_store(store, target, names, split, views=views)


def _named(groups: Any) -> list[str | int]:
    """One column or level, or several, as a list; RequestError for anything else."""
    several = [groups] if isinstance(groups, (str, Integral)) else groups
    found = list(several) if isinstance(several, Iterable) else [several]
    for each in found:
        if not isinstance(each, (str, Integral)) or isinstance(each, bool):
            what = "None" if each is None else f"a {type(each).__name__}"
            raise RequestError(
                f"groups are names of columns or numbers of levels, not {what}; leave them out to have the "
                "classes as groups"
            )
    return found


def run_paths(folder: Path, names: Sequence[str]) -> list[Path]:
    """The head files of a run's folder, one per method."""
    return [folder / f"{find_method(name).name}{SUFFIX}" for name in names]
