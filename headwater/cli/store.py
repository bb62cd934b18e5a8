"""`headwater store …`: looking at stores, checking, annotating, splitting and converting them."""

# ruff: noqa: PLC0415, PLR0917 - rooms load when a command runs, and a command has as many options as it has

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from headwater.cli.console import console, print_json, print_table
from headwater.printable import escaped

app = typer.Typer(help="Look at stores, check, annotate, split and convert them.", no_args_is_help=True)

_Store = Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder, or a packed file.")]
_Folder = Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
_NAMES = "Names, separated by commas; may be given more than once."


def register(parent: typer.Typer) -> None:
    """Add `store` to the command."""
    parent.add_typer(app, name="store")


def _names(values: list[str] | None) -> list[str]:
    return [name.strip() for value in values or [] for name in value.split(",") if name.strip()]


def _counted(problems: Sequence[object]) -> str:
    return "1 thing is wrong" if len(problems) == 1 else f"{len(problems):,} things are wrong"


def _say(text: str) -> None:
    console().print(escaped(text), markup=False, highlight=False, soft_wrap=True)


@app.command()
def info(
    store: _Store,
    top: Annotated[int, typer.Option("--top", min=1, help="How many values of a column are listed.")] = 10,
    depth: Annotated[
        str | None,
        typer.Option(
            "--depth",
            metavar="LEVEL",
            help="Show the taxonomy instead, down to this level, a name or number; --json has both.",
        ),
    ] = None,
    json: _Json = False,
) -> None:
    """Show the plan, rows, failed rows, columns with counts, and runs with rates; or the taxonomy alone."""
    from headwater.cli.tree import print_tree, read_tree, tree_record
    from headwater.store import info as describe
    from headwater.store import show_key

    tree = None if depth is None else read_tree(store, depth, whole=json)
    if tree is not None and not json:
        print_tree(tree)
        return
    found = describe(store, top=top)
    if json:
        print_json(found if tree is None else {**found, "taxonomy": tree_record(tree)})
        return
    _print_pairs("store", _about(found))
    _print_pairs("recipe", _flat(found["recipe"]) + _flat(found["details"]))
    if found["columns"]:
        rows = [
            (c["name"], c["kind"], f"{c['distinct']:,}", f"{c['missing']:,}", _range(c))
            for c in found["columns"]
        ]
        print_table("columns", ("column", "kind", "values", "missing", "range"), rows)
        print_table("rows of each value", ("column", "value", "rows"), _counts(found["columns"]))
    if found["failed"]:
        failed = [(show_key(row["key"]), row["error"]) for row in found["failed"]]
        more = found["failed_rows"] - len(failed)
        _print_pairs("failed rows", failed + ([("…", f"{more:,} more")] if more else []))
    for number, run in enumerate(found["runs"], start=1):
        _print_pairs(f"run {number}", _flat(run))


def _print_pairs(title: str, rows: Sequence[tuple[str, str]]) -> None:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False
    )
    table.add_column(style="dim", overflow="fold", min_width=len(title))
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(escaped(name)), Text(escaped(value)))
    console().print(table)
    console().print()


