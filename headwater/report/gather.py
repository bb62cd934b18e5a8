"""Fills a report's data from a run: measures its heads, counts, and reads the extraction's record."""

from __future__ import annotations

import hashlib
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from headwater._version import __version__
from headwater.heads import GroupReport, Task, report_on
from headwater.heads.evaluation import without_group
from headwater.heads.measures.metrics import Average
from headwater.report.data import (
    Estimate,
    Extraction,
    Group,
    GroupResult,
    MethodResult,
    ReportData,
    Stage,
)
from headwater.report.galleries import galleries_of
from headwater.report.nodes import level_results
from headwater.report.run import Run, RunHead
from headwater.report.text import command, settings, shown
from headwater.report.tried import asked, gather_sweep
from headwater.report.worst import about_worst_shares, curve_of, gain, judged_groups

ABOUT = "about.txt"
LEVEL = 0.95
MOST_HEADS = 40
MOST_GROUPS = 40
FEWER = 15  # groups shown where the page is about their worst K %, which no short list of them shows
MOST_FAILURES = 20

_BASELINE = "ERM"
_ORDER = {name: place for place, name in enumerate(("source", "decode", "backbone", "writer"))}


def gather(run: Run, images: str | os.PathLike[str] | None = None) -> ReportData:
    """What the report of `run` says; `images`: where the pictures are, if not where the store names."""
    task = run.task
    split, note = _reported_split(task)
    reports = report_on(task, [each.head for each in run.heads], split)
    names = _unique_names(run.heads)
    many = about_worst_shares(run, split)
    where = split, task
    every = [_method(*parts, where, many=many) for parts in zip(names, run.heads, reports, strict=True)]
    every.sort(key=lambda m: (-m.aimed.value, -m.overall.value, m.name))
    best = _best(run, every)
    baseline = next((m for m in every if m.method == _BASELINE), every[-1])
    methods = every
    if len(every) > MOST_HEADS:
        methods = every[:MOST_HEADS]
        kept_anyway = [each for each in (best, baseline) if each not in methods]
        methods = [*methods[: MOST_HEADS - len(kept_anyway)], *kept_anyway]
        note += (
            f" The run has {len(every)} heads; shown are {len(methods)}, the best"
            f" by the {'worst K % of the groups' if many else 'worst group'}."
        )
    said = dict(zip(names, reports, strict=True))
    kept, group_note = _kept_groups(task, baseline, best, said)
    methods = [
        replace(method, groups=tuple(_group(said[method.name].by_group[g]) for g in kept))
        for method in methods
    ]
    by_name = dict(zip(names, run.heads, strict=True))
    place = run.store.plan.source if images is None else images
    galleries, gallery_note = galleries_of(
        run, split, (baseline, by_name[baseline.name]), (best, by_name[best.name]), place
    )
    group_columns = tuple(map(shown, task.group_columns))
    return ReportData(
        title=f"{' by '.join([shown(task.target_name), *group_columns])}: headwater report",
        identity=identity(run),
        target=shown(task.target_name),
        group_columns=group_columns,
        split=split,
        splits=tuple(task.splits),
        split_rows={name: len(rows) for name, rows in task.splits.items()},
        classes=_classes(task),
        groups=tuple(
            Group(shown(task.group_names[g]), {name: int(task.group_counts(name)[g]) for name in task.splits})
            for g in kept
        ),
        total_classes=len(task.classes),
        total_groups=len(task.group_names),
        group_note=group_note,
        left_out=_left_out(task),
        methods=tuple(methods),
        baseline=baseline.name,
        best=best.name,
        extraction=_extraction(run),
        galleries=galleries,
        gallery_note=gallery_note,
        about=_about(run),
        note=note.strip(),
        level=LEVEL,
        commands=_commands(run),
        sweep=None if run.sweep is None else gather_sweep(run.sweep, split, baseline.name),
        gain=gain(run, split, LEVEL, by_name[baseline.name], by_name[best.name]) if many else None,
        judged=judged_groups(task, split) if many else None,
        levels=level_results(list(dict.fromkeys([baseline.name, best.name])), said, LEVEL),
        versions={"headwater": __version__, "Python": platform.python_version(), "NumPy": np.__version__},
    )


