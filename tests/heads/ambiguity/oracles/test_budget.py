"""The budget against an oracle that counts for itself: never one row too many, whatever dies when."""

from __future__ import annotations

import errno
import fcntl
import itertools
import logging
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headwater.errors import HeadwaterError, RequestError
from headwater.heads.ambiguity.budget import Budget
from headwater.heads.ambiguity.questions import BudgetSpent, OracleError, Question, Stopped
from tests.heads.ambiguity.oracles.asking import Scripted, Service, question


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a process of its own and give its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended(child: int) -> int:
    """How the process ended: 0, its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("on_disk", [True, False])
def test_one_row_more_than_the_budget_is_never_asked_about(tmp_path: Path, on_disk: bool) -> None:
    service = Service(tmp_path / "counted")
    budget = Budget(service, 3, tmp_path / "sub" / "journal" if on_disk else None, "data")
    assert [budget.ask(question(item)) for item in (7, 4, 7, 9)] == [1, 0, 1, 1]
    assert (budget.left, budget.asked, dict(budget.answers)) == (0, (7, 4, 9), {7: 1, 4: 0, 9: 1})
    with pytest.raises(BudgetSpent, match=r"all 3 questions .* row 5 was not asked about"):
        budget.ask(question(5))
    assert service.asked == [7, 4, 9]
    assert budget.ask(question(4)) == 0


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    service = Service(tmp_path / "counted")
    first = Budget(service, 3, tmp_path / "journal", "data")
    first.ask(question(1))
    again = Budget(service, 3, tmp_path / "journal", "data")
    assert (again.left, again.asked, dict(again.answers)) == (2, (1,), {1: 1})
    again.ask(question(2))
    # One that was opened earlier sees what the other spent.
    first.ask(question(3))
    with pytest.raises(BudgetSpent):
        again.ask(question(4))
    assert service.asked == [1, 2, 3]


def test_questions_are_numbered_by_the_budget(tmp_path: Path) -> None:
    oracle = Scripted(0, 1)
    budget = Budget(oracle, 5, tmp_path / "journal", "data")
    for item in (30, 40):
        budget.ask(question(item, number=77))
    assert [(each.item, each.number, each.budget) for each in oracle.asked] == [(30, 1, 5), (40, 2, 5)]


def test_a_budget_of_nothing_and_less(tmp_path: Path) -> None:
    with pytest.raises(BudgetSpent, match="all 0 questions"):
        Budget(Scripted(), 0, tmp_path / "journal", "data").ask(question(1))
    with pytest.raises(RequestError, match="-1"):
        Budget(Scripted(), -1, None, "data")


class Killed(Service):
    """Dies by SIGKILL in the middle of an answer, before or after it has counted the row."""

    def __init__(self, counted: Path, *, counts: bool) -> None:
        super().__init__(counted)
        self.counts = counts

    def ask(self, question: Question) -> int:
        if self.counts:
            super().ask(question)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@pytest.mark.parametrize("counts", [True, False])
def test_a_row_whose_answer_died_is_asked_again_first_and_counts_once(tmp_path: Path, counts: bool) -> None:
    journal, counted = tmp_path / "journal", tmp_path / "counted"
    dying = Killed(counted, counts=counts)
    child = forked(lambda: Budget(dying, 2, journal, "data").ask(question(8, notes=("a note",))))
    assert ended(child) == -signal.SIGKILL
    service = Service(counted)
    seen: list[Question] = []

    class Watched:
        def ask(self, question: Question) -> int:
            seen.append(question)
            return service.ask(question)

    budget = Budget(Watched(), 2, journal, "data")
    assert (budget.asked, dict(budget.answers), budget.left) == ((8,), {}, 1)
    # Another row is wanted now; the one that may be paid for comes first, with all that was shown of it.
    assert budget.ask(question(5)) == 1
    assert [each.item for each in seen] == [8, 5]
    np.testing.assert_array_equal(seen[0].picture, question(8).picture)
    assert seen[0].opinions == question(8).opinions
    assert (seen[0].notes, seen[0].number, seen[1].number) == (("a note",), 1, 2)
    assert dict(budget.answers) == {8: 0, 5: 1}
    with pytest.raises(BudgetSpent):
        budget.ask(question(6))
    assert set(service.asked) == {8, 5}


def test_kills_at_any_moment_never_cost_a_sixth_row(tmp_path: Path) -> None:
    journal, service = tmp_path / "journal", Service(tmp_path / "counted")

    def ask_around(seed: int) -> None:
        budget = Budget(service, 5, journal, "data")
        chance = random.Random(seed)
        while True:
            try:
                budget.ask(question(chance.randrange(1000)))
            except BudgetSpent:
                return

    def ask_until_killed(seed: int, after: int, when: str) -> None:
        """Dies at a write to the disk, before it or after it; each is one of the moments there are."""
        sync, left = os.fsync, after

        def killing(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left == 0 and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            sync(descriptor)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = killing
        ask_around(seed)

    kills = 0
    for seed, (after, when) in enumerate(itertools.product((1, 2, 3, 1, 2, 3, 4), ("before", "after"))):
        died = ended(forked(lambda given=(seed, after, when): ask_until_killed(*given))) == -signal.SIGKILL
        kills += died
        assert len(set(service.asked)) <= 5
        assert died or len(Budget(service, 5, journal, "data").answers) == 5
    assert kills >= 10  # the same at any speed
    ask_around(1000)
    final = Budget(service, 5, journal, "data")
    assert len(set(service.asked)) == 5
    assert dict(final.answers) == {item: item % 2 for item in set(service.asked)}


def test_processes_on_one_journal_share_one_budget(tmp_path: Path) -> None:
    journal, service = tmp_path / "journal", Service(tmp_path / "counted")

    def hammer(seed: int) -> None:
        budget = Budget(service, 5, journal, "data")
        chance = random.Random(seed)
        spent = 0
        for _ in range(12):
            item = chance.randrange(40)
            try:
                assert budget.ask(question(item)) == item % 2
            except BudgetSpent:
                spent += 1
        assert spent

    children = [forked(lambda seed=seed: hammer(seed)) for seed in range(4)]
    assert [ended(child) for child in children] == [0, 0, 0, 0]
    assert len(service.asked) == len(set(service.asked)) == 5
    assert dict(Budget(service, 5, journal, "data").answers) == {item: item % 2 for item in service.asked}


def test_who_waits_too_long_for_another_process_is_told(tmp_path: Path) -> None:
    journal, link, mark = (tmp_path / name for name in ("journal", "link", "mark"))
    link.symlink_to(journal)

    class Slow:
        def ask(self, question: Question) -> int:
            mark.touch()
            time.sleep(30)
            return 0

    child = forked(lambda: Budget(Slow(), 5, journal, "data").ask(question(1)))
    while not mark.exists():
        time.sleep(0.005)
    try:
        for same in (journal, link):
            with pytest.raises(HeadwaterError, match=f"{same.name} is in use by process {child}"):
                Budget(Scripted(0), 5, same, "data", wait=0.05).ask(question(2))
    finally:
        os.kill(child, signal.SIGKILL)
        ended(child)
    # The dead one holds nothing any more.
    assert Budget(Scripted(1, 0), 5, journal, "data", wait=0.05).ask(question(2)) == 0
    # And of who held it nothing is left but an empty file.
    lock = tmp_path / ".journal.lock"
    assert sorted(tmp_path.iterdir()) == [lock, journal, link, mark]
    assert lock.read_bytes() == b""


def test_the_journal_itself_is_never_locked(tmp_path: Path) -> None:
    """Shares forbid to read and write a file that is locked through another descriptor of it."""
    journal, free = tmp_path / "journal", []

    class Looking:
        def ask(self, question: Question) -> int:
            with journal.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free.append(question.item)
            return 1

    Budget(Looking(), 5, journal, "data").ask(question(2))
    assert free == [2]
    assert journal.stat().st_mode & 0o777 == 0o600


def test_a_file_system_that_locks_nothing_can_keep_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.warns(UserWarning, match="flock not supported"):
        assert Budget(Scripted(1), 5, tmp_path / "journal", "data").ask(question(2)) == 1
    assert dict(Budget(Scripted(), 5, tmp_path / "journal", "data").answers) == {2: 1}


def test_a_question_that_was_not_paid_for_does_not_count(tmp_path: Path) -> None:
    oracle = Scripted(OracleError("the line is dead"), 1)
    budget = Budget(oracle, 1, tmp_path / "journal", "data")
    with pytest.raises(OracleError, match="the line is dead"):
        budget.ask(question(1))
    assert (budget.left, budget.asked) == (1, ())
    assert Budget(oracle, 1, tmp_path / "journal", "data").ask(question(2)) == 1


def test_a_question_that_may_be_paid_for_counts_and_comes_first(tmp_path: Path) -> None:
    unsure = OracleError("no answer", uncertain=True)
    oracle = Scripted(unsure, OracleError("not now"), 1, 0)
    budget = Budget(oracle, 2, tmp_path / "journal", "data")
    with pytest.raises(OracleError):
        budget.ask(question(1))
    assert budget.left == 1
    # That a second try was not counted says nothing of the first.
    with pytest.raises(OracleError, match="not now"):
        budget.ask(question(2))
    assert (budget.left, budget.asked) == (1, (1,))
    assert budget.ask(question(2)) == 0
    assert [each.item for each in oracle.asked] == [1, 1, 1, 2]
    assert dict(budget.answers) == {1: 1, 2: 0}


def test_an_interrupt_leaves_the_question_counted(tmp_path: Path) -> None:
    budget = Budget(Scripted(KeyboardInterrupt()), 1, tmp_path / "journal", "data")
    with pytest.raises(KeyboardInterrupt):
        budget.ask(question(3))
    with pytest.raises(BudgetSpent):
        Budget(Scripted(0), 1, tmp_path / "journal", "data").ask(question(4))


def test_an_interrupt_by_the_person_who_was_to_answer_is_not_counted(tmp_path: Path) -> None:
    budget = Budget(Scripted(0, Stopped()), 2, tmp_path / "journal", "data")
    budget.ask(question(1))
    with pytest.raises(KeyboardInterrupt):
        budget.ask(question(3))
    again = Budget(Scripted(1), 2, tmp_path / "journal", "data")
    assert (again.left, again.unanswered, dict(again.answers)) == (1, None, {1: 0})
    assert again.ask(question(4)) == 1


@pytest.mark.parametrize("answer", [2, -1, "0", None, 0.0, True])
def test_an_answer_that_is_no_class_is_told_in_one_sentence(tmp_path: Path, answer: object) -> None:
    budget = Budget(Scripted(answer, np.int64(1)), 2, tmp_path / "journal", "data", n_classes=2)
    with pytest.raises(OracleError, match=r"row 6 is .*, not a class code from 0 to 1"):
        budget.ask(question(6))
    assert budget.ask(question(6)) == 1
    assert type(budget.answers[6]) is int


class Remembering(Scripted):
    """A service that says which rows were bought."""

    def __init__(self, bought: set[int], *answers: object) -> None:
        super().__init__(*answers)
        self.known = bought
        self.bought: frozenset[int] | None = None

    def ask(self, question: Question) -> int:
        self.bought = frozenset(self.known)
        answer = super().ask(question)
        self.known.add(question.item)
        return answer


def test_labels_bought_elsewhere_count_and_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    oracle = Remembering({12, 30}, 0, 1, 1, 0)
    budget = Budget(oracle, 4, tmp_path / "journal", "data")
    with caplog.at_level(logging.WARNING):
        budget.ask(question(5))
    assert "[12, 30]" in caplog.text
    assert "leaves 1" in caplog.text
    assert (budget.left, budget.bought, budget.asked) == (1, (12, 30), (5,))
    again = Budget(oracle, 4, tmp_path / "journal", "data")
    assert (again.left, again.bought) == (1, (12, 30))
    again.ask(question(6))
    with pytest.raises(BudgetSpent):
        again.ask(question(7))
    # What is paid for can be asked about without paying.
    assert again.ask(question(12)) == 1
    assert (again.left, again.bought) == (0, (30,))


def test_a_service_that_is_spent_takes_the_budget_with_it(tmp_path: Path) -> None:
    oracle = Remembering({1, 2, 3}, BudgetSpent("no more labels"), 0)
    budget = Budget(oracle, 3, tmp_path / "journal", "data")
    with pytest.raises(BudgetSpent, match="no more labels"):
        budget.ask(question(9))
    again = Budget(oracle, 3, tmp_path / "journal", "data")
    assert (again.left, again.asked, again.bought) == (0, (), (1, 2, 3))
    assert again.ask(question(2)) == 0


def test_a_journal_that_the_service_knows_nothing_of_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Budget(Scripted(0), 5, tmp_path / "journal", "data").ask(question(1))
    with caplog.at_level(logging.WARNING):
        Budget(Remembering(set(), 0), 5, tmp_path / "journal", "data").ask(question(2))
    assert "does not know of the rows [1]" in caplog.text


def test_a_page_is_told_what_was_answered_before_and_how_it_ended(tmp_path: Path) -> None:
    class Page(Scripted):
        def __init__(self, *answers: object) -> None:
            super().__init__(*answers)
            self.recalled: list[tuple[int, int]] = []
            self.outcome = ""

        def recall(self, question: Question, code: int) -> None:
            self.recalled.append((question.item, code))

        def close(self, outcome: str = "") -> None:
            self.outcome = outcome

    Budget(Scripted(1), 5, tmp_path / "journal", "data").ask(question(4))
    page = Page(0, 1)
    budget = Budget(page, 5, tmp_path / "journal", "data")
    budget.ask(question(5))
    budget.ask(question(6))
    budget.close("settled")
    assert (page.recalled, page.outcome) == ([(4, 1)], "settled")
    Budget(Scripted(), 5, None, "data").close("nobody listens")
