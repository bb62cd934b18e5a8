"""Whether the methods that a file asks for exist, can take the settings that it gives, and can be run at all.

What a setting means is its method's business; here are only the ways to go wrong that show before training.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headwater.checkpoints import load_state_dict
from headwater.errors import RequestError
from headwater.heads.methods import Method, find_method, methods, parse_settings
from headwater.heads.methods.hierarchy import EVERY, TARGET, HierarchySettings
from headwater.heads.methods.hierarchy_sampler import HierSamplerSettings
from headwater.heads.methods.registry import check_settings as check_for_task
from headwater.heads.sweeps.candidates import ALL
from headwater.heads.sweeps.selection import find_rule
from headwater.heads.tasks.task import Task
from headwater.printable import listed, nearest
from headwater.taxonomy import level_number
from headwater.workflow.config import Asked
from headwater.workflow.marked import Place

Given = tuple[Place, str, str, Any]


def wanted_methods(asked: Asked) -> dict[str, dict[str, Any]]:
    """The methods to fit by their proper names, with the settings that the file gives each.

    RequestError with the line of a method or setting that does not exist, or cannot be what it is.
    """
    section = asked.config.fit
    assert section is not None
    found: dict[str, dict[str, Any]] = {}
    where: dict[str, Place] = {}
    for place, name, given in _to_fit(asked):
        with asked.at(*place):
            if name in found:
                raise RequestError(f"the method {name} stands here twice; name it once")
        found[name] = dict(given)
        where[name] = place
    for key, value in section.set.items():
        with asked.at("fit", "set", key):
            for name, inner in _takers(key, list(found)):
                found[name].setdefault(inner, value)
    for place, name, key, value in _fitted(asked):
        with asked.at(*place):
            parse_settings(find_method(name), {key: value})
    for name, given in found.items():
        with asked.at(*where[name]):
            parse_settings(find_method(name), given)
    return found


def swept_methods(asked: Asked) -> list[str]:
    """The proper names of the methods to sweep; RequestError with the line of what cannot be swept so."""
    section = asked.config.sweep
    assert section is not None
    names: list[str] = []
    for number, name in enumerate(section.methods):
        with asked.at("sweep", "methods", number):
            names += methods() if name.lower() == ALL else [find_method(name).name]
            if name.lower() == ALL and len(section.methods) > 1:
                raise RequestError(f"give either `{ALL}` or names of methods, not {listed(section.methods)}")
    if not names:
        raise asked.error(("sweep", "methods"), "no method is named; `headwater heads methods` lists them")
    if section.select is not None:
        with asked.at("sweep", "select"):
            find_rule(section.select)
    seeds = section.seeds if isinstance(section.seeds, list) else list(range(section.seeds))
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise asked.error(
            ("sweep", "seeds"),
            f"seeds must be at least one, different and not negative, and seeds is {section.seeds!r}",
        )
    for place, name, key, value in _swept(asked, names):
        with asked.at(*place):
            parse_settings(find_method(name), {key: value})
    return list(dict.fromkeys(names))


def check_settings(
    asked: Asked, levels: Sequence[str] | None, classes: Callable[[], Sequence[str] | None] = lambda: None
) -> None:
    """RequestError with the line of a setting that no task over these levels, or of these classes, can have.

    `levels` are those of the task's tree; None: they, or the classes, are not known yet.
    """
    given = _fitted(asked) if asked.config.fit is not None else _swept(asked, swept_methods(asked))
    for place, name, key, value in given:
        kind = find_method(name).settings
        with asked.at(*place):
            read = getattr(parse_settings(find_method(name), {key: value}), key)
            try:
                if key == "level" and issubclass(kind, HierarchySettings):
                    _check_level(read, levels)
                # The contest's own start is its network's checkpoint, which is looked at as such.
                if key == "start" and issubclass(kind, HierSamplerSettings) and read and not asked.contest:
                    _check_start(read, classes())
            except RequestError as error:
                raise RequestError(f"{name} cannot take {key} = {value!r}: {error}") from error


def check_on_task(asked: Asked, task: Task) -> None:
    """RequestError with the line of a setting that this task cannot have."""
    given = _fitted(asked) if asked.config.fit is not None else _swept(asked, swept_methods(asked))
    for place, name, key, value in given:
        method = find_method(name)
        if key in method.checks and not asked.contest:
            with asked.at(*place):
                check_for_task(task, method, parse_settings(method, {key: value}))


def check_splits(asked: Asked, splits: Sequence[str]) -> None:
    """RequestError with the line of a method, asked for by name, that reads a split without rows."""
    for place, method, given in _asked_for(asked):
        for split in method.needs(parse_settings(method, given)).reads:
            if split not in splits:
                raise asked.error(
                    place,
                    f"{method.name} needs rows in split {split!r}, and there will be only {listed(splits)}; "
                    "say in `split` how to draw it, or leave the method out",
                )


def _check_level(level: int | str, levels: Sequence[str] | None) -> None:
    if levels is not None and level not in (EVERY, TARGET):
        level_number(levels, level)


def _check_start(path: str, classes: Sequence[str] | None) -> None:
    way_out = "leave `start` out to start at zero"
    if not Path(path).is_file():
        raise RequestError(f"there is no checkpoint at {path!r}; {way_out}")
    if classes is None:
        return
    state = load_state_dict(path)
    weight = state.get("fc.weight", state.get("weight"))
    if weight is None or len(weight) != len(classes):
        has = "no last layer `fc`" if weight is None else f"an fc for {len(weight)} classes"
        raise RequestError(f"{path!r} has {has}, and the images have {len(classes)} classes; {way_out}")


def _to_fit(asked: Asked) -> Iterator[tuple[Place, str, dict[str, Any]]]:
    """Each method of `fit` with its place and its own settings."""
    section = asked.config.fit
    assert section is not None
    for number, (name, given) in enumerate(section.methods.items()):
        keyed: Place = ("fit", "methods", name)
        place = keyed if keyed in asked.marked.lines else ("fit", "methods", number)
        with asked.at(*place):
            every = list(methods()) if name.lower() == ALL else [find_method(name).name]
        for proper in every:
            yield place, proper, given


def _fitted(asked: Asked) -> Iterator[Given]:
    """Every setting of `fit`: its place, its method, its name there and its value."""
    section = asked.config.fit
    assert section is not None
    names = []
    for place, name, given in _to_fit(asked):
        names.append(name)
        for key, value in given.items():
            yield (*place, key), name, key, value
    for key, value in section.set.items():
        for name, inner in _takers(key, names):
            yield ("fit", "set", key), name, inner, value


def _swept(asked: Asked, names: Sequence[str]) -> Iterator[Given]:
    """Every setting of `sweep`, each value of a grid by itself."""
    section = asked.config.sweep
    assert section is not None
    grid = [("grid", key, values) for key, values in section.grid.items()]
    fixed = [("set", key, [value]) for key, value in section.set.items()]
    for part, key, values in [*grid, *fixed]:
        place = ("sweep", part, key)
        with asked.at(*place):
            takers = _takers(key, names)
        for (name, inner), value in itertools.product(takers, values):
            yield place, name, inner, value


def _asked_for(asked: Asked) -> Iterator[tuple[Place, Method, Mapping[str, Any]]]:
    """The methods that are asked for by name, with their place and settings, of draws the published ones."""
    if asked.config.fit is not None:
        for place, name, _ in _to_fit(asked):
            yield place, find_method(name), wanted_methods(asked)[name]
        return
    section = asked.config.sweep
    assert section is not None
    names = swept_methods(asked)
    if ALL in [each.lower() for each in section.methods]:  # which leaves out what cannot be run
        return
    for number, name in enumerate(names):
        several: dict[str, list[Any]] = {}
        for _, taker, key, value in _swept(asked, names):
            if taker == name:
                several.setdefault(key, []).append(value)
        fixed = {inner for key in section.set for taker, inner in _takers(key, names) if taker == name}
        choices = {key: values[-1:] if key in fixed else values for key, values in several.items()}
        for chosen in itertools.product(*choices.values()):
            given = dict(zip(choices, chosen, strict=True))
            yield ("sweep", "methods", number), find_method(name), given


def _takers(key: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """The methods among `names` that a setting is for, one, `METHOD.key`, or all that have it, and its name.

    RequestError where there is none.
    """
    method, _, inner = key.rpartition(".")
    if method:
        name = find_method(method).name
        if name not in names:
            raise RequestError(f"{key!r} is for {name}, which is not among the methods: {', '.join(names)}")
        return [(name, inner)]
    takers = [name for name in names if key in find_method(name).settings.model_fields]
    if not takers:
        known = dict.fromkeys(each for name in names for each in find_method(name).settings.model_fields)
        raise RequestError(f"none of the methods has the setting {key!r}{nearest(key, known)}")
    return [(name, key) for name in takers]
