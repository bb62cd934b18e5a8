"""From an ambiguous data set and whoever knows its labels to a file of labels that can be handed in."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.datasets import open_dataset
from headwater.ambiguity.labels import Label, codes_of
from headwater.ambiguity.scoring import Advice, advise, find_set, set_named
from headwater.ambiguity.submission import SUFFIX, check_new, submission_text, write_new
from headwater.errors import HeadwaterError, RequestError
from headwater.heads.ambiguity.budget import Budget
from headwater.heads.ambiguity.questions import BudgetSpent, Oracle, Question
from headwater.printable import counted
from headwater.store import show_key

if TYPE_CHECKING:
    from headwater.heads.ambiguity.resolve import Resolution

CONTEST_BUDGET = 5
COLUMN = "column"
"""The oracle that is the store's own column of labels."""


@dataclass(frozen=True, eq=False)
class Solved:
    """What came of the questions.

    `labels` (target rows,) are as they were given; `codes` are theirs. `asked` questions were answered, of
    which `earlier` by a run before this one. `accuracy` and `accuracy_before` on the target rows are known
    only where all their labels are (NaN elsewhere); the second is that of a head trained on the labeled rows.
    """

    dataset: Dataset
    resolution: Resolution
    codes: NDArray[np.int64]
    budget: int
    earlier: int
    advice: Advice
    out: Path | None
    journal: Path | None
    accuracy: float
    accuracy_before: float
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> list[Label]:
        """The target rows' labels as they were given for the labeled rows."""
        classes = self.dataset.problem.classes
        return [classes[code] for code in self.codes.tolist()]


@dataclass
class Telling:
    """Where it is told what is going on: a step, a question that is about to be asked, its answer.

    `answered` gets the question, the label, and whether it was known from an earlier run.
    """

    opened: Callable[[Dataset], None] = lambda dataset: None
    now: Callable[[str, int, int], None] = lambda step, done, of: None
    asking: Callable[[Question], None] = lambda question: None
    answered: Callable[[Question, Label, bool], None] = lambda question, label, earlier: None


class _StoppedError(Exception):
    """The oracle failed; passes through the solver, which makes do with what it has on other errors."""


def solve(
    dataset: Dataset | str | os.PathLike[str],
    *,
    oracle: Oracle | str | os.PathLike[str],
    budget: int = CONTEST_BUDGET,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    exercise: int | None = None,
    telling: Telling | None = None,
) -> Solved:
    """Settle what a data set's labels mean by at most `budget` questions, and write the target's labels.

    Args:
        dataset: an opened one, or what `open_dataset` opens: a folder of arrays, or a store.
        oracle: who answers: a file of labels (.npy, .csv), `terminal`, `browser`, the address of a reveal
            service, `column` (a store's own labels), or an object of one's own.
        budget: how many different rows may be asked about, over all runs that share the journal.
        out: the CSV to write, never over a file that is there. Beside it, as OUT.journal, stands what was
            asked: the same call after a crash goes on from there and pays for nothing twice.
        seed: decides everything random.
        exercise: the contest's number of this data set, for the service and for the advice.
        telling: where it is told what is going on.

    Raises:
        RequestError: the request cannot be meant; nothing was asked.
        HeadwaterError: the oracle did not answer; the same call again goes on with the answers there are.
    """
    told = telling or Telling()
    if budget < 0:
        raise RequestError(f"a budget of {budget} questions cannot be; give 0 or more")
    place = None if out is None else Path(out)
    if place is not None:
        check_new(place, SUFFIX)
    known_set = None if exercise is None else find_set(exercise)
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    told.opened(opened)
    answering, truth = _oracle(oracle, opened, exercise)
    journal = None if place is None else place.with_name(f"{place.name}.journal")
    classes = opened.problem.classes
    limited = Budget(answering, budget, journal, opened.content, n_classes=len(classes))
    earlier = len(limited.answers)
    resolution = _resolved(opened, limited, budget, seed, told)
    codes = opened.for_all(resolution.labels)
    known_set = known_set or set_named(opened.name)
    advice = advise(resolution.expected_accuracy, known_set)
    limited.close(resolution.sentences[0] if resolution.sentences else "")
    if place is not None:
        write_new(place, submission_text(codes, classes, opened.target_rows))
    return Solved(
        dataset=opened,
        resolution=resolution,
        codes=codes,
        budget=budget,
        earlier=earlier,
        advice=advice,
        out=place,
        journal=journal,
        accuracy=_accuracy(resolution.labels, truth),
        accuracy_before=_accuracy(resolution.before.argmax(axis=1), truth),
        notes=(*opened.notes, *_beyond(budget)),
    )


