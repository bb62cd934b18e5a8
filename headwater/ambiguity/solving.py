"""From an ambiguous data set and whoever knows its labels to a file of labels that can be handed in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headwater.ambiguity.asking import Asking, MoreKnownError, StoppedError, journal_of
from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.datasets import open_dataset
from headwater.ambiguity.features import Extraction, features_of
from headwater.ambiguity.head_file import write_head
from headwater.ambiguity.labels import Label
from headwater.ambiguity.oracles import Account, choose_oracle
from headwater.ambiguity.outputs import Outputs
from headwater.ambiguity.reporting import write_solved
from headwater.ambiguity.scanning import check_seed, look_for_ambiguity
from headwater.ambiguity.scoring import SETS, Advice, advise, set_named
from headwater.ambiguity.submission import submission_text, write_new
from headwater.ambiguity.table import TABLE, table_text
from headwater.devices import choose_device
from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.heads.ambiguity.budget import Budget
from headwater.heads.ambiguity.dialogue import Exchange
from headwater.heads.ambiguity.questions import Oracle, Question
from headwater.printable import counted
from headwater.store import show_key

if TYPE_CHECKING:
    from headwater.extract import Progress
    from headwater.heads.ambiguity.resolve import Resolution
    from headwater.heads.ambiguity.scan import Scan

CONTEST_BUDGET = 5


@dataclass(frozen=True, eq=False)
class Solved:
    """What came of the questions.

    `codes` (target rows,) are the class codes of `labels`. `exchanges` are all questions with their answers,
    by the rows' numbers in the data set, the first `earlier` of them from runs before this one. `accuracy`
    and `accuracy_before` on the target rows are known only where all their labels are (NaN elsewhere); the
    second is that of a head trained on the labeled rows alone.
    """

    dataset: Dataset
    scan: Scan
    resolution: Resolution
    codes: NDArray[np.int64]
    exchanges: tuple[Exchange, ...]
    budget: int
    earlier: int
    advice: Advice
    out: Path | None
    table: Path | None
    journal: Path | None
    report: Path | None
    head: Path | None
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
    extracting: Callable[[Progress], None] | None = None
    scanned: Callable[[Scan], None] = lambda scan: None
    now: Callable[[str, int, int], None] = lambda step, done, of: None
    asking: Callable[[Question], None] = lambda question: None
    answered: Callable[[Question, Label, bool], None] = lambda question, label, earlier: None


def solve(
    dataset: Dataset | str | os.PathLike[str],
    *,
    oracle: Oracle | str | os.PathLike[str],
    budget: int = CONTEST_BUDGET,
    out: str | os.PathLike[str] | None = None,
    table: str | os.PathLike[str] | None = None,
    journal: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    head: str | os.PathLike[str] | None = None,
    features: Extraction | str | None = None,
    cache: str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: str = "auto",
    exercise: int | None = None,
    username: str | None = None,
    password: str | None = None,
    timeout: float | None = None,
    at_once: bool = False,
    telling: Telling | None = None,
) -> Solved:
    """Settle what a data set's labels mean by at most `budget` questions, and write the target's labels.

    Args:
        dataset: an opened one, or what `open_dataset` opens: a folder of arrays, or a store.
        oracle: who answers: a file of labels (.npy, .csv), `terminal`, `browser`, the address of a reveal
            service, `column` (a store's own labels), or an `Oracle`, which is any object that has
            `ask(question) -> class code`.
        budget: how many different rows may be asked about, over all runs that share the journal.
        out: the CSV to write, never over a file that is there.
        table: another, with a heading: each target row's key in a store (`path`) or number (`row`), its
            label (`solved_label`), and the probability that this is right (`solved_probability`). `headwater
            store annotate --allow-missing` adds a store's: it holds the target rows alone.
        journal: the file that keeps what was asked: the same call after a crash goes on from there and pays
            for nothing twice. None: beside the data set, as DATASET.journal, so that another `out` buys no
            more questions; for a `Dataset` that is at no place on the disk, none is kept.
        report: an HTML page of what was found, asked and settled; replaces an earlier one of this data set. A
            HeadwaterWarning says if it could not be written in the end; the labels are, all the same.
        head: the file to write the final linear head to, as `load_head` reads it: for vectors, stores and
            features of a backbone. It can be measured on any store of the same features that has the columns
            of labels and splits; of vectors `import_features` makes one. A HeadwaterWarning says if there is
            none, as where nothing was answered.
        features: of which backbone, for images alone; None: patches that are learned from the images.
        cache: a folder where patches that were learned are kept for another time; None: nowhere.
        seed: decides everything random.
        device: `auto`, `cpu`, `cuda` or `cuda:N`: where features are made and the scan's k-means runs.
        exercise: the service's number of this data set; the contest's numbers are known to the advice, too.
        username: of the service; None: what the environment says (`HEADWATER_REVEAL_USERNAME`).
        password: likewise (`HEADWATER_REVEAL_PASSWORD`).
        timeout: how many seconds one answer is waited for, of a person or a service; None: an hour for a
            person, half a minute for a service.
        at_once: choose all rows before the first answer, for what they tell together, so that no question
            waits for another's answer; else each is chosen by the answers before it, which tells a bit more.
        telling: where it is told what is going on.

    Raises:
        RequestError: the request cannot be meant; nothing was asked.
        HeadwaterError: the oracle did not answer; the same call again goes on with the answers there are.
    """
    told = telling or Telling()
    _check_numbers(budget, seed)
    where = choose_device(device)
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    kind = Extraction(features) if isinstance(features, str) else features
    files = Outputs.named(out, table, report, head)
    files.check(opened, kind)
    told.opened(opened)
    answering, truth = choose_oracle(oracle, opened, Account(exercise, username, password), timeout)
    kept = journal_of(opened, None if journal is None else Path(journal))
    files.check_apart(kept)
    classes = opened.problem.classes
    limited = Budget(answering, budget, kept, opened.content, n_classes=len(classes))
    asking = Asking(opened, limited, told.asking, told.answered)
    earlier = len(limited.answers)
    if truth is not None:
        _check_earlier(
            asking.exchanges, dict(zip(opened.items.tolist(), truth.tolist(), strict=True)), classes, kept
        )
    for each in asking.exchanges:
        told.answered(each.question, classes[each.answer], True)
    views = features_of(
        opened,
        kind,
        seed=seed,
        device=where,
        cache=None if cache is None else Path(cache),
        extracting=told.extracting,
        progress=told.now,
    )
    told.now("scan", 0, 1)
    seen = look_for_ambiguity(opened.problem, views, seed, device=where)
    told.scanned(seen)
    outcome = ""
    try:
        resolution = _resolved(asking, views, seed, at_once, told.now)
        outcome = " ".join(resolution.sentences)
    except StoppedError as stopped:
        raise HeadwaterError(stopped.sentence) from stopped
    finally:
        limited.close(outcome)  # a page that a browser shows must end, whatever happened
    codes = opened.for_all(resolution.labels)
    known_set = set_named(opened.name) if exercise is None else SETS.get(exercise)
    advice = advise(
        resolution.expected_accuracy,
        known_set,
        unsettled_low=None if resolution.settled else resolution.interval[0],
    )
    accuracy = _accuracy(resolution.labels, truth)
    before = _accuracy(resolution.before.argmax(axis=1), truth)
    notes = (*opened.notes, *_beyond(budget), *_answered_before(earlier, budget, kept))
    if files.out is not None:
        write_new(files.out, submission_text(codes, classes, opened.target_rows))
    answers = len(asking.exchanges)
    listed = _written(
        "table",
        files.table,
        lambda at: write_new(at, table_text(opened, codes, resolution.probabilities), TABLE),
    )
    kept_head = _written(
        "head",
        files.head,
        lambda at: write_head(at, opened, kind, resolution, answers=answers, seed=seed),
    )
    page = _written(
        "report",
        files.report,
        lambda at: write_solved(
            at,
            opened,
            seen,
            resolution,
            asking.exchanges,
            budget=budget,
            advice=advice,
            accuracies=(accuracy, before),
            notes=notes,
        ),
    )
    return Solved(
        dataset=opened,
        scan=seen,
        resolution=resolution,
        codes=codes,
        exchanges=asking.exchanges,
        budget=budget,
        earlier=earlier,
        advice=advice,
        out=files.out,
        table=listed,
        journal=kept,
        report=page,
        head=kept_head,
        accuracy=accuracy,
        accuracy_before=before,
        notes=notes,
    )


def _check_numbers(budget: int, seed: int) -> None:
    if budget < 0:
        raise RequestError(f"a budget of {budget} questions cannot be; give 0 or more")
    check_seed(seed)


def _written(what: str, place: Path | None, write: Callable[[Path], None]) -> Path | None:
    """The place where it was written; None, with a warning, where that failed."""
    if place is not None:
        try:
            write(place)
        except HeadwaterError as error:
            # The labels are there: an error now would tell whoever paid for them that they are not.
            warnings.warn(f"there is no {what}, as {error}", HeadwaterWarning, stacklevel=3)
            return None
    return place


def _resolved(
    asking: Asking,
    views: Mapping[str, NDArray[np.float32]],
    seed: int,
    at_once: bool,
    progress: Callable[[str, int, int], None],
) -> Resolution:
    from headwater.heads.ambiguity.solve import solve as settle  # noqa: PLC0415

    while True:
        asking.begin()
        try:
            return settle(
                asking.dataset.problem,
                asking.ask,
                features=views or None,
                budget=asking.limited.limit,
                seed=seed,
                known=asking.known,
                at_once=at_once,
                progress=progress,
            )
        except MoreKnownError:
            continue


def _check_earlier(
    exchanges: Sequence[Exchange],
    truth: Mapping[int, int],
    classes: Sequence[Label],
    journal: Path | None,
) -> None:
    """RequestError where answers of earlier runs are not what the labels at hand say."""
    for each in exchanges:
        now = truth.get(each.question.item, -1)
        if now not in (-1, each.answer):
            raise RequestError(
                f"row {each.question.item} was answered with {classes[each.answer]} in {journal}, and the"
                f" labels given now say {classes[now]}; give those that were asked then, or another --journal"
            )


def _accuracy(codes: NDArray[np.int64], truth: NDArray[np.int64] | None) -> float:
    if truth is None or (truth < 0).any():
        return float("nan")
    return float((codes == truth).mean())


def _beyond(budget: int) -> tuple[str, ...]:
    if budget <= CONTEST_BUDGET:
        return ()
    return (f"a budget of {budget} questions is more than the {CONTEST_BUDGET} that the contest gives",)


def _answered_before(answers: int, budget: int, journal: Path | None) -> tuple[str, ...]:
    if not answers or journal is None:
        return ()
    shown = show_key(str(journal))
    if answers > budget:
        return (
            f"the journal {shown} holds {counted(answers, 'answer')} of earlier runs, more than the budget of"
            f" {budget}: all {answers} are used, and nothing new is asked",
        )
    taken = "is taken" if answers == 1 else "are taken"
    return (
        f"{counted(answers, 'answer')} of earlier runs, whatever their seed, {taken} from {shown}; another "
        "journal would ask, and pay, anew",
    )
