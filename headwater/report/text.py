"""Text made safe to print: names are other people's, and may hold anything that a file name may hold."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any


def shown(text: object) -> str:
    """Text with newlines, control and direction characters and undecodable bytes as visible escapes."""
    return "".join(_visible(character) for character in str(text))


def _visible(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character if character.isprintable() else repr(character)[1:-1]


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
