"""What a run's file may say, checked, with the line of whatever is wrong in it.

Keys are the options of the commands that do the same. Whether what they name exists is check.py's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from headwater.errors import RequestError
from headwater.printable import meant
from headwater.workflow import spelling
from headwater.workflow.contest import in_full, is_contest, own_place
from headwater.workflow.marked import Marked, Place, read_marked


class _TogetherError(ValueError):
    """What is wrong with several keys together; it stands where the last of them that is there does."""

    def __init__(self, sentence: str, *keys: str) -> None:
        super().__init__(sentence)
        self.keys = keys


Names = Annotated[list[str], BeforeValidator(spelling.names)]
Levels = Annotated[list[str | int], BeforeValidator(spelling.levels)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Extract(_Section):
    """As `headwater extract`; `out` is the store, one in the run's folder where none is named."""

    source: str
    out: Path | None = None
    backbone: str = "resnet50"
    weights: str | None = None
    preprocess: str | None = None
    views: int = Field(0, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    dtype: Literal["float16", "float32"] = "float16"
    compile: Annotated[Literal["auto", "on", "off"], BeforeValidator(spelling.switch)] = "auto"
    batch_size: int | None = Field(None, ge=1)
    workers: int | None = Field(None, ge=1)
    strict: bool = False
    path_column: str | None = None
    rows_per_shard: int | None = Field(None, ge=1)


class Annotate(_Section):
    """As `headwater store annotate`: a table whose columns join the store's rows by key, or levels alone.

    `edges`: the table has columns child and parent, which make levels above the values of column `by`.
    """

    table: Path | None = None
    key: str | None = None
    by: str | None = None
    levels: Names = []
    edges: bool = False
    replace: bool = False
    allow_missing: bool = False

    @property
    def joins(self) -> str:
        """The table's column that joins it to the store."""
        return self.key or self.by or "path"

    @model_validator(mode="after")
    def _something(self) -> Annotate:
        if self.table is None and not self.levels:
            raise ValueError("nothing to do: name a table whose columns to add, or levels")
        if self.edges and (self.table is None or self.by is None or self.key is not None):
            raise ValueError(
                "edges want a table with the columns child and parent, and as `by` the column whose values "
                "stand in it; leave `key` out"
            )
        return self


class Split(_Section):
    """As `headwater store split`: the parts' shares; without any, the column is taken as it is."""

    train: float | None = Field(None, gt=0, le=1)
    val: float | None = Field(None, gt=0, le=1)
    test: float | None = Field(None, gt=0, le=1)
    stratify: Names = []
    seed: int = 0
    column: str = "split"
    replace: bool = False

    @property
    def shares(self) -> dict[str, float]:
        """The parts that are to be drawn; {}: none."""
        given = {"train": self.train, "val": self.val, "test": self.test}
        return {name: share for name, share in given.items() if share is not None}

    @model_validator(mode="after")
    def _whole(self) -> Split:
        total = sum(self.shares.values())
        if self.shares and abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of a split sum to {total:g}, and must sum to 1")
        if not self.shares and (self.stratify or self.replace or self.seed):
            raise ValueError("a split is drawn by shares, such as `train: 0.8`, and none is given")
        return self


class Fit(_Section):
    """As `headwater heads fit`: methods by name, each with settings of its own."""

    methods: Annotated[dict[str, dict[str, Any]], BeforeValidator(spelling.methods)]
    set: dict[str, Any] = {}
    seed: int = Field(0, ge=0)
    views: bool = False


class Sweep(_Section):
    """As `headwater heads sweep`."""

    methods: Names = ["all"]
    draws: int | None = Field(None, ge=1)
    grid: dict[str, Annotated[list[Any], BeforeValidator(lambda v: v if isinstance(v, list) else [v])]] = {}
    set: dict[str, Any] = {}
    seeds: Annotated[int | list[int], BeforeValidator(spelling.seeds)] = 3
    select: str | None = None
    folds: int | None = Field(None, ge=2)
    views: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Sweep:
        if self.draws is not None and self.grid:
            raise ValueError("give either draws or grid: a grid says itself which settings to try")
        return self


class Report(_Section):
    """As `headwater report`; the page stands in the run's folder where no `out` is named."""

    out: Path | None = None
    images: Path | None = None
    replace: bool = False


class Export(_Section):
    """As `headwater heads export`; `method` says whose head, `images` how many it is tried on."""

    out: Path | None = None
    method: str | None = None
    weights: str | None = None
    images: int = Field(8, ge=0)
    replace: bool = False


class Config(_Section):
    """A whole run: a store, extracted or there already, heads fitted or swept, and what is made of them."""

    out: Path
    store: Path | None = None
    extract: Extract | None = None
    annotate: Annotated[
        list[Annotate], BeforeValidator(lambda value: [value] if isinstance(value, Mapping) else value)
    ] = []
    split: Annotated[
        Split, BeforeValidator(lambda value: {"column": value} if isinstance(value, str) else value)
    ] = Split.model_validate({})
    target: Annotated[str | int, BeforeValidator(spelling.level)] = "class"
    groups: Levels = []
    fit: Fit | None = None
    sweep: Sweep | None = None
    report: Annotated[
        Report | None,
        BeforeValidator(spelling.wanted),
    ] = Report()
    export: Annotated[
        Export | None,
        BeforeValidator(spelling.wanted),
    ] = None
    device: Annotated[str, BeforeValidator(spelling.device)] = "auto"

    @model_validator(mode="after")
    def _one_each(self) -> Config:
        if (self.extract is None) == (self.store is None):
            raise _TogetherError(
                "say where the features come from: either `extract` with a source of images, or `store`",
                "extract",
                "store",
            )
        if self.fit is not None and self.sweep is not None:
            raise _TogetherError("give either `fit` or `sweep`: a sweep fits the methods too", "fit", "sweep")
        if self.fit is None and self.sweep is None and self.export is not None:
            raise _TogetherError(
                "there is no head to export; say with `fit` or `sweep` how to train one", "export"
            )
        return self


@dataclass(frozen=True, eq=False)
class Asked:
    """A checked config with the file that it came from.

    `contest`: the file held the contest's own keys. `source_given`: the images are not those that it names.
    """

    config: Config
    marked: Marked
    contest: bool = False
    source_given: bool = False

    @contextmanager
    def at(self, *place: str | int) -> Iterator[None]:
        """What is wrong with the request inside the block is said of this place of the file."""
        try:
            yield
        except RequestError as error:
            raise self.error(place, str(error)) from error

    def error(self, place: Place, sentence: str) -> RequestError:
        """The sentence as an error of this place of the file."""
        marked = self.marked
        return marked.error(
            own_place(place, marked) if self.contest else _place_in_file(place, marked), sentence
        )


def load_config(path: str | Path, *, source: str | None = None, out: str | None = None) -> Asked:
    """Read and check a config file; `source` and `out` take the place of what it says.

    A file of the contest's six keys is taken for what it did, see contest.py. Raises RequestError, with file
    and line, for the first thing that is wrong.
    """
    return parse_config(read_marked(path), source=source, out=out)


def parse_config(marked: Marked, *, source: str | None = None, out: str | None = None) -> Asked:
    """The same of a file that was read already."""
    contest = is_contest(marked)
    values = in_full(marked, source) if contest else dict(marked.values)
    if source is not None and not contest:
        section = values.get("extract")
        if not isinstance(section, Mapping):
            raise marked.error((), f"a source is for the key `extract`, which is not there ({source!r})")
        values["extract"] = {**section, "source": source}
    if out is not None:
        values["out"] = out
    try:
        config = Config.model_validate(_with_underscores(values))
    except ValidationError as error:
        raise _first_wrong(error, marked) from None
    return Asked(config, marked, contest, source is not None)


def _with_underscores(values: Any) -> Any:
    """Keys of the file's own sections with underscores, since the options that they name have hyphens."""
    if not isinstance(values, Mapping):
        return values
    fields = Config.model_fields
    found = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        inner = _section_of(fields[name].annotation) if name in fields else None
        if inner is not None and value is None:
            value = {}  # noqa: PLW2901 - a section without lines is one without options
        if inner is not None:
            value = [_renamed(e) for e in value] if isinstance(value, list) else _renamed(value)  # noqa: PLW2901
        found[name] = value
    return found


def _renamed(section: Any) -> Any:
    if not isinstance(section, Mapping):
        return section
    return {key.replace("-", "_"): value for key, value in section.items()}


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, alone, in a list or as one of several kinds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, UnionType) or get_args(annotation):
        return next((found for each in get_args(annotation) if (found := _section_of(each))), None)
    return None


