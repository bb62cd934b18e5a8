"""The terminal's oracle under a real pseudo-terminal: the pixels that it shows, and what it makes of keys."""

from __future__ import annotations

import io
import os
import select
import termios

import numpy as np
import pytest
from rich.console import Console

from headwater.heads.ambiguity.oracles.terminal import TerminalOracle
from headwater.heads.ambiguity.questions import Oracle, OracleError, Question, Stopped
from tests.heads.ambiguity.oracles.asking import OPINIONS, question
from tests.heads.ambiguity.oracles.screen import Shown, under_terminal

COLOURS = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)


def asked(
    asking: Question,
    *keys: bytes,
    columns: int = 60,
    classes: tuple[int | str, ...] = (0, 3),
    **given: object,
) -> Shown:
    """The screen of one question, and the code or the error's sentence that came of it."""

    def work() -> object:
        try:
            return TerminalOracle(classes, timeout=60).ask(asking)
        except OracleError as error:
            return f"{error} {error.uncertain}"
        except Stopped:
            return "stopped"

    return under_terminal(work, keys, columns=columns, **given)


def pixels(shown: Shown) -> np.ndarray:
    """The picture that the half blocks make, uint8 (h, w, 3)."""
    lines = [line for line in shown.lines if line and line[0].text == "▀"]
    rows = [[[cell.above for cell in line], [cell.below for cell in line]] for line in lines]
    return np.array([row for pair in rows for row in pair], dtype=np.uint8)


@pytest.mark.parametrize(("columns", "factor"), [(60, 1), (120, 2)])
def test_a_grey_picture_is_shown_pixel_by_pixel(columns: int, factor: int) -> None:
    given = question(417, number=2, budget=5)
    shown = asked(given, b"3\n", columns=columns, rows=60)
    grown = given.picture.repeat(factor, axis=0).repeat(factor, axis=1)
    np.testing.assert_array_equal(pixels(shown), np.stack([grown] * 3, axis=-1))
    assert shown.returned == 1
    assert max(map(len, shown.lines)) <= columns
    for said in ("Question 2 of at most 5 · row 417", "The answer decides 300 target rows.", "Noted: 3."):
        assert said in shown.text
    assert "Which is it? 0, 3 > " in shown.text


def test_a_coloured_picture_of_odd_height_is_shown_in_its_colours() -> None:
    shown = asked(question(1, picture=COLOURS[:31, :50]), b"0\n", columns=80)
    np.testing.assert_array_equal(pixels(shown)[:31], COLOURS[:31, :50])


def test_a_large_picture_shrinks_to_the_window() -> None:
    across = np.linspace(0, 255, 224).astype(np.uint8)
    picture = np.stack(
        [np.broadcast_to(across, (224, 224)), np.broadcast_to(across[:, None], (224, 224))] * 2, 2
    )
    shown = asked(question(1, picture=np.ascontiguousarray(picture[..., :3])), b"0\n", columns=60, rows=40)
    seen = pixels(shown)
    assert 30 <= seen.shape[1] <= 60
    assert abs(seen.shape[0] - seen.shape[1]) <= 1
    assert len(shown.lines) <= 40
    place = (np.arange(seen.shape[1]) + 0.5) / seen.shape[1] * 255
    np.testing.assert_allclose(seen[5, :, 0], place, atol=5)
    np.testing.assert_allclose(seen[: len(place), 5, 1], place[: len(seen)], atol=9)


def test_without_colours_brightness_becomes_letters() -> None:
    picture = np.zeros((4, 6), dtype=np.uint8)
    picture[:, 3:] = 255
    shown = asked(question(1, picture=picture), b"0\n", columns=6, environment={"NO_COLOR": "1"})
    assert "   @@@\n   @@@\n" in shown.text
    assert "▀" not in shown.text


def test_what_the_readings_say_is_told() -> None:
    lines = asked(question(1), b"0\n").text.splitlines()
    told = [line.split() for line in lines if "%" in line]
    assert [(line[0], line[-2]) for line in told] == [("0", "61"), ("3", "31"), ("3", "8")]
    assert "right half" in " ".join(told[1])
    assert [line.count("━") for line in lines if "%" in line] == [7, 4, 1]
    doubtful = asked(question(1, opinions=OPINIONS[:2]), b"0\n").text.splitlines()
    (last,) = [line.split() for line in doubtful if line.startswith("?")]
    assert last[-2:] == ["8", "%"]


@pytest.mark.parametrize(
    ("classes", "key", "code"),
    [
        ((0, 3), b"3\n", 1),
        (("bird", "cat"), b"c\n", 1),
        (("bird", "cat"), b"  Bird \n", 0),
        (("bear", "bird", "cat"), b"2\n", 1),
        ((4, 10, 12), b"10\n", 1),
    ],
)
def test_a_key_or_a_name_answers(classes: tuple[int | str, ...], key: bytes, code: int) -> None:
    assert asked(question(1, picture=None, opinions=()), key, classes=classes).returned == code