def _counts(columns: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    rows = []
    for column in columns:
        values = column.get("values", [])
        rows += [(column["name"], escaped(value["value"]), f"{value['rows']:,}") for value in values]
        more = column["distinct"] - len(values)
        if values and more:
            rows.append((column["name"], f"… {more:,} more values", ""))
    return rows


def _about(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    shards = f"{found['shards']:,}"
    if found["missing_shards"]:
        shards += f", {len(found['missing_shards']):,} missing: run the same extract command again to finish"
    return [
        ("path", found["path"] + (" (packed)" if found["packed"] else "")),
        ("rows", f"{found['rows']:,}"),
        ("failed rows", f"{found['failed_rows']:,}"),
        ("features", f"{found['dim']:,} numbers of {found['dtype']}"),
        ("augmented views", f"{found['views']}"),
        ("shards", shards),
        ("size", f"{found['bytes'] / 2**20:,.1f} MiB"),
        *([("levels", ", ".join(found["levels"]))] if found["levels"] else []),
        ("source", found["source"]),
        ("fingerprint", found["fingerprint"]),
    ]


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [
            row
            for key, part in value.items()
            for row in _flat(part, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, float):
        return [(prefix, f"{value:,.6g}")]
    text = str(value)
    return [(prefix, text if len(text) <= 200 else text[:197] + "…")]


def _range(column: Mapping[str, Any]) -> str:
    return f"{column['least']:.6g} to {column['greatest']:.6g}" if "least" in column else ""


@app.command()
def verify(
    store: _Store,
    rebuild_index: Annotated[
        bool, typer.Option("--rebuild-index", help="Write index.h5 anew first.")
    ] = False,
    json: _Json = False,
) -> None:
    """Check every byte and every row; exit code 1 when anything is wrong."""
    from headwater.store import verify as check

    report = check(store, rebuild_index=rebuild_index)
    if json:
        problems = [{"what": problem.what, "way_out": problem.way_out} for problem in report.problems]
        print_json(
            {
                "path": str(report.path),
                "ok": report.ok,
                "rows": report.rows,
                "failed_rows": report.failed_rows,
                "files": report.files,
                "problems": problems,
                "notes": report.notes,
            }
        )
    else:
        for problem in report.problems:
            _say(f"wrong: {problem.what}; {problem.way_out}")
        for note in report.notes:
            _say(f"note: {note}")
        verdict = "nothing is wrong" if report.ok else _counted(report.problems)
        _say(
            f"{report.path}: {report.files:,} files, {report.rows:,} rows, "
            f"{report.failed_rows:,} of them failed: {verdict}"
        )
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def annotate(
    store: _Folder,
    table: Annotated[
        Path | None, typer.Argument(metavar="[TABLE]", help="A .csv, .tsv or .parquet file.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", help="The table's column that holds the row keys. \\[default: path, or as --by]"
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COL",
            help="Join by this column of the store, such as species, instead of row keys.",
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace columns that exist.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Let the table leave out rows.")
    ] = False,
    levels: Annotated[
        list[str] | None,
        typer.Option(
            "--levels",
            metavar="COL,COL",
            help="The columns that are levels of a taxonomy, or become them by --edges, from the root. A "
            "name that stands under several parents is kept apart in each; but where names of the last level "
            f"begin with their parent's, as species' do, one under two parents is refused. {_NAMES}",
        ),
    ] = None,
    edges: Annotated[
        bool,
        typer.Option(
            "--edges",
            help="The table has columns child and parent: add the levels above the values of --by COL.",
        ),
    ] = False,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", metavar="COL[,COL]", help=f"Columns to remove. {_NAMES}")
    ] = None,
) -> None:
    """Add the columns of a table, joined by key, drop columns, or say which are levels of a taxonomy.

    All that is asked for is done together, or none of it.
    """
    from headwater.errors import RequestError
    from headwater.store import read_table
    from headwater.store.annotate import changing
    from headwater.taxonomy import annotate_edges, describe_homonyms, levels_among, name_levels

    dropped, named = _names(drop), _names(levels)
    if edges and (table is None or by is None or key is not None):
        raise RequestError(
            "--edges wants a table with the columns child and parent, and by --by the column of the store"
            " whose values stand in it; leave --key out"
        )
    if table is None and not dropped and not named:
        raise RequestError("nothing to do: give a table whose columns to add, --levels COL,COL or --drop COL")
    tree, added = None, list[str]()
    with changing(store) as draft:
        before = levels_among(draft.columns, draft.levels)
        draft.drop(dropped)
        if edges and table is not None and by is not None:
            added, tree = annotate_edges(
                draft, table, by=by, levels=named, replace=replace, allow_missing=allow_missing
            )
        elif table is not None:
            key = key or by or "path"
            values = read_table(table, key=key)
            added = draft.join(values, key=key, by=by, replace=replace, allow_missing=allow_missing)
        if named and not edges:
            tree = name_levels(draft, named)
    if dropped:
        _say(f"dropped {', '.join(dropped)} from {store}")
    if added:
        _say(f"added {', '.join(added)} to {store}")
    if tree is not None:
        _say(f"levels of {store}, from the root: {tree.describe()}")
        if twice := describe_homonyms(tree):
            _say(twice)
        if gone := [name for name in before if name not in tree.level_names]:
            _say(f"no longer levels, as they were before: {', '.join(gone)}")


@app.command()
def split(
    store: _Folder,
    parts: Annotated[
        list[str], typer.Argument(metavar="NAME=FRACTION...", help="Such as train=0.7 val=0.1 test=0.2.")
    ],
    stratify: Annotated[
        list[str] | None, typer.Option("--stratify", metavar="COL[,COL]", help=f"Keep their shares. {_NAMES}")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws another split.")] = 0,
    column: Annotated[str, typer.Option("--column", help="The column that it becomes.")] = "split",
    replace: Annotated[bool, typer.Option("--replace", help="Replace the column if it exists.")] = False,
    json: _Json = False,
) -> None:
    """Draw a split, seeded and stratified, and add it as a column."""
    from headwater.errors import RequestError
    from headwater.store import draw_split

    fractions: dict[str, float] = {}
    for part in parts:
        name, _, share = part.partition("=")
        if name in fractions:
            raise RequestError(f"the part {name!r} is given twice; give every part once")
        try:
            fractions[name] = float(share)
        except ValueError:
            raise RequestError(
                f"{part!r} is no part of a split; write NAME=FRACTION, such as train=0.7"
            ) from None
    drawn = draw_split(store, fractions, stratify=_names(stratify), seed=seed, column=column, replace=replace)
    rows = [(name, count, drawn.strata_without[name]) for name, count in drawn.counts.items()]
    if json:
        keys = ("part", "rows", "strata_without")
        print_json(
            {
                "column": column,
                "strata": drawn.strata,
                "parts": [dict(zip(keys, row, strict=True)) for row in rows],
            }
        )
    else:
        print_table(
            f"{column}: {drawn.strata:,} strata",
            ("part", "rows", "strata without a row"),
            [(name, f"{count:,}", f"{without:,}") for name, count, without in rows],
        )


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A .npz, .npy, .parquet or packed file.")],
    out: Annotated[Path, typer.Option("--out", help="The store's folder to make.")],
    dtype: str | None = typer.Option(
        None, "--dtype", help="float16 or float32; as in the file when left out."
    ),
    json: _Json = False,
) -> None:
    """Make a store from features made elsewhere, or unpack a packed file."""
    from headwater.store import import_features

    report = import_features(source, out, dtype=dtype)
    if json:
        print_json(
            {
                "path": str(report.path),
                "rows": report.rows,
                "failed_rows": report.failed,
                "columns": list(report.columns),
                "left_out": list(report.left_out),
                "already_done": report.already_done,
            }
        )
        return
    done = "was imported before; nothing to do:" if report.already_done else "imported:"
    columns = f", columns {', '.join(report.columns)}" if report.columns else ""
    _say(f"{report.path} {done} {report.rows:,} rows, {report.failed:,} failed{columns}")
    if report.left_out:
        _say(f"not used, since they are not one value per row: {', '.join(report.left_out)}")


@app.command()
def pack(
    store: _Folder,
    out: Annotated[Path, typer.Option("--out", help="The single .h5 file to write.")],
) -> None:
    """Write the whole store into one single file for sharing."""
    from headwater.store import pack as write

    write(store, out)
    _say(f"packed {store} into {out}")


@app.command()
def export(
    store: _Store,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    chosen: Annotated[
        str | None, typer.Option("--format", help="npz, parquet or dfr; by the ending when left out.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="COL", help="dfr: the column that becomes y.")
    ] = None,
    groups: Annotated[
        list[str] | None, typer.Option("--groups", metavar="COL[,COL]", help=f"dfr: they become p. {_NAMES}")
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="COL", help="dfr: the column that names the split.")
    ] = "split",
) -> None:
    """Write the good rows' features, keys and columns to a file for other tools."""
    from headwater.store import export as write

    rows = write(store, out, chosen, target=target, groups=_names(groups), split=split)
    _say(f"exported {rows:,} rows of {store} to {out}")