def _first_wrong(error: ValidationError, marked: Marked) -> RequestError:
    """The wrong thing that stands first in the file, in words."""
    found = []
    for each in error.errors():
        place = _place_in_file(each["loc"], marked)
        # What is missing was perhaps written with a slip that is found further down.
        reason = each.get("ctx", {}).get("error")
        keys = [(key,) for key in reason.keys] if isinstance(reason, _TogetherError) else [place]
        line = max(marked.line(*key) for key in keys)
        found.append((each["type"] == "missing", line, place, each))
    _, line, place, first = min(found, key=lambda each: each[:2])
    sentence = _sentence(first, place)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return RequestError(f"{marked.file}:{line}: {sentence}{more}")


def _place_in_file(place: tuple[str | int, ...], marked: Marked) -> Place:
    """Where a value stands that was perhaps put into a list, or had hyphens in its key, by this module."""
    found: Place = ()
    for step in place:
        spelled = str(step).replace("_", "-")
        if (*found, step) in marked.lines:
            found = (*found, step)
        elif (*found, spelled) in marked.lines:
            found = (*found, spelled)
    return found


def _sentence(first: Any, place: Place) -> str:
    kind, loc = first["type"], first["loc"]
    name = ".".join(str(each) for each in place if isinstance(each, str))
    section = name.rpartition(".")[0] if kind == "extra_forbidden" else name
    where = f" in {section}" if section else ""
    if kind == "extra_forbidden":
        if (loc[0], loc[-1]) == ("annotate", "drop"):
            return "a run drops no columns; leave `drop` out, or use `headwater store annotate STORE --drop`"
        known = _keys_of(loc[:-1])
        hint = meant(str(loc[-1]), known) or f"; there is {', '.join(known)}"
        return f"there is no key {str(loc[-1])!r}{where}{hint}"
    if kind == "missing":
        return f"the key {str(loc[-1])!r}{where} is missing"
    reason = str(first["msg"]).removeprefix("Value error, ")
    if kind == "value_error":
        return f"{name}: {reason}" if name else reason
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"{name} must hold `key: value` lines, not {first['input']!r}"
    return f"{name} cannot be {first['input']!r}: {reason[:1].lower()}{reason[1:]}"


def _keys_of(loc: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for step in loc:
        if isinstance(step, str) and step in model.model_fields:
            model = _section_of(model.model_fields[step].annotation) or model
    return list(model.model_fields)
