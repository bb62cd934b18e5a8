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


def vectors(places, cells, own, *, noise=1.0):
    """Rows at the sum of two features' places (classes, columns) each, by their cells, with noise."""
    random = np.random.default_rng(2)

    def drawn(cells):
        middle = places[0][cells[:, 0]] + places[1][cells[:, 1]]
        return (middle + noise * random.standard_normal(middle.shape)).astype(np.float32)

    own = np.repeat(own[:, None], 2, axis=1)
    classes = tuple(range(len(places[0])))
    return Problem(drawn(own), own[:, 0], drawn(cells), drawn(cells), classes)


TRIANGLE = np.array([[0.0, 0.0], [6.0, 8.0], [8.0, 0.0]])
"""The first column tells the first and the last of three classes apart, the second the middle one."""


def test_a_column_that_tells_some_classes_only_is_not_what_a_reading_goes_by():
    random = np.random.default_rng(3)
    cells, own = random.integers(0, 3, (300, 2)), random.integers(0, 3, 150)
    none = np.zeros_like(TRIANGLE)
    places = np.hstack([TRIANGLE, none]), np.hstack([none, TRIANGLE])
    problem = vectors(places, cells, own)
    found = meanings(problem, {"A": cells[:, 0], "B": cells[:, 1]})
    assert {each.about for each in found.values()} == {""}
    # The last two columns tell the middle class from the others alone: no pair of ends shows it.
    middle = np.array([[0.0, 0, 0], [4, 0, 0], [8, 0, 0]]), np.array([[0.0, 0, 0], [0, 0, 9], [0, 9, 0]])
    found = meanings(vectors(middle, cells, own), {"A": cells[:, 0], "B": cells[:, 1]})
    assert [each.about for each in found.values()] == ["column 0 of the rows", ""]


@pytest.mark.parametrize("classes", [3, 10])
def test_what_the_rival_goes_by_cancels_out_of_any_number_of_classes(classes):
    random = np.random.default_rng(4)
    cells, own = random.integers(0, classes, (60 * classes, 2)), random.integers(0, classes, 20 * classes)
    steps = 6.0 * np.arange(classes)
    none = np.zeros(classes)
    places = np.column_stack([none, steps]), np.column_stack([steps, none])
    problem = vectors(places, cells, own)
    found = meanings(problem, {"A": cells[:, 0], "B": cells[:, 1]})
    assert [each.about for each in found.values()] == ["column 1 of the rows", "column 0 of the rows"]
    for column, each in zip((1, 0), found.values(), strict=True):
        assert (each.low, each.high) == (0, classes - 1)
        expected = np.where(np.arange(2) == column, steps[-1], 0)
        np.testing.assert_allclose(each.difference, expected, atol=1)


@pytest.mark.parametrize("rare", [0, 1, 2])
@pytest.mark.parametrize("rows", [1, 4, 8])
def test_a_rare_class_silences_nothing(rare, rows):
    """The rare one lies where no other does, in a column of its own."""
    random = np.random.default_rng(5)
    common = [each for each in range(3) if each != rare]
    cells, own = random.choice(common, (300, 2)), random.choice(common, 150)
    cells[:rows, 0] = cells[rows : 2 * rows, 1] = own[:rows] = rare
    one, other = np.zeros((3, 3)), np.zeros((3, 3))
    one[common[1], 0] = other[common[1], 1] = 8
    one[rare, 2] = other[rare, 2] = 8
    found = meanings(vectors((one, other), cells, own), {"A": cells[:, 0], "B": cells[:, 1]})
    assert [each.about for each in found.values()] == ["column 0 of the rows", "column 1 of the rows"]


def test_a_common_class_that_is_never_crossed_must_be_foretold_too():
    random = np.random.default_rng(6)
    cells, own = random.integers(0, 2, (300, 2)), random.integers(0, 3, 150)
    cells[:100] = 2
    one, other = np.zeros((3, 3)), np.zeros((3, 3))
    one[1, 0] = other[1, 1] = 8
    for column, about in ((2, ""), (0, "column 0 of the rows")):
        one[2] = 16 * (np.arange(3) == column)
        found = meanings(vectors((one, other), cells, own), {"A": cells[:, 0], "B": cells[:, 1]})
        assert found["A"].about == about


def test_few_rows_of_one_of_two_classes_are_compared_all_the_same():
    random = np.random.default_rng(7)
    cells, own = (random.random((400, 2)) < 0.06).astype(np.int64), random.integers(0, 2, 100)
    places = np.array([[0.0, 0], [8, 0]]), np.array([[0.0, 0], [0, 8]])
    found = meanings(vectors(places, cells, own), {"A": cells[:, 0], "B": cells[:, 1]})
    assert [each.about for each in found.values()] == ["column 0 of the rows", "column 1 of the rows"]


def test_one_reading_and_too_few_rows_tell_nothing():
    problem, cells = images()
    (alone,) = meanings(problem, {"A": cells[:, 0]}).values()
    assert (alone.about, alone.difference, len(alone.rows)) == ("", None, 0)
    near = cells[:, 0].copy()
    near[:3] = 1 - near[:3]
    found = meanings(problem, {"A": cells[:, 0], "B": near})
    assert {each.about for each in found.values()} == {""}
