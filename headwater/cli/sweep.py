"""`headwater heads sweep`: every method with many settings and seeds, and what each selection rule picks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli.console import (
    AsJson,
    Views,
    between,
    parts_of,
    percent,
    print_json,
    print_note,
    print_table,
    print_warnings,
    progress_console,
    settings_text,
)
from headwater.cli.sweep_plan import print_asked, print_plan, print_skipped, showing
from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.printable import counted, escaped

if TYPE_CHECKING:
    from headwater.heads.sweeps.results import SweepResult
    from headwater.heads.sweeps.selection import Judged, Pick

_NO_ENDS = (None, None)
_AIMS = {"worst_group": "worst", "worst_area": "worst K %"}


def register(app: typer.Typer) -> None:
    """Add `sweep` to `headwater heads`."""
    app.command("sweep")(sweep)


def sweep(
    store: Annotated[Path, typer.Argument(help="The store whose features to train on.")],
    *,
    out: Annotated[
        Path, typer.Option(help="The run's folder; a sweep that was stopped or is asked for more goes on.")
    ],
    target: Annotated[str, typer.Option(help="The column to predict.")] = "class",
    groups: Annotated[
        str,
        typer.Option(help="Columns, with commas, that make the groups with the target; none: the classes."),
    ] = "",
    methods: Annotated[
        str,
        typer.Option("--methods", "--method", help="Methods with commas, or all that the columns allow."),
    ] = "all",
    draws: Annotated[
        int | None,
        typer.Option(help="Settings of each method: the published ones, then random draws. \\[default: 16]"),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(help="Instead of draws: METHOD.key=v1,v2 or key=v1,v2; may be repeated."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="METHOD.key=value or key=value, for every draw; may be repeated."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="How many seeds, or which, with commas (`7,` is one).")] = "3",
    select: Annotated[
        str | None,
        typer.Option(
            help="The rule that decides which heads are saved: worst_group, worst_area, worst_class, "
            "overall, balanced, cv_worst_group, cv_worst_area, oracle or oracle_area. "
            "\\[default: by what val holds]"
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Parts of val, to judge methods that read it, or without a val of train, to judge all. "
            "\\[default: 3, of a small val 5]"
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="The column that says train, val or test.")] = "split",
    views: Views = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    replace: Annotated[bool, typer.Option("--replace", help="Delete the sweep that is at --out.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be trained, and write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train methods x settings x seeds in lock-step and show what each selection rule would pick."""
    from headwater.heads.sweeps.sweeping import design_sweep, run_design  # noqa: PLC0415

    if draws is not None and grid:
        raise RequestError("give either --draws or --grid: a grid says itself which settings to try")
    with progress_console().status("reading the store"):
        design = design_sweep(
            store,
            target=target,
            groups=parts_of(groups),
            split=split,
            views=views,
            methods=parts_of(methods),
            draws=16 if draws is None else draws,
            grid=_options(grid, "--grid", several=True) if grid else None,
            settings=_options(settings or [], "--set", several=False),
            seeds=_seeds(seeds),
            folds=folds,
        )
    if dry_run:
        print_plan(design, out, replace=replace, as_json=as_json)
        return
    with warnings.catch_warnings(record=True) as caught, showing(design) as progress:
        warnings.simplefilter("always", HeadwaterWarning)
        result = run_design(design, select=select, out=out, replace=replace, device=device, progress=progress)
    print_warnings(caught)
    if as_json:
        print_json(_record(result))
    else:
        _print(result)
    if result.failed:
        raise HeadwaterError(_failure(result, out))


def _failure(result: SweepResult, out: Path) -> str:
    """What failed, where the rest is, and how to try again, in one sentence."""
    (first, reason), failed, rows = result.failed[0], len(result.failed), result.table.num_rows
    which = f"all {failed:,} heads failed" if rows > 1 else "the only head failed"
    which = which if failed == rows else f"{failed:,} of {rows:,} heads failed"
    such = f", such as {first}" if failed > 1 else f", {first}"
    others = "" if failed == rows else f"the others are in {str(out)!r}; "
    again = "given again, the command trains what failed and nothing else"
    if result.already_done:
        again = "another revision of headwater trained this sweep, so say --replace to train all of it anew"
    return f"{which}{such}: {reason}; {others}{again}"


def _seeds(text: str) -> int | list[int]:
    try:
        numbers = [int(part) for part in parts_of(text)]
    except ValueError:
        raise RequestError(
            f"--seeds takes a number, or numbers with commas such as 0,1,2, not {text!r}"
        ) from None
    return numbers[0] if len(numbers) == 1 and "," not in text else numbers


