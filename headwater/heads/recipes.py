"""Methods as recipes in rounds, and the loop that runs many of them in lock-step on one bank.

A recipe is a generator: it yields the heads it wants next, is sent them trained, and returns its outcome.
What the recipes are lives in `headwater.heads.methods`; how heads are trained is the bank's business.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from headwater.heads.head import MAX_ITERATIONS_REACHED, Convergence, LinearHead
from headwater.heads.spec import HeadSpec
from headwater.heads.task import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a recipe ends with: its head, and what it chose on the way, as plain values."""

    head: LinearHead
    choices: Mapping[str, Any] = field(default_factory=dict)


Recipe = Generator[list[HeadSpec], list[LinearHead], Outcome]


class Bank(Protocol):
    """Whatever trains a list of specs; `HeadBank` does."""

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        """One trained head per spec, in order."""
        ...


@dataclass(frozen=True)
class Planned:
    """One recipe ready to run: its method's name, its settings as plain values, its seed."""

    method: str
    settings: Mapping[str, Any]
    seed: int
    recipe: Recipe


@dataclass(frozen=True)
class FittedHead:
    """A method's final head with all that led to it.

    `seconds` is the recipe's share of the wall clock of the rounds it took part in, by number of heads;
    `trained` how many heads it asked for and `unconverged` how many of those did not converge. `obstacle`:
    what the first of these says that more iterations would not have helped; empty: all only wanted more.
    """

    head: LinearHead
    method: str
    settings: Mapping[str, Any]
    seed: int
    choices: Mapping[str, Any]
    seconds: float
    rounds: int
    trained: int
    unconverged: int
    obstacle: str = ""

    @property
    def convergence(self) -> Convergence:
        """The final head's own record."""
        return self.head.convergence


@dataclass
class _Running:
    planned: Planned
    wanted: list[HeadSpec]
    seconds: float = 0.0
    rounds: int = 0
    trained: int = 0
    unconverged: int = 0
    obstacle: str = ""


def run_recipes(
    task: Task,
    recipes: Sequence[Planned],
    *,
    bank: Bank | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> list[FittedHead]:
    """Run recipes side by side; each round of all of them is one call to the bank.

    One FittedHead per recipe, in order. `progress(round, heads)` is called before each round. Results do not
    depend on which recipes run together. Raises whatever a recipe or the bank raises.
    """
    if bank is None:
        from headwater.heads.bank import HeadBank  # noqa: PLC0415  (imports torch)

        bank = HeadBank(task.features, task.target, len(task.classes), device=device)
    finished: dict[int, FittedHead] = {}
    alive: dict[int, _Running] = {}

    def advance(place: int, planned: Planned, heads: list[LinearHead] | None) -> None:
        try:
            wanted = next(planned.recipe) if heads is None else planned.recipe.send(heads)
        except StopIteration as stop:
            finished[place] = _fitted(planned, stop.value, alive.pop(place, None))
            return
        if place in alive:
            alive[place].wanted = wanted
        else:
            alive[place] = _Running(planned, wanted)

    for place, planned in enumerate(recipes):
        advance(place, planned, None)
    number = 0
    while alive:
        number += 1
        specs = [spec for running in alive.values() for spec in running.wanted]
        if progress is not None:
            progress(number, len(specs))
        began = time.perf_counter()
        heads = iter(bank.train(specs))
        seconds = time.perf_counter() - began
        log.debug("round %d: %d heads for %d recipes in %.2f s", number, len(specs), len(alive), seconds)
        for place, running in list(alive.items()):
            mine = [next(heads) for _ in running.wanted]
            running.rounds += 1
            running.trained += len(mine)
            left = [head.convergence.message for head in mine if not head.convergence.converged]
            running.unconverged += len(left)
            others = (text for text in left if not text.startswith(MAX_ITERATIONS_REACHED))
            running.obstacle = running.obstacle or next(others, "")
            running.seconds += seconds * len(mine) / max(1, len(specs))
            advance(place, running.planned, mine)
    return [finished[place] for place in range(len(recipes))]


def _fitted(planned: Planned, outcome: Outcome, running: _Running | None) -> FittedHead:
    return FittedHead(
        head=outcome.head,
        method=planned.method,
        settings=planned.settings,
        seed=planned.seed,
        choices=dict(outcome.choices),
        seconds=running.seconds if running else 0.0,
        rounds=running.rounds if running else 0,
        trained=running.trained if running else 0,
        unconverged=running.unconverged if running else 0,
        obstacle=running.obstacle if running else "",
    )


def average(heads: Sequence[LinearHead]) -> LinearHead:
    """The head with the mean weights and the mean biases; converged only if every one of them is."""
    left = sum(not head.convergence.converged for head in heads)
    records = [head.convergence for head in heads]
    return LinearHead(
        weight=np.stack([head.weight for head in heads]).mean(axis=0, dtype=np.float64).astype(np.float32),
        bias=np.stack([head.bias for head in heads]).mean(axis=0, dtype=np.float64).astype(np.float32),
        convergence=Convergence(
            converged=left == 0,
            iterations=max(record.iterations for record in records),
            objective=float(np.mean([record.objective for record in records])),
            gradient_norm=max(record.gradient_norm for record in records),
            message=f"mean of {len(heads)} heads" + (f", {left} of which did not converge" if left else ""),
        ),
    )
