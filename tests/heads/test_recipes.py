"""Recipes in lock-step: one call to the bank per round, and no recipe notices the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from headwater.heads.head import Convergence, LinearHead
from headwater.heads.methods import plan
from headwater.heads.recipes import Outcome, Planned, Recipe, average, run_recipes
from headwater.heads.spec import HeadSpec, Penalty, Rows
from headwater.heads.task import Task


class CountingBank:
    """Makes a head whose bias says which rows it was asked for; keeps every call."""

    def __init__(self, converges: bool = True) -> None:
        self.calls: list[list[HeadSpec]] = []
        self.converges = converges

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        self.calls.append(list(specs))
        record = Convergence(self.converges, 5, 0.1, 1e-3)
        return [
            LinearHead(np.ones((2, 3), "f4"), np.full(2, spec.rows.index.sum(), "f4"), record)
            for spec in specs
        ]


def _counting(rounds: list[int]) -> Recipe:
    """Asks for `rounds[i]` heads on row i in round i, and checks that it is sent those."""
    heads: list[LinearHead] = []
    for number, how_many in enumerate(rounds):
        heads = yield [HeadSpec(Rows([number]), Penalty()) for _ in range(how_many)]
        assert [float(head.bias[0]) for head in heads] == [number] * how_many
    return Outcome(heads[-1], {"rounds": len(rounds)})


def test_each_round_of_all_recipes_is_one_call(task: Task) -> None:
    bank = CountingBank()
    told: list[tuple[int, int]] = []
    shapes = [[1], [2, 3, 1], [4, 1]]
    recipes = [Planned(f"m{i}", {}, 0, _counting(shape)) for i, shape in enumerate(shapes)]
    fitted = run_recipes(task, recipes, bank=bank, progress=lambda *round_: told.append(round_))
    assert [len(call) for call in bank.calls] == [7, 4, 1]
    assert told == [(1, 7), (2, 4), (3, 1)]
    assert [each.method for each in fitted] == ["m0", "m1", "m2"]
    assert [each.rounds for each in fitted] == [1, 3, 2]
    assert [each.trained for each in fitted] == [1, 6, 5]
    assert [each.choices["rounds"] for each in fitted] == [1, 3, 2]


def test_what_did_not_converge_is_counted(task: Task) -> None:
    (fitted,) = run_recipes(
        task, [Planned("m", {}, 0, _counting([2, 1]))], bank=CountingBank(converges=False)
    )
    assert (fitted.unconverged, fitted.trained) == (3, 3)


def _asked(task: Task, *names: str, seed: int = 0) -> list[list[HeadSpec]]:
    bank = CountingBank()
    monkey = np.zeros((len(task.target), 3), dtype="f4")
    narrow = Task.from_arrays(monkey, task.target, task.groups, _split(task))
    run_recipes(narrow, [plan(narrow, name, seed=seed) for name in names], bank=bank)
    return bank.calls


def _split(task: Task) -> list[str]:
    split = [""] * len(task.target)
    for name, rows in task.splits.items():
        for row in rows:
            split[row] = name
    return split


def test_what_a_recipe_draws_depends_on_its_seed_alone(task: Task) -> None:
    alone = _asked(task, "SUBG")[0]
    among = _asked(task, "ERM", "DFR-val", "SUBG", "SUBY")[0]
    assert alone[0] in among
    assert _asked(task, "SUBG")[0] == alone
    assert _asked(task, "SUBG", seed=1)[0] != alone


def test_the_mean_of_heads_is_the_mean_of_weights_and_of_biases() -> None:
    heads = [
        LinearHead(
            np.full((2, 2), w, "f4"), np.array([w, -3 * w], "f4"), Convergence(w < 3, w, w / 2, w / 10)
        )
        for w in (1, 2, 6)
    ]
    mean = average(heads)
    np.testing.assert_allclose(mean.weight, np.full((2, 2), 3.0))
    np.testing.assert_allclose(mean.bias, [3.0, -9.0])
    record = mean.convergence
    assert not record.converged
    assert (record.iterations, record.objective, record.gradient_norm) == (6, 1.5, 0.6)
    assert "1 of which did not converge" in record.message
    assert average(heads[:2]).convergence.converged


def test_a_broken_recipe_is_not_hidden(task: Task) -> None:
    def broken() -> Recipe:
        yield [HeadSpec(Rows([0]), Penalty())]
        raise RuntimeError("this recipe is broken")

    with pytest.raises(RuntimeError, match="this recipe is broken"):
        run_recipes(task, [Planned("m", {}, 0, broken())], bank=CountingBank())