def modes() -> list[object]:
    return termios.tcgetattr(0)[:4]


def test_a_single_key_answers_where_classes_are_called_by_one_character() -> None:
    """Without Enter; the terminal gives lines again afterwards, and a later Enter answers nothing."""

    def work() -> object:
        before = modes()
        oracle = TerminalOracle((0, 3, "é"), timeout=60)
        codes = [oracle.ask(question(item, picture=None)) for item in range(3)]
        return codes, modes() == before

    shown = under_terminal(work, [b"3", b"\x1b[A", "é".encode(), b"0"], columns=60)
    assert shown.returned == [[1, 2, 0], True]
    assert "0, 3, é > 3\n" in shown.text
    assert "is none of the classes." in shown.text


@pytest.mark.parametrize("key", [b"\x03", b"\x04"])
def test_the_terminal_gives_lines_again_after_leaving(key: bytes) -> None:
    def work() -> object:
        before = modes()
        with pytest.raises((OracleError, Stopped)):
            TerminalOracle((0, 3), timeout=60).ask(question(1, picture=None))
        return modes() == before

    assert under_terminal(work, [key], columns=60).returned is True


def test_names_of_several_characters_take_a_line() -> None:
    def work() -> object:
        return TerminalOracle((1, 10), timeout=60).ask(question(1, picture=None))

    assert under_terminal(work, [b"10\n"], columns=60).returned == 1
    slow = under_terminal(work, [b"1"], columns=60, more=(b"0\n",))
    assert slow.returned == 1


def test_it_asks_again_until_the_answer_is_a_class() -> None:
    shown = asked(question(1), b"7\n", b"\n", b"\xff\xfe\x1b\n", b"3\n")
    assert shown.returned == 1
    assert "'7' is none of the classes." in shown.text
    assert "Nothing was typed." in shown.text
    assert shown.text.count("Which is it?") == 4


def test_leaving_is_an_error_that_counts_nothing() -> None:
    returned = asked(question(12, number=3), b"\x04").returned
    assert "question 3 (row 12) has no answer, since the input ended; nothing is lost" in returned
    assert returned.endswith("False")


def test_an_interrupt_is_one_and_counts_nothing() -> None:
    assert asked(question(12, number=3), b"\x03").returned == "stopped"


def test_time_runs_out() -> None:
    def work() -> object:
        try:
            return TerminalOracle((0, 1), timeout=0.2).ask(question(1))
        except OracleError as error:
            return str(error)

    assert "nothing was typed in 0.2 s" in under_terminal(work, [], columns=60).returned


def test_keys_pressed_before_the_question_are_no_answer() -> None:
    def work() -> object:
        select.select([0], [], [])
        return TerminalOracle((0, 1), timeout=60).ask(question(1))

    assert under_terminal(work, [b"1\n"], columns=60, first=b"0\n").returned == 1


def test_rows_without_a_picture_show_what_can_be_said() -> None:
    note = "Of its 10 nearest labeled rows, 7 are 0 and 3 are 3."
    shown = asked(question(3456, picture=None, notes=(note,), speaks_for=1), b"0\n")
    assert "row 3,456" in shown.text
    assert note in shown.text
    assert "▀" not in shown.text
    assert "decides" not in shown.text


def test_names_cannot_write_to_the_terminal() -> None:
    hostile = ("\x1b[2Jred", "[bold]blue[/bold]")
    given = question(1, picture=None, notes=("\x1b]0;title\x07",))
    shown = asked(given, b"x\n", b"2\n", classes=hostile)
    assert shown.returned == 1
    assert "\x1b[2J" not in shown.raw
    assert "\x1b]" not in shown.raw
    assert "[bold]blue[/bold]" in shown.text


def piped(content: bytes) -> Oracle:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return TerminalOracle(
        ("bird", "cat"), timeout=60, console=Console(file=io.StringIO()), stdin=os.fdopen(reading)
    )


def test_answers_may_come_through_a_pipe() -> None:
    oracle = piped(b"cow\ncat\nbird\ncat")
    assert [oracle.ask(question(item)) for item in range(3)] == [1, 0, 1]
    with pytest.raises(OracleError, match="the input ended"):
        oracle.ask(question(4))


def test_without_any_input_there_is_no_terminal() -> None:
    oracle = TerminalOracle((0, 1), console=Console(file=io.StringIO()), stdin=io.StringIO("0\n"))
    with pytest.raises(OracleError, match="no terminal to ask at"):
        oracle.ask(question(1))
