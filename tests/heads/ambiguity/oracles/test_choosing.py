"""Labels as files and people write them, files of labels, and which oracle a word stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.ambiguity.submission import write_submission
from headwater.errors import HeadwaterError, RequestError
from headwater.heads.ambiguity.oracles import open_oracle
from headwater.heads.ambiguity.oracles.browser import BrowserOracle
from headwater.heads.ambiguity.oracles.labels import code_of, keys_of, typed
from headwater.heads.ambiguity.oracles.neighbours import notes_on
from headwater.heads.ambiguity.oracles.terminal import TerminalOracle
from headwater.heads.ambiguity.problem import Problem
from headwater.heads.ambiguity.questions import OracleError
from tests.heads.ambiguity.oracles.asking import question


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, 0, 2]),
        np.array([2.0, 0.0, 2.0]),
        np.array([2, 0, 2], dtype=np.uint8),
        np.array([[2], [0], [2]]),
        np.array(["2", "0", "2"]),
        np.array([b"2", b"0", b"2"]),
    ],
)
def test_an_array_answers_with_codes_whatever_its_type(tmp_path: Path, labels: np.ndarray) -> None:
    np.save(tmp_path / "labels.npy", labels)
    oracle = open_oracle(str(tmp_path / "labels.npy"), classes=(0, 2), target_rows=3)
    assert [oracle.ask(question(item)) for item in range(3)] == [1, 0, 1]


@pytest.mark.parametrize(
    "text", ["cat\nbird\ncat\n", "label\r\ncat\r\nbird\r\ncat", "\ufeffcat\n bird \ncat\n\n"]
)
def test_a_text_of_labels_answers(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode())
    oracle = open_oracle(str(tmp_path / "labels.csv"), classes=("bird", "cat"), target_rows=3)
    assert [oracle.ask(question(item)) for item in range(3)] == [1, 0, 1]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.npy", np.zeros(4), r"3 target rows, and the shape is \(4,\)"),
        ("a.npy", np.zeros((3, 2)), r"the shape is \(3, 2\)"),
        ("a.npy", np.array([0, 5, 2]), "row 1 is 5, which is none of the classes 0, 2"),
        ("a.npy", np.array([0, 0.5, 2]), "row 1 is 0.5"),
        ("a.npy", np.array([0, np.nan, 2]), "row 1 is nan"),
        ("a.npy", np.array([True, False, True]), "row 0 is True"),
        ("a.npy", b"no array", "cannot be read as a NumPy file"),
        ("a.csv", b"0\n2\n", r"the shape is \(2,\)"),
        ("a.csv", b"0,1\n2,1\n2,0\n", "not one label in line 1"),
        ("a.csv", b"\xff\xfe\n", "cannot be read as CSV"),
        ("a.csv", None, "there is no file"),
        ("a.npy", None, "there is no file"),
    ],
)
def test_a_bad_file_of_labels_is_one_sentence(tmp_path: Path, name: str, content: object, says: str) -> None:
    file = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(file, content)
    elif isinstance(content, bytes):
        file.write_bytes(content)
    with pytest.raises(HeadwaterError, match=says) as caught:
        open_oracle(str(file), classes=(0, 2), target_rows=3)
    assert caught.value.exit_code == 2
    assert str(file) in str(caught.value)


def test_what_a_solve_writes_answers_whatever_the_classes_are_called(tmp_path: Path) -> None:
    classes = ("cat, big", 'the "dog"', "two\nlines", "plain")
    codes = np.array([1, 0, 3, 2, 0])
    write_submission(tmp_path / "sub.csv", codes, classes, 5)
    oracle = open_oracle(str(tmp_path / "sub.csv"), classes=classes, target_rows=5)
    assert [oracle.ask(question(item)) for item in range(5)] == codes.tolist()


def test_a_row_beyond_the_target_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.zeros(3))
    oracle = open_oracle(str(tmp_path / "labels.npy"), classes=(0, 2), target_rows=3)
    for item in (3, -1):
        with pytest.raises(OracleError, match="the target rows are 0 to 2"):
            oracle.ask(question(item))


def test_words_stand_for_people(tmp_path: Path) -> None:
    assert isinstance(open_oracle("terminal", classes=(0, 1), target_rows=3), TerminalOracle)
    assert isinstance(open_oracle("browser", classes=(0, 1), target_rows=3), BrowserOracle)


@pytest.mark.parametrize("text", ["terminus", "", "ftp://host", "labels.parquet", "bro\nwser"])
def test_an_unknown_word_is_one_sentence(text: str) -> None:
    with pytest.raises(RequestError, match="is no oracle; give a file of labels") as caught:
        open_oracle(text, classes=(0, 1), target_rows=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "label", "code"),
    [
        ((0, 1), 1, 1),
        ((0, 1), "1.0", 1),
        ((0, 1), " +1", 1),
        ((0, 1), 1.5, None),
        ((0, 1), "", None),
        ((0, 1), None, None),
        ((0, 1), True, None),
        ((0, 1), [1], None),
        ((-1, 1), "-1", 0),
        (("1", "01"), "01", 1),
        (("a", "A"), "A", 1),
        (("Cat", "dog"), "cat", 0),
        (("aB", "Ab"), "ab", None),
        (("1_0", "nan"), "nan", 1),
        ((2**60, 2**60 + 1), str(2**60 + 1), 1),
    ],
)
def test_a_label_is_the_class_it_means(
    classes: tuple[int | str, ...], label: object, code: int | None
) -> None:
    assert code_of(label, classes) == code


@pytest.mark.parametrize(
    ("classes", "keys"),
    [
        ((0, 1), ("0", "1")),
        (("bird", "Cat"), ("b", "c")),
        (("bear", "bird"), ("1", "2")),
        ((10, 20), ("1", "2")),
        (("1", "20"), ("a", "b")),
        (("1", "a", "bb"), ("b", "c", "d")),
    ],
)
def test_keys_are_short_and_plain(classes: tuple[int | str, ...], keys: tuple[str, ...]) -> None:
    assert keys_of(classes) == keys


names = st.lists(
    st.one_of(st.integers(-5, 30), st.text("abAB12 .", min_size=1, max_size=3).map(str.strip).filter(bool)),
    min_size=2,
    max_size=40,
    unique_by=str,
)


@given(names)
def test_every_class_can_be_typed_and_keys_name_only_one(classes: list[int | str]) -> None:
    keys = keys_of(classes)
    for code, name in enumerate(classes):
        assert typed(str(name), classes) == code
        if keys[code]:
            assert typed(keys[code], classes) == code
    given = [key for key in keys if key]
    assert len(set(given)) == len(given)
    assert all(len(key) == 1 for key in given)


def test_a_row_without_a_picture_is_described_by_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    labeled = np.stack([labels * 10.0, rng.normal(size=100) * 1000], axis=1).astype(np.float32)
    target = np.array([[10, 0], [0, 0], [0, 200], [10, 3000]], dtype=np.float32)
    problem = Problem(labeled, labels, labeled, target, ("left", "right"))
    assert notes_on(problem, 0)[1] == "Of its 10 nearest labeled rows, 10 are right."
    assert notes_on(problem, 1)[:2] == (
        "Its values are 0, 0.",
        "Of its 10 nearest labeled rows, 10 are left.",
    )
    assert notes_on(problem, 1, {3: 1, 2: 0})[2:] == (
        "The nearest row asked about is 2, which was answered left; 0 target rows are nearer.",
    )
    assert len(notes_on(problem, 1, {1: 0})) == 2
