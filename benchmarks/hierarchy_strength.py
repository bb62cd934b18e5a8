"""Who is right for the worst groups of a tree: our pick beside four others, chosen and compared alike.

Every contender is swept over settings of its own and picked by the same rule on the same val; the heads are
then compared on test by the area of the worst-K curve, with paired intervals. Which tasks is for others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import Claim, Table
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.checkpoint import SUFFIX, load_head
from headwater.heads.measures.grouped import Grouped
from headwater.heads.measures.intervals import Interval
from headwater.heads.measures.tail import worst_curve
from headwater.heads.measures.tail_intervals import area_difference
from headwater.heads.sweeps.sweeping import sweep
from headwater.heads.tasks.task import Task

RULE = "cv_worst_area"  # a species has a row or two on val
PICK = "our pick"
OURS = ("HierRW", "HierDRO")  # the pick is the one of these with the higher figure on val
SHRUNK = "GroupDRO, shrunk"
_L2 = [3e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.3]
GRIDS: dict[str, dict[str, Sequence[Any]]] = {
    "ERM": {"l2": _L2},
    "HierSampler": {"rate": [0.01, 0.1, 0.3, 1.0], "epochs": [20, 200]},
    "RWG": {"l2": _L2},
    "GroupDRO": {"l2": [0.05, 0.15, 0.5, 1.5], "adjustment": [0.0, 2.0]},
    SHRUNK: {"l2": [3e-3, 1e-2, 3e-2, 0.1], "strength": [30.0, 300.0], "share": [0.0]},
    "HierRW": {"l2": [1e-3, 3e-3, 1e-2, 3e-2], "temper": [0.5, 0.75]},
    "HierDRO": {"l2": [1e-3, 3e-3, 1e-2, 3e-2], "strength": [10.0, 30.0], "share": [0.3]},
}
"""Eight settings of each; all else is as published, or as the method's default where nothing is."""

METHODS = {SHRUNK: "HierDRO"}
"""What a contender is called by where that is not its name."""

OTHERS = ("ERM", "HierSampler", "RWG", "GroupDRO")
"""Whom the pick is claimed to lead."""

WHY = {
    "ERM": "its loss is that of the common groups: the rare ones are a small part of it",
    "HierSampler": "cut to its class's smallest group, an epoch has a few rows of each class, and most of "
    "train is never seen",
    "RWG": "classes of few groups weigh next to nothing, so that their groups are the worst",
    "GroupDRO": "the highest of thousands of means over a row or two is noise, and its loss is of few groups",
}
"""Why each loses, if it does; `diagnosis` shows the figures that would say so."""


@dataclass(frozen=True)
class Contender:
    """A method's chosen head on one task, by its `figure` on val, and where it is right on test, (rows,)."""

    figure: float
    settings: Mapping[str, Any]
    right: NDArray[np.bool_]
    converged: bool


@dataclass(frozen=True)
class Contest:
    """One task with all contenders by method; `groups` (rows,) and `target` (rows,) of test."""

    seed: int
    groups: NDArray[np.int64]
    target: NDArray[np.int64]
    train_counts: NDArray[np.int64]
    contenders: Mapping[str, Contender]

    def accuracies(self, method: str) -> NDArray[np.float64]:
        """By group, (groups,), NaN where test has no rows."""
        return Grouped.by(self.groups, len(self.train_counts)).shares(self.contenders[method].right[None])[0]

    def area(self, method: str) -> float:
        """Of the worst-K curve, K from 10 to 50 %."""
        accuracies = self.accuracies(method)
        return worst_curve(accuracies[~np.isnan(accuracies)]).area

    def lead(self, other: str, of: str = PICK) -> Interval:
        """How much larger the area of one, our pick, is than another's, with its paired interval."""
        return area_difference(self.contenders[other].right, self.contenders[of].right, self.groups)


