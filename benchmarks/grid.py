"""Every method x 16 settings x 3 seeds on features shaped like Waterbirds: in a minute, honestly chosen.

With `ALONE` in the environment every method is also swept by itself, to see what sharing saves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.common import Claim, Result, Table
from benchmarks.waterbirds import waterbirds_like
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.methods import methods
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec
from headwater.heads.sweeps.results import SweepResult, judged
from headwater.heads.sweeps.selection import RULES, Judged, best
from headwater.heads.sweeps.solving import TOLERANCE
from headwater.heads.sweeps.sweeping import sweep
from headwater.heads.tasks.task import Task

LIMIT = 60.0  # seconds
PUBLISHED_ERM = 0.726
_RULES = ("worst_group", "worst_class", "overall", "balanced", "cv_worst_group", "oracle")


@dataclass(frozen=True)
class Size:
    """The share of Waterbirds' rows, the features, and how much of every method is tried."""

    share: float
    dim: int
    draws: int
    seeds: int
    methods: tuple[str, ...]


def flat_methods() -> tuple[str, ...]:
    """All but those for trees of groups, which `inat` is for: the groups here are no tree."""
    return tuple(name for name in methods() if not name.startswith("Hier"))


FULL = Size(1.0, 2048, 16, 3, flat_methods())
QUICK = Size(0.03, 32, 2, 1, ("ERM", "RWG", "SUBG", "AFR"))


@dataclass
class TimedBank:
    """A bank that notes of every round how many heads were asked for, how many differ, and the seconds."""

    bank: HeadBank
    rounds: list[tuple[int, int, float]] = field(default_factory=list)

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        """As the bank's."""
        start = time.perf_counter()
        heads = self.bank.train(specs)
        self.rounds.append((len(specs), len(set(specs)), time.perf_counter() - start))
        return heads


@dataclass(frozen=True)
class Timed:
    """A sweep with its seconds: all of it, and measuring what was trained."""

    result: SweepResult
    bank: TimedBank
    total: float
    measuring: float


def timed(task: Task, size: Size, names: Sequence[str]) -> Timed:
    """Sweep methods by `names`, nothing kept on disk."""
    marks: list[float] = []
    start = time.perf_counter()
    bank = TimedBank(HeadBank(task.features, task.target, len(task.classes), device="cpu"))
    result = sweep(
        task,
        methods=names,
        draws=size.draws,
        seeds=size.seeds,
        bank=bank,
        progress=lambda at: None if at.heads else marks.append(time.perf_counter()),
    )
    end = time.perf_counter()
    return Timed(result, bank, end - start, end - marks[-1])


def run(quick: bool) -> Result:
    """One sweep of everything, then, if asked for, every method by itself to see what it costs."""
    size = QUICK if quick else FULL
    task = waterbirds_like(share=size.share, dim=size.dim)
    together = timed(task, size, size.methods)
    result = together.result
    chosen = _chosen(result)
    alone = {name: timed(task, size, [name]).total for name in chosen} if os.environ.get("ALONE") else {}
    inside = sum(seconds for _, _, seconds in together.bank.rounds)
    rows = result.table.num_rows
    trained = sum(heads for heads, _, _ in together.bank.rounds)
    counted = {
        name: {rule: each[rule].test["worst_group"] for rule in _RULES} for name, each in chosen.items()
    }
    return Result(
        tables=[
            Table(
                f"{rows:,} heads of {len(chosen)} methods, {trained:,} trained on the way, on "
                f"{sum(len(each) for each in task.splits.values()):,} x {task.dim}",
                ("", "seconds"),
                [
                    ("all of it", together.total),
                    ("  training in the bank", inside),
                    ("  measuring and selecting", together.measuring),
                    ("  recipes, planning", together.total - inside - together.measuring),
                ],
            ),
            Table(
                "rounds, each one call to the bank",
                ("round", "heads asked for", "of which differ", "seconds"),
                [(str(n), *each) for n, each in enumerate(together.bank.rounds, start=1)],
            ),
            Table(
                "worst-group accuracy on test: with the published settings, and by what each rule picks",
                ("method", "published", *_RULES),
                [
                    (name, _published(result, name), *(counted[name][rule] for rule in _RULES))
                    for name in chosen
                ],
            ),
            Table(
                "what each method costs",
                ("method", "heads on the way", "not converged", "its share, s", "alone, s"),
                [(name, *_cost(result, name), alone.get(name)) for name in chosen],
            ),
            Table(
                "what each rule picks among all, and what it costs against the oracle",
                ("rule", "picks", "saw", "worst group", "overall", "cost"),
                [
                    (p.rule, p.id, p.figure, p.test["worst_group"], p.test["overall"], p.cost)
                    for p in result.picks
                ],
            ),
        ],
        claims=_claims(together, counted, quick),
        notes=[
            "Figures are means over the seeds. Methods that read val are judged on val out of fold.",
            f"Heads are solved to within {TOLERANCE:g} of their objective.",
            f"`published` is the first candidate of each method. ERM is published at {PUBLISHED_ERM}.",
            "A method's share is the rounds' time by number of heads; alone, it does not share its passes.",
            *(f"{each.method} was skipped: {each.reason}" for each in result.skipped),
            *(f"{name} failed: {reason}" for name, reason in result.failed[:5]),
        ],
    )


def _chosen(result: SweepResult) -> dict[str, dict[str, Judged]]:
    """Per method, the candidate that each rule picks among its own."""
    rules = {rule.name: rule for rule in RULES}
    by_method: dict[str, list[Judged]] = {}
    for each in judged(result.table):
        by_method.setdefault(each.method, []).append(each)
    found: dict[str, dict[str, Judged]] = {}
    for name, mine in by_method.items():
        picks = {rule: best(mine, rules[rule]) for rule in _RULES}
        found[name] = {rule: pick for rule, pick in picks.items() if pick is not None}
    return found


def _published(result: SweepResult, name: str) -> float:
    first = next(each for each in judged(result.table) if each.method == name and each.number == 0)
    return first.test["worst_group"]


def _cost(result: SweepResult, name: str) -> tuple[int, int, float]:
    mine = [row for row in result.table.to_pylist() if row["method"] == name]

    def total(key: str) -> float:
        return sum((row[key] or 0) + (row[f"cv.{key}"] or 0) for row in mine)

    return int(total("trained")), int(total("unconverged")), total("seconds")


def _claims(together: Timed, counted: dict[str, dict[str, float]], quick: bool) -> list[Claim]:
    claims = [
        Claim.at_most("seconds for all of it", together.total, LIMIT),
        Claim.at_least("methods compared", len(counted), len(QUICK.methods if quick else FULL.methods)),
    ]
    if quick:  # too few rows for an order to mean anything
        return claims
    published = {name: _published(together.result, name) for name in counted}
    picked = {name: figures["worst_group"] for name, figures in counted.items()}
    for lower, higher in (
        ("ERM", "RWG"),
        ("RWG", "DFR-val"),
        ("RWG", "DFR-tr"),
        ("RWG", "GroupDRO"),
        ("RWG", "AFR"),
        ("ERM", "JTT"),
    ):
        for how, ours in (("published settings", published), ("picked settings", picked)):
            claims.append(Claim.at_least(f"{higher} over {lower}, {how}", ours[higher] - ours[lower], 0))
    return claims
