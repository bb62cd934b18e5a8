"""Recipes in lock-step: one call to the bank per round, and no recipe notices the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from headwater.errors import RequestError
from headwater.heads.methods import plan
from headwater.heads.methods.recipes import (
    FailedRecipe,
    FittedHead,
    Outcome,
    Planned,
    Recipe,
    average,
    run_recipes,
    run_rounds,
)
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows
from headwater.heads.tasks.task import Task


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


class RefusingBank(CountingBank):
    """Refuses any list that holds a head on row 7, as the real bank refuses what it cannot train."""

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        heads = super().train(specs)
        if any(7 in spec.rows.index for spec in specs):
            raise RequestError("row 7 has no\nlabel")
        return heads


def test_a_round_that_is_refused_is_tried_again_without_those_at_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def on_row(row: int) -> Recipe:
        (head,) = yield [HeadSpec(Rows([row]), Penalty())]
        (head,) = yield [HeadSpec(Rows([row]), Penalty())]
        return Outcome(head)

    bank = RefusingBank()
    recipes = [Planned(f"m{row}", {}, 0, on_row(row)) for row in range(5, 13)]
    rounds = list(run_rounds(bank, recipes, tolerant=True))
    ended = {place: each for finished in rounds for place, each in finished.items()}
    assert ended[2] == FailedRecipe("m7", {}, 0, "row 7 has no label")
    fitted = {place: each for place, each in ended.items() if isinstance(each, FittedHead)}
    assert {place: float(each.head.bias[0]) for place, each in fitted.items()} == {
        place: place + 5 for place in range(8) if place != 2
    }
    assert [list(each) for each in rounds] == [[], [2], [0, 1, 3, 4, 5, 6, 7]]
    assert "m7 with seed 0 failed: row 7 has no label" in caplog.text
    assert not any(record.exc_info for record in caplog.records)
    assert [len(call) for call in bank.calls] == [8, 4, 2, 2, 1, 1, 4, 7]
    with pytest.raises(RequestError, match="row 7"):
        list(run_rounds(RefusingBank(), [Planned("m7", {}, 0, on_row(7))]))


def test_a_recipe_that_raises_at_once_ends_before_the_first_round(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Recipe:
        raise ValueError("no such thing")
        yield []

    fine = Planned("fine", {}, 3, _counting([1]))
    first, second = run_rounds(CountingBank(), [Planned("m", {}, 1, broken()), fine], tolerant=True)
    assert first == {0: FailedRecipe("m", {}, 1, "ValueError: no such thing")}
    assert list(second) == [1]
    assert "m with seed 1 failed" in caplog.text
    assert "no such thing" in caplog.text
    assert "Traceback" in caplog.text


def test_a_sentence_is_logged_once_of_each_method(caplog: pytest.LogCaptureFixture) -> None:
    def refused() -> Recipe:
        raise RequestError("no such file")
        yield []

    recipes = [Planned(name, {}, seed, refused()) for name in ("m", "n") for seed in (0, 1)]
    (first,) = run_rounds(CountingBank(), recipes, tolerant=True)
    assert len(first) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "m with seed 0 failed: no such file",
        "n with seed 0 failed: no such file",
    ]
