"""The oracle that a word on the command line stands for; a service needs an account beside its address."""

from __future__ import annotations

from pathlib import Path

from headwater.errors import RequestError
from headwater.heads.ambiguity.oracles.array import ArrayOracle
from headwater.heads.ambiguity.oracles.browser import BrowserOracle
from headwater.heads.ambiguity.oracles.label_file import labels_of_file, without_heading
from headwater.heads.ambiguity.oracles.labels import Classes
from headwater.heads.ambiguity.oracles.terminal import TerminalOracle
from headwater.heads.ambiguity.questions import PATIENCE, Oracle
from headwater.printable import escaped

_FILES = (".npy", ".csv", ".txt")


def open_oracle(text: str, *, classes: Classes, target_rows: int, timeout: float = PATIENCE) -> Oracle:
    """The oracle that `text` names: a file of labels (.npy, .csv), `terminal` or `browser`.

    `classes` are the labels as given, by code; `timeout` is how many seconds a person has for an answer.
    RequestError where the text names none of them, or what it names cannot be used.
    """
    if text == "terminal":
        return TerminalOracle(classes, timeout=timeout)
    if text == "browser":
        return BrowserOracle(classes, timeout=timeout)
    path = Path(text)
    if path.suffix.lower() in _FILES:
        labels = without_heading(labels_of_file(path), classes, target_rows)
        return ArrayOracle(labels, classes=classes, target_rows=target_rows, name=str(path))
    raise RequestError(
        f"{escaped(text)!r} is no oracle; give a file of labels (.npy, .csv), terminal, browser, or the"
        " http(s) address of a reveal service"
    )
