"""The oracle of those who have the labels already: a file with one label for every target row."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import RequestError
from headwater.heads.ambiguity.oracles.labels import Classes, code_of, shown
from headwater.heads.ambiguity.questions import OracleError, Question


class ArrayOracle:
    """Answers with `labels` (target rows,), as the data set gives them.

    RequestError where they are not `target_rows` many, or one of them is none of the `classes`; `name` says
    in it where they are from.
    """

    def __init__(
        self, labels: ArrayLike, *, classes: Classes, target_rows: int, name: str = "the oracle's labels"
    ) -> None:
        values = np.asarray(labels)
        if values.ndim == 2 and 1 in values.shape:
            values = values.reshape(-1)
        if values.ndim != 1 or len(values) != target_rows:
            raise RequestError(
                f"{name} must be one label for each of the {target_rows:,} target rows, and the shape is"
                f" {values.shape}; give the labels of exactly these rows"
            )
        listed = values.tolist()
        known = {each: code_of(each, classes) for each in set(listed)}
        codes = [known[each] for each in listed]
        if None in codes:
            row = codes.index(None)
            raise RequestError(
                f"{name}: row {row} is {listed[row]!r}, which is none of the classes {shown(classes)};"
                " give the labels as they are given for the labeled rows"
            )
        self._codes: NDArray[np.int64] = np.array(codes, dtype=np.int64)

    @property
    def codes(self) -> NDArray[np.int64]:
        """The class codes (target rows,), all of them."""
        return self._codes

    def ask(self, question: Question) -> int:
        """The row's code; OracleError where the target has no such row."""
        if not 0 <= question.item < len(self._codes):
            raise OracleError(
                f"row {question.item} was asked about, and the target rows are 0 to {len(self._codes) - 1};"
                " ask about one of them"
            )
        return int(self._codes[question.item])
