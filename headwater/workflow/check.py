"""What can be known to be wrong with a config before any work, each with its line."""

from __future__ import annotations

from pathlib import Path

from headwater.errors import RequestError
from headwater.extract import hub
from headwater.extract.preprocessings import find_preprocessing
from headwater.extract.registry import find_backbone
from headwater.store import open_store
from headwater.store.files import refuse_unwritable
from headwater.workflow.coming import Coming, coming_columns
from headwater.workflow.config import Asked
from headwater.workflow.contest import check_start
from headwater.workflow.features import Images
from headwater.workflow.record import Record
from headwater.workflow.settings import check_settings, check_splits, swept_methods, wanted_methods
from headwater.workflow.training import chosen_method

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
        names = swept_methods(asked)
        if asked.config.export is not None and asked.config.export.method is not None:
            chosen_method(asked, names)
    report = asked.config.report
    if report is not None and report.images is not None and not report.images.exists():
        raise asked.error(
            ("report", "images"),
            f"there are no images at {str(report.images)!r}; leave it out to take the store's own",
        )
    if report is not None and report.out is not None and report.out.suffix not in _PAGES:
        raise asked.error(
            ("report", "out"),
            f"report cannot be {str(report.out)!r}: say true or false, or name a page that ends in .html",
        )
    _check_export(asked)
    coming = coming_columns(asked, record, images)
    _check_training(asked, coming)
    _check_places(asked, record)


def _check_training(asked: Asked, coming: Coming | None) -> None:
    """The settings, the splits that methods read, and where training starts, as far as columns are known."""
    config = asked.config
    if config.fit is None and config.sweep is None:
        return
    if coming is None:
        check_settings(asked, None)
        if config.split.shares:
            check_splits(asked, list(config.split.shares))
        return
    check_settings(asked, coming.task_levels(config), lambda: coming.classes(config))
    with asked.at("split"):
        splits = coming.splits(config)
    if splits is not None:
        check_splits(asked, splits)
    weights = None if config.extract is None else config.extract.weights
    if asked.contest and weights is not None and Path(weights).is_file():
        classes = coming.classes(config)
        if classes is not None:
            check_start(asked.marked, weights, classes)


def _check_export(asked: Asked) -> None:
    """A head must fit the network, and its weights be there, by the file or by the store that it names."""
    export = asked.config.export
    if export is None:
        return
    from headwater.workflow.submission import check_backbone, own_weights  # noqa: PLC0415

    if export.out is not None and export.out.suffix not in _ENDINGS:
        raise asked.error(
            ("export", "out"),
            f"{str(export.out)!r} must end in {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}",
        )
    if export.weights is not None and _is_missing(export.weights):
        raise asked.error(("export", "weights"), f"there is no checkpoint at {export.weights!r}")
    if asked.config.store is not None:
        with asked.at("store"):
            store = open_store(asked.config.store)
        with asked.at("export"):
            check_backbone(str(store.plan.recipe.get("backbone", "resnet50")))
        if export.weights is None and _is_missing(weights := own_weights(asked, store) or ""):
            raise asked.error(
                ("export",),
                f"there is no checkpoint at {weights!r}, from which the features in {store.path} came; name "
                "another place of it as `weights`",
            )
    elif asked.config.extract is not None:
        with asked.at("export"):
            check_backbone(asked.config.extract.backbone)


def _check_features(asked: Asked) -> None:
    section = asked.config.extract
    if section is None:
        return
    with asked.at("extract", "backbone"):
        find_backbone(section.backbone)
    if section.preprocess is not None:
        with asked.at("extract", "preprocess"):
            find_preprocessing(section.preprocess)
    for key, address in (("source", section.source), ("weights", section.weights)):
        if address is not None and address.startswith(hub.SCHEME):
            with asked.at("extract", key):
                hub.parse(address)
    if not section.source.startswith(hub.SCHEME) and not Path(section.source).exists():
        hint = (
            " (the contest's solution looked for `train`; name another folder by --source or as `data_path`)"
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