def contest(task: Task, seed: int, grids: Mapping[str, Mapping[str, Sequence[Any]]]) -> Contest:
    """Sweep every method on the same bank, pick by `RULE`, and see where the picks are right on test."""
    test, train = task.rows("test").index, task.rows("train").index
    bank = HeadBank(task.features, task.target, len(task.classes), device="cpu")
    found = {}
    for name, grid in grids.items():
        method = METHODS.get(name, name)
        with tempfile.TemporaryDirectory() as folder:
            given = {f"{method}.{key}": values for key, values in grid.items()}
            swept = sweep(
                task, methods=(method,), grid=given, seeds=[seed], select=RULE, out=Path(folder), bank=bank
            )
            head, info = load_head(Path(folder) / "heads" / f"{method}{SUFFIX}")
            settings = {key: value for key, value in info.settings.items() if key in grid}
            right = head.predict(np.asarray(task.features[test], dtype=np.float32)) == task.target[test]
            figure = swept.pick.figure if swept.pick else float("nan")
            found[name] = Contender(figure, settings, right, head.convergence.converged)
    found[PICK] = found[max(OURS, key=lambda name: found[name].figure)]
    counts = np.bincount(task.groups[train], minlength=len(task.group_names))
    return Contest(seed, task.groups[test], task.target[test], counts, found)


def contests(
    tasks: Callable[[int], Task], seeds: Sequence[int], grids: Mapping[str, Mapping[str, Sequence[Any]]]
) -> list[Contest]:
    """The contest on the task of every seed, one after the other."""
    torch.manual_seed(0)
    return [contest(tasks(seed), seed, grids) for seed in seeds]


def tables(title: str, found: Sequence[Contest]) -> list[Table]:
    """Areas by seed, our leads with their intervals, and what the losers lose by."""
    methods = list(found[0].contenders)
    seeds = [f"seed {each.seed}" for each in found]
    areas = [
        (name, *(each.area(name) for each in found), float(np.mean([each.area(name) for each in found])))
        for name in methods
    ]
    leads = []
    for name in methods:
        if name != PICK:
            ends = [each.lead(name) for each in found]
            said = [f"{each.estimate:+.4f} ({each.low:+.4f} to {each.high:+.4f})" for each in ends]
            leads.append((name, *said))
    picked = [(name, *(_said(each.contenders[name]) for each in found)) for name in methods]
    return [
        Table(f"{title}: area of the worst-K curve on test", ("", *seeds, "mean"), areas),
        Table(f"{title}: lead of {PICK}, 95 % paired interval", ("over", *seeds), leads),
        Table(f"{title}: settings picked by {RULE}", ("", *seeds), picked),
        diagnosis(title, found),
    ]


def _said(contender: Contender) -> str:
    given = ", ".join(f"{key} {value:g}" for key, value in contender.settings.items())
    return given if contender.converged else f"{given} (not converged)"


def diagnosis(title: str, found: Sequence[Contest]) -> Table:
    """Mean accuracy by group: of rare and common groups on train, of small and large classes; over seeds."""
    rows = []
    for name in found[0].contenders:
        parts = [_parts(each, name) for each in found]
        means = [float(np.mean([part[place] for part in parts])) for place in range(5)]
        rows.append((name, *means))
    return Table(
        f"{title}: mean accuracy over groups, mean of seeds",
        (
            "",
            "all",
            "rarest fifth",
            "commonest fifth",
            "classes of few groups",
            "largest class",
        ),
        rows,
    )


def _parts(found: Contest, method: str) -> tuple[float, float, float, float, float]:
    accuracies = found.accuracies(method)
    present = np.flatnonzero(~np.isnan(accuracies))
    accuracies = accuracies[present]
    order = np.argsort(found.train_counts[present], kind="stable")
    fifth = max(1, len(order) // 5)
    class_of = np.zeros(len(found.train_counts), dtype=np.int64)
    class_of[found.groups] = found.target
    classes = class_of[present]
    sizes = np.bincount(classes)
    few = sizes[classes] <= np.median(sizes[sizes > 0])
    return (
        float(accuracies.mean()),
        float(accuracies[order[:fifth]].mean()),
        float(accuracies[order[-fifth:]].mean()),
        float(accuracies[few].mean()),
        float(accuracies[classes == sizes.argmax()].mean()),
    )


def claims(title: str, found: Sequence[Contest]) -> list[Claim]:
    """That one leads another by more than the interval, on every seed: no low end is below 0."""
    pairs = [(PICK, other) for other in OTHERS] + [(SHRUNK, "GroupDRO")]
    return [
        Claim.at_least(
            f"{title}: lead of {one} over {other}, lowest end of its intervals",
            min(each.lead(other, one).low for each in found),
            0.0,
        )
        for one, other in pairs
    ]
