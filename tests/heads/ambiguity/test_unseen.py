"""Groups of clusters that labels do not show, where the clusters are known."""

import numpy as np

from headwater.heads.ambiguity import solve as solving
from headwater.heads.ambiguity.problem import Problem
from headwater.heads.ambiguity.unseen import unseen_groups


def blobs(labeled_cells: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of four far corners, labeled ones of some of them first, and the corner of each."""
    random = np.random.default_rng(0)
    cells = np.concatenate([random.choice(labeled_cells, 600), random.integers(0, 4, 600)])
    corners = np.array([[0, 0], [9, 9], [0, 9], [9, 0]])
    return (corners[cells] + random.normal(0, 0.5, (1200, 2))).astype(np.float32), cells


def test_rows_of_corners_without_labels_are_in_groups_and_others_in_none() -> None:
    rows, cells = blobs([0, 1])
    found = unseen_groups({"rows": rows}, 600)
    assert found is not None
    new = cells[600:] >= 2
    assert (found[~new] < 0).all()
    assert (found[new] >= 0).mean() > 0.9
    for group in range(int(found.max()) + 1):
        assert len(set(cells[600:][found == group])) == 1
    assert unseen_groups({"rows": blobs([0, 1, 2, 3])[0]}, 600) is None


def test_there_are_readings_for_each_way_to_class_them() -> None:
    rows, cells = blobs([0, 1])
    problem = Problem(rows[:600], cells[:600], rows[600:900], rows[900:], (0, 1))
    readings = solving.first_readings(problem, {"rows": rows}, 0)
    assert any(each.origin.startswith("clusters as ") for each in readings)