def identity(run: Run) -> str:
    """What a page is the report of: the same folder's name, features, rows and question, as a hash."""
    task, plan = run.task, run.store.plan
    parts = [
        run.folder.resolve().name,
        plan.fingerprint,
        plan.keys_sha256,
        task.target_name,
        *task.group_columns,
        task.split_name,
    ]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _about(run: Run) -> str:
    """What the run's maker says about it, from the file `about.txt` beside the heads."""
    try:
        return " ".join(shown(word) for word in (run.folder / ABOUT).read_text("utf-8", "replace").split())
    except OSError:
        return ""


def _reported_split(task: Task) -> tuple[str, str]:
    """The split the heads are measured on, and what to say of it where that is not test."""
    if "test" in task.splits:
        return "test", ""
    if "val" in task.splits:
        return "val", (
            "There is no test split, so the heads are measured on val; "
            "a head that has seen val looks better here than it is, and is marked."
        )
    return "train", (
        "There is no test and no val split, so the heads are measured on the images they were trained on: "
        "these figures say nothing about new images."
    )


def _best(run: Run, methods: Sequence[MethodResult]) -> MethodResult:
    """The head that is set beside the baseline: the sweep's pick, or the best worst group of a few heads."""
    pick = None if run.sweep is None else run.sweep.pick
    return next((m for m in methods if pick is not None and m.method == pick.method), methods[0])


def _unique_names(heads: Sequence[RunHead]) -> list[str]:
    """The method's name where it is alone in the run, else the file's."""
    times = Counter(each.info.method for each in heads)
    return [shown(each.info.method if times[each.info.method] == 1 else each.file.stem) for each in heads]


def _method(
    name: str, each: RunHead, report: GroupReport, where: tuple[str, Task], *, many: bool
) -> MethodResult:
    """One head's figures; `where`: the split, and the content of the store whose it is."""
    info, ending = each.info, each.head.convergence
    worst = report.worst_group

    def estimate(what: Average, value: float) -> Estimate:
        interval = report.interval(what, level=LEVEL)
        return Estimate(value, interval.low, interval.high) if interval else Estimate(value)

    return MethodResult(
        name=name,
        method=info.method,
        file=shown(each.file.name),
        worst_group=shown(worst.name),
        worst=estimate("worst_group", worst.correct / worst.count),
        overall=estimate("overall", report.overall),
        balanced=estimate("balanced", report.balanced),
        train_weighted=(
            None if report.train_weighted is None else estimate("train_weighted", report.train_weighted)
        ),
        groups=(),
        converged=ending.converged and not info.unconverged,
        convergence_note=shown(ending.message),
        iterations=ending.iterations,
        seconds=info.seconds or None,
        trained=info.trained or None,
        unconverged=info.unconverged,
        settings=settings(info.settings),
        choices=settings(info.choices),
        in_sample=shown(info.in_sample(*where)),
        stepped=ending.stepped and not ending.converged and not info.unconverged,
        area=estimate("worst_area", report.worst_curve().area) if many else None,
        curve=curve_of(report, LEVEL) if many else None,
    )


def _group(group: Any) -> GroupResult:
    interval = group.interval(LEVEL)
    accuracy = None if interval is None else Estimate(group.accuracy, interval.low, interval.high)
    return GroupResult(shown(group.name), group.count, group.correct, accuracy)


def _kept_groups(
    task: Task, baseline: MethodResult, best: MethodResult, said: Mapping[str, GroupReport]
) -> tuple[list[int], str]:
    """The groups that are shown: all, or those that the baseline or the best head is worst for."""
    total = len(task.group_names)
    if total <= MOST_GROUPS:
        return list(range(total)), ""

    pair = [said[method.name].by_group for method in (baseline, best)]

    def lowest(g: int) -> float:
        found = [groups[g].accuracy for groups in pair]
        return min((accuracy for accuracy in found if accuracy is not None), default=2.0)

    kept = sorted(range(total), key=lowest)[: FEWER if baseline.area is not None else MOST_GROUPS]
    missing = sum(not group.count for group in pair[0])
    which = baseline.name if baseline is best else f"{baseline.name} or {best.name}"
    note = f"Shown are the {len(kept)} of {total:,} groups that are worst for {which}."
    return kept, note + (f" {missing:,} groups have no images in this split." if missing else "")


