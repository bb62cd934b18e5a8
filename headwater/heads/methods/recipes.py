"""Methods as recipes in rounds, and the loop that runs many of them in lock-step on one bank.

A recipe is a generator: it yields the heads it wants next, is sent them trained, and returns its outcome.
What the recipes are lives in `headwater.heads.methods`; how heads are trained is the bank's business.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from headwater.errors import HeadwaterError
from headwater.heads.specs.head import MAX_ITERATIONS_REACHED, Convergence, LinearHead
from headwater.heads.specs.spec import HeadSpec
from headwater.heads.tasks.task import Task
from headwater.printable import escaped

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
    `trained` how many heads it asked for and `unconverged` how many of those did not converge, though they
    were not asked to stop after a set number of epochs. `obstacle`: what the first head says that more
    iterations would not have brought to its optimum; empty: all only wanted more.
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


@dataclass(frozen=True)
class FailedRecipe:
    """A recipe that raised, or that asked for heads the bank refused; `reason` is one line for people."""

    method: str
    settings: Mapping[str, Any]
    seed: int
    reason: str


Ended = FittedHead | FailedRecipe


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
        from headwater.heads.bank.head_bank import HeadBank  # noqa: PLC0415  (imports torch)

        bank = HeadBank(task.features, task.target, len(task.classes), device=device)
    ended: dict[int, Ended] = {}
    for finished in run_rounds(bank, recipes, progress=progress):
        ended.update(finished)
    return [each for _, each in sorted(ended.items()) if isinstance(each, FittedHead)]


def run_rounds(
    bank: Bank,
    recipes: Sequence[Planned],
    *,
    progress: Callable[[int, int], None] | None = None,
    tolerant: bool = False,
) -> Iterator[dict[int, Ended]]:
    """Run recipes in lock-step and give, after each round, those that ended with it, by their place.

    `tolerant`: a recipe that fails ends as a FailedRecipe and the others go on; the log gets its sentence, or
    the traceback of what has none. A round that the bank refuses is then tried again in halves until the
    recipes at fault are alone.
    """
    alive: dict[int, _Running] = {}
    told: set[tuple[str, str]] = set()

    def advance(place: int, planned: Planned, heads: list[LinearHead] | None) -> Ended | None:
        try:
            wanted = next(planned.recipe) if heads is None else planned.recipe.send(heads)
        except StopIteration as stop:
            return _fitted(planned, stop.value, alive.pop(place, None))
        except Exception as error:
            if not tolerant:
                raise
            alive.pop(place, None)
            return _failed(planned, error, told)
        alive.setdefault(place, _Running(planned, wanted)).wanted = wanted
        return None

    started = {place: advance(place, planned, None) for place, planned in enumerate(recipes)}
    yield {place: each for place, each in started.items() if each is not None}
    number = 0
    while alive:
        number += 1
        asked = sum(len(running.wanted) for running in alive.values())
        if progress is not None:
            progress(number, asked)
        began = time.perf_counter()
        trained = dict(_train(bank, list(alive.items()), tolerant=tolerant))
        seconds = time.perf_counter() - began
        log.debug("round %d: %d heads for %d recipes in %.2f s", number, asked, len(alive), seconds)
        ended: dict[int, Ended] = {}
        for place, running in list(alive.items()):
            mine = trained[place]
            if isinstance(mine, Exception):
                del alive[place]
                ended[place] = _failed(running.planned, mine, told)
                continue
            _record(running, mine, seconds * len(mine) / max(1, asked))
            outcome = advance(place, running.planned, mine)
            if outcome is not None:
                ended[place] = outcome
        yield ended


def _train(
    bank: Bank, asking: list[tuple[int, _Running]], *, tolerant: bool
) -> Iterator[tuple[int, list[LinearHead] | Exception]]:
    """One call to the bank, or where it fails and may, as many as it takes to find who is at fault."""
    try:
        heads = iter(bank.train([spec for _, running in asking for spec in running.wanted]))
    except Exception as error:
        if not tolerant:
            raise
        if len(asking) == 1:
            yield asking[0][0], error
            return
        unexpected = None if isinstance(error, HeadwaterError) else error
        log.warning(
            "%d recipes are trained again in halves, since one fails", len(asking), exc_info=unexpected
        )
        middle = len(asking) // 2
        yield from _train(bank, asking[:middle], tolerant=True)
        yield from _train(bank, asking[middle:], tolerant=True)
        return
    for place, running in asking:
        yield place, [next(heads) for _ in running.wanted]


def _record(running: _Running, heads: list[LinearHead], seconds: float) -> None:
    running.rounds += 1
    running.trained += len(heads)
    running.seconds += seconds
    endings = [head.convergence for head in heads if not head.convergence.converged]
    running.unconverged += sum(not ending.stepped for ending in endings)
    others = (each.message for each in endings if not each.message.startswith(MAX_ITERATIONS_REACHED))
    running.obstacle = running.obstacle or next(others, "")


def _failed(planned: Planned, error: Exception, told: set[tuple[str, str]]) -> FailedRecipe:
    """Log why, a sentence once of each method, and keep it."""
    said = " ".join(str(error).split())
    expected = isinstance(error, HeadwaterError) and bool(said)
    if expected and (planned.method, said) not in told:
        log.error("%s with seed %d failed: %s", planned.method, planned.seed, escaped(said))
        told.add((planned.method, said))
    elif not expected:
        log.error("%s with seed %d failed", planned.method, planned.seed, exc_info=error)
    reason = said if expected else f"{type(error).__name__}: {said}"
    return FailedRecipe(planned.method, planned.settings, planned.seed, reason)


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
