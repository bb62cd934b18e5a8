"""Text fit to be read: other people's names, which may hold anything, made safe; counts with nouns."""

from __future__ import annotations


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