def _resolved(dataset: Dataset, limited: Budget, budget: int, seed: int, told: Telling) -> Resolution:
    from headwater.heads.ambiguity.solve import solve as settle  # noqa: PLC0415

    problem = dataset.problem

    def ask(question: Question) -> int:
        row = int(dataset.items[question.item])
        asked = replace(question, item=row, picture=dataset.picture(question.item))
        earlier = row in limited.answers
        if not earlier:
            told.asking(asked)
        try:
            code = limited.ask(asked)
        except BudgetSpent:
            raise
        except HeadwaterError as error:
            raise _StoppedError(error) from error
        told.answered(asked, problem.classes[code], earlier)
        return code

    try:
        return settle(problem, ask, budget=budget, seed=seed, progress=told.now)
    except _StoppedError as stopped:
        (error,) = stopped.args
        again = "; the same command again goes on from there" if limited.answers else ""
        raise HeadwaterError(
            f"no labels were written: after {counted(len(limited.answers), 'answer')} the oracle failed, since "
            f"{error}{again}"
        ) from error


def _oracle(
    oracle: Oracle | str | os.PathLike[str], dataset: Dataset, exercise: int | None
) -> tuple[Oracle, NDArray[np.int64] | None]:
    """The oracle, and the target rows' true codes where they are all known."""
    from headwater.heads.ambiguity.oracles import open_oracle  # noqa: PLC0415

    if not isinstance(oracle, str | os.PathLike):
        return oracle, None
    text = os.fspath(oracle)
    if text == COLUMN:
        if dataset.truth is None:
            raise RequestError(
                f"{show_key(str(dataset.place))} does not say its target rows' labels; name another oracle"
            )
        return _ColumnOracle(dataset), dataset.truth
    found = open_oracle(
        text, classes=dataset.problem.classes, target_rows=dataset.target_rows, exercise_id=exercise
    )
    path = Path(text)
    if path.suffix.lower() not in (".npy", ".csv", ".txt"):
        return found, None
    from headwater.heads.ambiguity.oracles.array import read_labels, without_heading  # noqa: PLC0415

    classes = dataset.problem.classes
    values = without_heading(read_labels(path), classes, dataset.target_rows)
    return found, codes_of(np.asarray(values).ravel().tolist(), classes)[dataset.items]


class _ColumnOracle:
    """Answers with the labels that the data set has of its target rows."""

    def __init__(self, dataset: Dataset) -> None:
        assert dataset.truth is not None
        self._codes = dict(zip(dataset.items.tolist(), dataset.truth.tolist(), strict=True))

    def ask(self, question: Question) -> int:
        code = self._codes[question.item]
        if code < 0:
            raise HeadwaterError(
                f"the store has no label of target row {question.item}, or one of no known class"
            )
        return int(code)


def _accuracy(codes: NDArray[np.int64], truth: NDArray[np.int64] | None) -> float:
    if truth is None or (truth < 0).any():
        return float("nan")
    return float((codes == truth).mean())


def _beyond(budget: int) -> tuple[str, ...]:
    if budget <= CONTEST_BUDGET:
        return ()
    return (f"a budget of {budget} questions is more than the {CONTEST_BUDGET} that the contest gives",)
