"""What every benchmark shares: the shape of a result, the machine's description, timing, printing, JSON.

A benchmark is a module of this package with a function `run(quick: bool) -> Result`; it measures, and leaves
printing and judging to this file.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text


@dataclass(frozen=True)
class Table:
    """One printed table: a title, column names, rows of numbers and text in the same order."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Claim:
    """A figure that was asked for, what was measured, and whether it holds. `target` reads like `>= 0.9`."""

    name: str
    value: float
    target: str
    holds: bool

    @classmethod
    def at_least(cls, name: str, value: float, target: float) -> Claim:
        """The claim that `value` is `target` or more."""
        return cls(name, float(value), f">= {target:g}", bool(value >= target))

    @classmethod
    def more_than(cls, name: str, value: float, target: float) -> Claim:
        """The claim that `value` is more than `target`."""
        return cls(name, float(value), f"> {target:g}", bool(value > target))

    @classmethod
    def at_most(cls, name: str, value: float, target: float) -> Claim:
        """The claim that `value` is `target` or less."""
        return cls(name, float(value), f"<= {target:g}", bool(value <= target))


@dataclass(frozen=True)
class Result:
    """All that a benchmark found; `notes` are sentences printed under the tables (how it was measured)."""

    tables: Sequence[Table]
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def seconds(action: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def alternate(actions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each action, `repeats` times in turns, so that a machine that slows down slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(repeats):
        names = list(actions)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(seconds(actions[name]))
    return times


def median(values: Sequence[float]) -> float:
    """The middle value."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def machine() -> dict[str, Any]:
    """The processor, its cores and vector units, memory, and the versions that decide speed."""
    info = _proc_cpuinfo()
    flags = set(info.get("flags", "").split())
    description: dict[str, Any] = {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "avx512": "avx512f" in flags,
        "avx512_vnni": "avx512_vnni" in flags,
        "avx512_bf16": "avx512_bf16" in flags,
        "amx": "amx_tile" in flags,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }
    description.update(_torch_version())
    return description


def _proc_cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _torch_version() -> dict[str, Any]:
    try:
        import torch  # noqa: PLC0415 - seconds of import that only a run needs
    except ImportError:
        return {"torch": None}
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {"torch": torch.__version__, "gpu": gpu}


def show(result: Result, described: dict[str, Any], console: Console | None = None) -> None:
    """Print the machine, the tables and the claims for a person."""
    console = console or Console()
    console.print(Text(", ".join(f"{name} {value}" for name, value in described.items()), style="dim"))
    for table in result.tables:
        _print(console, table)
    for note in result.notes:
        console.print(Text(note, style="dim"))
    if result.claims:
        rows = [(c.name, _text(c.value), c.target, "holds" if c.holds else "MISSED") for c in result.claims]
        _print(console, Table("claims", ("claim", "measured", "asked", ""), rows))


def _print(console: Console, table: Table) -> None:
    printed = RichTable(title=table.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(table.columns):
        printed.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in table.rows:
        printed.add_row(*(Text(_text(cell)) for cell in row))
    console.print()
    console.print(printed)


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return (
        f"{cell:.4g}"
        if isinstance(cell, float) and abs(cell) < 1e4
        else (f"{cell:,.0f}" if isinstance(cell, float) else f"{cell:,}" if type(cell) is int else str(cell))
    )


def write_json(file: Path, result: Result, described: dict[str, Any]) -> None:
    """Write `{"machine", "rows", "claims", "notes"}`; each row is an object that also names its table."""
    rows = [
        {"table": table.title, **dict(zip(table.columns, row, strict=True))}
        for table in result.tables
        for row in table.rows
    ]
    claims = [{"name": c.name, "value": c.value, "target": c.target, "holds": c.holds} for c in result.claims]
    document = {"machine": described, "rows": rows, "claims": claims, "notes": list(result.notes)}
    file.write_text(json.dumps(document, indent=2) + "\n")
