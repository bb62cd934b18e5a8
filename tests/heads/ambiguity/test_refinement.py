"""Readings of points of a square, where no gap parts the cells and the truth is the signs of coordinates."""

import numpy as np
import pytest

from headwater.heads.ambiguity import refinement
from headwater.heads.ambiguity.problem import Problem, Reading
from headwater.heads.ambiguity.refinement import Refined, refined


def square(seed: int = 0) -> tuple[Problem, np.ndarray, np.ndarray]:
    """Labeled points where the signs agree, others in all four cells; all the others, and their signs."""
    random = np.random.default_rng(seed)
    sign = np.where(np.arange(300) % 2, -1, 1)
    labeled = random.random((300, 2)) * sign[:, None]
    cells = np.arange(800)[:, None] // [1, 2] % 2
    rest = random.random((800, 2)) * (2 * cells - 1)
    parts = [part.astype(np.float32) for part in (labeled, rest[:500], rest[500:])]
    codes = (sign > 0).astype(np.int64)
    return Problem(parts[0], codes, parts[1], parts[2], (0, 1)), rest, (rest > 0).astype(np.int64)


def tilted(rest: np.ndarray, degrees: float) -> Reading:
    """Halves of the square by a line through its middle, as far from the first axis as asked."""
    angle = np.deg2rad(degrees)
    side = rest @ np.array([np.cos(angle), np.sin(angle)]) > 0
    said = np.stack([~side, side], axis=1).astype(np.float32)
    return Reading(said[:500], said[500:], 0.0, f"{degrees}")


def right(readings: list[Reading], truth: np.ndarray) -> float:
    said = np.mean([each.target for each in readings], axis=0).argmax(axis=1)
    return float((said == truth[500:]).mean())


Sharpened = tuple[Problem, np.ndarray, np.ndarray, list[Reading]]


@pytest.fixture(scope="module")
def sharpened() -> Sharpened:
    """The square, and the readings that lines leaning towards each other become on its own values."""
    problem, rest, truth = square()
    values = np.concatenate([problem.labeled, problem.unlabeled, problem.target])
    return problem, rest, truth, refined(problem, {"values": values}, (tilted(rest, 15), tilted(rest, 75)))


def test_lines_that_lean_towards_each_other_are_set_upright_without_an_answer(sharpened: Sharpened) -> None:
    _, rest, truth, readings = sharpened
    assert right([tilted(rest, 15)], truth[:, 0]) < 0.96
    assert right(readings[::2], truth[:, 0]) > 0.97
    assert right(readings[1::2], truth[:, 1]) > 0.97


def test_features_that_tell_nothing_are_left_aside(sharpened: Sharpened) -> None:
    problem, rest, truth, alone = sharpened
    noise = np.random.default_rng(1).standard_normal((1100, 4)).astype(np.float32)
    values = np.concatenate([problem.labeled, problem.unlabeled, problem.target])
    both = refined(problem, {"noise": noise, "values": values}, (tilted(rest, 15), tilted(rest, 75)))
    assert [each.origin for each in both] == [each.origin for each in alone]
    assert right(both[::2], truth[:, 0]) > 0.97


def test_a_pair_that_disagrees_ever_more_is_refined_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, rest, _ = square()
    values = np.concatenate([problem.labeled, problem.unlabeled, problem.target])
    rounds: list[int] = []

    def wider(problem: Problem, rows: np.ndarray, pair: tuple[Reading, Reading], *_: object) -> list[Refined]:
        rounds.append(len(rounds))
        assert len(rounds) < 50
        readings = tilted(rest, 0), tilted(rest, 2 * 1.1 ** len(rounds))
        return [Refined(readings, 1.0, 0.0)]

    monkeypatch.setattr(refinement, "_settings", wider)
    monkeypatch.setattr(refinement, "_WIDER", 0.0)
    found = refined(problem, {"values": values}, (tilted(rest, 0), tilted(rest, 1)))
    assert len(found) == 2
    assert len(rounds) < 20
