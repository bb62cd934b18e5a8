"""The journal on disk: torn, damaged, someone else's, or whole, and never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import HeadwaterError, RequestError
from headwater.heads.ambiguity.budget import Budget
from headwater.heads.ambiguity.journal import Journal, asking
from headwater.heads.ambiguity.questions import BudgetSpent, Opinion, Question
from tests.heads.ambiguity.oracles.asking import Scripted, Service, question


def lines_of(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_torn_last_line_loses_nothing_and_wins_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    items = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True))
    whole = Budget(Service(folder / "first"), 4, folder / "whole", "data")
    for item in items:
        whole.ask(question(item, picture=None))
    lines = lines_of(folder / "whole")
    # The machine stopped while line `at` was being written: what came before is on the disk, and happened.
    at = data.draw(st.integers(0, len(lines) - 1))
    kept = data.draw(st.integers(0, len(lines[at]) - 1))
    zeros = data.draw(st.sampled_from([b"", b"", b"\0" * 7]))
    torn = folder / "torn"
    torn.write_bytes(b"".join(lines[:at]) + (zeros or lines[at][:kept]))
    service = Service(folder / "second")
    done = [json.loads(line) for line in lines[:at]]
    for each in done:
        if each["what"] == "ask":
            service.ask(question(each["item"]))
    budget = Budget(service, 4, torn, "data")
    assert dict(budget.answers) == {each["item"]: each["code"] for each in done if each["what"] == "answer"}
    for item in data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=6)):
        try:
            assert budget.ask(question(item, picture=None)) == item % 2
        except BudgetSpent:
            assert len(set(service.asked)) == 4
        assert len(set(service.asked)) <= 4
    assert set(budget.answers) == set(service.asked)
    assert dict(Budget(service, 4, torn, "data").answers) == dict(budget.answers)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_damage_is_a_traceback_and_what_was_cut_is_not_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    budget = Budget(Scripted(0, 1), 5, folder / "journal", "data")
    for item in (1, 2):
        budget.ask(question(item, picture=np.zeros((2, 3), dtype=np.uint8)))
    content = bytearray((folder / "journal").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    (folder / "journal").write_bytes(content)
    try:
        left = Budget(Scripted(), 5, folder / "journal", "data")
    except HeadwaterError as error:
        assert "journal" in str(error)  # noqa: PT017 - either it is refused, or it is read
    else:
        assert len(left.answers) <= 2


@pytest.mark.parametrize(
    "picture",
    [
        {"shape": [2, 3], "bytes": "AAAA"},
        {"shape": [2, 3], "bytes": "eJxjYAACAAAFAAE="},
        {"shape": [1 << 20, 1 << 20], "bytes": ""},
        {"shape": [-1], "bytes": ""},
        {"shape": [2, 3]},
        7,
        "x",
    ],
)
def test_a_damaged_picture_is_damage(tmp_path: Path, picture: object) -> None:
    journal = tmp_path / "journal"
    budget = Budget(Scripted(0), 5, journal, "data")
    budget.ask(question(1))
    first, asked, answered = lines_of(journal)
    broken = json.dumps({**json.loads(asked), "picture": picture}).encode() + b"\n"
    journal.write_bytes(first + broken + answered)
    with pytest.raises(HeadwaterError, match="damaged in line 2 "):
        Budget(Scripted(), 5, journal, "data")


def test_a_journal_of_another_problem_is_refused_and_left_alone(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    Budget(Scripted(0), 5, journal, "data").ask(question(1))
    before = journal.read_bytes()
    with pytest.raises(RequestError, match="another data set"):
        Budget(Scripted(0), 5, journal, "other data")
    assert journal.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"0\n1\n1\n", b"0", b"[1, 2]\n", b"{}\n", b'{"what": "x"', b"\xff\xfe\n"]
)
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(content)
    with pytest.raises(RequestError, match=r"labels\.csv is no journal"):
        Budget(Scripted(0), 5, file, "data")
    assert file.read_bytes() == content


def test_damage_in_the_middle_stops_everything(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    budget = Budget(Scripted(0, 1), 5, journal, "data")
    for item in (1, 2):
        budget.ask(question(item))
    lines = lines_of(journal)
    for at in range(1, len(lines)):
        broken = [*lines]
        broken[at] = broken[at].replace(b'"item"', b'"itme"')
        journal.write_bytes(b"".join(broken))
        with pytest.raises(HeadwaterError, match=f"damaged in line {at + 1} "):
            Budget(Scripted(0), 5, journal, "data")
    # An answer that was never asked for is no journal's either.
    journal.write_bytes(lines[0] + lines[2])
    with pytest.raises(HeadwaterError, match=r"damaged in line 2 .*no open question"):
        Budget(Scripted(0), 5, journal, "data")


def test_a_journal_of_a_coming_version_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    Budget(Scripted(0), 5, journal, "data").ask(question(1))
    journal.write_bytes(journal.read_bytes().replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(HeadwaterError, match="version 2"):
        Budget(Scripted(0), 5, journal, "data")


def test_a_line_is_on_the_disk_before_it_is_acted_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync = os.fsync

    def noting(descriptor: int) -> None:
        sync(descriptor)
        events.append("synced" + Path(f"/proc/self/fd/{descriptor}").resolve().name)

    class Noting:
        def ask(self, question: Question) -> int:
            events.append("asked")
            return 0

    monkeypatch.setattr(os, "fsync", noting)
    Budget(Noting(), 5, tmp_path / "journal", "data").ask(question(1))
    asked = events.index("asked")
    assert events[asked - 1] == "syncedjournal"
    assert events[asked + 1 :] == ["syncedjournal"]


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    opinions = (Opinion("a", np.int64(1), np.float32(0.5)),)
    given = question(np.int64(3), opinions=opinions, speaks_for=np.int64(9))
    budget = Budget(Scripted(np.int8(1)), 5, tmp_path / "journal", "data")
    assert budget.ask(given) == 1
    assert dict(Budget(Scripted(), 5, tmp_path / "journal", "data").answers) == {3: 1}


def test_a_line_of_colour_comes_back_as_it_was(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    journal = Journal(tmp_path / "journal", "data")
    with journal.held(1):
        journal.append(asking(question(3, picture=colours)))
    held = journal.read().open
    assert held is not None
    np.testing.assert_array_equal(held.picture, colours)
