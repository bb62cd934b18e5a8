"""Text fit to be read: other people's names made safe, counts and lists, and names that were meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def escaped(text: str) -> str:
    """The text on one line: newlines, controls, directions and undecodable bytes as visible escapes."""
    return text if text.isprintable() else "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character if character.isprintable() else repr(character)[1:-1]


def counted(count: int, noun: str) -> str:
    """A count with its noun: `1 head`, `3,000 heads`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names in quotes for a message, cut after a few."""
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"


def alike(name: str, names: Iterable[str], most: int = 1) -> list[str]:
    """Those of `names` that `name` may stand for, the likeliest first; case and hyphens do not count."""
    known: dict[str, str] = {}
    for other in names:
        known.setdefault(_folded(other), other)
    key = _folded(name)
    longer = sorted((other for other in known if len(key) > 2 and key in other), key=len)
    near = difflib.get_close_matches(key, known, n=most)
    return [known[other] for other in dict.fromkeys([*longer, *near])][:most]


def meant(name: str, names: Iterable[str], most: int = 1) -> str:
    """What to add, in brackets, after a name that does not exist; empty where no other is like it."""
    found = alike(name, names, most)
    return f" (did you mean {' or '.join(map(repr, found))}?)" if found else ""


def nearest(name: str, names: Iterable[str], most: int = 1) -> str:
    """The same, but where no other is like it what there is."""
    names = list(names)
    return meant(name, names, most) or f" (there is {listed(names)})"


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
