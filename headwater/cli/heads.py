"""`headwater heads`: the table of methods, fitting and exporting heads; `evaluate` and `sweep` have files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli import evaluate, sweep
from headwater.cli.console import (
    AsJson,
    Views,
    between,
    in_sample_note,
    parts_of,
    percent,
    print_json,
    print_note,
    print_rows,
    print_table,
    print_texts,
    print_warnings,
    progress_console,
    shown,
)
from headwater.errors import HeadwaterWarning, RequestError
from headwater.printable import counted, escaped, listed, nearest

if TYPE_CHECKING:
    from headwater.heads import FitResult
    from headwater.heads.methods.registry import Method

app = typer.Typer(help="Train, measure and export linear heads on a store's features.", no_args_is_help=True)

Replace = Annotated[bool, typer.Option("--replace", help="Replace what is at --out already.")]

_FILE_ENDINGS = (".pth", ".pt", ".zip", ".npz", ".npy", ".h5", ".json")


def register(parent: typer.Typer) -> None:
    """Add `heads` to the command."""
    sweep.register(app)
    evaluate.register(app)
    parent.add_typer(app, name="heads")


@app.command("methods")
def list_methods(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Show this one alone.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the methods, or show one: what they do and need, their settings, what a sweep draws, papers."""
    from headwater.heads.methods import find_method, methods  # noqa: PLC0415

    found = [find_method(method)] if method else list(methods().values())
    if as_json:
        print_json([_method_record(each) for each in found])
        return
    if method:
        _print_method(found[0])
        return
    print_texts(
        ["method", "needs", "what it does"],
        [
            (each.name, each.needs(each.settings.model_validate({})).describe(), each.summary)
            for each in found
        ],
    )
    sharing: dict[tuple[str, str, str], list[str]] = {}
    for each in found:
        for name, setting in each.settings.model_fields.items():
            key = (name, shown(setting.default), setting.description or "")
            sharing.setdefault(key, []).append(each.name)
    typer.echo("\nSettings, given as --set key=value:")
    print_texts(
        ["setting", "default", "what it is", "methods"],
        [
            (*key, "all" if len(names) == len(found) else ", ".join(names))
            for key, names in sorted(sharing.items(), key=lambda item: -len(item[1]))
        ],
    )
    typer.echo("\nWhat a sweep draws settings from, and the papers:")
    print_texts(
        ["method", "draws", "paper"],
        [
            (
                each.name,
                "; ".join(f"{name}: {space.describe()}" for name, space in each.space.items()),
                each.paper,
            )
            for each in found
        ],
    )


def _method_record(found: Method) -> dict[str, Any]:
    return {
        "name": found.name,
        "summary": found.summary,
        "needs": found.needs(found.settings.model_validate({})).describe(),
        "defaults": found.defaults(),
        "settings": {name: setting.description for name, setting in found.settings.model_fields.items()},
        "space": {name: space.describe() for name, space in found.space.items()},
        "paper": found.paper,
    }


def _print_method(found: Method) -> None:
    """One method's card."""
    needs = found.needs(found.settings.model_validate({})).describe()
    print_note(f"{found.name}: {found.summary}")
    print_note(f"\nneeds: {needs or 'nothing but a train split'}\npaper: {found.paper}\n")
    print_texts(
        ["setting", "default", "a sweep draws", "what it is"],
        [
            (
                name,
                shown(setting.default),
                found.space[name].describe() if name in found.space else "",
                setting.description or "",
            )
            for name, setting in found.settings.model_fields.items()
        ],
    )
    print_note("\nGive settings as --set key=value.")


