"""The register of methods: what each needs, its settings and their ranges, its search space, its paper.

`plan` checks everything that can be wrong about a request before any work. The recipes themselves live in one
file per family beside this one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.errors import RequestError
from headwater.heads.columns import FRACTIONS, listed, nearest
from headwater.heads.recipes import Planned, Recipe
from headwater.heads.task import Task


class Settings(BaseModel):
    """What every method can be told; each method adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_iterations: int = Field(
        500, ge=1, description="iterations after which a head counts as not converged"
    )


@dataclass(frozen=True)
class Needs:
    """What a method asks of a task, by split.

    `splits` must have rows; on `classes_on` every class must have rows; on `groups_on` every row's group must
    be known and every group must have at least `rows_per_group` rows.
    """

    splits: tuple[str, ...] = ()
    classes_on: tuple[str, ...] = ()
    groups_on: tuple[str, ...] = ()
    rows_per_group: int = 1

    def describe(self) -> str:
        """For the table of methods, such as `groups on val`."""
        parts = [f"groups on {split}" for split in self.groups_on]
        return ", ".join(parts) or "no groups"


@dataclass(frozen=True)
class Among:
    """A search space of a few values."""

    values: tuple[Any, ...]

    def describe(self) -> str:
        """For people, such as `l1 or l2`."""
        return " or ".join(str(value) for value in self.values)


@dataclass(frozen=True)
class LogUniform:
    """A search space from `low` to `high`, even on a logarithmic scale."""

    low: float
    high: float

    def describe(self) -> str:
        """For people, such as `1e-05 to 1, logarithmic`."""
        return f"{self.low:g} to {self.high:g}, logarithmic"


@dataclass(frozen=True)
class Method:
    """One registered method. `needs` depends on the settings, since some make a split unnecessary."""

    name: str
    summary: str
    paper: str
    settings: type[Settings]
    needs: Callable[[Any], Needs]
    space: Mapping[str, Among | LogUniform]
    recipe: Callable[[Task, Any, np.random.Generator], Recipe]

    def defaults(self) -> dict[str, Any]:
        """The published settings, or where there are none, ours."""
        return self.settings.model_validate({}).model_dump()


_METHODS: dict[str, Method] = {}

RecipeFunction = Callable[[Task, Any, np.random.Generator], Recipe]


def method(
    name: str,
    *,
    settings: type[Settings],
    needs: Needs | Callable[[Any], Needs],
    paper: str,
    space: Mapping[str, Among | LogUniform] | None = None,
) -> Callable[[RecipeFunction], RecipeFunction]:
    """Register a recipe `(task, settings, random) -> generator`; its docstring's first line is shown."""

    def register(recipe: RecipeFunction) -> RecipeFunction:
        if name in _METHODS:
            raise ValueError(f"a method named {name!r} is registered already")
        _METHODS[name] = Method(
            name=name,
            summary=(recipe.__doc__ or "").strip().splitlines()[0].rstrip("."),
            paper=paper,
            settings=settings,
            needs=needs if callable(needs) else lambda _settings: needs,
            space=dict(space or {}),
            recipe=recipe,
        )
        return recipe

    return register


def methods() -> dict[str, Method]:
    """All methods by name, in the order of the table."""
    return dict(_METHODS)


def find_method(name: str) -> Method:
    """The method of that name, whatever its case; RequestError with the nearest name otherwise."""
    for known, found in _METHODS.items():
        if known.lower() == name.lower():
            return found
    raise RequestError(f"there is no method {name!r}{nearest(name, _METHODS)}")


def parse_settings(found: Method, given: Mapping[str, Any]) -> Settings:
    """Typed, checked settings from plain values or their text; RequestError names the first that is wrong."""
    known = found.settings.model_fields
    for key in given:
        if key not in known:
            raise RequestError(f"{found.name} has no setting {key!r}{nearest(key, known)}")
    try:
        return found.settings.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "settings"
        reason = first["msg"].removeprefix("Value error, ")
        raise RequestError(
            f"{found.name} cannot take {key} = {given.get(key)!r}: {reason[:1].lower()}{reason[1:]}"
        ) from error


def plan(task: Task, name: str, settings: Mapping[str, Any] | None = None, *, seed: int = 0) -> Planned:
    """A recipe ready to run, or RequestError in one sentence; nothing is trained or drawn yet.

    The random stream depends on the seed and the method alone, so that neither the other recipes of a run nor
    a hyper-parameter changes which rows are drawn.
    """
    if seed < 0:
        raise RequestError(f"a seed must not be negative, and this one is {seed}")
    found = find_method(name)
    parsed = parse_settings(found, settings or {})
    check_needs(task, found.name, found.needs(parsed))
    random = np.random.default_rng([seed, zlib.crc32(found.name.encode())])
    return Planned(found.name, parsed.model_dump(), seed, found.recipe(task, parsed, random))


def check_needs(task: Task, name: str, needs: Needs) -> None:
    """Raise RequestError when the task lacks something the method needs."""
    for split in dict.fromkeys((*needs.splits, *needs.classes_on, *needs.groups_on)):
        if split not in task.splits:
            raise RequestError(
                f"{name} needs rows in split {split!r}, and column {task.split_name!r} has only "
                f"{listed(task.splits)}; draw one with `headwater store split STORE {FRACTIONS} --replace`"
            )
    for split in needs.classes_on:
        empty = [
            each for each, n in zip(task.classes, task.class_counts(split).tolist(), strict=True) if not n
        ]
        if empty:
            raise RequestError(
                f"{name} needs every class in split {split!r}, and {listed(empty)} has no rows there; "
                "draw another split or leave the class out"
            )
    for split in needs.groups_on:
        unknown = int((task.groups[task.splits[split]] < 0).sum())
        if unknown:
            raise RequestError(
                f"{name} needs the group of every row in split {split!r}, and {unknown} of "
                f"{len(task.splits[split])} have none; annotate {listed(task.group_columns)} or choose a "
                "method without groups"
            )
        counts = task.group_counts(split).tolist()
        few = [each for each, n in zip(task.group_names, counts, strict=True) if n < needs.rows_per_group]
        if few:
            raise RequestError(
                f"{name} needs at least {needs.rows_per_group} row(s) of every group "
                f"in split {split!r}, and {listed(few)} has fewer; choose other groups or draw another split"
            )


def numbers(value: Any) -> Any:
    """Let a setting of several numbers be given as text, `1,0.7,0.3`, or as a single number."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return [value] if isinstance(value, (int, float)) else value
