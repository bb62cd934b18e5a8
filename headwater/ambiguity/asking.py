"""The solver's questions about a problem's rows as an oracle gets them, by the data set's rows."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.labels import Label
from headwater.errors import HeadwaterError, RequestError
from headwater.heads.ambiguity.budget import Budget
from headwater.heads.ambiguity.dialogue import Exchange
from headwater.heads.ambiguity.oracles.neighbours import notes_on
from headwater.heads.ambiguity.questions import BudgetSpent, Question
from headwater.printable import counted
from headwater.store import show_key
from headwater.store.files import refuse_unwritable

_BESIDE = ".journal"


def journal_of(dataset: Dataset, named: Path | None) -> Path | None:
    """Where it is kept what was asked about a data set: in the file `named`, else beside the data set.

    None where the data set is at no place. RequestError or HeadwaterError where it cannot be written.
    """
    if named is None:
        if not dataset.place.exists():
            return None
        # However it is called, and wherever the labels go: one data set has one journal.
        real = dataset.place.resolve()
        place = real.with_name(f"{real.name}{_BESIDE}")
    else:
        place = named
    try:
        _refuse_no_journal(place)
    except RequestError:
        raise
    except (HeadwaterError, OSError) as error:
        why = error if isinstance(error, HeadwaterError) else error.strerror
        raise HeadwaterError(
            f"the journal {show_key(str(place))}, which keeps the answers, cannot be written ({why}); "
            "name another place with --journal"
        ) from error
    return place


def _refuse_no_journal(place: Path) -> None:
    """RequestError, HeadwaterError or OSError where no journal can be kept, or a link leads to no such."""
    shown = show_key(str(place))
    refuse_unwritable(place)
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        if place.is_symlink():
            # What is written makes the folder of the link, and not the folder that it leads to.
            end = Path(os.path.realpath(place))
            if not end.parent.is_dir():
                raise RequestError(
                    f"the journal {shown} is a link into {show_key(str(end.parent))}, which is no folder; "
                    "make that folder, or name another place with --journal"
                ) from None
            refuse_unwritable(end)
        return
    if stat.S_ISDIR(mode):
        raise RequestError(f"the journal {shown} is a folder; name a file in it with --journal")
    if not stat.S_ISREG(mode):
        raise RequestError(f"the journal {shown} is no ordinary file; name another place with --journal")
    with place.open("ab"):
        pass


class StoppedError(Exception):
    """The oracle failed; passes through the solver, which makes do with what it has on other errors."""

    def __init__(self, error: HeadwaterError, answers: int) -> None:
        super().__init__()
        again = "; the same command again goes on from there" if answers else ""
        self.sentence = f"no labels were written: after {counted(answers, 'answer')}, {error}{again}"


class MoreKnownError(Exception):
    """Rows turned out to be answered or paid for elsewhere, and the solver should have their answers."""


@dataclass
class Asking:
    """Asks a `limited` oracle about the rows of a data set, and tells of it."""

    dataset: Dataset
    limited: Budget
    asking: Callable[[Question], None]
    answered: Callable[[Question, Label, bool], None]

    def __post_init__(self) -> None:
        self._place = {row: item for item, row in enumerate(self.dataset.items.tolist())}
        self._tried: set[int] = set()
        self._given: set[int] = set(self.known)

    @property
    def known(self) -> dict[int, int]:
        """The class codes that were answered, by the problem's rows."""
        return {self._place[row]: code for row, code in self.limited.answers.items()}

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All questions that were answered, now or in earlier runs, by the data set's rows."""
        return tuple(Exchange(question, code) for question, code in self.limited.history)

    def begin(self) -> None:
        """Get what is paid for already: an answer that a crash lost, and those of rows bought elsewhere.

        StoppedError where the oracle fails.
        """
        lost = self.limited.unanswered
        if lost is not None:
            self._ask(lost)
        for row in self._free():
            self._tried.add(row)
            self._ask(self._shown(Question(self._place[row], 1, None, (), 1)))
        self._given.update(self.known)

    def ask(self, question: Question) -> int:
        """The class code of a row of the problem.

        BudgetSpent, StoppedError where the oracle fails, MoreKnownError where it tells of rows that were
        bought elsewhere, or the journal holds answers that another process has had in the meantime.
        """
        code = self._ask(self._shown(question))
        if code is not None:
            self._given.add(question.item)
        if self._free() or self._from_elsewhere():
            raise MoreKnownError
        if code is None:
            raise BudgetSpent(f"all {counted(self.limited.limit, 'question')} of the budget are spent")
        return code

    def _free(self) -> list[int]:
        """Rows that were bought elsewhere and not asked about here."""
        return [row for row in self.limited.bought if row in self._place and row not in self._tried]

    def _from_elsewhere(self) -> bool:
        """Whether there are answers that the solver was not given, which are told now."""
        more = [each for each in self.exchanges if self._place[each.question.item] not in self._given]
        for each in more:
            self._given.add(self._place[each.question.item])
            self.answered(each.question, self.dataset.problem.classes[each.answer], True)
        return bool(more)

    def _shown(self, question: Question) -> Question:
        item = question.item
        picture = self.dataset.picture(item)
        notes = question.notes if picture is not None else notes_on(self.dataset.problem, item, self.known)
        row = int(self.dataset.items[item])
        if self.dataset.target_keys is not None:
            notes = (f"Its key is {show_key(self.dataset.target_keys[row])}.", *notes)
        return replace(question, item=row, picture=picture, notes=notes)

    def _ask(self, question: Question) -> int | None:
        """The class code; None where the budget does not allow the question."""
        self.asking(question)
        try:
            code = self.limited.ask(question)
        except BudgetSpent:
            return None
        except HeadwaterError as error:
            raise StoppedError(error, len(self.limited.answers)) from error
        self.answered(question, self.dataset.problem.classes[code], False)
        return code
