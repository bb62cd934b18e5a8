"""Notices whether a data set's labels say which feature is meant; nothing is asked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.datasets import open_dataset

if TYPE_CHECKING:
    from headwater.heads.ambiguity.scan import Scan


@dataclass(frozen=True, eq=False)
class Scanned:
    """What was found in a data set, and where the report of it is, if one was asked for."""

    dataset: Dataset
    found: Scan
    report: Path | None
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """The figures as plain numbers, texts and lists, for JSON, rows by their numbers in the data set."""
        plain = self.found.summary()
        items = self.dataset.items
        for cluster in plain["clusters"]:
            cluster["typical"] = [int(items[row]) for row in cluster["typical"]]
            cluster["medoid"] = None if cluster["medoid"] is None else int(items[cluster["medoid"]])
        return {
            "dataset": str(self.dataset.place),
            "classes": list(self.dataset.problem.classes),
            **plain,
            "report": None if self.report is None else str(self.report),
            "notes": list(self.notes),
        }


def scan(dataset: Dataset | str | os.PathLike[str], *, seed: int = 0) -> Scanned:
    """Look for kinds of rows that the labels never show, and for readings of the labels that differ on them.

    Args:
        dataset: an opened one, or what `open_dataset` opens: a folder of arrays, or a store.
        seed: decides everything random; the same seed gives the same result.

    Raises:
        RequestError: the data set cannot be read, or cannot be meant.
    """
    from headwater.heads.ambiguity.scan import scan as look  # noqa: PLC0415

    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    return Scanned(opened, look(opened.problem, seed=seed), None, opened.notes)
