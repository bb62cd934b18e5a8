"""The files that a solve writes: whether they can be, and are different ones, before anything is asked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.features import Extraction
from headwater.ambiguity.head_file import check_head
from headwater.ambiguity.reporting import check_report
from headwater.ambiguity.submission import SUFFIX, check_new
from headwater.ambiguity.table import TABLE
from headwater.errors import RequestError
from headwater.store import show_key

Place = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Outputs:
    """Where labels, their table, the page and the head are to be; None where one is not wanted."""

    out: Path | None
    table: Path | None
    report: Path | None
    head: Path | None

    @classmethod
    def named(cls, out: Place, table: Place, report: Place, head: Place) -> Outputs:
        """The files of these names."""
        return cls(*(None if each is None else Path(each) for each in (out, table, report, head)))

    def check(self, dataset: Dataset, features: Extraction | None) -> None:
        """RequestError, or HeadwaterError when the system is in the way, where one cannot be written."""
        for place, option in ((self.out, "--out"), (self.table, TABLE)):
            if place is not None:
                check_new(place, SUFFIX, option)
        if self.report is not None:
            check_report(self.report, dataset)
        if self.head is not None:
            check_head(self.head, dataset, features)

    def check_apart(self, journal: Path | None) -> None:
        """RequestError where two of them, or one and the `journal`, are one file."""
        named = {
            "--journal": journal,
            "--out": self.out,
            TABLE: self.table,
            "--report": self.report,
            "--head": self.head,
        }
        taken: dict[Path, str] = {}
        for option, place in named.items():
            if place is not None and (other := taken.setdefault(place.resolve(), option)) != option:
                raise RequestError(
                    f"{other} and {option} are both {show_key(str(place))}; give each a file of its own"
                )
