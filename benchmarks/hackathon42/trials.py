"""One generated set, solved by us and by the peers: what is tried, and the figures that are kept of it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.hackathon42 import medoids
from benchmarks.hackathon42.bound import bound
from benchmarks.hackathon42.generated import Generated
from benchmarks.hackathon42.new_sorts import CHANGES, with_new_sorts
from benchmarks.hackathon42.peers import PEERS, dbat, divdis
from benchmarks.hackathon42.photographs import correlated
from benchmarks.hackathon42.sets import make
from headwater.ambiguity import Dataset, scan, solve
from headwater.ambiguity.pictures import array_pictures
from headwater.ambiguity.views import Views, image_views
from headwater.heads.ambiguity.questions import Question
from headwater.heads.ambiguity.solve import solve as settle

OURS = "headwater"
CLUSTERS, JOINED, BOUND = "clusters", "clusters + readings", "linear on all labels"
BESIDE = (*PEERS, CLUSTERS, JOINED, BOUND)
BUDGET = 5
# On features of a pretrained backbone the peers' heads are also trained as those of their papers: linear.
LINEAR_PEERS = {"DivDis linear": divdis, "D-BAT linear": dbat}

Record = Mapping[str, Any]
"""Plain figures of one method on one trial: the trial's own fields, and what `judge` found."""


@dataclass(frozen=True)
class Trial:
    """One generated set: the part of the benchmark it belongs to, and the arguments of its generator."""

    part: str
    id: int
    seed: int
    family: str | None = None
    variant: str | None = None
    mix_rate: float | None = None
    labeled_rate: float = 0.0
    target_rate: float | None = None
    size: float = 1.0
    task: str | None = None

    def generate(self) -> Generated:
        """The set."""
        if self.task is not None:
            return correlated(self.task, self.seed)
        if self.variant in CHANGES:
            return with_new_sorts(self.variant, self.seed, self.size)
        given = {name: value for name, value in asdict(self).items() if name not in {"part", "task"}}
        return make(given.pop("id"), given.pop("seed"), **given)


class Asked:
    """An oracle that counts the rows it was asked about, and answers no more than five."""

    def __init__(self, labels: NDArray[np.int64]) -> None:
        self._labels = labels
        self.items: set[int] = set()

    def ask(self, question: Question) -> int:
        """The class code of the question's row."""
        return self(question.item)

    def __call__(self, item: int) -> int:
        """The class code of the target row."""
        self.items.add(item)
        assert len(self.items) <= BUDGET, "a sixth row was asked about"
        return int(self._labels[item])


def methods(trial: Trial, peers: Sequence[str]) -> list[str]:
    """Who is tried: us, and those of the peers that were asked for."""
    if trial.part == "scan":
        return [OURS]
    linear = LINEAR_PEERS if trial.task is not None else {}
    known = [name for name in (*BESIDE, *linear) if name.removesuffix(" linear") in peers]
    return [OURS, *known]


class Features:
    """What `headwater ambiguity` makes of a set's images, once for all methods that want it."""

    def __init__(self, made: Generated, seed: int) -> None:
        self._made, self._seed = made, seed
        self._views: Views = {}
        self.seconds = 0.0

    def views(self) -> Views:
        """Features by name; none of vectors, which are features themselves."""
        if self._made.problem.are_images and not self._views:
            start = time.perf_counter()
            self._views = image_views(self._made.problem, seed=self._seed)
            self.seconds = time.perf_counter() - start
        return self._views


def attempt(trial: Trial, method: str, made: Generated, features: Features) -> dict[str, Any]:
    """The figures of one method on the trial's set; its seconds hold those of the features that it takes."""
    asked = Asked(made.target_labels)
    more: dict[str, Any] = dict.fromkeys(("noticed", "settled", "expected", "advised"))
    views = features.views() if method in {CLUSTERS, JOINED, BOUND} else {}
    start = time.perf_counter() - (features.seconds if views else 0)
    if method == OURS:
        found = solve(
            as_dataset(trial, made), oracle=asked, budget=BUDGET, seed=trial.seed, exercise=trial.id
        )
        labels = found.codes
        more = {
            "noticed": found.scan.is_ambiguous,
            "settled": found.resolution.settled,
            "expected": found.resolution.expected_accuracy,
            "advised": found.advice.submit,
        }
    elif method in {CLUSTERS, JOINED}:
        spread = medoids.solve(made.problem, views, asked, budget=BUDGET, seed=trial.seed)
        labels = spread.labels
        if method == JOINED:
            joined = settle(
                made.problem,
                asked.ask,
                features=views or None,
                budget=BUDGET,
                seed=trial.seed,
                known=spread.answers,
            )
            labels = joined.labels
            more |= {"settled": joined.settled, "expected": joined.expected_accuracy}
    elif method == BOUND:
        labels = bound(made, views)
    elif method in LINEAR_PEERS:
        said = LINEAR_PEERS[method](made.problem, asked, budget=BUDGET, seed=trial.seed, has_trunk=False)
        labels = said.labels
    else:
        labels = PEERS[method](made.problem, asked, budget=BUDGET, seed=trial.seed).labels
    seconds = time.perf_counter() - start
    return {**judge(made, labels), "labels": len(asked.items), "seconds": seconds, **more}


