"""The one reading of columns as labels, which a store's tree and a task's levels share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headwater.errors import RequestError
from headwater.heads import Task
from headwater.store import annotate, column_from_values, open_store, set_levels
from headwater.store.labels import labels_in
from headwater.taxonomy import stored_tree

from .conftest import build


@pytest.mark.parametrize(
    ("values", "codes", "names"),
    [
        (["b", "", "a", None], [1, -1, 0, -1], ("a", "b")),
        ([7, -1, 3, 7], [1, -1, 0, 1], ("3", "7")),
        ([2.0, float("nan"), -1.0, 1.0], [1, -1, -1, 0], ("1", "2")),
    ],
)
def test_arrays_and_columns_read_alike(
    values: list[object], codes: list[int], names: tuple[str, ...]
) -> None:
    for given in (values, column_from_values("x", values)):
        found, called = labels_in("x", given)  # type: ignore[arg-type]
        assert (found.tolist(), called) == (codes, names)


def test_fractions_are_no_labels() -> None:
    with pytest.raises(RequestError, match=r"column 'x' holds fractional numbers such as 0\.5"):
        labels_in("x", np.array([1.0, 0.5]))


def test_a_stores_tree_and_a_tasks_have_the_same_nodes(tmp_path: Path) -> None:
    """Of numbers, too, of which -1 is none."""
    made = build(tmp_path / "s.store", rows=8)
    made.write()
    levels = {"order": [1, 1, 2, 2, 1, 1, 2, 2], "family": [5, 6, 7, 8, 5, 6, 7, -1]}
    annotate(made.path, {"path": made.keys, **levels, "split": ["train"] * 8})
    set_levels(made.path, ["order", "family"])
    store = open_store(made.path)
    tree, node = stored_tree(store.annotations)
    task = Task.from_store(store, "order", ["family"])
    assert sorted(tree.paths) == sorted(task.tree.tree.paths) == ["1", "1_5", "1_6", "2", "2_7", "2_8"]
    assert tree.paths[node[7]] == "2"
