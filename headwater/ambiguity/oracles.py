"""Who answers for a data set: what a word, a file, an address or a store's own column stands for.

The oracles themselves are `headwater.heads.ambiguity.oracles`'.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headwater.ambiguity.dataset import Dataset
from headwater.errors import RequestError
from headwater.heads.ambiguity.questions import PATIENCE, Oracle, OracleError, Question
from headwater.store import show_key

COLUMN = "column"
"""The oracle that is the store's own column of labels."""


@dataclass(frozen=True)
class Account:
    """Which data set a reveal service is asked about, and for whom; None: what the environment says."""

    exercise: int | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def is_service(oracle: object) -> bool:
    """Whether this is the address of a reveal service."""
    return isinstance(oracle, str) and oracle.lower().startswith(("http:", "https:"))


def choose_oracle(
    oracle: Oracle | str | os.PathLike[str],
    dataset: Dataset,
    account: Account,
    timeout: float | None = None,
) -> tuple[Oracle, NDArray[np.int64] | None]:
    """The oracle, and the true codes (t,) of the problem's target rows where it knows them all.

    `timeout` is in seconds, for one answer of a person or a service; None: what is usual for either.
    RequestError where it cannot answer for this data set.
    """
    if timeout is not None and not timeout > 0:
        raise RequestError(f"a timeout of {timeout:g} seconds leaves no time to answer; give more than 0")
    if not isinstance(oracle, str | os.PathLike):
        if not callable(getattr(oracle, "ask", None)):
            raise RequestError(
                f"an oracle of one's own needs a method ask(question) that gives a class code, and"
                f" {type(oracle).__name__} has none; see headwater.ambiguity.Oracle"
            )
        return oracle, None
    text, classes = os.fspath(oracle), dataset.problem.classes
    if text == COLUMN:
        return _column(dataset), dataset.truth
    if is_service(text):
        from headwater.heads.ambiguity.oracles.reveal import SECONDS, RevealOracle  # noqa: PLC0415

        service = RevealOracle(
            text,
            exercise_id=account.exercise,
            classes=classes,
            username=account.username,
            password=account.password,
            timeout=SECONDS if timeout is None else timeout,
        )
        return service, None
    from headwater.heads.ambiguity.oracles import ArrayOracle, open_oracle  # noqa: PLC0415

    found = open_oracle(
        text,
        classes=classes,
        target_rows=dataset.target_rows,
        timeout=PATIENCE if timeout is None else timeout,
    )
    return found, found.codes[dataset.items] if isinstance(found, ArrayOracle) else None


class ColumnOracle:
    """Answers with the labels that a data set has of its own target rows, by their numbers in it."""

    def __init__(self, dataset: Dataset, truth: NDArray[np.int64]) -> None:
        self._codes = dict(zip(dataset.items.tolist(), truth.tolist(), strict=True))

    def ask(self, question: Question) -> int:
        """The row's code; OracleError where its label is missing, or of a class that no labeled row has."""
        code = int(self._codes.get(question.item, -1))
        if code < 0:
            raise OracleError(
                f"the store has no label of target row {question.item} that a labeled row has, too; add it"
            )
        return code


def _column(dataset: Dataset) -> ColumnOracle:
    if dataset.truth is None:
        raise RequestError(
            f"{show_key(str(dataset.place))} does not say its target rows' labels; name another oracle"
        )
    return ColumnOracle(dataset, dataset.truth)
