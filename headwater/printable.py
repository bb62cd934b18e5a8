"""Text made safe to print: names are other people's, and may hold anything that a file name may hold."""

from __future__ import annotations


def escaped(text: str) -> str:
    """The text on one line: newlines, controls, directions and undecodable bytes as visible escapes."""
    return text if text.isprintable() else "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character if character.isprintable() else repr(character)[1:-1]
