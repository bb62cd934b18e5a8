"""What can be known to be wrong with a config before any work, each with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headwater.errors import RequestError
from headwater.extract import hub
from headwater.extract.preprocessings import find_preprocessing
from headwater.extract.registry import find_backbone
from headwater.heads.methods import find_method, methods, parse_settings
from headwater.heads.sweeps.selection import find_rule
from headwater.heads.tasks.levels import column_called, place
from headwater.printable import nearest
from headwater.store import open_store, read_table
from headwater.store.files import refuse_unwritable
from headwater.taxonomy import levels_among
from headwater.workflow.config import Asked
from headwater.workflow.features import Images, begun_store, finished_store
from headwater.workflow.record import Record
from headwater.workflow.training import chosen_method, wanted_methods

_ENDINGS = (".pth", ".pt", ".safetensors", ".zip")
_PAGES = (".html", ".htm")
REPORT, SUBMISSION, RESULTS = "report.html", "submission.zip", "results.csv"


def check(asked: Asked, record: Record, images: Images) -> None:
    """RequestError, with file and line, for names of things that are not there and cannot be meant.

    Also for files in the way of what will be written.
    """
    _check_features(asked)
    for number, section in enumerate(asked.config.annotate):
        if section.table is not None and not section.table.is_file():
            raise asked.error(("annotate", number, "table"), f"there is no table at {str(section.table)!r}")
    if asked.config.fit is not None:
        chosen_method(asked, list(wanted_methods(asked)))
    if asked.config.sweep is not None:
        _check_sweep(asked)
    report = asked.config.report
    if report is not None and report.out is not None and report.out.suffix not in _PAGES:
        raise asked.error(
            ("report", "out"),
            f"report cannot be {str(report.out)!r}: say true or false, or name a page that ends in .html",
        )
    export = asked.config.export
    if export is not None:
        if export.out is not None and export.out.suffix not in _ENDINGS:
            raise asked.error(
                ("export", "out"),
                f"{str(export.out)!r} must end in {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}",
            )
        if export.weights is not None and _is_missing(export.weights):
            raise asked.error(("export", "weights"), f"there is no checkpoint at {export.weights!r}")
    _check_columns(asked, record, images)
    _check_places(asked, record)


def _check_features(asked: Asked) -> None:
    section = asked.config.extract
    if section is None:
        return
    with asked.at("extract", "backbone"):
        backbone = find_backbone(section.backbone)
    if section.preprocess is not None:
        with asked.at("extract", "preprocess"):
            find_preprocessing(section.preprocess)
    if asked.config.export is not None:
        from headwater.workflow.submission import check_backbone  # noqa: PLC0415

        with asked.at("export"):
            check_backbone(backbone)
    for key, address in (("source", section.source), ("weights", section.weights)):
        if address is not None and address.startswith(hub.SCHEME):
            with asked.at("extract", key):
                hub.parse(address)
    if not section.source.startswith(hub.SCHEME) and not Path(section.source).exists():
        hint = (
            " (the contest's solution looked for `train`; name another folder as `data_path`)"
            if asked.contest
            else ""
        )
        sentence = f"there are no images at {section.source!r}"
        raise (
            RequestError(f"{sentence}, which --source names")
            if asked.source_given
            else asked.error(("extract", "source"), sentence + hint)
        )
    if section.weights is not None and _is_missing(section.weights):
        raise asked.error(("extract", "weights"), f"there is no checkpoint at {section.weights!r}")


def _is_missing(weights: str) -> bool:
    """Whether weights name a file that is not there; a name such as IMAGENET1K_V2 has no ending."""
    path = Path(weights)
    is_path = "/" in weights or path.suffix in (".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".tar")
    return is_path and not weights.startswith(hub.SCHEME) and not path.exists()


def _check_sweep(asked: Asked) -> None:
    section = asked.config.sweep
    assert section is not None
    for number, name in enumerate(section.methods):
        with asked.at("sweep", "methods", number):
            if name.lower() != "all":
                find_method(name)
    if section.select is not None:
        with asked.at("sweep", "select"):
            find_rule(section.select)
    names = (
        list(methods()) if "all" in section.methods else [find_method(each).name for each in section.methods]
    )
    for part, given in (
        ("grid", section.grid),
        ("set", {key: [value] for key, value in section.set.items()}),
    ):
        for key, values in given.items():
            with asked.at("sweep", part, key):
                _check_setting(key, values, names)
    if isinstance(section.seeds, list) and not section.seeds:
        raise asked.error(("sweep", "seeds"), "a sweep needs at least one seed, and seeds is empty")
    export = asked.config.export
    if export is not None and export.method is not None:
        chosen_method(asked, names)


def _check_setting(key: str, values: Sequence[Any], names: Sequence[str]) -> None:
    """A setting of one method, `METHOD.key`, or of all of `names` that have it must exist and take these."""
    method, _, inner = key.rpartition(".")
    takers = [name for name in names if inner in find_method(name).settings.model_fields]
    if method:
        takers = [find_method(method).name]
    elif not takers:
        known = dict.fromkeys(each for name in names for each in find_method(name).settings.model_fields)
        raise RequestError(f"none of the methods has the setting {key!r}{nearest(key, known)}")
    for name in takers:
        for value in values:
            parse_settings(find_method(name), {inner: value})


def _check_columns(asked: Asked, record: Record, images: Images) -> None:
    """The target and the groups must be columns, of the source, the store or the tables, before any work.

    Those of a source that is fetched are only known once it is there.
    """
    config = asked.config
    section = config.extract
    if config.fit is None and config.sweep is None:
        return
    columns: Mapping[str, Any] = {}
    there = config.store or finished_store(asked, record)
    if section is None or there is not None:
        assert there is not None
        with asked.at("store"):
            opened = open_store(there)
        names, levels, views = list(opened.annotations), opened.annotations.levels, opened.views
    else:
        if section.source.startswith(hub.SCHEME):
            return
        with asked.at("extract", "source"):
            columns = images.source.annotations
            names, levels, views = list(columns), (), section.views
        begun = begun_store(asked, record)
        if begun is not None:  # to which its user may have added columns
            names += [name for name in begun.annotations if name not in columns]
            levels = begun.annotations.levels
    for number, each in enumerate(config.annotate):
        if each.table is not None:
            with asked.at("annotate", number):
                names += [name for name in read_table(each.table, key=each.joins) if name != each.joins]
        levels = tuple(each.levels) or levels
    levels = levels_among(names, levels)
    for key, name in (("target", config.target), *(("groups", each) for each in config.groups)):
        with asked.at(key):
            column = column_called(name, names, levels)
            if column not in names:
                raise RequestError(f"there will be no column {column!r} for it{nearest(column, names)}")
    target = column_called(config.target, names, levels)
    if target in levels and all(name in columns for name in levels):
        below = [column_called(each, names, levels) for each in config.groups]
        with asked.at("groups" if config.groups else "target"):
            place(
                {name: columns[name] for name in levels}, target, [each for each in below if each in levels]
            )
    if not config.split.shares and config.split.column not in names:
        have = ", ".join(names) or "none"
        raise asked.error(
            ("split",),
            f"there will be no split column {config.split.column!r}, only {have}; say how to draw one, "
            "such as `split: {train: 0.8, val: 0.1, test: 0.1}`",
        )
    part = "fit" if config.fit is not None else "sweep"
    if (config.fit or config.sweep).views and not views:  # type: ignore[union-attr]
        raise asked.error(
            (part, "views"), "the store has no augmented views to train on; extract some with `views`"
        )


def _check_places(asked: Asked, record: Record) -> None:
    """Nothing that this run did not make may be where it will write."""
    config = asked.config
    trained = config.fit is not None or config.sweep is not None
    for name, section, plain in (("report", config.report, REPORT), ("export", config.export, SUBMISSION)):
        if not trained or section is None:
            continue
        out = section.out or record.folder / plain
        with asked.at(name):
            refuse_unwritable(out)
            if out.exists() and not section.replace and not record.is_ours(name, out):
                way_out = (
                    "move it away"  # the contest's form has no key for it
                    if asked.contest
                    else f"name another as `{name}: {{out: FILE}}`, or say `{name}: {{replace: true}}`"
                )
                raise RequestError(f"{str(out)!r} exists already and was not made by this run; {way_out}")
    table = record.folder / RESULTS
    if trained and table.exists() and not record.is_ours("results", table):
        raise asked.error(("out",), f"{str(table)!r} is there and was not made by this run; move it away")
