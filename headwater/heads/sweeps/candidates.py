"""Which settings of which methods a sweep tries: random draws from their spaces, or a grid.

Whether a task has what a method needs is asked here too; training and judging are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.errors import RequestError
from headwater.heads.methods import Method, draw_settings, find_method, methods, parse_settings, random_for
from headwater.heads.methods.registry import Settings, check_needs, check_settings
from headwater.heads.sweeps.folds import Folds
from headwater.heads.tasks.task import Task
from headwater.printable import listed, nearest

ALL = "all"

# Draws in a row that bring nothing new, after which a space is taken to have no more.
_PATIENCE = 200


@dataclass(frozen=True)
class Candidate:
    """One method with settings. `number` counts the method's; of draws, 0 is the published default.

    `val_in_sample`: val decides what comes out, so that only rows held out of val can judge it.
    """

    method: str
    number: int
    settings: Mapping[str, Any]
    val_in_sample: bool

    @property
    def id(self) -> str:
        """A name that sorts, such as `DFR-val.03`."""
        return f"{self.method}.{self.number:02}"


@dataclass(frozen=True)
class Skipped:
    """A method, or some settings of it, that this task cannot be asked for, and why."""

    method: str
    settings: int
    reason: str


@dataclass(frozen=True)
class Wanted:
    """What to try: `draws` of each method's space, or where `grid` is given, the product of its values.

    `methods` are names, or `all`: then those whose needs the task does not meet are left out. `grid` and
    `fixed` map `METHOD.key` or `key` (of every method that has it) to values and to one value.
    """

    methods: Sequence[str] = (ALL,)
    draws: int = 16
    grid: Mapping[str, Sequence[Any]] | None = None
    fixed: Mapping[str, Any] | None = None


def candidates(task: Task, wanted: Wanted, folds: Folds, seed: int) -> tuple[list[Candidate], list[Skipped]]:
    """All candidates in the order of the table of methods, each once, and what was left out.

    `seed` decides the draws.

    RequestError, in one sentence, for an unknown method or setting, a value out of range or that nothing in
    the task answers to, and a method asked for by name that needs what the task lacks.
    """
    chosen, lenient = _methods(wanted.methods)
    if wanted.draws < 1:
        raise RequestError(f"at least one draw is needed, the published default, and draws is {wanted.draws}")
    fixed = _by_method(chosen, wanted.fixed or {}, "setting")
    grids = None if wanted.grid is None else _by_method(chosen, _lists(wanted.grid), "grid")
    found: list[Candidate] = []
    skipped: list[Skipped] = []
    for method in chosen:
        drawn = _draws(method, seed) if grids is None else _product(grids[method.name])
        kept, left_out, reason = 0, 0, ""
        parsings = (parse_settings(method, {**each, **fixed[method.name]}) for each in drawn)
        most = None if grids is not None else wanted.draws
        for parsed in itertools.islice(_distinct(parsings), most):
            check_settings(task, method, parsed)
            needs = method.needs(parsed)
            val_in_sample = "val" in needs.reads
            try:
                check_needs(task, method.name, needs)
                if val_in_sample:
                    folds.check(method.name)
                    for fold in folds.tasks:
                        check_needs(fold, f"{method.name}, judged on held-out parts of val,", needs)
            except RequestError as error:
                if not lenient:
                    raise
                left_out, reason = left_out + 1, reason or str(error)
                continue
            found.append(Candidate(method.name, kept, parsed.model_dump(mode="json"), val_in_sample))
            kept += 1
        if left_out:
            skipped.append(Skipped(method.name, left_out, reason))
    if not found:
        raise RequestError(f"none of the methods can be run on this task; {skipped[0].reason}")
    return found, skipped


def _methods(names: Sequence[str]) -> tuple[list[Method], bool]:
    """The methods in the order of the table, and whether `all` of them were asked for."""
    every = methods()
    if any(name.lower() == ALL for name in names):
        if len(names) > 1:
            raise RequestError(f"give either `{ALL}` or names of methods, not {listed(names)}")
        return list(every.values()), True
    wanted = {find_method(name).name for name in names}
    if not wanted:
        raise RequestError(f"no method is named; there is {listed(every)}")
    return [each for name, each in every.items() if name in wanted], False


def _draws(method: Method, seed: int) -> Iterator[dict[str, Any]]:
    """The published settings, then random ones without an end."""
    random = random_for(method, seed, "settings")
    yield {}
    while True:
        yield draw_settings(method, random)


def _product(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _lists(grid: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of a grid; RequestError where they are none."""
    for key, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Iterable) or not list(values):
            raise RequestError(f"the grid {key!r} takes a list of values to try, not {values!r}")
    return {key: list(values) for key, values in grid.items()}


def _distinct(given: Iterable[Settings]) -> Iterator[Settings]:
    """Each settings once; the end of `given`, or of patience where a small space has no more to give."""
    seen: set[Settings] = set()
    vain = 0
    for settings in given:
        vain = vain + 1 if settings in seen else 0
        if vain == _PATIENCE:
            return
        if not vain:
            seen.add(settings)
            yield settings


def _by_method(chosen: Sequence[Method], given: Mapping[str, Any], what: str) -> dict[str, dict[str, Any]]:
    """Each method's share of what was given; a plain key goes to every method that has such a setting."""
    shares: dict[str, dict[str, Any]] = {method.name: {} for method in chosen}
    for text, value in given.items():
        name, dot, key = text.rpartition(".")
        if dot:
            method = find_method(name)
            if method.name not in shares:
                raise RequestError(
                    f"the {what} {text!r} is for {method.name}, which is not among the methods of this sweep"
                )
            takers = [method]
        else:
            takers = [each for each in chosen if key in each.settings.model_fields]
            if not takers:
                known = dict.fromkeys(k for each in chosen for k in each.settings.model_fields)
                raise RequestError(f"none of the methods has a setting {key!r}{nearest(key, known)}")
        for method in takers:
            if key not in method.settings.model_fields:
                raise RequestError(
                    f"{method.name} has no setting {key!r}{nearest(key, method.settings.model_fields)}"
                )
            shares[method.name][key] = value
    return shares
