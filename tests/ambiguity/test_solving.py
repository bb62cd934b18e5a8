"""Questions, journal and file of a solve: what is asked, what a second run pays for, what is written.

The solver itself is replaced by one that asks about given rows, since what it is worth is tested elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater.ambiguity import open_dataset, solve
from headwater.ambiguity.oracles import Account, choose_oracle
from headwater.ambiguity.solving import Telling
from headwater.errors import HeadwaterError, RequestError
from headwater.heads.ambiguity.questions import OracleError, Question
from tests.ambiguity.stand_in import stand_in


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
        HeadwaterError, match=r"after 2 answers .* it is asleep; the same command again goes on"
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
    assert len(solve(folder, oracle=less, budget=1, out=tmp_path / "sub.csv").exchanges) == 2
    assert less.asked == []
    (tmp_path / "sub.csv").unlink()
    more = Truth()
    found = solve(folder, oracle=more, budget=6, out=tmp_path / "sub.csv")
    assert more.asked == [12, 13, 14, 15]
    assert any("more than the 5" in note for note in found.notes)


def test_a_budget_of_none_asks_nothing_and_a_negative_one_is_refused(folder: Path) -> None:
    oracle = Truth()
    found = solve(folder, oracle=oracle, budget=0)
    assert (found.exchanges, oracle.asked) == ((), [])
    assert found.labels == [3] * 40  # those of a head that was trained on the labeled rows alone
    assert found.resolution.expected_accuracy == pytest.approx(0.1)
    assert "a head trained on the labeled rows alone" in found.resolution.sentences[-1]
    with pytest.raises(RequestError, match="a budget of -1 questions cannot be"):
        solve(folder, oracle=oracle, budget=-1)


def test_another_data_set_s_journal_is_refused(folder: Path, tmp_path: Path) -> None:
    solve(folder, oracle=Truth(), out=tmp_path / "sub.csv")
    (tmp_path / "sub.csv").unlink()
    np.save(folder / "X_val.npy", np.load(folder / "X_val.npy")[::-1])
    with pytest.raises(RequestError, match="questions of another data set"):
        solve(folder, oracle=Truth(), out=tmp_path / "sub.csv")


def test_a_file_of_labels_answers_and_gives_the_accuracy(folder: Path, tmp_path: Path) -> None:
    labels = np.load(folder.with_suffix(".labels.npy"))
    found = solve(folder, oracle=str(folder.with_suffix(".labels.npy")))
    assert [each.answer for each in found.exchanges] == (labels[10:15] == 8).tolist()
    expected = np.where(np.isin(np.arange(40), range(10, 15)), labels, 8)
    assert found.accuracy == pytest.approx((expected == labels).mean())
    assert found.accuracy_before == pytest.approx((labels == 3).mean())
    assert (found.out, found.journal) == (None, None)


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
    with pytest.raises(RequestError, match="is no report of this data set"):
        solve(folder, oracle=oracle, report=page)
    assert oracle.asked == []
    with pytest.raises(RequestError, match=r"ends in \.html"):
        solve(folder, oracle=oracle, report=tmp_path / "report.pdf")


@pytest.mark.parametrize(
    ("oracle", "said"),
    [("column", "does not say its target rows' labels"), ("nonsense", "is no oracle"), ("no.npy", "no.npy")],
)
def test_what_is_no_oracle_is_said_before_anything_is_made(
    folder: Path, tmp_path: Path, oracle: str, said: str
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
