"""What made-up readings go by, where the rows were made to show it."""

import numpy as np
import pytest

from headwater.heads.ambiguity.meaning import meanings
from headwater.heads.ambiguity.problem import Problem


def images(seed=0, *, swapped=False, side=2):
    """Images whose halves (by columns, or by lines) are bright or dark, and what each half says."""
    random = np.random.default_rng(seed)
    own = np.repeat(random.integers(0, 2, 100)[:, None], 2, axis=1)
    cells = random.integers(0, 2, (200, 2))

    def drawn(cells):
        places = cells
        if swapped:
            places = np.where(random.random((len(cells), 1)) < 0.5, cells[:, ::-1], cells)
        x = places.astype(np.float32).repeat(4, axis=1)[:, None, None, :].repeat(8, axis=2)
        x = x if side == 2 else x.transpose(0, 1, 3, 2)
        return np.ascontiguousarray(x + 0.3 * random.standard_normal(x.shape), dtype=np.float32)

    problem = Problem(drawn(own), own[:, 0], drawn(cells), drawn(cells), ("no", "yes"))
    return problem, cells


@pytest.mark.parametrize(("side", "halves"), [(2, ("left", "right")), (1, ("upper", "lower"))])
def test_readings_of_halves_are_known_by_their_half(side, halves):
    problem, cells = images(side=side)
    found = meanings(problem, {"A": cells[:, 1], "B": cells[:, 0]})
    assert found["A"].about == f"the {halves[1]} half of the images"
    assert found["B"].about == f"the {halves[0]} half of the images"
    np.testing.assert_array_equal(found["A"].rows, np.flatnonzero(cells[:, 0] != cells[:, 1]))
    difference = found["B"].difference
    assert difference is not None
    mine, other = np.split(difference[0] if side == 2 else difference[0].T, 2, axis=1)
    assert mine.mean() == pytest.approx(1, abs=0.1)
    assert other.mean() == pytest.approx(0, abs=0.1)


def test_what_lies_in_no_one_place_is_said_to_lie_in_none():
    problem, cells = images(swapped=True)
    found = meanings(problem, {"A": cells[:, 1], "B": cells[:, 0], "C": cells.max(axis=1)})
    assert {each.about for each in found.values()} == {""}


def test_readings_of_vectors_are_known_by_their_column_and_mixtures_of_them_are_not():
    random = np.random.default_rng(1)
    own = np.repeat(random.integers(0, 2, 100)[:, None], 2, axis=1)
    cells = random.integers(0, 2, (300, 2))
    spread = np.array([1.0, 50.0, 1.0])

    def drawn(cells):
        noise = random.standard_normal((len(cells), 3))
        return (spread * (noise + 3 * np.column_stack([cells, 0 * cells[:, 0]]))).astype(np.float32)

    problem = Problem(drawn(own), own[:, 0], drawn(cells), drawn(cells), (0, 1))
    mixed = np.where(np.arange(300) % 2, cells[:, 0], cells[:, 1])
    found = meanings(problem, {"A": cells[:, 0], "B": cells[:, 1], "C": mixed})
    assert [each.about for each in found.values()] == ["column 0 of the rows", "column 1 of the rows", ""]


def test_one_reading_and_too_few_rows_tell_nothing():
    problem, cells = images()
    (alone,) = meanings(problem, {"A": cells[:, 0]}).values()
    assert (alone.about, alone.difference, len(alone.rows)) == ("", None, 0)
    near = cells[:, 0].copy()
    near[:3] = 1 - near[:3]
    found = meanings(problem, {"A": cells[:, 0], "B": near})
    assert {each.about for each in found.values()} == {""}
