"""The oracle that a word on the command line stands for."""

from __future__ import annotations

from pathlib import Path

from headwater.errors import RequestError
from headwater.heads.ambiguity.oracles.array import ArrayOracle, read_labels, without_heading
from headwater.heads.ambiguity.oracles.browser import BrowserOracle
from headwater.heads.ambiguity.oracles.labels import Classes
from headwater.heads.ambiguity.oracles.reveal import RevealOracle
from headwater.heads.ambiguity.oracles.terminal import TerminalOracle
from headwater.heads.ambiguity.questions import Oracle
from headwater.printable import escaped

_A_PERSON = 3600.0  # seconds
_A_SERVICE = 30.0
_FILES = (".npy", ".csv", ".txt")


def open_oracle(
    text: str,
    *,
    classes: Classes,
    target_rows: int,
    exercise_id: int | None = None,
    timeout: float | None = None,
) -> Oracle:
    """The oracle that `text` names: a file of labels (.npy, .csv), `terminal`, `browser`, or a service's URL.

    `classes` are the labels as given, by code. `exercise_id` is the service's name for the data set, and
    `timeout` the seconds that an answer may take (None: an hour for a person, half a minute for a service).
    RequestError where the text names none of them, or what it names cannot be used.
    """
    if timeout is not None and timeout <= 0:
        raise RequestError(f"an answer cannot come within {timeout:g} s; give a timeout above 0")
    if text == "terminal":
        return TerminalOracle(classes, timeout=timeout or _A_PERSON)
    if text == "browser":
        return BrowserOracle(classes, timeout=timeout or _A_PERSON)
    if text.lower().startswith(("http:", "https:")):
        return RevealOracle(text, exercise_id=exercise_id, classes=classes, timeout=timeout or _A_SERVICE)
    path = Path(text)
    if path.suffix.lower() in _FILES:
        labels = without_heading(read_labels(path), classes, target_rows)
        return ArrayOracle(labels, classes=classes, target_rows=target_rows, name=str(path))
    raise RequestError(
        f"{escaped(text)!r} is no oracle; give a file of labels (.npy, .csv), terminal, browser, or the"
        " http(s) address of a reveal service"
    )
