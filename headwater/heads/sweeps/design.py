"""The design of a sweep: every recipe it will run, and what it was asked for as plain data.

Nothing is trained, measured or written here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headwater._version import __version__
from headwater.errors import RequestError
from headwater.heads.evaluation import small_groups, without_group
from headwater.heads.sweeps.candidates import ALL, Candidate, Skipped, Wanted, candidates
from headwater.heads.sweeps.folds import Folds, cross_fits
from headwater.heads.sweeps.measuring import MEASURING
from headwater.heads.tasks.task import Task
from headwater.printable import listed

TRAINING = 3
"""Raised by whoever changes which head a recipe comes to, so that a sweep that goes on mixes no two kinds."""


@dataclass(frozen=True)
class Job:
    """One recipe to run: a candidate with a seed, on the whole task or without a fold of val."""

    key: str
    candidate: Candidate
    seed: int
    task: Task


@dataclass(frozen=True, eq=False)
class Design:
    """What is tried on what; `trials` are its rows in the table, by candidate, then seed."""

    task: Task
    wanted: Wanted
    seeds: tuple[int, ...]
    folds: Folds
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]

    @property
    def trials(self) -> list[tuple[Candidate, int]]:
        """Every candidate with every seed."""
        return [(candidate, seed) for candidate in self.candidates for seed in self.seeds]

    def crossed(self, candidate: Candidate) -> bool:
        """Whether it is judged out of fold: it reads val, or there is no val."""
        return candidate.val_in_sample or self.folds.of_train

    def jobs(self) -> Iterator[Job]:
        """Every recipe: one per trial, and for candidates judged out of fold a twin without each fold.

        Every cut of val has a seed of its own, whichever seeds are asked for: every row of val is judged once
        per cut, and a sweep that grows by seeds finds its candidates judged already.
        """
        for candidate in self.candidates:
            for seed in self.seeds:
                yield Job(key_of(candidate, seed), candidate, seed, self.task)
            if self.crossed(candidate):
                for number, fold in enumerate(self.folds.folds):
                    yield Job(twin_of(candidate, number), candidate, fold.repeat, fold.task)

    def request(self) -> dict[str, Any]:
        """All that identifies the sweep, and its candidates, as JSON's own types."""
        task, wanted = self.task, self.wanted
        digest = hashlib.sha256()
        for array in (task.target, task.groups, *(task.splits[name] for name in sorted(task.splits))):
            digest.update(array.tobytes())
        names = list(dict.fromkeys(each.method for each in self.candidates))
        grid = wanted.grid
        return {
            "headwater": __version__,
            "training": TRAINING,
            "measuring": MEASURING,
            "store": task.origin.path,
            "fingerprint": task.origin.fingerprint,
            "content": task.content,
            "target": task.target_name,
            "groups": list(task.group_columns),
            "split": task.split_name,
            "views": task.views,
            "annotations": digest.hexdigest(),
            "methods": ALL if ALL in wanted.methods else names,
            "draws": None if grid is not None else wanted.draws,
            "grid": None if grid is None else {key: list(values) for key, values in grid.items()},
            "settings": dict(wanted.fixed or {}),
            "seeds": list(self.seeds),
            "folds": self.folds.per_repeat,
            "repeats": self.folds.repeats,
            "cut": self.folds.split,
            "classes": list(task.classes),
            "group_names": list(task.group_names),
            "group_counts": {name: task.group_counts(name).tolist() for name in task.splits},
            "rows": {name: len(rows) for name, rows in task.splits.items()},
            "left_out": asdict(task.left_out),
            "without_group": without_group(task),
            "small_groups": small_groups(task),
            "candidates": [{"id": each.id, **asdict(each)} for each in self.candidates],
            "skipped": [asdict(each) for each in self.skipped],
        }


def key_of(candidate: Candidate, seed: int) -> str:
    """The name of a trial, and of its recipe."""
    return f"{candidate.id}.s{seed}"


def twin_of(candidate: Candidate, fold: int) -> str:
    """The name of the recipe that judges a candidate on one fold of val, trained without that fold."""
    return f"{candidate.id}.f{fold}"


def make_design(task: Task, wanted: Wanted, seeds: int | Sequence[int], folds: int | None) -> Design:
    """Check everything and lay it out; RequestError in one sentence for what cannot be meant.

    `seeds`: how many, or which. The settings are drawn by the first of them.
    """
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
    if not chosen:
        raise RequestError(f"a sweep needs at least one seed, and seeds is {seeds!r}")
    if min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise RequestError(
            f"seeds must be different and not negative, and these are {listed(map(str, chosen))}"
        )
    parts = cross_fits(task, folds=folds)
    tried, skipped = candidates(task, wanted, parts, chosen[0])
    return Design(task, wanted, chosen, parts, tuple(tried), tuple(skipped))
