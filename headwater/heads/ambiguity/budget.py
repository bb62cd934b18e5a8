"""A hard limit on questions: counted on disk before they are asked, across crashes, restarts and processes.

Which rows to ask about, and what the answers mean, is decided elsewhere.
"""

from __future__ import annotations

import logging
import operator
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from headwater.errors import RequestError
from headwater.heads.ambiguity.journal import Journal, Record, asking
from headwater.heads.ambiguity.questions import (
    BudgetSpent,
    Closes,
    Oracle,
    OracleError,
    Question,
    Recalls,
    Remembers,
    Stopped,
)
from headwater.printable import counted

_log = logging.getLogger(__name__)


class Budget:
    """An oracle that asks `oracle` about at most `limit` different rows, and remembers every answer.

    With a `journal` file the count outlives the process, and no two processes together can exceed it; a
    question whose answer was lost in a crash is the first to be asked again, and counts once. `problem` is
    a hash of the data. RequestError where the journal is another problem's; an answer outside
    0..`n_classes`-1 is an OracleError. A process waits for another's question for at most `wait` seconds.
    """

    def __init__(
        self,
        oracle: Oracle,
        limit: int,
        journal: Path | None,
        problem: str,
        *,
        n_classes: int | None = None,
        wait: float = 60.0,
    ) -> None:
        if limit < 0:
            raise RequestError(f"a budget of {limit} questions cannot be; give 0 or more")
        self.limit = limit
        self._oracle = oracle
        self._journal = None if journal is None else Journal(journal, problem)
        self._n_classes = n_classes
        self._wait = wait
        self._recalled = False
        self._thread = threading.Lock()
        self._record = Record() if self._journal is None else self._journal.read()

    @property
    def answers(self) -> Mapping[int, int]:
        """The class codes of the rows that were answered, in the order of asking."""
        return MappingProxyType(dict(self._record.answers))

    @property
    def asked(self) -> tuple[int, ...]:
        """The rows that were asked about, in their order; a last one may still lack its answer."""
        return tuple(self._record.asked)

    @property
    def history(self) -> tuple[tuple[Question, int], ...]:
        """The questions as they were asked, with the class codes that came back, in their order."""
        return tuple((self._record.asked[item], code) for item, code in self._record.answers.items())

    @property
    def unanswered(self) -> Question | None:
        """A question that was sent and whose answer was lost; it counts."""
        return self._record.open

    @property
    def bought(self) -> tuple[int, ...]:
        """Rows that the oracle says were paid for elsewhere: they count, and asking about them is free."""
        return tuple(sorted(self._record.bought.difference(self._record.asked)))

    @property
    def left(self) -> int:
        """How many more rows may be asked about."""
        return max(0, self.limit - len(self._record.spent))

    def ask(self, question: Question) -> int:
        """The class code of the row, from the journal where it was asked before.

        BudgetSpent, without asking, where this row would be one too many; OracleError from the oracle.
        """
        question = replace(question, item=operator.index(question.item))
        with self._held():
            self._recall()
            unanswered = self._record.open
            if unanswered is not None and unanswered.item != question.item:
                self._ask(unanswered)
            if question.item not in self._record.answers:
                self._ask(question)
            return self._record.answers[question.item]

    def close(self, outcome: str = "") -> None:
        """Tell the oracle that no question follows, and what came of it, if it wants to know."""
        if isinstance(self._oracle, Closes):
            self._oracle.close(outcome)

    def _recall(self) -> None:
        if not self._recalled and isinstance(self._oracle, Recalls):
            for item, code in self._record.answers.items():
                self._oracle.recall(self._record.asked[item], code)
        self._recalled = True

    def _ask(self, question: Question) -> None:
        spent = self._record.spent
        known = self._record.asked.get(question.item)
        if question.item not in spent and len(spent) >= self.limit:
            raise BudgetSpent(
                f"all {counted(self.limit, 'question')} of the budget are spent, so row {question.item} was"
                " not asked about; settle it with the answers there are"
            )
        number = known.number if known else len(spent.difference([question.item])) + 1
        question = replace(question, number=number, budget=self.limit)
        if known is None:
            self._note(asking(question))
        try:
            code = self._checked(question, self._oracle.ask(question))
        except OracleError as error:
            # That this try did not count says nothing of an earlier one whose answer was lost.
            if known is None and not error.uncertain:
                self._note({"what": "drop", "item": question.item})
            raise
        except Stopped:
            if known is None:
                self._note({"what": "drop", "item": question.item})
            raise
        except BudgetSpent:
            self._note({"what": "drop", "item": question.item})
            self._compare(question.item)
            raise
        self._note({"what": "answer", "item": question.item, "code": code})
        self._compare(question.item)

    def _compare(self, item: int) -> None:
        """Note what the oracle remembers, and say where the journal differs."""
        told = self._oracle.bought if isinstance(self._oracle, Remembers) else None
        if told is None:
            return
        elsewhere = told - self._record.spent
        if elsewhere:
            _log.warning(
                "the labels of rows %s were bought before, outside this journal: they count, which leaves %d",
                sorted(elsewhere),
                max(0, self.limit - len(self._record.spent | told)),
            )
            self._note({"what": "told", "bought": sorted(told)})
        unknown = set(self._record.answers) - told - {item}
        if unknown:
            _log.warning(
                "the oracle does not know of the rows %s that this journal holds answers for: was it another"
                " oracle that gave them?",
                sorted(unknown),
            )

    def _checked(self, question: Question, answer: Any) -> int:
        try:
            code = operator.index(answer)
        except TypeError:
            code = -1
        if isinstance(answer, bool) or code < 0 or (self._n_classes is not None and code >= self._n_classes):
            codes = (
                "a class code" if self._n_classes is None else f"a class code from 0 to {self._n_classes - 1}"
            )
            raise OracleError(
                f"the oracle's answer for row {question.item} is {answer!r}, not {codes}; correct the oracle",
                uncertain=True,
            )
        return code

    def _note(self, line: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.append(line)
        self._record = self._record.after(line)

    @contextmanager
    def _held(self) -> Iterator[None]:
        if self._journal is None:
            with self._thread:
                yield
        else:
            with self._journal.held(self._wait) as self._record:
                yield
