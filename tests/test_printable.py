"""Text fit to be read: one printable line whatever a name holds, counts, lists, and names that were meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.printable import alike, counted, escaped, listed, meant, nearest


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


def test_a_list_of_names_is_cut() -> None:
    assert listed([]) == "none"
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed("abcdefg", 3) == "'a', 'b', 'c' and 4 more"


def test_the_names_that_were_meant() -> None:
    known = ["ERM", "DFR-val", "resnet50", "wide_resnet50_2"]
    assert alike("dfr_vall", known) == ["DFR-val"]
    assert alike("resnet5", known, 5) == ["resnet50", "wide_resnet50_2"]  # the shortest that holds it first
    assert alike("zzz", known) == []
    assert meant("ERN", known) == nearest("ERN", known) == " (did you mean 'ERM'?)"
    assert meant("resnet5", known, 5) == " (did you mean 'resnet50' or 'wide_resnet50_2'?)"
    assert (meant("zzz", known[:1]), nearest("zzz", known[:1])) == ("", " (there is 'ERM')")
