"""Questions to ask in tests, and an oracle that counts on disk what it was asked, as a service would."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from headwater.heads.ambiguity.questions import Opinion, Question

OPINIONS = (
    Opinion("the left half", 0, 0.61),
    Opinion("the right half", 1, 0.31),
    Opinion("clusters", 1, 0.08),
)


def question(item: int, **changed: object) -> Question:
    """A question about row `item`, with a picture of 28 by 56 pixels that only this row has."""
    picture = np.random.default_rng(abs(item)).integers(0, 256, (28, 56), dtype=np.uint8)
    given: dict[str, object] = {
        "item": item,
        "number": 1,
        "picture": picture,
        "opinions": OPINIONS,
        "speaks_for": 300,
        **changed,
    }
    return Question(**given)


class Service:
    """Rows' parity as their class; every row that is asked about is on the disk before it is answered."""

    def __init__(self, counted: Path) -> None:
        self.counted = counted

    def ask(self, question: Question) -> int:
        with self.counted.open("ab") as file:
            file.write(f"{question.item}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        return question.item % 2

    @property
    def asked(self) -> list[int]:
        return [int(line) for line in self.counted.read_text().split()] if self.counted.exists() else []


class Scripted:
    """Gives the answers in turn, and raises those that are errors."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[Question] = []

    def ask(self, question: Question) -> int:
        self.asked.append(question)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer
