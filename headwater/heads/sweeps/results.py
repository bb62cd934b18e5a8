"""What a sweep came to: one table of every figure on every split, and its folder on disk.

The files of the folder, the columns of the table and the rules are described in `RUN.md` beside this file.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, csv, parquet

from headwater.errors import RequestError
from headwater.heads.methods.recipes import Ended, FailedRecipe, FittedHead
from headwater.heads.sweeps.candidates import Candidate, Skipped
from headwater.heads.sweeps.design import Design, key_of, twin_of
from headwater.heads.sweeps.measuring import (
    FIGURES,
    MEASURING,
    MOST_GROUPS,
    OF_VAL,
    SplitFigures,
    measure_out_of_fold,
    measure_split,
)
from headwater.heads.sweeps.selection import AREA, Aim, Judged, Pick, find_rule
from headwater.heads.tasks.task import Task
from headwater.printable import counted
from headwater.store.files import explained_reading, write_whole

SWEEP, TABLE, TEXT, SELECTION = "sweep.json", "results.parquet", "results.csv", "selection.json"
GROUPS = "groups.parquet"
PICKED = "picked.safetensors"


@dataclass(frozen=True)
class Failures:
    """What failed of a method: `failed` of its `rows` in the table, the first of which is `id`, and why."""

    method: str
    failed: int
    rows: int
    id: str
    reason: str

    @property
    def what(self) -> str:
        """The row that failed, or how many of the method's, for people."""
        if self.failed == 1:
            return self.id
        return f"{self.failed:,} of {counted(self.rows, 'head')} of {self.method}, such as {self.id}"


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep. `request` is what `sweep.json` says: store, task, methods, draws, seeds, candidates.

    `table`: a row for every candidate and seed; its columns are described in `RUN.md` beside this file.
    `picks`: what each rule picks; `rule` is the one that was asked for. `intervals`: low and high end by
    candidate, for the picks and each method's best by the rule: 95 % intervals on test of the figure that the
    rule aims at, of the worst group or the worst K %, the mean over the seeds of each end. `folder` is None
    when nothing was kept.
    `already_done`: nothing was left to train. `by_group`: where the groups are too many for columns of the
    table, a row for each with its accuracies; of a folder it is `groups.parquet` and not read.
    """

    request: Mapping[str, Any]
    table: pa.Table
    picks: tuple[Pick, ...]
    rule: str
    skipped: tuple[Skipped, ...]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    folder: Path | None = None
    already_done: bool = False
    by_group: pa.Table | None = None

    @property
    def aim(self) -> Aim:
        """The figure on test that whoever decides is after, see `selection.aim_of`."""
        return self.picks[0].aim if self.picks else "worst_group"

    @property
    def pick(self) -> Pick | None:
        """What the asked rule picked; None where no head has its figure."""
        return next((pick for pick in self.picks if pick.rule == self.rule), None)

    @property
    def warning(self) -> str:
        """What must be said of a rule that looked at test; empty for an honest one."""
        if find_rule(self.rule).honest:
            return ""
        return (
            f"rule {self.rule!r} chose by looking at test, so that what test says of its pick holds for no "
            "new rows; choose by a rule that looks at val"
        )

    @property
    def failed(self) -> tuple[tuple[str, str], ...]:
        """The ids of rows that failed, and why."""
        rows = zip(self.table["id"].to_pylist(), self.table["error"].to_pylist(), strict=True)
        return tuple((each, reason) for each, reason in rows if reason)

    @property
    def failures(self) -> tuple[Failures, ...]:
        """What failed, by method."""
        names = self.table["method"].to_pylist()
        method_of = dict(zip(self.table["id"].to_pylist(), names, strict=True))
        found: dict[str, list[tuple[str, str]]] = {}
        for row, reason in self.failed:
            found.setdefault(method_of[row], []).append((row, reason))
        return tuple(Failures(name, len(mine), names.count(name), *mine[0]) for name, mine in found.items())

    @property
    def trained(self) -> int:
        """How many rows of the table have a head."""
        return int(self.table.num_rows - self.table["trained"].null_count)

    @property
    def fewer_settings(self) -> dict[str, int]:
        """How many settings there are of each method whose space holds fewer than were asked for."""
        return fewer_settings(self.request)

    def settings_of(self, candidate: str) -> dict[str, Any]:
        """The settings of a candidate by its id."""
        return next(dict(each["settings"]) for each in self.request["candidates"] if each["id"] == candidate)


def fewer_settings(request: Mapping[str, Any]) -> dict[str, int]:
    """How many settings a request has of each method whose space holds fewer than its draws."""
    if request["draws"] is None:
        return {}
    counts = Counter(each["method"] for each in request["candidates"])
    left_out = Counter({each["method"]: each["settings"] for each in request["skipped"]})
    return {name: count for name, count in counts.items() if count + left_out[name] < request["draws"]}


@dataclass(frozen=True)
class Measured:
    """The table of a sweep, one row per trial, and that of many groups; columns of both as in `RUN.md`."""

    table: pa.Table
    by_group: pa.Table | None


def measure(design: Design, ended: Mapping[str, Ended]) -> Measured:
    """Measure everything that was trained."""
    task, folds, rows = design.task, design.folds, design.trials
    full = [ended[key_of(*row)] for row in rows]
    fitted = {place: each for place, each in enumerate(full) if isinstance(each, FittedHead)}
    twins = {
        place: [ended[twin_of(candidate, number)] for number in range(len(folds.folds))]
        for place, (candidate, _) in enumerate(rows)
        if design.crossed(candidate)
    }
    columns: dict[str, Any] = _columns(rows, full, twins)
    of_groups: dict[str, Any] = _about_groups(task)
    many = len(task.group_names) > MOST_GROUPS
    for split in ("train", "val", "test"):
        found = None
        if split in task.splits and fitted:
            found = measure_split(task, [each.head for each in fitted.values()], split)
        columns.update(_figures(split, found, list(fitted), len(rows), () if many else task.group_names))
        if many and found and split != "train":
            of_groups.update(_of_groups(split, found, [columns["id"][place] for place in fitted]))
    crossed = [
        place
        for place, mine in twins.items()
        if place in fitted and all(isinstance(each, FittedHead) for each in mine)
    ]
    found = None
    if crossed:
        heads = [
            [twins[place][fold].head for place in crossed]  # type: ignore[union-attr]
            for fold in range(len(folds.folds))
        ]
        found = measure_out_of_fold(task, folds, heads)
    columns.update(_figures("cv", found, crossed, len(rows), () if many else task.group_names))
    if many and found:
        of_groups.update(_of_groups("cv", found, [columns["id"][place] for place in crossed]))
    crossed_over = pa.array([design.crossed(candidate) for candidate, _ in rows])
    for name in (*FIGURES, *OF_VAL):
        columns[f"judged.{name}"] = compute.if_else(
            crossed_over, columns[f"cv.{name}"], columns[f"val.{name}"]
        )
    return Measured(pa.table(columns), pa.table(of_groups) if many else None)


def _about_groups(task: Task) -> dict[str, Any]:
    counts = {f"rows.{split}": task.group_counts(split) for split in task.splits}
    return {"group": list(task.group_names), **counts}


def _of_groups(prefix: str, found: SplitFigures, ids: Sequence[str]) -> dict[str, pa.Array]:
    """A column for each head with its accuracies by group, null without rows."""
    missing = np.isnan(found.by_group).all(axis=0)
    return {
        f"{prefix}.{name}": pa.array(values.astype(np.float32), mask=missing)
        for name, values in zip(ids, found.by_group, strict=True)
    }


def _columns(
    rows: Sequence[tuple[Candidate, int]], full: Sequence[Ended], twins: Mapping[int, Sequence[Ended]]
) -> dict[str, Any]:
    """All that is known of a row besides its figures."""

    def of(name: str) -> list[Any]:
        return [getattr(each, name) if isinstance(each, FittedHead) else None for each in full]

    def error(place: int, each: Ended) -> str | None:
        if isinstance(each, FailedRecipe):
            return each.reason
        lost = [twin for twin in twins.get(place, ()) if isinstance(twin, FailedRecipe)]
        return f"could not be judged on held-out rows: {lost[0].reason}" if lost else None

    heads = [each.head.convergence if isinstance(each, FittedHead) else None for each in full]
    done = {  # counted once, with the candidate's first row
        place: [twin for twin in mine if isinstance(twin, FittedHead)]
        for place, mine in twins.items()
        if place == 0 or rows[place - 1][0] is not rows[place][0]
    }
    choices = [json.dumps(dict(each.choices)) if isinstance(each, FittedHead) else None for each in full]
    return {
        "id": [key_of(*row) for row in rows],
        "candidate": [candidate.id for candidate, _ in rows],
        "method": [candidate.method for candidate, _ in rows],
        "number": [candidate.number for candidate, _ in rows],
        "seed": [seed for _, seed in rows],
        "settings": [json.dumps(dict(candidate.settings)) for candidate, _ in rows],
        "choices": pa.array(choices, pa.string()),
        "val_in_sample": [candidate.val_in_sample for candidate, _ in rows],
        "error": pa.array([error(place, each) for place, each in enumerate(full)], pa.string()),
        "converged": pa.array(
            [
                None if head is None else head.converged and not left
                for head, left in zip(heads, of("unconverged"), strict=True)
            ],
            pa.bool_(),
        ),
        "unconverged": pa.array(of("unconverged"), pa.int64()),
        "obstacle": pa.array(of("obstacle"), pa.string()),
        "iterations": pa.array([head and head.iterations for head in heads], pa.int64()),
        "seconds": pa.array(of("seconds"), pa.float64()),
        "trained": pa.array(of("trained"), pa.int64()),
        "rounds": pa.array(of("rounds"), pa.int64()),
        "cv.seconds": pa.array(_sums(done, "seconds", len(rows)), pa.float64()),
        "cv.trained": pa.array(_sums(done, "trained", len(rows)), pa.int64()),
        "cv.unconverged": pa.array(_sums(done, "unconverged", len(rows)), pa.int64()),
    }


def _sums(twins: Mapping[int, Sequence[FittedHead]], name: str, rows: int) -> list[Any]:
    return [
        sum(getattr(twin, name) for twin in twins[place]) if place in twins else None for place in range(rows)
    ]


def _figures(
    prefix: str, found: SplitFigures | None, places: Sequence[int], rows: int, group_names: Sequence[str]
) -> dict[str, pa.Array]:
    def spread(values: NDArray[np.float64] | None) -> pa.Array:
        column = np.full(rows, np.nan)
        if values is not None:
            column[list(places)] = values
        return pa.array(column, mask=np.isnan(column))

    names = (*FIGURES, *OF_VAL) if prefix in ("val", "cv") else FIGURES
    columns = {f"{prefix}.{name}": spread(found.figures[name] if found else None) for name in names}
    if prefix != "train":
        for code, name in enumerate(group_names):
            columns[f"{prefix}.group.{name}"] = spread(found.by_group[:, code] if found else None)
    return columns


def judged(table: pa.Table) -> list[Judged]:
    """The candidates of a table for selection, in its order: means over seeds of the `judged.…` figures.

    A candidate of which a seed failed is left out.
    """
    test = {name: table[f"test.{name}"].to_numpy() for name in FIGURES}
    errors = np.array([bool(error) for error in table["error"].to_pylist()])
    honest = {name: table[f"judged.{name}"].to_numpy() for name in (*FIGURES, *OF_VAL)}
    names = np.array(table["candidate"].to_pylist())
    found = []
    for name in dict.fromkeys(names.tolist()):
        mine = names == name
        if errors[mine].any():
            continue
        first = int(np.argmax(mine))
        found.append(
            Judged(
                id=name,
                method=table["method"][first].as_py(),
                number=table["number"][first].as_py(),
                val={key: float(values[mine].mean()) for key, values in honest.items()},
                test={key: float(values[mine].mean()) for key, values in test.items()},
                test_of_seeds={key: tuple(test[key][mine].tolist()) for key in ("worst_group", AREA)},
            )
        )
    return found


def write_results(result: SweepResult, folder: Path, *, new_table: bool = True) -> None:
    """Write the table and the selection, each file whole or not at all; the selection comes last."""
    if new_table:
        _write_table(folder / TABLE, result.table, parquet.write_table)
        _write_table(folder / TEXT, result.table, csv.write_csv)
        if result.by_group is not None:
            _write_table(folder / GROUPS, result.by_group, parquet.write_table)
    chosen = {
        "of": _digest(folder),
        "rule": result.rule,
        **({"warning": result.warning} if result.warning else {}),
        "picks": [_without_nan(asdict(pick)) for pick in result.picks],
        "intervals": {name: list(ends) for name, ends in result.intervals.items()},
    }
    write_whole(folder / SELECTION, (json.dumps(chosen, indent=1) + "\n").encode())


def _write_table(path: Path, table: pa.Table, write: Callable[..., Any]) -> None:
    buffer = io.BytesIO()
    write(table, buffer)
    write_whole(path, buffer.getbuffer())


def _digest(folder: Path) -> str:
    """Of what was asked, by which results are known to be of that and of nothing else."""
    return hashlib.sha256((folder / SWEEP).read_bytes()).hexdigest()


def is_finished(folder: Path) -> bool:
    """Whether a sweep's folder holds the results of what its `sweep.json` asks for."""
    if not all((folder / name).is_file() for name in (SWEEP, TABLE, SELECTION)):
        return False
    try:
        with explained_reading(folder):
            return bool(json.loads((folder / SELECTION).read_text())["of"] == _digest(folder))
    except (ValueError, KeyError, TypeError):  # damaged: made anew from the heads that were kept
        return False