@app.command()
def fit(
    store: Annotated[Path, typer.Argument(help="The store whose features to train on.")],
    *,
    out: Annotated[
        Path, typer.Option(help="The head's file (*.safetensors), or a folder for several methods.")
    ],
    target: Annotated[str, typer.Option(help="The column to predict.")] = "class",
    groups: Annotated[
        str,
        typer.Option(help="Columns, with commas, that make the groups with the target; none: the classes."),
    ] = "",
    method: Annotated[
        str, typer.Option("--method", "--methods", help="A method, several with commas, or all.")
    ] = "ERM",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, or METHOD.key=value; may be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="The column that says train, val or test.")] = "split",
    views: Views = False,
    seed: Annotated[int, typer.Option(help="Decides which rows are drawn.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Fit one or several methods, save their heads, and show how they do on val and test."""
    from headwater.heads.fitting import fit_many, run_paths  # noqa: PLC0415
    from headwater.heads.methods import find_method, methods  # noqa: PLC0415

    names = (
        list(methods())
        if method.strip().lower() == "all"
        else list(dict.fromkeys(find_method(name).name for name in parts_of(method)))
    )
    if not names:
        raise RequestError(f"--method names no method; there is {listed(methods())}")
    if out.suffix in _FILE_ENDINGS:
        raise RequestError(f"a head's file is named *.safetensors, and --out is {str(out)!r}")
    several = len(names) > 1 or out.suffix != ".safetensors"
    if len(names) > 1 and out.suffix == ".safetensors":
        raise RequestError(
            f"{len(names)} methods make {len(names)} heads; give --out a folder, not {str(out)!r}"
        )
    with (
        progress_console().status("reading the store") as status,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always", HeadwaterWarning)
        results = fit_many(
            store,
            methods=list(zip(names, _settings_by_method(names, settings or []), strict=True)),
            target=target,
            groups=parts_of(groups),
            split=split,
            views=views,
            seed=seed,
            out=run_paths(out, names) if several else [out],
            replace=replace,
            device=device,
            progress=lambda number, heads: status.update(
                f"round {number}: training {counted(heads, 'head')}"
            ),
        )
    print_warnings(caught)
    if as_json:
        print_json([_fit_record(result) for result in results])
        return
    _print_fits(results, given=bool(parts_of(groups)))


@app.command()
def export(
    head: Annotated[Path, typer.Argument(help="A head's file.")],
    weights: Annotated[Path, typer.Option(help="The network's weights that the features came from.")],
    out: Annotated[Path, typer.Option(help="*.pth, *.safetensors, or *.zip holding resnet.pth.")],
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Merge a head into the network's last layer, as weights that torchvision loads.

    For heads on features of torchvision networks that end in a layer `fc`, such as resnet50, alone.
    """
    from headwater.heads.export import export_head  # noqa: PLC0415

    with progress_console().status("merging"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HeadwaterWarning)
        done = export_head(head, weights, out, replace=replace)
    print_warnings(caught)
    if as_json:
        print_json(
            {
                "out": str(done.path),
                "architecture": done.architecture,
                "classes": list(done.classes),
                "difference": done.difference,
                "same_weights": done.same_weights,
                "replaced": done.replaced,
                "preprocessing": done.preprocessing,
            }
        )
        return
    other = done.replaced is not None and done.replaced != len(done.classes)
    instead = f" (the checkpoint's own was for {done.replaced})" if other else ""
    typer.echo(
        f"{done.path}: {done.architecture} with fc for {len(done.classes)} classes{instead}; "
        f"its logits equal the head's to {done.difference:.0e} of the largest"
    )
    print_note(f"Prepare its images so: {done.described_preprocessing}")


def _print_fits(results: Sequence[FitResult], *, given: bool) -> None:
    """How the heads do on val and test; `given`: groups were asked for."""
    from headwater.heads.sweeps.selection import MANY  # noqa: PLC0415

    rows = []
    many = any(
        found["groups_with_rows"] >= MANY or found["by_node"]
        for result in results
        for found in result.info.summary.values()
    )
    for result in results:
        for place, (split, found) in enumerate(result.info.summary.items()):
            worst = found["worst_group"] and found["worst_group"]["accuracy"]
            if many:
                worst = found["worst_curve"] and found["worst_curve"]["area"]
            drawn = found["intervals"].get("worst_area" if many else "worst_group") or {}
            rows.append(
                (
                    result.fitted.method if place == 0 else "",
                    f"{split} *" if result.info.in_sample(split) else split,
                    percent(found["overall"]),
                    percent(found["balanced"]),
                    percent(worst),
                    between(drawn.get("low"), drawn.get("high")),
                    f"{result.fitted.seconds:.1f}" if place == 0 else "",
                )
            )
    about = results[0].info  # where levels that were given as numbers have their names
    made = " x ".join(map(escaped, (about.target, *about.group_columns)))
    if not about.group_columns:
        made = f"the classes of {made}{'' if given else ', since no --groups were given'}"
    if rows:
        print_table(
            f"Accuracy in %; groups: {made}",
            ["method", "split", "overall", "balanced", "worst K %" if many else "worst", "95 %", "s"],
            rows,
        )
    if many:
        print_note("worst K %: accuracy of the worst K % of the groups, the mean over K from 10 to 50")
    for split in ("val", "test"):
        names = [each.fitted.method for each in results if each.info.in_sample(split)]
        if names:
            print_note(in_sample_note(names, split))
    first = results[0]
    print_rows(first.left_out.describe(), first.without_group, first.small_groups)
    for result in results:
        fitted = result.fitted
        chosen = ", ".join(f"{key} = {shown(value)}" for key, value in fitted.choices.items())
        state = "converged" if not fitted.unconverged else f"{fitted.unconverged} NOT converged"
        ending = fitted.convergence
        if ending.stepped and not ending.converged:
            state = f"stepped {counted(ending.iterations, 'epoch')}, as asked"
        line = f"{fitted.method}: {counted(fitted.trained, 'head')}, {state}"
        typer.echo(f"{line}{'; ' + chosen if chosen else ''} -> {escaped(str(result.path))}")


def _fit_record(result: FitResult) -> dict[str, Any]:
    fitted = result.fitted
    return {
        "method": fitted.method,
        "settings": dict(fitted.settings),
        "seed": fitted.seed,
        "choices": dict(fitted.choices),
        "heads": fitted.trained,
        "unconverged": fitted.unconverged,
        "converged": fitted.unconverged == 0 and fitted.convergence.converged,
        "seconds": fitted.seconds,
        "path": str(result.path),
        "left_out": asdict(result.left_out),
        "without_group": dict(result.without_group),
        "small_groups": dict(result.small_groups),
        "splits": {
            split: {**found, "in_sample": result.info.in_sample(split)}
            for split, found in result.info.summary.items()
        },
    }


def _settings_by_method(names: Sequence[str], given: Sequence[str]) -> list[dict[str, str]]:
    """Each method's share of the `--set` options; a plain key goes to every method that has it."""
    from headwater.heads.methods import find_method  # noqa: PLC0415

    known: Mapping[str, list[str]] = {name: list(find_method(name).settings.model_fields) for name in names}
    shares: dict[str, dict[str, str]] = {name: {} for name in names}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise RequestError(f"--set takes key=value, not {text!r}")
        method, dot, inner = key.rpartition(".")
        if dot:
            name = find_method(method).name
            if name not in shares:
                raise RequestError(f"--set {text} is for {name}, which is not among the methods to fit")
            shares[name][inner] = value
            continue
        takers = [name for name in names if key in known[name]]
        if not takers:
            every = list(dict.fromkeys(setting for each in known.values() for setting in each))
            who = names[0] if len(names) == 1 else "none of the methods"
            raise RequestError(
                f"{who} has {'no' if len(names) == 1 else 'a'} setting {key!r}{nearest(key, every)}"
            )
        for name in takers:
            shares[name][key] = value
    return list(shares.values())
