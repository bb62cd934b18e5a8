"""The figures of a run's heads as one small table, `results.csv`, for people and for other programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from headwater.heads import Task, load_head, report_on
from headwater.heads.measures.metrics import GroupReport
from headwater.store.files import write_whole

COLUMNS = 2
"""Raised with every change of the table, so that one of an earlier form is measured anew."""


@dataclass(frozen=True)
class Figures:
    """How a head does on a split: accuracies between 0 and 1, NaN where no group is known.

    `worst_area` is the mean accuracy of the worst K % of the groups, averaged over K from 10 to 50, `low` and
    `high` the ends of its interval of 95 %, None where there is none. `note` says why figures of a split are
    none of new rows, and have no interval; empty where they are.
    """

    method: str
    split: str
    rows: int
    overall: float
    balanced: float
    worst_group: float
    worst_area: float
    low: float | None
    high: float | None
    note: str


def measure(task: Task, heads: Mapping[str, Path]) -> list[Figures]:
    """Every head on every split, by method."""
    loaded = {name: load_head(path) for name, path in heads.items()}
    found: dict[tuple[str, str], Figures] = {}
    for split in task.splits:
        reports = report_on(task, [head for head, _ in loaded.values()], split)
        for (name, (_, info)), report in zip(loaded.items(), reports, strict=True):
            found[name, split] = _figures(name, split, report, info.in_sample(split))
    return [found[name, split] for name in loaded for split in task.splits]


def _figures(method: str, split: str, report: GroupReport, note: str) -> Figures:
    known = report.has_groups
    interval = report.interval("worst_area") if known and not note else None
    return Figures(
        method=method,
        split=split,
        rows=report.rows,
        overall=report.overall,
        balanced=report.balanced if known else math.nan,
        worst_group=_number(report.worst_group.accuracy) if known else math.nan,
        worst_area=report.worst_curve().area if known else math.nan,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        note=note,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def write_figures(path: Path, found: list[Figures]) -> None:
    """Write the table, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(Figures)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(each) for each in found)
    write_whole(path, text.getvalue().encode())


def read_figures(path: Path) -> list[Figures]:
    """The table that `write_figures` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Figures(
                method=row["method"],
                split=row["split"],
                rows=int(row["rows"]),
                overall=float(row["overall"]),
                balanced=float(row["balanced"]),
                worst_group=float(row["worst_group"]),
                worst_area=float(row["worst_area"]),
                low=float(row["low"]) if row["low"] else None,
                high=float(row["high"]) if row["high"] else None,
                note=row["note"],
            )
            for row in csv.DictReader(file)
        ]