def load_sweep(run: str | os.PathLike[str]) -> SweepResult:
    """Read a finished sweep's folder; RequestError when it is none, unfinished or damaged."""
    folder = Path(run)
    if not (folder / SWEEP).is_file():
        raise RequestError(f"{str(folder)!r} holds no sweep; `headwater heads sweep --out` makes one")
    try:
        with explained_reading(folder):
            request = json.loads((folder / SWEEP).read_text())
            if request.get("measuring") != MEASURING:
                raise RequestError(
                    f"the figures in {str(folder)!r} were measured by another revision of headwater "
                    f"({request.get('measuring', 1)}, and this is {MEASURING}); give its command again: "
                    "they are measured anew from the heads it kept"
                )
            if not is_finished(folder):
                raise RequestError(
                    f"the sweep in {str(folder)!r} is not finished; give its command again and it goes on"
                )
            chosen = json.loads((folder / SELECTION).read_text())
            table = parquet.read_table(folder / TABLE)
        picks = tuple(Pick(**_with_nan(each)) for each in chosen["picks"])
        skipped = tuple(Skipped(**each) for each in request["skipped"])
        intervals = {name: (low, high) for name, (low, high) in chosen["intervals"].items()}
        return SweepResult(request, table, picks, chosen["rule"], skipped, intervals, folder)
    except (ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise RequestError(
            f"the sweep in {str(folder)!r} is damaged ({error}); delete {TABLE} and {SELECTION} there "
            "and give its command again: they are made anew from the heads it kept"
        ) from error


def _without_nan(pick: dict[str, Any]) -> dict[str, Any]:
    test = {name: None if math.isnan(value) else value for name, value in pick["test"].items()}
    return {**pick, "test": test}


def _with_nan(pick: dict[str, Any]) -> dict[str, Any]:
    return {**pick, "test": {k: math.nan if v is None else v for k, v in pick["test"].items()}}
