"""The ways in which a value may be written in a run's file.

Each takes what YAML made of the value and gives it in its one form; ValueError says what it may be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def names(value: Any) -> Any:
    """A list, or one name, or several with commas as on the command line."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def levels(value: Any) -> Any:
    """The same for levels, which are names or numbers."""
    named = names(value)
    if not isinstance(named, list) or not all(map(_is_level, named)):
        raise ValueError(f"it takes names or numbers of columns or levels, not {value!r}")
    return named


def _is_level(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def level(value: Any) -> Any:
    """One column or level."""
    if not _is_level(value):
        raise ValueError(f"it takes the name of a column, or a level's name or number, not {value!r}")
    return value


def device(value: Any) -> Any:
    """A device by the names that PyTorch has, or auto."""
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError(f"it takes auto, cpu, cuda or cuda:N, not {value!r}")
    return value


def seeds(value: Any) -> Any:
    """How many seeds, or which."""
    numbers = value if isinstance(value, list) else [value]
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in numbers):
        raise ValueError(f"it takes how many, such as 3, or which, such as [0, 1, 2], not {value!r}")
    return value


def switch(value: Any) -> Any:
    """YAML takes `on` and `off` for truth values."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def wanted(value: Any) -> Any:
    """A section that may be wanted, not wanted, or wanted at a place."""
    if isinstance(value, bool):
        return {} if value else None
    return {"out": value} if isinstance(value, str) else value


def methods(value: Any) -> Any:
    """Methods with their settings, however they were written: names, a list, or a mapping."""
    if isinstance(value, str):
        value = names(value)
    if isinstance(value, list):
        if not all(isinstance(each, str) for each in value):
            raise ValueError(
                "a list of methods holds names; write settings as `NAME: {key: value}`, without dashes"
            )
        value = {name: {} for name in value}
    if isinstance(value, Mapping):
        value = {name: {} if given is None else given for name, given in value.items()}
    if not value:
        raise ValueError("no method is named; `headwater heads methods` lists them")
    return value
