"""What was asked and answered, line by line on disk, so that no crash makes a question free or paid twice.

How many questions there may be is the budget's business.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterError, RequestError
from headwater.heads.ambiguity.questions import Opinion, Question
from headwater.store.files import explained, explained_reading, make_folder_of, sync_folder
from headwater.store.lock import holding

_KIND = "headwater questions"
_VERSION = 1
_LARGEST = 1 << 28  # bytes of a picture


@dataclass(frozen=True)
class Record:
    """What a journal holds.

    `asked` are the questions that were sent, by row, in their order; `answers` the codes that came back;
    `bought` the rows that a service says were paid for, wherever that was.
    """

    asked: Mapping[int, Question] = field(default_factory=dict)
    answers: Mapping[int, int] = field(default_factory=dict)
    bought: frozenset[int] = frozenset()

    @property
    def spent(self) -> frozenset[int]:
        """Rows that count against the budget."""
        return self.bought.union(self.asked)

    @property
    def open(self) -> Question | None:
        """A question that was sent and whose answer is not known."""
        return next((question for item, question in self.asked.items() if item not in self.answers), None)

    def after(self, line: Mapping[str, Any]) -> Record:
        """The record with one more line; KeyError, TypeError or ValueError where it is none."""
        what = line["what"]
        if what == "ask":
            question = _question(line)
            return replace(self, asked={**self.asked, question.item: question})
        if what == "told":
            return replace(self, bought=self.bought.union(map(_whole, line["bought"])))
        item = _whole(line["item"])
        if item not in self.asked or item in self.answers:
            raise ValueError(f"row {item} has no open question")
        if what == "drop":
            return replace(self, asked={each: self.asked[each] for each in self.asked if each != item})
        if what != "answer":
            raise ValueError(f"{what!r} is not known")
        return replace(self, answers={**self.answers, item: _whole(line["code"])})


class Journal:
    """Append-only lines of JSON at `path`, each on the disk before what it announces happens.

    `problem` is a hash of the data asked about. RequestError where the file is another problem's journal,
    or none. Its lock, an empty hidden file beside it, stays, and may be removed when nothing runs.
    """

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self._heading = {"what": _KIND, "version": _VERSION, "problem": problem}

    @contextmanager
    def held(self, wait: float) -> Iterator[Record]:
        """Hold it against every other process, mend what a crash tore, and give what it holds.

        HeadwaterError when another process still holds it after `wait` seconds.
        """
        make_folder_of(self.path)
        place = Path(os.path.realpath(self.path))  # one lock, whatever links lead to it
        with holding(place.parent, place.name, wait, of=self.path):
            record, length = self._read()
            with explained(self.path), open(self.path, "ab", opener=_private) as file:
                file.truncate(length)
                if not length:
                    self._write(file, self._heading)
                    sync_folder(self.path.parent)
            yield record

    def read(self) -> Record:
        """What it holds, without waiting for whoever is writing."""
        return self._read()[0]

    def append(self, line: Mapping[str, Any]) -> None:
        """Add one line; it is on the disk when this returns. Only while it is `held`."""
        with explained(self.path), self.path.open("ab") as file:
            self._write(file, line)

    @staticmethod
    def _write(file: io.BufferedWriter, line: Mapping[str, Any]) -> None:
        file.write(_encoded(line))
        file.flush()
        os.fsync(file.fileno())

    def _read(self) -> tuple[Record, int]:
        """The record, and the length in bytes up to which the file is whole."""
        with explained_reading(self.path):
            content = self.path.read_bytes() if self.path.exists() else b""
        record, length, begun = Record(), 0, False
        for number, raw in enumerate(content.splitlines(keepends=True), 1):
            # A line is whole with its newline; of what was cut, nothing had been done yet.
            if not raw.endswith(b"\n") and (begun or _encoded(self._heading).startswith(raw)):
                break
            try:
                line = json.loads(raw)
                if not begun:
                    self._check(line)
                else:
                    record = record.after(line)
            except (LookupError, TypeError, ValueError, AttributeError, RecursionError, zlib.error) as error:
                if not raw.strip(b"\0"):
                    break
                if not begun:
                    raise RequestError(
                        f"{self.path} is no journal of questions; name another journal, or move that file"
                        " away"
                    ) from error
                raise HeadwaterError(
                    f"the journal {self.path} is damaged in line {number} ({error}), so what was asked before"
                    " is not known; restore it from a copy"
                ) from error
            begun = True
            length += len(raw)
        return record, length

    def _check(self, line: Mapping[str, Any]) -> None:
        if line["what"] != _KIND:
            raise ValueError("another kind of file")
        if line["version"] != _VERSION:
            raise HeadwaterError(
                f"the journal {self.path} is of version {line['version']}, and this headwater knows"
                f" {_VERSION}; go on with the headwater that began it"
            )
        if line["problem"] != self._heading["problem"]:
            raise RequestError(
                f"the journal {self.path} holds the questions of another data set; name another"
                " journal, or move that file away"
            )


def _private(path: str, flags: int) -> int:
    """Opens a file that nobody else may read: what a service sells is not theirs."""
    return os.open(path, flags, 0o600)


def asking(question: Question) -> dict[str, Any]:
    """The line of a question that is about to be asked, with all that it takes to ask it again."""
    return {
        "what": "ask",
        "item": int(question.item),
        "number": int(question.number),
        "opinions": [[each.name, int(each.code), float(each.belief)] for each in question.opinions],
        "speaks_for": int(question.speaks_for),
        "notes": list(question.notes),
        "picture": None if question.picture is None else _packed(question.picture),
    }


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"


def _packed(picture: NDArray[np.uint8]) -> dict[str, Any]:
    return {
        "shape": list(picture.shape),
        "bytes": base64.b64encode(zlib.compress(picture.astype(np.uint8).tobytes())).decode(),
    }


def _unpacked(packed: Mapping[str, Any]) -> NDArray[np.uint8]:
    shape = tuple(map(_whole, packed["shape"]))
    size = math.prod(shape)
    if len(shape) not in (2, 3) or min(shape) < 1 or size > _LARGEST:
        raise ValueError(f"a picture of shape {shape}")
    content = zlib.decompressobj().decompress(base64.b64decode(packed["bytes"]), size)
    return np.frombuffer(content, np.uint8).reshape(shape)


def _question(line: Mapping[str, Any]) -> Question:
    return Question(
        item=_whole(line["item"]),
        number=_whole(line["number"]),
        picture=None if line["picture"] is None else _unpacked(line["picture"]),
        opinions=tuple(
            Opinion(str(name), _whole(code), float(belief)) for name, code, belief in line["opinions"]
        ),
        speaks_for=_whole(line["speaks_for"]),
        notes=tuple(map(str, line["notes"])),
    )


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value
