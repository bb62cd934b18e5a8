"""Who is right for the worst groups of a tree: our pick beside others, all chosen and compared alike.

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
PICK = "HierRW"
OTHERS = ("ERM", "HierSampler", "RWG", "GroupDRO")  # whom the pick is claimed to lead
SHRUNK, ALONE = "HierDRO, worst group, shrunk", "HierDRO, worst group, not shrunk"
METHODS = {SHRUNK: "HierDRO", ALONE: "HierDRO"}
"""What a contender is called by where that is not its name."""

Grid = Mapping[str, Sequence[Any]]


def grids(l2: Sequence[float], strong: Sequence[float], *, alone: bool) -> dict[str, Grid]:
    """Eight settings of each rival and of our pick; all else is as published, or as the method's default is.

    Heads of risks, which take longer, have the strengths `strong`, which may be fewer. Those of GroupDRO,
    unadjusted, and those that a tree might draw together but does not are of one problem; the latter are
    tried too if `alone`.
    """
    sampled: Grid = {"rate": [0.01, 0.1, 0.3, 1.0], "epochs": [20, 200]}
    found: dict[str, Grid] = {
        "ERM": {"l2": l2},
        "HierSampler": sampled,
        "RWG": {"l2": l2},
        "GroupDRO": {"l2": strong, "adjustment": [0.0]},
        SHRUNK: {"l2": strong, "share": [0.0], "strength": [30.0]},
        "HierRW": {"l2": l2, "temper": [0.75]},
        "HierDRO": {"l2": l2[1::2], "share": [0.3], "strength": [30.0]},
    }
    if alone:
        found[ALONE] = {"l2": strong, "share": [0.0], "strength": [0.0]}
    return found


@dataclass(frozen=True)
class Contender:
    """A method's chosen head on one task, and where it is right on test, (rows,)."""

    settings: Mapping[str, Any]
    right: NDArray[np.bool_]
    converged: bool  # or has made the steps that were asked for
    seen: int | None = None  # different rows of train that its steps saw; None: all


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

    def leads(self, other: str, of: str = PICK) -> bool:
        """Whether one is ahead of another by more than the interval, both converged."""
        ended = self.contenders[of].converged and self.contenders[other].converged
        return ended and self.lead(other, of).low > 0

    def lead(self, other: str, of: str = PICK) -> Interval:
        """How much larger the area of one, our pick, is than another's, with its paired interval."""
        return area_difference(self.contenders[other].right, self.contenders[of].right, self.groups)


def contest(task: Task, seed: int, grids: Mapping[str, Grid]) -> Contest:
    """Sweep every method on the same bank, pick by `RULE`, and see where the picks are right on test."""
    test, train = task.rows("test").index, task.rows("train").index
    bank = HeadBank(task.features, task.target, len(task.classes), device="cpu")
    found = {}
    for name, grid in grids.items():
        method = METHODS.get(name, name)
        with tempfile.TemporaryDirectory() as folder:
            given = {f"{method}.{key}": values for key, values in grid.items()}
            sweep(task, methods=(method,), grid=given, seeds=[seed], select=RULE, out=Path(folder), bank=bank)
            head, info = load_head(Path(folder) / "heads" / f"{method}{SUFFIX}")
            settings = {key: value for key, value in info.settings.items() if key in grid}
            right = head.predict(np.asarray(task.features[test], dtype=np.float32)) == task.target[test]
            ended = head.convergence.converged or head.convergence.stepped
            found[name] = Contender(settings, right, ended, info.choices.get("rows_seen"))
    counts = np.bincount(task.groups[train], minlength=len(task.group_names))
    return Contest(seed, task.groups[test], task.target[test], counts, found)


def contests(tasks: Callable[[int], Task], seeds: Sequence[int], grids: Mapping[str, Grid]) -> list[Contest]:
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
            ended = [each.contenders[name].converged for each in found]
            leads.append(
                (name, *(a if b else f"{a}, not converged" for a, b in zip(said, ended, strict=True)))
            )
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


def reasons(title: str, found: Sequence[Contest]) -> list[str]:
    """Why each loses that does, where its figures of `diagnosis` beside our pick's say so; means of seeds."""
    means = {name: np.mean([_parts(each, name) for each in found], axis=0) for name in found[0].contenders}
    areas = {name: float(np.mean([each.area(name) for each in found])) for name in means}
    said = []
    for name in OTHERS:
        if areas[name] >= areas[PICK]:
            said.append(f"{name} does not lose.")
            continue
        shown = [
            f"it is right for {100 * means[name][place]:.1f} % of {of}, our pick for "
            f"{100 * means[PICK][place]:.1f} %, as {why}"
            for place, of, why in _WHY[name]
            if means[name][place] < means[PICK][place]
        ]
        said.append(f"{name} loses: {'; '.join(shown) or 'none of the expected figures says why'}.")
    seen = [(each.contenders["HierSampler"].seen or 0) / each.train_counts.sum() for each in found]
    said.append(f"HierSampler's steps see {100 * np.mean(seen):.1f} % of the rows of train.")
    return [f"{title}: {' '.join(said)}"]


_WHY: dict[str, list[tuple[int, str, str]]] = {
    "ERM": [(1, "the rarest fifth", "these are a small part of its loss")],
    "HierSampler": [(0, "all groups", "an epoch has as many rows of each group as the class's smallest has")],
    "RWG": [(3, "the groups of classes of few", "these classes weigh little")],
    "GroupDRO": [(2, "the commonest fifth", "its loss is of the few groups that are worst")],
}
"""For each that may lose: the column of `diagnosis` that would show it, of whom it is, and what may do it."""


def claims(title: str, found: Sequence[Contest]) -> list[Claim]:
    """That one leads another on every seed by more than the interval; a head not converged is not led."""
    unshrunk = ALONE if ALONE in found[0].contenders else "GroupDRO"
    pairs = [(PICK, other) for other in OTHERS] + [(SHRUNK, unshrunk)]
    return [
        Claim.at_least(
            f"{title}: seeds of {len(found)} on which {one} leads {other} by more than the interval",
            sum(each.leads(other, one) for each in found),
            len(found),
        )
        for one, other in pairs
    ]
