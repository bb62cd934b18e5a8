"""`headwater heads evaluate`: one head on one split, by group, by level of a taxonomy, and by its scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli.console import (
    AsJson,
    between,
    parts_of,
    percent,
    print_json,
    print_note,
    print_table,
)
from headwater.errors import RequestError
from headwater.printable import counted, escaped, meant

if TYPE_CHECKING:
    from headwater.heads.measures.intervals import Interval
    from headwater.heads.measures.metrics import GroupReport
    from headwater.heads.measures.nodes import LevelAccuracy
    from headwater.heads.measures.score_report import ScoreReport


_NAMED = 3  # groups without rows that are named; of more their number says enough


def register(app: typer.Typer) -> None:
    """Add `evaluate` to `headwater heads`."""
    app.command("evaluate")(evaluate)


def evaluate(
    head: Annotated[Path, typer.Argument(help="A head's file.")],
    store: Annotated[Path, typer.Argument(help="A store made by the same recipe.")],
    *,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    worst: Annotated[
        int | None,
        typer.Option(help="How many of the worst groups to list. \\[default: 20, as JSON 200]", min=1),
    ] = None,
    levels: Annotated[
        str, typer.Option(help="Columns, with commas, of coarser levels of the classes, such as genus.")
    ] = "",
    by: Annotated[
        str,
        typer.Option(help="A level of the taxonomy, by name or number, whose worst nodes to list."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Measure a head on a split of a store: overall, balanced, by group, by level, and its scores."""
    from headwater.heads.evaluation import measured  # noqa: PLC0415
    from headwater.heads.measures.metrics import AVERAGES, MOST_LISTED  # noqa: PLC0415
    from headwater.heads.sweeps.selection import MANY  # noqa: PLC0415

    report, why = measured(head, store, split, levels=parts_of(levels))
    chosen = _level(report, by) if by else None
    if as_json:
        said: dict[str, Any] = {"head": str(head), "store": str(store), "split": split, "in_sample": why}
        said |= {"by": {chosen.level: chosen.plain(0.95, worst or MOST_LISTED)}} if chosen else {}
        print_json({**said, **report.to_dict(most=worst or MOST_LISTED)})
        return
    listed = worst or 20
    drawn = report.intervals((*AVERAGES, "worst_area"))
    rows = [("overall (every row the same)", percent(report.overall), _ends(drawn["overall"]))]
    if report.has_groups:
        worst_group = report.worst_group
        rows += [
            ("balanced (every group the same)", percent(report.balanced), _ends(drawn["balanced"])),
            (
                "train-weighted (groups as in train)",
                percent(report.train_weighted),
                _ends(drawn["train_weighted"]),
            ),
            (
                f"worst group: {escaped(worst_group.name)}",
                percent(worst_group.accuracy),
                _ends(drawn["worst_group"]),
            ),
            (
                "worst 10 to 50 % of the groups, the curve's area",
                percent(report.worst_curve().area),
                _ends(drawn["worst_area"]),
            ),
        ]
    rows += [
        (f"overall at level {escaped(name)}", percent(level.overall), _ends(level.interval()))
        for name, level in report.by_level.items()
    ]
    mark = ", IN SAMPLE" if why else ""
    print_table(f"{head.name} on {split}, {report.rows:,} rows{mark}", ["accuracy", "%", "95 %"], rows)
    if report.has_groups and report.train_weighted is None:
        print_note(f"train-weighted has no figure: {report.why_no_train_weighted}")
    if why:
        print_note(f"In sample: the head was {why}, so this says little about new rows.")
    if report.scores is not None:
        print_table("\nBy its scores", ["figure", "", "95 %"], _score_rows(report.scores))
    if not report.has_groups:
        typer.echo("No row has a known group, so there is nothing to say about groups.")
        return
    present = sum(group.count > 0 for group in report.by_group)
    if present >= MANY or report.by_node:
        _print_curve(report)
    _print_levels(report, chosen, listed)
    worst_groups = report.worst(min(listed, present))
    print_table(
        f"\nThe worst {len(worst_groups)} of {present:,} groups"
        if len(worst_groups) < present
        else "\nBy group, worst first",
        ["group", "rows", "%", "95 %"],
        [(escaped(g.name), f"{g.count:,}", percent(g.accuracy), _ends(g.interval())) for g in worst_groups],
    )
    if missing := report.missing_groups:
        verb = "has" if len(missing) == 1 else "have"
        named = "" if len(missing) > _NAMED else f": {', '.join(map(escaped, missing))}"
        print_note(
            f"{counted(len(missing), 'group')} {verb} no rows in {split}, and count in no figure{named}"
        )


