"""What a sweep tried and what each selection rule picks of it, as data for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.heads.sweeps.results import SweepResult, judged
from headwater.heads.sweeps.selection import Pick, best_by_method, find_rule
from headwater.report.data import AREA, MethodTried, RulePick, Sweep, Tried
from headwater.report.text import settings, shown

_LONGEST = 300  # characters of why a head failed


def gather_sweep(result: SweepResult, split: str, baseline: str) -> Sweep:
    """The sweep as its accuracies on `split` show it; `baseline` names the method that others are set beside.

    Where `split` is val, methods that read val show what they did out of fold.
    """
    table = result.table
    overall, worst = (_figure(result, split, name) for name in ("overall", result.aim))
    names = np.array(table["method"].to_pylist())
    candidates = np.array(table["candidate"].to_pylist())
    unconverged = np.array([bool(n) or n is None for n in table["unconverged"].to_pylist()])
    solved = np.array([flag is not False for flag in table["converged"].to_pylist()])
    known = ~np.isnan(overall) & ~np.isnan(worst)
    chosen = _chosen(result)
    methods = []
    for name in dict.fromkeys(names.tolist()):
        pick = chosen.get(name)
        mine = known & (names == name)
        ringed = mine & (candidates == pick)
        if not ringed.any():
            continue
        methods.append(
            MethodTried(
                name=shown(name),
                tried=tuple(
                    Tried(float(overall[i]), float(worst[i]), not bool(unconverged[i]), bool(ringed[i]))
                    for i in np.flatnonzero(mine)
                ),
                chosen_overall=float(overall[ringed].mean()),
                chosen_worst=float(worst[ringed].mean()),
            )
        )
    methods.sort(key=lambda method: -method.chosen_worst)
    base = next((method for method in methods if method.name == baseline), None)
    seconds = [
        value for name in ("seconds", "cv.seconds") for value in table[name].to_pylist() if value is not None
    ]
    lowest = min((tried.overall for method in methods for tried in method.tried), default=0.0)
    return Sweep(
        methods=tuple(methods),
        rules=tuple(_rule(result, pick, split) for pick in result.picks),
        rule=result.rule,
        settings=len(dict.fromkeys(candidates.tolist())),
        seeds=len(dict.fromkeys(table["seed"].to_pylist())),
        heads=int(known.sum()),
        unconverged=int((unconverged & known).sum()),
        stepped=int((~solved & ~unconverged & known).sum()),
        lowest_overall=min(0.9, math.floor(10 * lowest) / 10),
        seconds=sum(seconds) or None,
        baseline_overall=base.chosen_overall if base else None,
        baseline_worst=base.chosen_worst if base else None,
        skipped=tuple((shown(each.method), shown(each.reason)) for each in result.skipped),
        warning=shown(result.warning),
        aim=AREA if result.aim == "worst_area" else "worst group",
        draws=result.request["draws"],
        fewer=tuple((shown(name), count) for name, count in result.fewer_settings.items()),
        failed=tuple((shown(each.what), _short(each.reason)) for each in result.failures),
    )


def _short(reason: str) -> str:
    """A reason, cut where it would fill the page."""
    said = shown(reason)
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1]}…"


def asked(result: SweepResult) -> list[str]:
    """The options of `headwater heads sweep` that ask for this sweep."""
    request = result.request
    methods, seeds = request["methods"], request["seeds"]
    words = ["--views"] if request.get("views") else []
    words += ["--methods", methods if isinstance(methods, str) else ",".join(methods)]
    if request["grid"] is None:
        words += ["--draws", str(request["draws"])]
    for key, values in (request["grid"] or {}).items():
        words += ["--grid", f"{key}={','.join(map(str, values))}"]
    for key, value in request["settings"].items():
        words += ["--set", f"{key}={value}"]
    counted = seeds == list(range(len(seeds)))
    # A lone number is how many seeds; a comma makes it a list.
    words += ["--seeds", str(len(seeds)) if counted else ",".join(map(str, seeds)) + "," * (len(seeds) == 1)]
    return [*words, "--select", result.rule]


def _figure(result: SweepResult, split: str, name: str) -> NDArray[np.float64]:
    """A figure of every row of the table, NaN where there is none."""

    def column(where: str) -> NDArray[np.float64]:
        values = result.table[f"{where}.{name}"].to_pylist()
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)

    if split != "val":
        return column(split)
    return column("judged")


def _chosen(result: SweepResult) -> dict[str, str]:
    """The candidate of each method that the asked rule picks."""
    picked = best_by_method(judged(result.table), find_rule(result.rule))
    return {name: each.id for name, each in picked.items()}


def _rule(result: SweepResult, pick: Pick, split: str) -> RulePick:
    own = np.array(result.table["candidate"].to_pylist()) == pick.id
    worst = _figure(result, split, result.aim)[own]
    return RulePick(
        rule=pick.rule,
        looks_at=pick.sees,
        why=find_rule(pick.rule).why,
        honest=pick.honest,
        used=pick.rule == result.rule,
        method=shown(pick.method),
        settings=settings(_told(result.settings_of(pick.id))),
        figure=pick.figure,
        unit=_unit(pick, len(result.request["classes"])),
        worst=float(worst.mean()),
        spread=float(worst.std(ddof=1)) if len(worst) > 1 else None,
        overall=float(_figure(result, split, "overall")[own].mean()),
        cost=pick.cost,
    )


def _unit(pick: Pick, classes: int) -> str:
    if pick.unit == "accuracy" or pick.figure >= 1 / classes:
        return pick.unit
    return f"accuracy over {classes}: likelihood below chance"


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the ones that say how long to train at most."""
    return {name: value for name, value in values.items() if name != "max_iterations"}
