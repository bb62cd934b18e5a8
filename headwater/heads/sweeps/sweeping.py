"""A sweep: methods x settings x seeds, all recipes in lock-step on one bank, kept as they finish.

This file is the order of events; its design, folds, figures, selection and files have places of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import RequestError
from headwater.heads.checkpoint import SUFFIX, HeadInfo, save_head
from headwater.heads.evaluation import report_on
from headwater.heads.fitting import as_task
from headwater.heads.methods import plan
from headwater.heads.methods.recipes import Bank, Ended, FittedHead, Planned, run_rounds
from headwater.heads.sweeps.candidates import ALL, Wanted
from headwater.heads.sweeps.design import Design, make_design
from headwater.heads.sweeps.parts import FOLDER, read_parts, write_part
from headwater.heads.sweeps.results import (
    PICKED,
    SweepResult,
    is_finished,
    judged,
    load_sweep,
    make_table,
    write_results,
)
from headwater.heads.sweeps.run_folder import check_folder, claimed
from headwater.heads.sweeps.selection import Judged, best, best_by_method, default_rule, find_rule, pick_all
from headwater.heads.tasks.columns import listed
from headwater.heads.tasks.task import Task

if TYPE_CHECKING:
    from headwater.store import Store

# Heads that the recipes of one lock-step run may hold between them, in bytes, and how many each may have.
_HELD_BYTES, _HEADS_EACH = 2 << 30, 30


@dataclass(frozen=True)
class SweepProgress:
    """Where a sweep is: `ended` of `recipes` have their head; the `round` now training asks for `heads`.

    With none it is measuring.
    """

    round: int
    heads: int
    ended: int
    recipes: int


def sweep(
    store: Store | Task | str | os.PathLike[str],
    *,
    target: str = "class",
    groups: Sequence[str] = (),
    split: str = "split",
    methods: str | Sequence[str] = (ALL,),
    draws: int = 16,
    grid: Mapping[str, Sequence[Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 3,
    select: str | None = None,
    folds: int | None = None,
    out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    bank: Bank | None = None,
    progress: Callable[[SweepProgress], None] | None = None,
) -> SweepResult:
    """Train every candidate of every method with every seed, measure all of them, and select side by side.

    Args:
        store: a store's path, an open store, or a Task; the next three name its columns as in `fit`.
        target: the column to predict.
        groups: columns crossed with the target.
        split: the column of splits.
        methods: names, one or more, or `all`: then those whose needs the task does not meet are skipped and
            listed.
        draws: settings of each method: its published ones, then random draws from its search space, which
            depend on the method and the first seed alone.
        grid: instead of draws, `METHOD.key` or `key` to the values to try, all combinations; a method
            without any keeps its published settings.
        settings: `METHOD.key` or `key` to a value that all candidates share.
        seeds: how many, or which.
        select: the rule that decides which heads are saved; None: see `selection.default_rule`.
        folds: parts of val for judging methods that read it; None: see `folds.cross_fits`.
        out: the run's folder. A sweep that was stopped goes on with what is kept there; a finished one is
            left alone, or selects anew when `select` is another rule. None: nothing is kept.
        device: auto, cpu or cuda.
        bank: trains the heads; None: a HeadBank on the task.
        progress: called before each round of training, and at the end.

    A recipe that fails does not take the others along: its row in the table says why, its traceback is
    logged, and its candidate is never picked.

    Raises:
        RequestError: before any training, for what cannot be meant: a method, setting, value or rule, a
            method asked for by name whose needs are not met, a folder with something else in it.
    """
    task = as_task(store, target, groups, split)
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    design = make_design(task, Wanted(names, draws, grid, settings), seeds, folds)
    rule = _rule(task, select)
    request = design.request()
    if out is None:
        ended: dict[str, Ended] = {}
        for finished in _train(design, ended, bank=bank, device=device, progress=progress):
            ended.update(finished)
        table = make_table(design, ended)
        return SweepResult(request, table, tuple(pick_all(judged(table))), rule, design.skipped)
    folder = Path(out)
    check_folder(folder, request)
    with claimed(folder, request):
        if not is_finished(folder):
            ended = read_parts(folder / FOLDER)
            for finished in _train(design, ended, bank=bank, device=device, progress=progress):
                ended.update(finished)
                write_part(folder / FOLDER, finished)
            table = make_table(design, ended)
            _save_heads(design, folder, judged(table), rule, ended)
            write_results(folder, table, pick_all(judged(table)), rule)
            return load_sweep(folder)
        done = replace(load_sweep(folder), already_done=True)
        if select is None or done.rule == rule:
            return done
        _save_heads(design, folder, judged(done.table), rule, read_parts(folder / FOLDER))
        write_results(folder, done.table, done.picks, rule, new_table=False)
        return replace(done, rule=rule)


def _rule(task: Task, name: str | None) -> str:
    """The rule's own name; RequestError where the task has not what it looks at."""
    groups_known = "val" in task.splits and bool((task.groups[task.rows("val").index] >= 0).any())
    if name is None:
        if "val" not in task.splits:
            raise RequestError(
                "there are no rows in split 'val', and every honest rule selects by val; draw such a split, "
                "or say select = 'oracle' to look at test"
            )
        counts = task.group_counts("val")
        return default_rule(groups_known=groups_known, smallest=min(filter(None, counts.tolist()), default=0))
    rule = find_rule(name)
    if rule.split not in task.splits:
        raise RequestError(
            f"rule {rule.name!r} looks at split {rule.split!r}, and column {task.split_name!r} has only "
            f"{listed(task.splits)}; draw another split or choose another rule"
        )
    if (
        rule.figure in ("worst_group", "balanced", "worst_group_likelihood")
        and rule.honest
        and not groups_known
    ):
        raise RequestError(
            f"rule {rule.name!r} needs groups, and no row of split 'val' has one; choose 'worst_class'"
        )
    return rule.name


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
    done, recipes, rounds = len(ended), len(ended) + len(jobs), 0

    def tell(_number: int, heads: int) -> None:
        nonlocal rounds
        rounds += 1
        if progress is not None:
            progress(SweepProgress(rounds, heads, done, recipes))

    for first in range(0, len(jobs), size):
        batch = jobs[first : first + size]
        planned: list[Planned] = [
            plan(job.task, job.candidate.method, job.candidate.settings, seed=job.seed) for job in batch
        ]
        for finished in run_rounds(bank, planned, progress=tell, tolerant=True):
            done += len(finished)
            yield {batch[place].key: each for place, each in finished.items()}
    tell(0, 0)


def _save_heads(
    design: Design, folder: Path, figures: Sequence[Judged], rule: str, ended: Mapping[str, Ended]
) -> None:
    """Save, with the first seed, what the rule picks among each method's candidates, and among all."""
    task = design.task
    picked = best_by_method(figures, find_rule(rule))
    files = {folder / "heads" / f"{name}{SUFFIX}": chosen for name, chosen in picked.items()}
    overall = best(figures, find_rule(rule))
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
        save_head(path, heads[key].head, HeadInfo.of(task, heads[key], summary), replace=True)
