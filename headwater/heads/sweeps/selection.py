"""Which candidate each selection rule would pick, and what that costs against an oracle.

Plain figures in, picks out. That no candidate's figure is on rows it was fitted on is settled where figures
are made: a method that reads val brings its out-of-fold figures here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.heads.sweeps.folds import SMALL
from headwater.printable import nearest

Aim = Literal["worst_group", "worst_area"]
AREA: Aim = "worst_area"
_AREAS = (AREA, "worst_area_shrunk")
MANY = 50
"""From so many groups on, their single worst one is a matter of luck unless all are large."""

FEW = 10
"""With fewer rows, half of the groups have an accuracy that moves by more than ten points a row."""


@dataclass(frozen=True)
class Rule:
    """A selection rule: pick the highest `figure` of those on `split`.

    `sees` and `why` are said to people: what it goes by, and why one would. `unit` of the figure: `accuracy`,
    or `likelihood`, a geometric mean probability of the truth, both between 0 and 1.
    """

    name: str
    figure: str
    split: str
    sees: str
    why: str
    unit: str = "accuracy"

    @property
    def needs_groups(self) -> bool:
        """Whether its figure is one of groups, which must then be known on its split."""
        return self.figure in ("worst_group", "balanced", "worst_group_likelihood", *_AREAS)

    @property
    def honest(self) -> bool:
        """Whether it keeps its eyes off test."""
        return self.split != "test"


RULES: tuple[Rule, ...] = (
    Rule(
        "worst_group",
        "worst_group",
        "val",
        "accuracy of the worst group on val",
        "it is what robust methods are for, where val has rows enough of every group (100 or more)",
    ),
    Rule(
        "worst_area",
        AREA,
        "val",
        "accuracy on val of the worst K % of the groups, the mean over K from 10 to 50",
        "among hundreds of groups the single worst one is a matter of luck, while a tenth of them is not",
    ),
    Rule(
        "worst_class",
        "worst_class",
        "val",
        "accuracy of the worst class on val, no groups known",
        "nothing else that needs no groups comes nearer to the worst of them",
    ),
    Rule(
        "overall",
        "overall",
        "val",
        "accuracy over the rows of val",
        "it is what is usually done, and does not see a small group that is wrong",
    ),
    Rule(
        "balanced",
        "balanced",
        "val",
        "accuracy averaged over the groups of val",
        "a small group counts as much as a large one, but none decides alone",
    ),
    Rule(
        "cv_worst_group",
        "worst_group_likelihood",
        "val",
        "likelihood of the worst group on val; below chance, its accuracy divided by the number of classes",
        "on a small val one row moves an accuracy by more than a point and many heads tie, while the "
        "likelihood moves with every row; but a head wrong about most of a group is the likelier the less "
        "sure it is, so below chance its accuracy decides",
        unit="likelihood",
    ),
    Rule(
        "cv_worst_area",
        "worst_area_shrunk",
        "val",
        "accuracy of the worst K % of the groups, each drawn towards its parent's in the tree of groups",
        "one row of a group says little about it, but thirty of its parent's do",
    ),
    Rule(
        "oracle",
        "worst_group",
        "test",
        "accuracy of the worst group on test, which nobody may look at",
        "it marks what could be had, and is no choice that anyone may make",
    ),
    Rule(
        "oracle_area",
        AREA,
        "test",
        "accuracy on test of the worst K % of the groups, which nobody may look at",
        "it marks what could be had of the worst K %, and is no choice that anyone may make",
    ),
)
_TIES = ("balanced", "overall")  # on the rule's own split, higher first; then the log-loss, lower first


@dataclass(frozen=True)
class Judged:
    """A candidate as rules see it: means over the seeds, those on val honest; figures on test per seed."""

    id: str
    method: str
    number: int
    val: Mapping[str, float]
    test: Mapping[str, float]
    test_of_seeds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pick:
    """What a rule picked: its own `figure`, in the rule's `unit`, and what came of it on test.

    `test` are means over the seeds. `aim` names the figure on test that the deciding rule is after:
    `spread` is its standard deviation over the seeds (None with a single seed), `cost` what of it is given up
    against the best that test knows, at least 0.
    """

    rule: str
    sees: str
    honest: bool
    id: str
    method: str
    figure: float
    unit: str
    test: Mapping[str, float]
    aim: Aim
    spread: float | None
    cost: float | None


def find_rule(name: str) -> Rule:
    """The rule of that name; RequestError with the nearest one otherwise."""
    for rule in RULES:
        if rule.name == name.strip().lower().replace("-", "_"):
            return rule
    names = [rule.name for rule in RULES]
    raise RequestError(f"there is no selection rule {name!r}{nearest(name, names)}")


def best(candidates: Sequence[Judged], rule: Rule) -> Judged | None:
    """The candidate that a rule picks; None where no candidate has the rule's figure.

    Ties go to the higher balanced accuracy, then the higher overall one, then the lower log-loss on the same
    rows, then to the candidate that comes first: methods are ordered from plain to elaborate, and the
    published settings come before drawn ones.
    """

    def key(candidate: Judged) -> tuple[float, ...]:
        figures = candidate.test if rule.split == "test" else candidate.val
        higher = [_rounded(figures.get(name)) for name in (rule.figure, *_TIES)]
        return (*higher, -_rounded(figures.get("log_loss"), missing=math.inf))

    known = [
        each
        for each in candidates
        if not math.isnan((each.test if rule.split == "test" else each.val).get(rule.figure, math.nan))
    ]
    return max(known, key=key) if known else None  # max keeps the first of equals


def best_by_method(candidates: Sequence[Judged], rule: Rule) -> dict[str, Judged]:
    """What a rule picks among each method's candidates, by the method's name, in their order."""
    among: dict[str, list[Judged]] = {}
    for each in candidates:
        among.setdefault(each.method, []).append(each)
    picked = {name: best(mine, rule) for name, mine in among.items()}
    return {name: each for name, each in picked.items() if each is not None}


def _rounded(value: float | None, missing: float = -math.inf) -> float:
    """Means over seeds that differ in their last bits alone are equal."""
    return missing if value is None or math.isnan(value) else round(value, 9)


def pick_all(candidates: Sequence[Judged], aim: Aim = "worst_group") -> list[Pick]:
    """What every rule picks, in their order; a rule that has no figure to go by is left out.

    `aim` is the figure on test in which costs and spreads are counted. Rules that go by the worst K % are
    left out where nobody is after that: of four groups it is the worst one or two.
    """
    oracle = best(candidates, find_rule("oracle_area" if aim == AREA else "oracle"))
    picks = []
    for rule in RULES:
        chosen = best(candidates, rule)
        if chosen is None or (rule.figure in _AREAS and aim != AREA):
            continue
        figures = chosen.val if rule.honest else chosen.test
        seeds = chosen.test_of_seeds.get(aim, ())
        reached = chosen.test.get(aim, math.nan)
        picks.append(
            Pick(
                rule=rule.name,
                sees=rule.sees,
                honest=rule.honest,
                id=chosen.id,
                method=chosen.method,
                figure=figures[rule.figure],
                unit=rule.unit,
                test=chosen.test,
                aim=aim,
                spread=float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
                cost=None if oracle is None or math.isnan(reached) else oracle.test[aim] - reached,
            )
        )
    return picks


def aim_of(rule: Rule, counts: NDArray[np.int64], *, in_taxonomy: bool = False) -> Aim:
    """The figure on test that whoever decides by a rule is after; `counts` are the rows of test's groups.

    Of many small groups it is the worst K % of them, whatever the rule: the worst is often all wrong. So it
    is of nodes of a taxonomy, however few, so that heads of every part of a tree are judged alike.
    """
    small = len(counts) >= MANY and counts.min() < SMALL
    return AREA if rule.figure in _AREAS or small or in_taxonomy else "worst_group"


def default_rule(counts: NDArray[np.int64], *, in_taxonomy: bool = False) -> str:
    """The rule where none is named; `counts` are the rows of each group on the split that decides, if any.

    Below 100 rows an accuracy moves by more than a point a row, and the lowest of several picks noise: there
    the worst group's likelihood decides, or where there are many groups, the worst tenth to half of them,
    drawn towards their parents' where they have hardly any rows. That also decides where the groups are
    nodes of a taxonomy, however few and large. Without groups it is the worst class.
    """
    if not len(counts):
        return "worst_class"
    if not in_taxonomy and counts.min() >= SMALL:
        return "worst_group"
    if not in_taxonomy and len(counts) < MANY:
        return "cv_worst_group"
    return "cv_worst_area" if np.median(counts) < FEW else "worst_area"
