"""What a page says of the worst K % of the groups: whether it is about them, their curve, and the gain."""

from __future__ import annotations

import numpy as np

from headwater.heads import Task
from headwater.heads.measures.metrics import GroupReport
from headwater.heads.measures.tail_intervals import area_difference
from headwater.heads.sweeps.selection import AREA, aim_of, find_rule
from headwater.report.data import Curve, Estimate, Judged
from headwater.report.run import Run, RunHead


def about_worst_shares(run: Run, split: str) -> bool:
    """Whether the groups' single worst says little: many and some small, or the nodes of a taxonomy."""
    if run.sweep is not None:
        return run.sweep.aim == AREA
    counts = run.task.group_counts(split)
    in_taxonomy = run.task.hierarchy is not None
    return aim_of(find_rule("overall"), counts[counts > 0], in_taxonomy=in_taxonomy) == AREA


def judged_groups(task: Task, split: str) -> Judged:
    """The groups that have images in `split`."""
    counts = task.group_counts(split)
    present = np.sort(counts[counts > 0])
    return Judged(len(present), len(counts) - len(present), int(present[(len(present) - 1) // 2]))


def curve_of(report: GroupReport, level: float) -> Curve:
    """The worst-K curve of one head with its intervals."""
    curve, ends = report.worst_curve(), report.worst_intervals(level=level)
    return Curve(curve.percents, curve.groups, curve.accuracies, ends.low, ends.high)


def gain(run: Run, split: str, level: float, baseline: RunHead, best: RunHead) -> Estimate | None:
    """How much larger the best head's area is than the baseline's, judged on the same images."""
    if baseline is best:
        return None
    task, rows = run.task, run.task.plain(split)
    base, top = task.predict([baseline.head, best.head], rows) == task.target[rows]
    found = area_difference(base, top, task.groups[rows], level=level)
    return Estimate(found.estimate, found.low, found.high)
