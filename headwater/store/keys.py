"""Row keys: their bytes, their hash, how people see them, and the nearest one to a key that is not there.

A key is text in Python and bytes on disk; bytes that are no UTF-8 survive as surrogate escapes. Nothing here
knows files of a store.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence

from headwater.errors import RequestError
from headwater.printable import alike, escaped


def encode_key(key: str) -> bytes:
    """The key's bytes on disk; RequestError when it holds a NUL or text that has no bytes."""
    try:
        raw = key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"the row key {show_key(key)} holds the lone surrogate {key[error.start]!r}, "
            "which has no bytes; rename it"
        ) from None
    if b"\0" in raw:
        raise RequestError(f"the row key {show_key(key)} holds a NUL character, which no key may; rename it")
    return raw


def decode_key(raw: bytes) -> str:
    """The key that has these bytes."""
    return raw.decode("utf-8", "surrogateescape")


def encode_keys(keys: Sequence[str]) -> list[bytes]:
    """The bytes of every key, in order; RequestError when two keys are the same."""
    raw = _encoded_at_once(keys)
    if raw is None:
        raw = [encode_key(key) for key in keys]
    if len(set(raw)) != len(raw):
        seen: set[bytes] = set()
        twice = next(key for key in raw if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RequestError(
            f"the row key {show_key(decode_key(twice))} occurs more than once; "
            "every row needs a key of its own"
        )
    return raw


def _encoded_at_once(keys: Sequence[str]) -> list[bytes] | None:
    """All keys' bytes by one join, encode and split; None when a key has no bytes or holds a NUL."""
    try:
        content = "\0".join(keys).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
    raw = content.split(b"\0") if keys else []
    return raw if len(raw) == len(keys) else None


def join_keys(raw: Iterable[bytes]) -> bytes:
    """The content of `plan.keys`: every key's bytes, each ended by a NUL."""
    return b"\0".join([*raw, b""])


def split_keys(content: bytes) -> list[str]:
    """The keys in the content of `plan.keys`."""
    return decode_key(content).split("\0")[:-1]


def hash_keys(content: bytes) -> str:
    """The sha256, in hex, that `Plan.keys_sha256` holds for the content of `plan.keys`."""
    return hashlib.sha256(content).hexdigest()


def show_key(key: str) -> str:
    """A key for a message: quoted, with newlines, controls and undecodable bytes as visible escapes."""
    quoted = (f"\\{each}" if each in "'\\" else escaped(each) for each in key)
    return "'" + "".join(quoted) + "'"


def show_keys(keys: Sequence[str], most: int = 3) -> str:
    """The first few keys for a message, with how many more there are."""
    shown = ", ".join(show_key(key) for key in keys[:most])
    return shown if len(keys) <= most else f"{shown} and {len(keys) - most:,} more"


def plain_form(key: str) -> str:
    """The key without what people overlook: Unicode composition, letter case, a leading `./` or `/`."""
    return unicodedata.normalize("NFC", key).casefold().removeprefix("./").lstrip("/")


def difference(unknown: Sequence[str], known: Sequence[str]) -> str:
    """What tells unknown keys from known ones, a hint that starts with a space; "" when nothing is plain.

    Finds keys that differ only by Unicode normalisation, letter case, or leading folders.
    """
    sample = unknown[:100]
    composed = {unicodedata.normalize("NFC", key): key for key in known}
    for key in sample:
        if (other := composed.get(unicodedata.normalize("NFC", key))) is not None:
            pair = f"{show_key(key)} and the store's {show_key(other)}"
            return f" ({pair} differ only by Unicode normalisation)"
    plain = {plain_form(key): key for key in known}
    for key in sample:
        if (other := plain.get(plain_form(key))) is not None:
            pair = f"{show_key(key)} and the store's {show_key(other)}"
            return f" ({pair} differ only by letter case or a leading /)"
    return _folder_difference(sample, plain)


def _folder_difference(sample: Sequence[str], plain: dict[str, str]) -> str:
    names: dict[str, str] = {}
    for form, key in plain.items():
        names.setdefault(form.rpartition("/")[2], key)
    for key in sample:
        form = plain_form(key)
        other = names.get(form.rpartition("/")[2])
        if other is None:
            continue
        longer, shorter = sorted((form, plain_form(other)), key=len, reverse=True)
        if longer.endswith("/" + shorter):
            folder = show_key(longer[: -len(shorter)])
            whose = "the store's keys lack" if longer == form else "the store's keys start with"
            return f" ({whose} the leading folder {folder})"
    return ""


def nearest(key: str, known: Sequence[str]) -> str | None:
    """The known key most like `key`, or None when nothing is near; looks closely at 5,000 keys at most."""
    form = plain_form(key)
    same = next((other for other in known if plain_form(other) == form), None)
    if same is not None:
        return same
    name = form.rpartition("/")[2]
    candidates = [other for other in known if other.endswith(name)][:5000] or list(known[:5000])
    return next(iter(alike(key, candidates)), None)
