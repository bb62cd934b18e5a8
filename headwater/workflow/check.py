"""What can be known to be wrong with a config before any work, each with its line."""

from __future__ import annotations

from pathlib import Path

from headwater.errors import RequestError
from headwater.workflow.config import Asked

_ENDINGS = (".pth", ".pt", ".safetensors", ".zip")
_FETCHED = "hf://"


def check(asked: Asked) -> None:
    """RequestError, with file and line, for names of things that are not there and cannot be meant."""
    _check_features(asked)
    for number, section in enumerate(asked.config.annotate):
        if section.table is not None and not section.table.is_file():
            raise asked.error(("annotate", number, "table"), f"there is no table at {str(section.table)!r}")
    if asked.config.fit is not None:
        from headwater.workflow.training import wanted_methods  # noqa: PLC0415

        wanted_methods(asked)
    if asked.config.sweep is not None:
        _check_sweep(asked)
    export = asked.config.export
    if export is not None:
        if export.out is not None and export.out.suffix not in _ENDINGS:
            raise asked.error(
                ("export", "out"),
                f"{str(export.out)!r} must end in {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}",
            )
        if export.weights is not None and _is_missing(export.weights):
            raise asked.error(("export", "weights"), f"there is no checkpoint at {export.weights!r}")


def _check_features(asked: Asked) -> None:
    section = asked.config.extract
    if section is None:
        return
    from headwater.extract.registry import find_backbone  # noqa: PLC0415

    with asked.at("extract", "backbone"):
        backbone = find_backbone(section.backbone)
    if asked.config.export is not None:
        from headwater.workflow.submission import check_backbone  # noqa: PLC0415

        with asked.at("export"):
            check_backbone(backbone)
    if not section.source.startswith(_FETCHED) and not Path(section.source).exists():
        hint = (
            " (the contest's solution looked for `train`; name another folder as `data_path`)"
            if asked.contest
            else ""
        )
        raise asked.error(("extract", "source"), f"there are no images at {section.source!r}{hint}")
    if section.weights is not None and _is_missing(section.weights):
        raise asked.error(("extract", "weights"), f"there is no checkpoint at {section.weights!r}")


def _is_missing(weights: str) -> bool:
    """Whether weights name a file that is not there; a name such as IMAGENET1K_V2 has no ending."""
    path = Path(weights)
    is_path = "/" in weights or path.suffix in (".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".tar")
    return is_path and not weights.startswith(_FETCHED) and not path.exists()


def _check_sweep(asked: Asked) -> None:
    from headwater.heads.methods import find_method  # noqa: PLC0415
    from headwater.heads.sweeps.selection import find_rule  # noqa: PLC0415

    section = asked.config.sweep
    assert section is not None
    for number, name in enumerate(section.methods):
        with asked.at("sweep", "methods", number):
            if name.lower() != "all":
                find_method(name)
    if section.select is not None:
        with asked.at("sweep", "select"):
            find_rule(section.select)
    for part in ("grid", "set"):
        for key in getattr(section, part):
            method, _, _ = key.rpartition(".")
            with asked.at("sweep", part, key):
                if method:
                    find_method(method)
    if isinstance(section.seeds, list) and not section.seeds:
        raise asked.error(("sweep", "seeds"), "a sweep needs at least one seed, and seeds is empty")
    if asked.config.export is not None and asked.config.export.method is not None:
        with asked.at("export", "method"):
            name = find_method(asked.config.export.method).name
            if "all" not in section.methods and name not in {find_method(e).name for e in section.methods}:
                raise RequestError(f"{name} is not among the methods to sweep")
