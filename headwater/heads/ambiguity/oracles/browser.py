"""Asks a person on a page of their own browser, served on this machine's loopback alone.

What the page looks like is in browser.html and browser.css; how requests are guarded is in `serving`.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headwater.heads.ambiguity.oracles.labels import Classes, keys_of
from headwater.heads.ambiguity.oracles.serving import Loopback
from headwater.heads.ambiguity.questions import PATIENCE, OracleError, Question, Stopped

_log = logging.getLogger(__name__)
_ENDED = "The program has ended; nothing more is asked."
_DESKTOP = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME")
_DOOR = (
    '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
    '<meta http-equiv="refresh" content="0; url={address}"><title>Questions</title>'
    '<a href="{address}">To the questions</a>\n'
)
_FAREWELL = 2.0  # seconds for open pages to hear that it is over


class BrowserOracle:
    """Shows each question on a page at a secret address of 127.0.0.1, and waits for the click.

    The page stays open from one question to the next. `timeout` is in seconds, for one question. `visit`
    is given the address once, and opens it; without it, that is this machine's browser.
    """

    def __init__(
        self, classes: Classes, *, timeout: float = PATIENCE, visit: Callable[[str], object] | None = None
    ) -> None:
        self._classes = [str(each) for each in classes]
        self._timeout = timeout
        self._visit = visit or self._open
        self._door: tempfile.TemporaryDirectory[str] | None = None
        self._changed = threading.Condition()
        self._version = 0
        self._question: Question | None = None
        self._deadline = 0.0
        self._answered: list[tuple[Question, int]] = []
        self._pictures: dict[int, bytes] = {}
        self._over: str | None = None
        self._outcome = _ENDED
        self._told: set[int] = set()
        self._server: Loopback | None = None

    def recall(self, question: Question, code: int) -> None:
        """Show a question that was answered in an earlier run, among those answered."""
        with self._changed:
            self._keep(question)
            self._answered.append((question, code))
            self._version += 1

    def ask(self, question: Question) -> int:
        """The code that was clicked; Stopped on Ctrl-C, OracleError when time is up."""
        with self._changed:
            self._keep(question)
            self._question, self._over = question, None
            self._deadline = time.monotonic() + self._timeout
            self._version += 1
        try:
            self._serve()
            with self._changed:
                self._changed.wait_for(lambda: self._question is None, self._timeout)
                if self._question is None:
                    return self._answered[-1][1]
                why = f"nobody gave one in {self._timeout:g} s"
                self._give_up(question, why)
                raise OracleError(
                    f"question {question.number} (row {question.item}) has no answer, since {why}; nothing is"
                    " lost"
                )
        except KeyboardInterrupt:
            self._give_up(question, "it was interrupted")
            raise Stopped from None

    def close(self, outcome: str = "") -> None:
        """Show on the page how it ended, and stop serving it."""
        door, self._door = self._door, None
        if door is not None:
            door.cleanup()
        server, self._server = self._server, None
        if server is None:
            return
        atexit.unregister(self.close)
        with self._changed:
            self._question, self._over = None, outcome or self._outcome
            self._version += 1
            self._changed.notify_all()
            pages = server.pages(within=_FAREWELL)
            self._changed.wait_for(lambda: pages <= self._told, _FAREWELL)
        server.stop()

    def state(self, page: int) -> dict[str, Any]:
        """What the page shows now; `page` tells pages apart."""
        with self._changed:
            if self._over is not None:
                self._told.add(page)
                self._changed.notify_all()
            return {
                "version": self._version,
                "classes": [
                    {"name": name, "key": key}
                    for name, key in zip(self._classes, keys_of(self._classes), strict=True)
                ],
                "answered": [{**_shown(each), "code": code} for each, code in self._answered],
                "question": None if self._question is None else self._asked(self._question),
                "over": self._over,
            }

    @property
    def version(self) -> int:
        """Grows with every change of the state."""
        return self._version

    def picture(self, item: int) -> bytes | None:
        """The picture of a row that is or was asked about, as a PNG file."""
        return self._pictures.get(item)

    def answer(self, item: int, code: int) -> bool:
        """Take an answer from the page; False where that is no longer, or was never, asked."""
        with self._changed:
            if self._question is None or self._question.item != item or not 0 <= code < len(self._classes):
                return False
            self._answered.append((self._question, code))
            self._question = None
            self._version += 1
            self._changed.notify_all()
            return True

    def _asked(self, question: Question) -> dict[str, Any]:
        return {
            **_shown(question),
            "budget": question.budget,
            "notes": list(question.notes),
            "opinions": [
                {"name": each.name, "code": int(each.code), "belief": min(1.0, max(0.0, float(each.belief)))}
                for each in question.opinions
            ],
            "doubt": float(question.doubt),
            "decides": int(question.speaks_for),
            "seconds": max(0, round(self._deadline - time.monotonic())),
        }

    def _keep(self, question: Question) -> None:
        if question.picture is not None:
            self._pictures[question.item] = _png(question.picture)

    def _serve(self) -> None:
        if self._server is None:
            self._server = Loopback(self)
            atexit.register(self.close)
            self._visit(self._server.address)

    def _open(self, address: str) -> None:
        """Open this machine's browser, and say where the page is for those whose browser is elsewhere.

        The browser is given a file that only this user may read and that leads to the page: what a program
        is started with, everyone on the machine can read.
        """
        print(f"Answer the questions at {address}", file=sys.stderr, flush=True)
        # Without a desktop, a browser of the terminal would start in the middle of this program.
        if sys.platform == "linux" and not any(map(os.environ.get, _DESKTOP)):
            return
        try:
            self._door = tempfile.TemporaryDirectory(prefix="headwater-")
            door = Path(self._door.name) / "questions.html"
            with open(door, "x", encoding="ascii", opener=_private) as file:
                file.write(_DOOR.format(address=address))
            webbrowser.open(door.as_uri())
        except (webbrowser.Error, OSError) as error:
            _log.info("no browser could be opened: %s", error)

    def _give_up(self, question: Question, why: str) -> None:
        with self._changed:
            self._question = None
            self._outcome = (
                f"Question {question.number} has no answer, since {why}. Nothing is lost: run the program"
                " again to go on."
            )
            self._version += 1


def _png(picture: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _shown(question: Question) -> dict[str, Any]:
    size = None if question.picture is None else question.picture.shape[:2]
    return {
        "number": int(question.number),
        "item": int(question.item),
        "picture": None if size is None else {"height": size[0], "width": size[1]},
    }
