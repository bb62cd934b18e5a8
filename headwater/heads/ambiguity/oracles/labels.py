"""Labels as people, files and services write them, made class codes; and a key for every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Classes = Sequence[int | str]


def code_of(label: Any, classes: Classes) -> int | None:
    """The code of the class that `label` means, None where there is no such class.

    Numbers are equal whatever their type and however written (`2`, `2.0`, `"2"`); a name must be exact but
    for blanks around it, unless letter case is all that differs from a single class.
    """
    if isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, bytes):
        label = label.decode("utf-8", "replace")
    if isinstance(label, bool) or not isinstance(label, (int, float, str)):
        return None
    names = [str(each) for each in classes]
    for text in (str(label).strip(), _plain(label)):
        if text in names:
            return names.index(text)
    folded = [code for code, name in enumerate(names) if name.casefold() == str(label).strip().casefold()]
    return folded[0] if len(folded) == 1 else None


def keys_of(classes: Classes) -> tuple[str, ...]:
    """A key for every class, "" where there are too many: its name, its initial, or a number or letter."""
    names = [str(each) for each in classes]
    if all(len(name) == 1 for name in names):
        return tuple(names)
    initials = tuple(name[:1].casefold() for name in names)
    if len(set(initials)) == len(initials) and all(each.isalpha() for each in initials):
        return initials
    digits = "123456789"
    keys = (
        digits if len(names) <= len(digits) and not set(digits) & set(names) else "abcdefghijklmnopqrstuvwxyz"
    )
    # A key that is another class's name would be read as that name.
    free = [key for key in keys if key not in {name.casefold() for name in names}]
    return tuple(free[code] if code < len(free) else "" for code in range(len(names)))


def typed(text: str, classes: Classes) -> int | None:
    """The code of the class that a person means by a key or a name."""
    code = code_of(text, classes)
    key = text.strip().casefold()
    keys = [each.casefold() for each in keys_of(classes)]
    return keys.index(key) if code is None and key and key in keys else code


def shown(classes: Classes, most: int = 8) -> str:
    """The classes for a sentence, cut after a few."""
    more = f" … ({len(classes)} in all)" if len(classes) > most else ""
    return ", ".join(str(each) for each in classes[:most]) + more


def _plain(label: float | str) -> str:
    if isinstance(label, str):
        label = label.strip()
        try:
            number = float(label)
        except ValueError:
            return label
        # Only what is a number for a reader: `1_0`, `nan` and `0x1` stay names.
        if not label.replace(".", "", 1).lstrip("+-").isdigit() or not number.is_integer():
            return label
        label = number if abs(number) < 2**53 else label
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)
