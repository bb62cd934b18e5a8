"""A sweep: methods x settings x seeds, all recipes in lock-step on one bank, kept as they finish.

This file is the order of events; its design, folds, figures, selection and files have places of their own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.errors import HeadwaterWarning
from headwater.heads.checkpoint import SUFFIX, HeadInfo, save_head
from headwater.heads.evaluation import report_on
from headwater.heads.fitting import as_task
from headwater.heads.methods import plan
from headwater.heads.methods.recipes import Bank, Ended, FittedHead, Planned, run_rounds
from headwater.heads.sweeps.candidates import ALL, Wanted
from headwater.heads.sweeps.deciding import aimed_at, deciding, judged_on
from headwater.heads.sweeps.design import Design, key_of, make_design
from headwater.heads.sweeps.parts import FOLDER, write_part
from headwater.heads.sweeps.results import (
    PICKED,
    Measured,
    SweepResult,
    is_finished,
    judged,
    load_sweep,
    measure,
    write_results,
)
from headwater.heads.sweeps.run_folder import check_folder, claimed, kept, trained_alike
from headwater.heads.sweeps.selection import (
    Aim,
    best,
    best_by_method,
    find_rule,
    pick_all,
)
from headwater.heads.sweeps.solving import SweepBank
from headwater.heads.tasks.task import Task

if TYPE_CHECKING:
    from headwater.store import Store

# Heads that the recipes of one lock-step run may hold between them, in bytes, and how many each may have.
_HELD_BYTES, _HEADS_EACH = 2 << 30, 30


@dataclass(frozen=True)
class SweepProgress:
    """Where a sweep is: `ended` of `recipes` are done with; the `round` now training asks for `heads`.

    With none it is measuring. `kept` of the recipes had their head before it went on.
    """

    round: int
    heads: int
    ended: int
    recipes: int
    kept: int = 0


def sweep(
    store: Store | Task | str | os.PathLike[str],
    *,
    target: str | int = "class",
    groups: str | int | Sequence[str | int] = (),
    split: str = "split",
    views: bool = False,
    methods: str | Sequence[str] = (ALL,),
    draws: int = 16,
    grid: Mapping[str, Sequence[Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 3,
    select: str | None = None,
    folds: int | None = None,
    out: str | os.PathLike[str] | None = None,
    replace: bool = False,
    device: str = "auto",
    bank: Bank | None = None,
    progress: Callable[[SweepProgress], None] | None = None,
) -> SweepResult:
    """Train every candidate of every method with every seed, measure all of them, and select side by side.

    Args:
        store: a store's path, an open store, or a Task; the next three name its columns as in `fit`.
        target: the column to predict, or a level's number.
        groups: columns crossed with the target, or levels, one or several.
        split: the column of splits.
        views: train on the store's augmented views, too; all figures are of the images alone.
        methods: names, one or more, or `all`: then those whose needs the task does not meet are skipped and
            listed.
        draws: settings of each method: its published ones, then random draws from its search space, which
            depend on the method and the first seed alone.
        grid: instead of draws, `METHOD.key` or `key` to the values to try, all combinations; a method
            without any keeps its published settings.
        settings: `METHOD.key` or `key` to a value that all candidates share.
        seeds: how many, or which.
        select: the rule that decides which heads are saved; None: see `selection.default_rule`.
        folds: parts of val for judging methods that read it, or without a val, of train for judging all of
            them; None: see `folds.cross_fits`.
        out: the run's folder. A sweep that was stopped goes on with what is kept there; a finished one is
            left alone, or selects anew when `select` is another rule. One that is asked for more methods,
            draws or seeds trains these and is measured anew; so is one of which heads failed, which are
            tried again. None: nothing is kept.
        replace: delete the sweep that is in the folder.
        device: auto, cpu or cuda.
        bank: trains the heads; None: a HeadBank on the task.
        progress: called before each round of training, and at the end.

    Heads are solved to `solving.TOLERANCE`, looser than `fit`'s, and their figures are the same whatever is
    trained beside them to about that. A recipe that fails does not take the others along: its row in the
    table says why, and its candidate is never picked. Warns when `select` is the
    oracle, which looks at test; a folder that was selected by it goes back to an honest rule when none is
    named.

    Raises:
        RequestError: before any training, for what cannot be meant: a method, setting, value or rule, a
            method asked for by name whose needs are not met, a folder with something else in it.
    """
    design = design_sweep(
        store,
        target=target,
        groups=groups,
        split=split,
        views=views,
        methods=methods,
        draws=draws,
        grid=grid,
        settings=settings,
        seeds=seeds,
        folds=folds,
    )
    return run_design(
        design, select=select, out=out, replace=replace, device=device, bank=bank, progress=progress
    )


def design_sweep(
    store: Store | Task | str | os.PathLike[str],
    *,
    target: str | int = "class",
    groups: str | int | Sequence[str | int] = (),
    split: str = "split",
    views: bool = False,
    methods: str | Sequence[str] = (ALL,),
    draws: int = 16,
    grid: Mapping[str, Sequence[Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 3,
    folds: int | None = None,
) -> Design:
    """What `sweep` would train, by the same arguments: everything is checked and nothing trained."""
    task = as_task(store, target, groups, split, views=views)
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    return make_design(task, Wanted(names, draws, grid, settings), seeds, folds)


def run_design(
    design: Design,
    *,
    select: str | None = None,
    out: str | os.PathLike[str] | None = None,
    replace: bool = False,
    device: str = "auto",
    bank: Bank | None = None,
    progress: Callable[[SweepProgress], None] | None = None,
) -> SweepResult:
    """Train and measure a design, and select; arguments and errors as of `sweep`."""
    rule = deciding(design, select)
    request = design.request()
    folder = None if out is None else Path(out)
    if folder is None:
        ended: dict[str, Ended] = {}
        for finished in _train(design, ended, bank=bank, device=device, progress=progress):
            ended.update(finished)
        return _warned(_result(design, request, measure(design, ended), rule, ended))
    check_folder(folder, request, replace=replace)
    with claimed(folder, request, replace=replace):
        done = load_sweep(folder) if is_finished(folder) else None
        if done is None or (done.failed and trained_alike(folder, request)):
            ended = kept(design, folder)
            for finished in _train(design, ended, bank=bank, device=device, progress=progress):
                ended.update(finished)
                write_part(folder / FOLDER, finished)
            result = _result(design, request, measure(design, ended), rule, ended)
            _save_heads(design, folder, result, ended)
            write_results(result, folder)
            return _warned(load_sweep(folder))
        done = replaced(done, already_done=True)
        # A rule that looks at test is for those alone who ask for it, every time.
        if done.rule == rule or (select is None and find_rule(done.rule).honest):
            return _warned(done)
        ended = kept(design, folder)
        result = _result(design, done.request, Measured(done.table, None), rule, ended)
        _save_heads(design, folder, result, ended)
        write_results(result, folder, new_table=False)
        return _warned(replaced(load_sweep(folder), already_done=True))


def _warned(result: SweepResult) -> SweepResult:
    if result.warning:
        warnings.warn(result.warning, HeadwaterWarning, stacklevel=4)
    return result


def _result(
    design: Design, request: Mapping[str, Any], found: Measured, rule: str, ended: Mapping[str, Ended]
) -> SweepResult:
    figures = judged(found.table)
    aim = aimed_at(design, rule)
    picks = tuple(pick_all(figures, aim))
    shown = {each.id for each in picks} | {
        each.id for each in best_by_method(figures, find_rule(rule)).values()
    }
    intervals = _intervals(design, shown, ended, aim)
    return SweepResult(request, found.table, picks, rule, design.skipped, intervals, by_group=found.by_group)


def _intervals(
    design: Design, wanted: Collection[str], ended: Mapping[str, Ended], aim: Aim
) -> dict[str, tuple[float, float]]:
    """The mean over the seeds of the ends of the interval of the figure aimed at on test, by candidate."""
    if "test" not in design.task.splits:
        return {}
    found = {}
    for candidate in design.candidates:
        if candidate.id not in wanted:
            continue
        heads = [ended[key_of(candidate, seed)] for seed in design.seeds]
        reports = report_on(
            design.task, [each.head for each in heads if isinstance(each, FittedHead)], "test"
        )
        drawn = [report.interval(aim) for report in reports if report.has_groups]
        ends = [(each.low, each.high) for each in drawn if each is not None]
        if ends:
            low, high = np.mean(ends, axis=0).tolist()
            found[candidate.id] = (low, high)
    return found


def _train(
    design: Design,
    ended: Mapping[str, Ended],
    *,
    bank: Bank | None,
    device: str,
    progress: Callable[[SweepProgress], None] | None,
) -> Iterator[dict[str, Ended]]:
    """Run in lock-step what has not ended, all at once unless the heads would not fit in memory.

    Yields what ends with each round.
    """
    task = design.task
    jobs = [job for job in design.jobs() if job.key not in ended]
    if not jobs:
        return
    if bank is None:
        from headwater.heads.bank.head_bank import HeadBank  # noqa: PLC0415  (imports torch)

        bank = HeadBank(task.features, task.target, len(task.classes), device=device)
    size = max(1, int(_HELD_BYTES / (4 * len(task.classes) * (task.dim + 1) * _HEADS_EACH)))
    before = done = len(ended)
    recipes, rounds = before + len(jobs), 0

    def tell(_number: int, heads: int) -> None:
        nonlocal rounds
        rounds += 1
        if progress is not None:
            progress(SweepProgress(rounds, heads, done, recipes, before))

    for first in range(0, len(jobs), size):
        batch = jobs[first : first + size]
        planned: list[Planned] = [
            plan(job.task, job.candidate.method, job.candidate.settings, seed=job.seed) for job in batch
        ]
        for finished in run_rounds(SweepBank(bank), planned, progress=tell, tolerant=True):
            done += len(finished)
            yield {batch[place].key: each for place, each in finished.items()}
    tell(0, 0)


def _save_heads(design: Design, folder: Path, result: SweepResult, ended: Mapping[str, Ended]) -> None:
    """Save, with the first seed, what the rule picks among each method's candidates, and among all."""
    task, rule = design.task, find_rule(result.rule)
    where = judged_on(design) if rule.honest else rule.split
    figures = judged(result.table)
    picked = best_by_method(figures, rule)
    files = {folder / "heads" / f"{name}{SUFFIX}": chosen for name, chosen in picked.items()}
    overall = best(figures, rule)
    if overall is not None:
        files[folder / PICKED] = overall
    keys = {path: f"{chosen.id}.s{design.seeds[0]}" for path, chosen in files.items()}
    fitted = {key: ended[key] for key in keys.values()}
    heads = {key: each for key, each in fitted.items() if isinstance(each, FittedHead)}
    reports = {
        name: dict(zip(heads, report_on(task, [each.head for each in heads.values()], name), strict=True))
        for name in ("val", "test")
        if name in task.splits and heads
    }
    for path, key in keys.items():
        summary = {name: found[key].to_dict() for name, found in reports.items()}
        info = HeadInfo.of(task, heads[key], summary, chosen_by=rule.name, chosen_on=where)
        save_head(path, heads[key].head, info, replace=True)
