"""Questions, journal and file of a solve: what is asked, what a second run pays for, what is written.

The solver itself is replaced by one that asks about given rows, since what it is worth is tested elsewhere.
"""

from __future__ import annotations

import csv
import os
import socket
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater.ambiguity import open_dataset, scan, solve, solving
from headwater.ambiguity.oracles import Account, choose_oracle
from headwater.ambiguity.solving import Telling
from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.heads.ambiguity.budget import Budget
from headwater.heads.ambiguity.oracles.reveal import Backoff
from headwater.heads.ambiguity.questions import OracleError, Question
from tests.ambiguity.conftest import points, write
from tests.ambiguity.stand_in import stand_in
from tests.heads.ambiguity.oracles.reveal_server import Reveals, application, serving


class Truth:
    """Answers by the parity of the row, and fails at the `fails_at`-th question."""

    def __init__(self, fails_at: int = 99) -> None:
        self.asked: list[int] = []
        self._fails_at = fails_at

    def ask(self, question: Question) -> int:
        if len(self.asked) + 1 == self._fails_at:
            raise OracleError("it is asleep")
        self.asked.append(question.item)
        return question.item % 2


class Interrupted:
    """Is stopped while it thinks."""

    def ask(self, question: Question) -> int:
        raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def plain_solver(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the stand-in was called with."""
    return stand_in(monkeypatch)


def test_at_most_the_budget_is_asked_and_the_file_has_the_answers(folder: Path, tmp_path: Path) -> None:
    oracle = Truth()
    found = solve(folder, oracle=oracle, out=tmp_path / "sub.csv")
    assert oracle.asked == [10, 11, 12, 13, 14]
    lines = (tmp_path / "sub.csv").read_text(encoding="ascii").splitlines()
    assert len(lines) == 40
    assert lines[9:15] == ["8", "3", "8", "3", "8", "3"]
    assert lines == [str(label) for label in found.labels]
    assert [each.question.item for each in found.exchanges] == oracle.asked
    assert found.exchanges[0].question.picture is not None
    assert (found.advice.submit, found.earlier) == (False, 0)


def test_an_oracle_that_fails_leaves_no_file_and_the_same_call_goes_on(
    folder: Path, tmp_path: Path, plain_solver: dict[str, Any]
) -> None:
    out = tmp_path / "sub.csv"
    with pytest.raises(
        HeadwaterError, match=r"after 2 answers, it is asleep; the same command again goes on"
    ):
        solve(folder, oracle=Truth(fails_at=3), out=out)
    assert not out.exists()
    told: list[tuple[int, bool]] = []
    oracle = Truth()
    telling = Telling(answered=lambda question, label, earlier: told.append((question.item, earlier)))
    found = solve(folder, oracle=oracle, out=out, telling=telling)
    assert plain_solver["known"] == {10: 0, 11: 1}
    assert oracle.asked == [12, 13, 14]
    assert told == [(10, True), (11, True), (12, False), (13, False), (14, False)]
    assert [each.question.item for each in found.exchanges] == [10, 11, 12, 13, 14]
    assert found.earlier == 2
    with pytest.raises(RequestError, match="exists already"):
        solve(folder, oracle=Truth(), out=out)


def test_a_smaller_budget_asks_nothing_more_and_a_larger_one_the_rest(folder: Path, tmp_path: Path) -> None:
    solve(folder, oracle=Truth(), budget=2, out=tmp_path / "sub.csv")
    (tmp_path / "sub.csv").unlink()
    less = Truth()
    found = solve(folder, oracle=less, budget=1, out=tmp_path / "sub.csv")
    assert len(found.exchanges) == 2
    (note,) = (note for note in found.notes if "journal" in note)
    assert "holds 2 answers of earlier runs, more than the budget of 1: all 2 are used, and nothing" in note
    assert less.asked == []
    (tmp_path / "sub.csv").unlink()
    more = Truth()
    found = solve(folder, oracle=more, budget=6, out=tmp_path / "sub.csv")
    assert more.asked == [12, 13, 14, 15]
    assert any("more than the 5" in note for note in found.notes)


def test_the_table_numbers_a_folder_s_rows_and_says_how_sure_their_labels_are(
    folder: Path, tmp_path: Path
) -> None:
    found = solve(folder, oracle=Truth(), out=tmp_path / "sub.csv", table=tmp_path / "table.csv")
    assert found.table == tmp_path / "table.csv"
    with found.table.open(encoding="ascii", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [each["row"] for each in rows] == list(map(str, range(40)))
    labels = (tmp_path / "sub.csv").read_text(encoding="ascii").split()
    assert [each["solved_label"] for each in rows] == labels
    assert {each["solved_probability"] for each in rows} == {"0.900000"}  # as the stand-in says of all
    oracle = Truth()
    for wrong, said in (("table.csv", "choose another name with --table"), ("table.npy", "end in .csv")):
        with pytest.raises(RequestError, match=said):
            solve(folder, oracle=oracle, table=tmp_path / wrong)
    with pytest.raises(RequestError, match=r"--out and --table are both .*new\.csv"):
        solve(folder, oracle=oracle, out=tmp_path / "new.csv", table=folder / ".." / "new.csv")
    assert oracle.asked == []


def test_the_solver_is_told_to_choose_all_rows_at_once_where_that_is_wanted(
    folder: Path, plain_solver: dict[str, Any]
) -> None:
    solve(folder, oracle=Truth(), budget=1)
    assert plain_solver["at_once"] is False
    solve(folder, oracle=Truth(), at_once=True)
    assert plain_solver["at_once"] is True


def test_a_budget_of_none_asks_nothing_and_a_negative_one_is_refused(folder: Path) -> None:
    oracle = Truth()
    found = solve(folder, oracle=oracle, budget=0)
    assert (found.exchanges, oracle.asked) == ((), [])
    assert found.labels == [8] * 40
    with pytest.raises(RequestError, match="a budget of -1 questions cannot be"):
        solve(folder, oracle=oracle, budget=-1)


def test_a_seed_that_is_none_is_refused(folder: Path) -> None:
    for work in (scan, partial(solve, oracle=Truth())):
        with pytest.raises(RequestError, match="a seed must not be negative, and this one is -1"):
            work(folder, seed=-1)
        for large in (2**32, 10**30):
            with pytest.raises(RequestError, match=f"less than 4294967296, and this one is {large}; give"):
                work(folder, seed=large)


def test_the_largest_seed_is_one(folder: Path) -> None:
    found = scan(folder, seed=2**32 - 1, clusterer="gmm")
    assert found.found.clusters


def test_another_name_for_the_labels_or_the_data_buys_no_more_questions(folder: Path, tmp_path: Path) -> None:
    first, second = Truth(), Truth()
    solve(folder, oracle=first, out=tmp_path / "one.csv")
    (tmp_path / "alias").symlink_to(folder)
    found = solve(tmp_path / "alias", oracle=second, out=tmp_path / "elsewhere" / "two.csv")
    assert (len(first.asked), second.asked, found.earlier) == (5, [], 5)
    assert "5 answers of earlier runs, whatever their seed, are taken from" in found.notes[-1]
    assert str(found.journal) in found.notes[-1]
    assert found.journal == folder.with_suffix(".journal")
    assert not list(tmp_path.glob("*.csv.journal"))


def test_one_answer_of_an_earlier_run_is_one(folder: Path) -> None:
    solve(folder, oracle=Truth(), budget=1)
    found = solve(folder, oracle=Truth(), budget=1)
    assert "1 answer of earlier runs, whatever their seed, is taken from" in found.notes[-1]


def test_the_journal_can_be_named_and_must_be_writable(folder: Path, tmp_path: Path) -> None:
    found = solve(folder, oracle=Truth(), journal=tmp_path / "deep" / "asked")
    assert found.journal == tmp_path / "deep" / "asked"
    assert found.journal.stat().st_mode & 0o777 == 0o600
    assert not folder.with_suffix(".journal").exists()
    (tmp_path / "file").touch()
    oracle = Truth()
    for wrong, said in (
        (tmp_path / "file" / "asked", "is a file, so .* cannot be in it"),
        (tmp_path / "deep", "is a folder; name a file in it with --journal"),
    ):
        with pytest.raises(RequestError, match=said):
            solve(folder, oracle=oracle, journal=wrong)
    assert oracle.asked == []


def test_a_journal_that_is_a_link_is_what_it_leads_to(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("file")
    solve(folder, oracle=Truth(), journal=link)
    assert link.is_symlink()
    assert (tmp_path / "file").stat().st_size > 0
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "file")
    (tmp_path / "through").symlink_to("file/journal")
    os.mkfifo(tmp_path / "pipe")

    def none(*given: Any, **rest: Any) -> None:
        raise AssertionError("this was found only after something was computed")

    before = sorted(tmp_path.rglob("*"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(solving, "features_of", none)
        for wrong, said in (
            ("dangling", "is a link into .*nowhere', which is no folder; make that folder, or .* --journal"),
            ("through", "name another place with --journal"),
            ("round", "cannot be written .*symbolic links.*name another place with --journal"),
            ("pipe", "is no ordinary file; name another place with --journal"),
            ("a" * 300, "cannot be written .*too long.*name another place with --journal"),
        ):
            with pytest.raises(HeadwaterError, match=said):
                solve(folder, oracle=Truth(), journal=tmp_path / wrong)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("other", "name"), [("out", "one.csv"), ("report", "one.html")])
def test_a_journal_is_no_other_file(folder: Path, tmp_path: Path, other: str, name: str) -> None:
    oracle, there = Truth(), tmp_path / name
    given: Any = {other: there}
    with pytest.raises(RequestError, match=rf"--journal and --{other} are both .*{name}"):
        solve(folder, oracle=oracle, journal=folder / ".." / name, **given)
    assert (oracle.asked, there.exists()) == ([], False)


def test_a_data_set_that_is_nowhere_has_no_journal(folder: Path) -> None:
    opened = replace(open_dataset(folder), place=folder / "nowhere")
    assert solve(opened, oracle=Truth()).journal is None
    assert not list(folder.parent.glob("**/*.journal"))


def test_an_answer_that_a_crash_lost_is_had_before_the_solver_begins(
    folder: Path, tmp_path: Path, plain_solver: dict[str, Any]
) -> None:
    opened = open_dataset(folder)
    dying = Budget(Interrupted(), 5, folder.with_suffix(".journal"), opened.content)
    with pytest.raises(KeyboardInterrupt):
        dying.ask(Question(31, 1, None, (), 1, notes=("as it was shown",)))
    oracle = Truth()
    found = solve(folder, oracle=oracle, out=tmp_path / "sub.csv")
    assert plain_solver["known"] == {31: 1}
    assert oracle.asked == [31, 10, 11, 12, 13]
    assert [each.question.item for each in found.exchanges] == oracle.asked
    assert found.exchanges[0].question.notes == ("as it was shown",)
    assert found.earlier == 0
    assert (tmp_path / "sub.csv").read_text(encoding="ascii").splitlines()[31] == "8"


def test_an_oracle_that_fails_at_a_lost_answer_is_told_as_any_failure(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Budget(Interrupted(), 5, folder.with_suffix(".journal"), open_dataset(folder).content).ask(
            Question(31, 1, None, (), 1)
        )
    with pytest.raises(HeadwaterError, match=r"no labels were written: after 0 answers, it is asleep"):
        solve(folder, oracle=Truth(fails_at=1))


@pytest.mark.parametrize(("bought", "paid"), [((7, 23), 3), ((1, 3, 5, 7, 9), 0)])
def test_rows_bought_by_hand_are_asked_about_for_nothing_and_made_use_of(
    folder: Path, plain_solver: dict[str, Any], bought: tuple[int, ...], paid: int
) -> None:
    labels = np.load(folder.with_suffix(".labels.npy")).tolist()
    reveals = Reveals({3: labels}, {"team": "secret"})
    for row in bought:
        reveals.reveal("team", "secret", 3, row)
    with serving(application(reveals)) as address:
        found = solve(folder, oracle=address, exercise=3, username="team", password="secret")
    asked = [each.question.item for each in found.exchanges]
    assert sorted(asked) == sorted(reveals.revealed["team", 3]) == sorted([*bought, *range(10, 10 + paid)])
    assert set(bought) <= set(plain_solver["known"])
    assert all(
        found.dataset.problem.classes[each.answer] == labels[each.question.item] for each in found.exchanges
    )
    assert all(found.labels[row] == labels[row] for row in asked)


@pytest.mark.parametrize("elsewhere", [2, 5])
def test_answers_that_another_process_pays_for_meanwhile_are_made_use_of(
    folder: Path, plain_solver: dict[str, Any], elsewhere: int
) -> None:
    """It spends a part of the budget, or all of it, while readings are trained here."""
    other = Budget(Truth(), 5, folder.with_suffix(".journal"), open_dataset(folder).content)
    rows = list(range(21, 21 + elsewhere))
    told: list[tuple[int, bool]] = []

    def now(step: str, done: int, of: int) -> None:
        if step == "scan":
            for row in rows:
                other.ask(Question(row, 1, None, (), 1))

    oracle = Truth()
    telling = Telling(
        now=now, answered=lambda question, label, earlier: told.append((question.item, earlier))
    )
    found = solve(folder, oracle=oracle, telling=telling)
    mine = list(range(10, 15 - elsewhere))
    assert oracle.asked == mine
    assert plain_solver["known"] == {row: row % 2 for row in [*rows, *mine[:1]]}
    assert [found.labels[row] for row in rows] == [(3, 8)[row % 2] for row in rows]
    assert sorted(told) == sorted([*((row, True) for row in rows), *((row, False) for row in mine)])
    assert found.resolution.settled


def test_another_data_set_s_journal_is_refused(folder: Path, tmp_path: Path) -> None:
    solve(folder, oracle=Truth(), out=tmp_path / "sub.csv")
    (tmp_path / "sub.csv").unlink()
    np.save(folder / "X_val.npy", np.load(folder / "X_val.npy")[::-1])
    with pytest.raises(RequestError, match=r"questions of another data set; name another journal"):
        solve(folder, oracle=Truth(), out=tmp_path / "sub.csv")


def test_a_file_of_labels_answers_and_gives_the_accuracy(folder: Path, tmp_path: Path) -> None:
    labels = np.load(folder.with_suffix(".labels.npy"))
    found = solve(folder, oracle=str(folder.with_suffix(".labels.npy")))
    assert [each.answer for each in found.exchanges] == (labels[10:15] == 8).tolist()
    expected = np.where(np.isin(np.arange(40), range(10, 15)), labels, 8)
    assert found.accuracy == pytest.approx((expected == labels).mean())
    assert found.accuracy_before == pytest.approx((labels == 3).mean())
    assert (found.out, found.journal) == (None, folder.with_suffix(".journal"))


def test_labels_that_contradict_earlier_answers_are_refused(folder: Path, tmp_path: Path) -> None:
    file = folder.with_suffix(".labels.npy")
    solve(folder, oracle=str(file))
    labels = np.load(file)
    labels[12] = 11 - labels[12]  # classes are 3 and 8
    np.save(tmp_path / "others.npy", labels)
    with pytest.raises(RequestError, match=r"row 12 was answered with \d in .*halves.journal, .* now say \d"):
        solve(folder, oracle=str(tmp_path / "others.npy"), out=tmp_path / "sub.csv")
    assert not (tmp_path / "sub.csv").exists()
    solve(folder, oracle=str(tmp_path / "others.npy"), journal=tmp_path / "other.journal")


def test_an_answer_outside_the_classes_is_not_taken(folder: Path, tmp_path: Path) -> None:
    oracle = Truth()
    oracle.ask = lambda question: 2  # type: ignore[method-assign]
    with pytest.raises(HeadwaterError, match="not a class code from 0 to 1"):
        solve(folder, oracle=oracle, out=tmp_path / "sub.csv")
    assert not (tmp_path / "sub.csv").exists()


def test_a_report_is_written_and_replaces_only_one_of_the_same_data(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert solve(folder, oracle=Truth(), report=page).report == page
    first = page.read_text(encoding="utf-8")
    assert "halves" in first
    assert solve(folder, oracle=Truth(), budget=0, report=page).report == page
    assert page.read_text(encoding="utf-8") != first
    page.write_text("<p>mine</p>", encoding="ascii")
    oracle = Truth()
    with pytest.raises(RequestError, match="is no headwater report; choose another name with --report"):
        solve(folder, oracle=oracle, report=page)
    assert oracle.asked == []
    with pytest.raises(RequestError, match=r"ends in \.html"):
        solve(folder, oracle=oracle, report=tmp_path / "report.pdf")


def test_a_report_that_fails_in_the_end_leaves_the_labels_and_a_warning(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "report.html"
    in_the_way = Telling(asking=lambda question: page.parent.touch())
    with pytest.warns(HeadwaterWarning, match="there is no report, as"):
        found = solve(folder, oracle=Truth(), out=tmp_path / "sub.csv", report=page, telling=in_the_way)
    assert found.report is None
    assert len((tmp_path / "sub.csv").read_text(encoding="ascii").splitlines()) == 40


def test_a_head_is_refused_before_anything_is_asked_and_missed_with_a_warning(
    folder: Path, tmp_path: Path
) -> None:
    oracle, place = Truth(), tmp_path / "head.safetensors"
    with pytest.raises(RequestError, match="leave out --head"):
        solve(folder, oracle=oracle, head=place)
    (tmp_path / "there.safetensors").touch()
    with pytest.raises(RequestError, match="exists already; choose another name with --head, or move it"):
        solve(folder, oracle=oracle, head=tmp_path / "there.safetensors")
    assert oracle.asked == []
    vectors = write(tmp_path / "points", points())
    with pytest.warns(HeadwaterWarning, match="there is no head, as nothing was answered"):
        found = solve(vectors, oracle=oracle, head=place, budget=0)
    assert (found.head, place.exists()) == (None, False)


@pytest.mark.parametrize(
    ("oracle", "said"),
    [
        ("column", "does not say its target rows' labels"),
        ("nonsense", "is no oracle"),
        ("no.npy", "no.npy"),
        (np.zeros(3), r"needs a method ask\(question\) .* ndarray has none"),
        (None, "NoneType has none"),
    ],
)
def test_what_is_no_oracle_is_said_before_anything_is_made(
    folder: Path, tmp_path: Path, oracle: Any, said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        solve(folder, oracle=oracle, out=tmp_path / "sub.csv")
    assert not list(tmp_path.glob("sub*"))


def test_a_service_is_asked_for_the_account_that_was_given(folder: Path) -> None:
    account = Account(3, "team", "secret")
    oracle, truth = choose_oracle("https://example.org/", open_dataset(folder), account)
    assert truth is None
    assert type(oracle).__name__ == "RevealOracle"
    with pytest.raises(RequestError, match="exercise"):
        choose_oracle("https://example.org/", open_dataset(folder), Account(None, "team", "secret"))


def test_how_long_an_answer_is_waited_for_can_be_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as silent:
        monkeypatch.setattr(sys, "stdin", silent)
        with pytest.raises(HeadwaterError, match=r"nothing was typed in 0\.1 s"):
            solve(folder, oracle="terminal", timeout=0.1)
    os.close(writing)
    with socket.create_server(("127.0.0.1", 0)) as listening:  # and never answers
        asked, _ = choose_oracle(
            f"http://127.0.0.1:{listening.getsockname()[1]}",
            open_dataset(folder),
            Account(3, "team", "secret"),
            0.05,
        )
        asked._backoff = Backoff(tries=1)
        with pytest.raises(HeadwaterError, match=r"no answer in 0\.05 s"):
            asked.ask(Question(1, 1, None, (), 1))
    for seconds in (0, -1, float("nan")):
        with pytest.raises(RequestError, match="leaves no time to answer"):
            solve(folder, oracle="terminal", timeout=seconds)


def test_the_password_is_not_shown() -> None:
    assert "hunter" not in repr(Account(3, "team", "hunter"))