def _level(report: GroupReport, name: str) -> LevelAccuracy:
    """The level of that name or number; RequestError where the groups stand below no such level."""
    known = {each.level: each for each in report.by_node}
    if not known:
        raise RequestError(
            "--by lists the nodes of a taxonomy's level, and these groups stand in no taxonomy"
        )
    numbered = {str(number): level for number, level in enumerate(report.level_names, start=1)}
    wanted = name if name in report.level_names else numbered.get(name, name)
    if wanted not in known:
        there = ", ".join(f"{number} {level!r}" for number, level in numbered.items() if level in known)
        raise RequestError(
            f"there is no level {name!r} above the groups{meant(name, known) or f' (there is {there})'}"
        )
    return known[wanted]


def _print_curve(report: GroupReport) -> None:
    curve, ends = report.worst_curve(), report.worst_intervals()
    rows = zip(curve.percents, curve.groups, curve.accuracies, ends.low, ends.high, strict=True)
    print_table(
        "\nThe worst K % of the groups",
        ["K, %", "groups", "%", "95 %"],
        [
            (f"{k:g}", f"{groups:,}", percent(accuracy), between(low, high))
            for k, groups, accuracy, low, high in rows
            if k % 10 == 0
        ],
    )


def _print_levels(report: GroupReport, chosen: LevelAccuracy | None, most: int) -> None:
    """The worst node of every level above the groups, and the worst nodes of the one that was asked for."""
    if report.by_node:
        print_table(
            "\nBy level, its worst node",
            ["node", "level", "nodes", "groups", "rows", "%", "95 %"],
            [
                (
                    escaped(worst.name),
                    escaped(each.level),
                    f"{len(each.names):,}",
                    f"{groups:,}",
                    f"{worst.count:,}",
                    percent(worst.accuracy),
                    _ends(worst.interval()),
                )
                for each in report.by_node
                for worst, _, groups in each.worst(1)
            ],
            spare=("95 %", "nodes", "rows"),
        )
    if chosen is not None:
        print_table(
            f"\nThe worst of {len(chosen.names):,} at level {escaped(chosen.level)} (of several groups)",
            ["node", "of", "groups", "rows", "%", "95 %"],
            [
                (
                    escaped(each.name),
                    escaped(parent),
                    f"{groups:,}",
                    f"{each.count:,}",
                    percent(each.accuracy),
                    _ends(each.interval()),
                )
                for each, parent, groups in chosen.worst(most)
            ],
            spare=("95 %", "of", "rows"),
        )


def _score_rows(scores: ScoreReport) -> list[tuple[str, str, str]]:
    drawn = scores.intervals()
    log_loss = drawn["log_loss"]
    return [
        ("AUROC, %", percent(scores.auroc), _ends(drawn["auroc"])),
        ("expected calibration error, %", percent(scores.ece), _ends(drawn["ece"])),
        (
            "log-loss, nats",
            f"{scores.log_loss:.3f}",
            _ends(log_loss, "{:.3f}".format),
        ),
    ]


def _ends(interval: Interval | None, form: Callable[[float], str] = percent) -> str:
    return "" if interval is None else between(interval.low, interval.high, form)
