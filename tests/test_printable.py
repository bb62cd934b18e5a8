"""Text fit to be read: one printable line whatever a name holds, and counts with their nouns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.printable import counted, escaped


@given(st.binary(max_size=20), st.text(max_size=20))
def test_any_name_becomes_one_printable_line(raw: bytes, text: str) -> None:
    for name in (raw.decode("utf-8", "surrogateescape"), text):
        assert escaped(name).isprintable()
        escaped(name).encode("utf-8")  # which half a surrogate pair cannot be
        if name.isprintable():
            assert escaped(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b/é.jpg", "a b/é.jpg"),
        ("line\nbreak\t", "line\\nbreak\\t"),
        ("\x1b[31m", "\\x1b[31m"),
        ("abc\u202ecba", "abc\\u202ecba"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_does_harm_is_a_visible_escape(name: str, expected: str) -> None:
    assert escaped(name) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 heads"), (1, "1 head"), (2, "2 heads"), (3000, "3,000 heads")]
)
def test_a_count_has_its_noun(count: int, expected: str) -> None:
    assert counted(count, "head") == expected
