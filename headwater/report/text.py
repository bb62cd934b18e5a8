"""Names, commands and settings as the report says them, safe to print."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from headwater.printable import escaped


def shown(text: object) -> str:
    """Anything as text that is safe to print, on one line."""
    return escaped(str(text))


def command(*words: object) -> str:
    """A shell command that does what it says, its words quoted where they need it."""
    return shown(shlex.join(str(word) for word in words))


def settings(values: Mapping[str, Any]) -> str:
    """Settings as `name=value, …`, real numbers in four digits."""
    return ", ".join(f"{shown(name)}={_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return shown(value if isinstance(value, (str, int)) else json.dumps(value, default=str))