def _classes(task: Task) -> tuple[Group, ...]:
    counts = {split: task.class_counts(split) for split in task.splits}
    largest = sorted(range(len(task.classes)), key=lambda c: -sum(int(n[c]) for n in counts.values()))
    return tuple(
        Group(shown(task.classes[c]), {split: int(n[c]) for split, n in counts.items()})
        for c in sorted(largest[:MOST_GROUPS])
    )


def _left_out(task: Task) -> str:
    left = task.left_out
    parts = [
        (left.failed, "that failed to extract"),
        (left.without_target, f"without a {shown(task.target_name)}"),
        (left.without_split, "in no split"),
    ]
    listed = [f"{count:,} {why}" for count, why in parts if count]
    said = [f"Left out: {', '.join(listed)}."] if listed else []
    unknown = [f"{count:,} of {split}" for split, count in without_group(task).items()]
    if unknown:
        said.append(f"Without a known group, and in no figure of groups: {', '.join(unknown)}.")
    return " ".join(said)


def _extraction(run: Run) -> Extraction:
    store, plan = run.store, run.store.plan
    runs = [each for each in store.runs if each.get("rows")]
    last: Mapping[str, Any] = runs[-1] if runs else {}
    seconds = sum(float(each.get("seconds", 0)) for each in runs)
    rows = sum(int(each["rows"]) for each in runs)
    measured = {str(name): float(rate) for name, rate in (last.get("rates") or {}).items() if rate}
    # The record is sorted by name; people follow a picture's way.
    rates = {name: measured[name] for name in sorted(measured, key=lambda n: (_ORDER.get(n, 99), n))}
    machine = last.get("machine") or {}
    errors = store.errors
    return Extraction(
        source=shown(plan.source),
        store=shown(store.path),
        rows=len(store),
        failed=len(errors),
        failures=tuple((shown(store.keys[row]), shown(why)) for row, why in errors[:MOST_FAILURES]),
        backbone=shown(plan.recipe.get("backbone", "made elsewhere")),
        weights=shown(plan.details.get("weights") or ""),
        layer=shown(plan.details.get("feature_layer") or ""),
        dim=store.dim,
        dtype=plan.dtype,
        views=store.views,
        fingerprint=plan.fingerprint,
        device=shown(machine.get("gpu") or last.get("device", "")),
        engine=shown(last.get("engine", "")),
        machine=shown(f"{machine['cpu']}, {machine.get('cores', '?')} cores" if "cpu" in machine else ""),
        seconds=seconds or None,
        rate=rows / seconds if seconds else None,
        runs=len(runs),
        stages=tuple(Stage(shown(name), rate, name == last.get("slowest")) for name, rate in rates.items()),
    )


def _commands(run: Run) -> tuple[str, ...]:
    """The commands that lead here, as far as the store and the heads record them."""
    plan, task = run.store.plan, run.task
    found = []
    if plan.source and "backbone" in plan.recipe:
        words = ["headwater", "extract", plan.source, "--out", run.store.path]
        weights = plan.details.get("weights")
        words += ["--backbone", plan.recipe["backbone"], *(["--weights", weights] if weights else [])]
        found.append(command(*words))
        columns = ", ".join(
            map(shown, dict.fromkeys([task.target_name, *task.group_columns, task.split_name]))
        )
        found.append(
            f"# columns used: {columns}; add what the images do not bring with headwater store annotate"
        )
    about = ["--target", task.target_name]
    about += ["--groups", ",".join(task.group_columns)] if task.group_columns else []
    about += ["--split", task.split_name] if task.split_name != "split" else []
    if run.sweep is not None:
        words = ["headwater", "heads", "sweep", run.store.path, *about, *asked(run.sweep)]
        found.append(command(*words, "--out", run.folder))
    else:
        for each in run.heads:
            words = ["headwater", "heads", "fit", run.store.path, *about, "--method", each.info.method]
            words += ["--views"] if each.info.views else []
            found.append(command(*words, "--out", each.file))
    return (*found, command("headwater", "report", run.folder))