def _options(given: Sequence[str], option: str, *, several: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        values = parts_of(value)
        if not equals or not key.strip() or not values:
            raise RequestError(f"{option} takes key={'v1,v2' if several else 'value'}, not {text!r}")
        if key.strip() in found:
            raise RequestError(f"{option} names {key.strip()!r} twice; give it once")
        found[key.strip()] = values if several else value
    return found


def _print(result: SweepResult) -> None:
    from headwater.heads.sweeps.results import judged  # noqa: PLC0415

    request = result.request
    if result.picks:
        _print_picks(result)
    print_asked(request)
    lost = [name for name in _methods(result) if name not in {each.method for each in judged(result.table)}]
    for name in lost:
        typer.echo(f"{name}: no candidate ended with every seed")
    print_skipped(result.skipped, set(_methods(result)))
    for each in result.failures:
        typer.echo(f"failed {each.what}: {escaped(each.reason)}")
    if result.pick is not None:
        settings = result.settings_of(result.pick.id)
        said = settings_text(settings)
        typer.echo(f"* {result.rule}, which decides here, picks {result.pick.id}: {said}")
    if result.folder is not None:
        done = "done already, nothing was trained; " if result.already_done else ""
        typer.echo(f"{done}{counted(result.trained, 'head')} in {escaped(str(result.folder))}")


def _print_picks(result: SweepResult) -> None:
    """What the rules pick, and the best of each method."""
    request = result.request
    split = "test" if "test" in request["rows"] else "val"
    names = {rule.rule: f"{rule.rule} *" if rule.rule == result.rule else rule.rule for rule in result.picks}
    print_table(
        f"What each rule would pick; accuracy on test in %{_over(len(request['seeds']))}",
        ["rule", "picks", "saw", _AIMS[result.aim], "95 %", "+-", "overall", "cost"],
        [
            (
                names[pick.rule],
                pick.id,
                _seen(pick, len(request["classes"])),
                percent(pick.test[result.aim]),
                between(*result.intervals.get(pick.id, _NO_ENDS)),
                "" if pick.spread is None else percent(pick.spread),
                percent(pick.test["overall"]),
                percent(pick.cost) if pick.honest else "sees test",
            )
            for pick in result.picks
        ],
        spare=("+-", "overall", "95 %", "saw"),
    )
    if result.aim != "worst_group":
        print_note(
            "worst K %: accuracy of the worst K % of the groups, the mean over K from 10 to 50; 95 %, +- and "
            "cost are of it"
        )
    if request["cut"] == "train":
        print_note("There is no val: what rules saw is out of fold on train.")
    for pick in result.picks:
        if pick.unit != "accuracy":
            print_note(f"saw: accuracy in %; {pick.rule}: {pick.sees}")
    chosen = _best_of_each(result, split)
    held_out = " out of fold where val is in sample" if split == "val" else ""
    print_table(
        f"\nEach method's best by {result.rule}; accuracy on {split}{held_out} in %",
        ["method", _AIMS[result.aim], "95 %", "balanced", "overall", "tried", "NOT conv.", "s"],
        [
            (
                each.method,
                percent(_on(each, split).get(result.aim)),
                between(*result.intervals.get(each.id, _NO_ENDS)),
                *(percent(_on(each, split).get(name)) for name in ("balanced", "overall")),
                *_counts(result, each.method),
            )
            for each in chosen
        ],
        spare=("s", "95 %"),
    )


def _seen(pick: Pick, classes: int) -> str:
    """A rule's figure in its unit: an accuracy in percent, a likelihood, or what stands in below chance."""
    if pick.unit == "accuracy":
        return percent(pick.figure)
    return f"{pick.figure:.3f}" if pick.figure >= 1 / classes else f"{pick.figure:.3f} (acc./{classes})"


def _over(seeds: int) -> str:
    return f", mean of {seeds} seeds" if seeds > 1 else ""


def _on(judged: Judged, split: str) -> Mapping[str, float]:
    return judged.test if split == "test" else judged.val


def _best_of_each(result: SweepResult, split: str = "test") -> list[Judged]:
    """What the rule picks among each method's candidates, the best by the figure that it is after first."""
    from headwater.heads.sweeps.results import judged  # noqa: PLC0415
    from headwater.heads.sweeps.selection import best_by_method, find_rule  # noqa: PLC0415

    found = best_by_method(judged(result.table), find_rule(result.rule))
    return sorted(found.values(), key=lambda each: -_number(_on(each, split).get(result.aim)))


def _number(value: float | None) -> float:
    return -1.0 if value is None or math.isnan(value) else value


def _methods(result: SweepResult) -> list[str]:
    return list(dict.fromkeys(result.table["method"].to_pylist()))


def _counts(result: SweepResult, method: str) -> tuple[str, str, str]:
    """Rows of a method, how many of them did not converge, and seconds with those of cross-fitting."""
    names = ("method", "converged", "unconverged", "seconds", "cv.seconds")
    columns = [result.table[name].to_pylist() for name in names]
    mine = [row[1:] for row in zip(*columns, strict=True) if row[0] == method]
    left = sum(bool(unconverged) for _, unconverged, _, _ in mine)
    stepped = "stepped" if any(converged is False for converged, *_ in mine) else ""
    took = sum((own or 0.0) + (cross or 0.0) for *_, own, cross in mine)
    return f"{len(mine):,}", f"{left:,}" if left else stepped, f"{took:.1f}"


def _record(result: SweepResult) -> dict[str, Any]:
    def plain(pick: Pick) -> dict[str, Any]:
        return {
            "rule": pick.rule,
            "sees": pick.sees,
            "honest": pick.honest,
            "id": pick.id,
            "method": pick.method,
            "settings": result.settings_of(pick.id),
            "figure": pick.figure,
            "unit": pick.unit,
            "interval": result.intervals.get(pick.id),
            "test": {name: None if math.isnan(value) else value for name, value in pick.test.items()},
            "spread": pick.spread,
            "cost": pick.cost,
        }

    return {
        "out": str(result.folder),
        "already_done": result.already_done,
        "rule": result.rule,
        "aim": result.aim,
        "judged_on": result.request["cut"],
        "warning": result.warning,
        "left_out": result.request["left_out"],
        "without_group": result.request["without_group"],
        "fewer_settings": result.fewer_settings,
        "picks": [plain(pick) for pick in result.picks],
        "heads": result.table.num_rows,
        "methods": {
            each.method: {
                "id": each.id,
                "settings": result.settings_of(each.id),
                "test": {name: None if math.isnan(value) else value for name, value in each.test.items()},
            }
            for each in _best_of_each(result)
        },
        "skipped": [asdict(each) for each in result.skipped],
        "failed": [{"id": name, "reason": reason} for name, reason in result.failed],
    }
