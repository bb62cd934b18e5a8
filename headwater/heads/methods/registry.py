"""The register of methods: what each needs, its settings and their ranges, its search space, its paper.

`plan` checks everything that can be wrong about a request before any work. The recipes themselves live in one
file per family beside this one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.errors import RequestError
from headwater.heads.methods.domains import domains
from headwater.heads.methods.recipes import Planned, Recipe
from headwater.heads.methods.spaces import Among, Integers, Linspace, LogUniform, Space, Uniform
from headwater.heads.tasks.columns import FRACTIONS
from headwater.heads.tasks.task import Task
from headwater.printable import counted, listed, nearest

__all__ = [
    "Among",
    "Integers",
    "Linspace",
    "LogUniform",
    "Method",
    "Needs",
    "Settings",
    "Space",
    "Uniform",
    "check_needs",
    "check_settings",
    "draw_settings",
    "find_method",
    "method",
    "methods",
    "numbers",
    "parse_settings",
    "plan",
    "random_for",
    "splits_read",
]


class Settings(BaseModel):
    """What every method can be told; each method adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_iterations: int = Field(
        500, ge=1, description="iterations after which a head counts as not converged"
    )


@dataclass(frozen=True)
class Needs:
    """What a method asks of a task, by split.

    `splits` must have rows; on `classes_on` every class must have at least `rows_per_class` rows; on
    `groups_on` every row's group must be known, every group must have at least `rows_per_group` rows, and
    there must be `domains` of them beside the classes, 2 wants a group column, and at most `most_domains`.
    """

    splits: tuple[str, ...] = ()
    classes_on: tuple[str, ...] = ()
    groups_on: tuple[str, ...] = ()
    rows_per_class: int = 1
    rows_per_group: int = 1
    domains: int = 1
    most_domains: int | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The splits whose rows, classes or groups decide what comes out, each once."""
        return tuple(dict.fromkeys((*self.splits, *self.classes_on, *self.groups_on)))

    def describe(self) -> str:
        """For the table of methods: `groups on train and val`, `no groups`, `no groups; reads val`."""
        groups = f"groups on {' and '.join(self.groups_on)}" if self.groups_on else "no groups"
        others = [split for split in self.reads if split != "train" and split not in self.groups_on]
        return f"{groups}; reads {' and '.join(others)}" if others else groups


Check = Callable[[Task, Any], object]
"""Raises RequestError for a setting's value that nothing answers to, such as a level that a task lacks."""


@dataclass(frozen=True)
class Method:
    """One registered method. `needs` depends on the settings, since some make a split unnecessary.

    `checks`: by setting, what only a task can say about its value.
    """

    name: str
    summary: str
    paper: str
    settings: type[Settings]
    needs: Callable[[Any], Needs]
    space: Mapping[str, Space]
    recipe: Callable[[Task, Any, np.random.Generator], Recipe]
    checks: Mapping[str, Check] = field(default_factory=dict)

    def defaults(self) -> dict[str, Any]:
        """The published settings, or ours where there are none or the method says why it departs."""
        return self.settings.model_validate({}).model_dump()


_METHODS: dict[str, Method] = {}

RecipeFunction = Callable[[Task, Any, np.random.Generator], Recipe]


def method(
    name: str,
    *,
    settings: type[Settings],
    needs: Needs | Callable[[Any], Needs],
    paper: str,
    space: Mapping[str, Space] | None = None,
    checks: Mapping[str, Check] | None = None,
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
            checks=dict(checks or {}),
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


def check_settings(task: Task, found: Method, settings: Settings) -> None:
    """RequestError, naming the setting, for a value that nothing in or for this task answers to."""
    for key, check in found.checks.items():
        value = getattr(settings, key)
        try:
            check(task, value)
        except RequestError as error:
            raise RequestError(f"{found.name} cannot take {key} = {value!r}: {error}") from error


def splits_read(name: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The splits whose rows decide what a method with these settings comes to; see `Needs.reads`."""
    found = find_method(name)
    return found.needs(parse_settings(found, settings)).reads


def random_for(found: Method, seed: int, purpose: str = "recipe") -> np.random.Generator:
    """The random stream of a method's recipe, or for another `purpose` one that has nothing to do with it."""
    key = found.name if purpose == "recipe" else f"{found.name} {purpose}"
    return np.random.default_rng([seed, zlib.crc32(key.encode())])


def draw_settings(found: Method, random: np.random.Generator) -> dict[str, Any]:
    """One random draw of every setting that the method's search space names, as plain values.

    Settings are drawn in the order of their names, one draw each. With `random_for(method, seed, "settings")`
    a method's draws depend on nothing but the seed, and the first n of m > n draws are the n drawn alone.
    """
    return {name: found.space[name].sample(random) for name in sorted(found.space)}


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
    check_settings(task, found, parsed)
    random = random_for(found, seed)
    return Planned(found.name, parsed.model_dump(), seed, found.recipe(task, parsed, random))


def check_needs(task: Task, name: str, needs: Needs) -> None:
    """Raise RequestError when the task lacks something the method needs."""
    for split in needs.reads:
        if split not in task.splits:
            raise RequestError(
                f"{name} needs rows in split {split!r}, and column {task.split_name!r} has only "
                f"{listed(task.splits)}; draw all of them anew, into a column of its own, with "
                f"`headwater store split STORE {FRACTIONS} --column drawn`, and name it by --split"
            )
    for split in needs.classes_on:
        few = _fewer(task.classes, task.class_counts(split), needs.rows_per_class)
        if few:
            raise RequestError(
                f"{name} needs at least {counted(needs.rows_per_class, 'row')} of every class in split "
                f"{split!r}, and {listed(few)} {_have(few)} fewer; draw another split or leave the class out"
            )
    for split in needs.groups_on:
        unknown = int((task.groups[task.splits[split]] < 0).sum())
        if unknown:
            raise RequestError(
                f"{name} needs the group of every row in split {split!r}, and {unknown} of "
                f"{len(task.splits[split])} {'has' if unknown == 1 else 'have'} none; annotate "
                f"{listed(task.group_columns)} or choose a method without groups"
            )
        counts = task.group_counts(split)
        if task.groups_may_lack_rows:
            counts = np.where(counts == 0, needs.rows_per_group, counts)
        few = _fewer(task.group_names, counts, needs.rows_per_group)
        if few:
            raise RequestError(
                f"{name} needs at least {counted(needs.rows_per_group, 'row')} of every group in split "
                f"{split!r}, and {listed(few)} {_have(few)} fewer; choose other groups or draw another split"
            )
        if needs.domains > 1:
            _check_domains(name, needs, len(np.unique(domains(task, task.splits[split]))), split)


def _check_domains(name: str, needs: Needs, count: int, split: str) -> None:
    if count < needs.domains:
        raise RequestError(
            f"{name} compares domains within the classes, and the groups of {split} have only one; "
            "name a group column of at least two values"
        )
    if needs.most_domains is not None and count > needs.most_domains:
        raise RequestError(
            f"{name} compares rows of at most {needs.most_domains} domains, and the groups of {split} have "
            f"{count}; use CORAL or a group column of fewer values"
        )


def _fewer(names: Sequence[str], counts: NDArray[np.int64], least: int) -> list[str]:
    return [name for name, count in zip(names, counts.tolist(), strict=True) if count < least]


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def numbers(value: Any) -> Any:
    """Let a setting of several numbers be given as text, `1,0.7,0.3`, or as a single number."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return [value] if isinstance(value, (int, float)) else value
