"""Sentences on a terminal: where lines end, and that nothing is lost by it."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from headwater.cli.console import tell
from headwater.store import show_key


def told(text: str, width: int, *, terminal: bool = True) -> list[str]:
    """The lines that are printed on a terminal of this width."""
    screen = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    tell(text, screen)
    printed = screen.file.getvalue()
    assert printed.endswith("\n")
    return printed[:-1].split("\n")


@given(st.text(alphabet="ab  '\"([=\\-深é", max_size=60), st.integers(1, 30))
@example("deep  blank", 5)
@example(" begins and ends so ", 6)
def test_a_line_ends_in_place_of_a_blank_and_nothing_is_lost(text: str, width: int) -> None:
    lines = told(text, width)
    assert " ".join(lines) == text
    for line in lines:  # one that is too long has nowhere else to end, or only within quotes
        assert cell_len(line) <= width or " " not in line.strip() or "'" in line or '"' in line


def test_wide_characters_fill_two_cells() -> None:
    lines = told("深度 学习 深度 学习 深度", 9)
    assert lines == ["深度 学习", "深度 学习", "深度"]


def test_words_fill_the_line_to_its_end() -> None:
    assert told("ab cd ef ghi jk", 5) == ["ab cd", "ef", "ghi", "jk"]


@pytest.mark.parametrize("path", ["/my data/a b/x y.csv", "/it's here/all of it", "/a  b/c 'd e' f"])
@pytest.mark.parametrize("width", [10, 24, 30, 60])
def test_a_quoted_path_with_blanks_stays_whole(path: str, width: int) -> None:
    shown = show_key(path)
    lines = told(f"the users' file {shown} exists already (is it {path!r}?); move it away", width)
    assert any(shown in line for line in lines)
    assert any(repr(path) in line for line in lines)
    assert any(line.endswith("away") and len(line) <= width for line in lines)


def test_elsewhere_a_sentence_stays_on_its_line() -> None:
    text = "a sentence  that is longer than the line is said to be"
    assert told(text, 10, terminal=False) == [text]