def as_dataset(trial: Trial, made: Generated) -> Dataset:
    """The set as our own commands take it; it is at no place on the disk, and keeps its labels to itself."""
    problem = made.problem
    rows = len(problem.target)
    return Dataset(
        place=Path(f"generated set {trial.id}"),
        problem=problem,
        content=hashlib.sha256(repr(trial).encode()).hexdigest(),
        items=np.arange(rows),
        target_rows=rows,
        picture=array_pictures(problem.target) if problem.are_images else lambda row: None,
    )


def judge(made: Generated, labels: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy over all target rows, over crossed ones, and in the worst cell of features."""
    right = labels == made.target_labels
    cells, of = np.unique(made.target_cells, axis=0, return_inverse=True)
    worst = min(float(right[of.ravel() == each].mean()) for each in range(len(cells)))
    crossed = float(right[made.crossed].mean()) if made.crossed.any() else math.nan
    return {"accuracy": float(right.mean()), "crossed": crossed, "worst": worst}


def scanned(trial: Trial, made: Generated) -> dict[str, Any]:
    """What a scan says of the trial's set, before any question."""
    start = time.perf_counter()
    found = scan(as_dataset(trial, made), seed=trial.seed).found
    return {
        "is_ambiguous": bool(found.is_ambiguous),
        "score": float(found.score),
        "estimated": float(found.mix_rate.share),
        "true": made.mix_rate,
        "seconds": time.perf_counter() - start,
    }


def perform(trial: Trial, names: Sequence[str], threads: int | None = None) -> list[dict[str, Any]]:
    """The records of one trial by these methods, on so many threads, or as many as are usual."""
    usual = torch.get_num_threads()
    torch.set_num_threads(threads or usual)
    try:
        made = trial.generate()
        told = {**asdict(trial), "name": made.name, "meant": made.features[made.meant]}
        if trial.part == "scan":
            return [{**told, "method": OURS, **scanned(trial, made)}]
        features = Features(made, trial.seed)
        return [{**told, "method": name, **attempt(trial, name, made, features)} for name in names]
    finally:
        torch.set_num_threads(usual)


def perform_all(
    trials: Iterable[Trial], peers: Sequence[str], kept: Path | None = None, workers: int = 1
) -> Iterator[Record]:
    """The records of all trials; those found in the file `kept` are not tried again, new ones are added.

    With more than one worker each trial runs in a process of its own, on one thread.
    """
    have = _read(kept)
    wanted: list[tuple[Trial, list[str]]] = []
    for trial in trials:
        missing = [name for name in methods(trial, peers) if _key(asdict(trial), name) not in have]
        yield from (have[_key(asdict(trial), n)] for n in methods(trial, peers) if n not in missing)
        if missing:
            wanted.append((trial, missing))
    if workers == 1:
        for trial, names in wanted:
            yield from _keep(perform(trial, names), kept)
        return
    with ProcessPoolExecutor(min(workers, max(1, len(wanted))), get_context("spawn")) as pool:
        running = [pool.submit(perform, trial, names, 1) for trial, names in wanted]
        for each in as_completed(running):
            yield from _keep(each.result(), kept)


def _keep(records: list[dict[str, Any]], kept: Path | None) -> list[dict[str, Any]]:
    if kept is not None:
        is_torn = kept.exists() and not kept.read_bytes().endswith(b"\n")
        with kept.open("a") as file:
            file.write("\n" if is_torn else "")
            file.writelines(json.dumps(each) + "\n" for each in records)
            file.flush()
            os.fsync(file.fileno())
    return records


def _read(kept: Path | None) -> dict[str, Record]:
    """Records by trial and method; a last line that was not finished is passed over."""
    found = {}
    for line in kept.read_text().splitlines() if kept is not None and kept.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[_key(record, record["method"])] = record
    return found


def _key(fields: Record, method: str) -> str:
    own = {name: fields[name] for name in Trial.__dataclass_fields__}
    return json.dumps([own, method], sort_keys=True)
