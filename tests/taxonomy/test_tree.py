"""Walking and weighing a taxonomy, against walks node by node."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.taxonomy import LEVELS, Taxonomy, from_columns, from_edges, tree_rows


@st.composite
def trees(draw: st.DrawFn) -> Taxonomy:
    """Forests of up to 30 nodes, with skipped levels."""
    nodes = draw(st.integers(1, 30))
    parent, level = [-1], [1]
    for node in range(1, nodes):
        above = draw(st.integers(-1, node - 1).filter(lambda at: at < 0 or level[at] < 6))
        parent.append(above)
        level.append(draw(st.integers((0 if above < 0 else level[above]) + 1, 6)))
    names = tuple(draw(st.sampled_from("abc")) for _ in range(nodes))
    return Taxonomy(np.array(parent), np.array(level), names, LEVELS[:6])


def line(tree: Taxonomy, node: int) -> list[int]:
    """The node and all above it."""
    found = []
    while node >= 0:
        found.append(node)
        node = int(tree.parent[node])
    return found


@given(trees(), st.data())
@settings(max_examples=60, deadline=None)
def test_sums_and_ancestors_are_those_of_every_nodes_line(tree: Taxonomy, data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(tree), max_size=len(tree))))
    sums = np.zeros(len(tree))
    for node in range(len(tree)):
        sums[line(tree, node)] += values[node]
    np.testing.assert_array_equal(tree.up(values), sums)
    np.testing.assert_array_equal(tree.up(np.stack([values, 2 * values], axis=1))[:, 1], 2 * sums)
    for level in range(1, 7):
        wanted = [
            next((above for above in line(tree, node) if tree.level[above] == level), -1)
            for node in range(len(tree))
        ]
        assert tree.ancestors(np.arange(len(tree)), level).tolist() == wanted
        nodes = tree.nodes_at(level).tolist()
        assert sorted(nodes) == np.flatnonzero(tree.level == level).tolist()
        paths = ["_".join(tree.names[each] for each in reversed(line(tree, node))) for node in nodes]
        assert paths == sorted(paths)


@given(trees(), st.data())
@settings(max_examples=60, deadline=None)
def test_mass_runs_down_by_the_claims_of_siblings(tree: Taxonomy, data: st.DataObject) -> None:
    counts = st.lists(st.integers(0, 3), min_size=len(tree), max_size=len(tree))
    own = np.array(data.draw(counts), dtype=float)
    present = (tree.up(own) > 0).astype(float)  # who has nothing below has no claim
    kept = tree.down(present, (own > 0).astype(float), mass=7.0)

    def pour(nodes: list[int], mass: float) -> dict[int, float]:
        heirs = [node for node in nodes if present[node]]
        found: dict[int, float] = {}
        for node in heirs:
            below = [child for child in np.flatnonzero(tree.parent == node) if present[child]]
            parts = len(below) + (own[node] > 0)
            if own[node] > 0:
                found[node] = mass / len(heirs) / parts
            found |= pour(below, mass / len(heirs) * len(below) / parts)
        return found

    wanted = np.zeros(len(tree))
    for node, mass in pour(np.flatnonzero(tree.parent < 0).tolist(), 7.0).items():
        wanted[node] = mass
    np.testing.assert_allclose(kept, wanted, atol=1e-12)
    assert kept.sum() == pytest.approx(7.0 if own.any() else 0.0)


@pytest.mark.parametrize(
    ("parent", "level", "says"),
    [
        ([0], [1], "node 0 has the parent 0; parents must come before"),
        ([-1, 1], [1, 2], "node 1 has the parent 1"),
        ([-1, 0], [1, 1], "below its parent's"),
        ([-1, 0], [1, 3], "from 1 to 2"),
        ([-1, 0], [0, 1], "from 1 to 2"),
        ([-1], [1, 2], "not 1, 2 and 1"),
    ],
)
def test_what_is_no_tree_is_refused(parent: list[int], level: list[int], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        Taxonomy(np.array(parent), np.array(level), tuple("ab")[: len(parent)], ("one", "two"))


def test_levels_go_by_number_and_name() -> None:
    tree = Taxonomy(np.array([-1, 0]), np.array([1, 2]), ("a", "b"), ("kingdom", "phylum"))
    assert tree.nodes_at("phylum").tolist() == tree.nodes_at(2).tolist() == [1]
    for level, says in ((0, "level 0 is out of range; the levels are 1 to 2"), ("genus", "no level 'genus'")):
        with pytest.raises(RequestError, match=says):
            tree.nodes_at(level)  # type: ignore[arg-type]


@given(trees(), st.integers(1, 6), st.data())
@settings(max_examples=25, deadline=None)
def test_a_listing_has_every_node_to_a_depth_below_its_parent(
    tree: Taxonomy, depth: int, data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.integers(0, 9), min_size=len(tree), max_size=len(tree)))
    below = [[each for each in range(len(tree)) if node in line(tree, each)] for node in range(len(tree))]
    rows = tree_rows(tree, np.array(values), depth)
    assert sorted(row.node for row in rows) == np.flatnonzero(tree.level <= depth).tolist()
    stack: list[int] = []
    for row in rows:
        stack[row.above :] = [row.node]
        assert line(tree, row.node) == stack[::-1]
        assert row.images == sum(values[each] for each in below[row.node])
        ends = [each for each in below[row.node] if each != row.node and below[each] == [each]]
        assert row.leaves == len(ends)
    few = tree_rows(tree, np.array(values), depth, most=1)
    for of in {(tuple(line(tree, row.node)[1:])) for row in rows}:
        siblings = [row for row in rows if tuple(line(tree, row.node)[1:]) == of]
        assert [row.images for row in siblings] == sorted((row.images for row in siblings), reverse=True)
    for found in (rows, few):
        shown = [node for node in np.flatnonzero(tree.parent < 0) if tree.level[node] <= depth]
        total = sum(sum(values[each] for each in below[node]) for node in shown)
        assert sum(row.images for row in found if row.above == 0) == total


def test_what_is_many_is_summed_up() -> None:
    tree = Taxonomy(np.array([-1, *[0] * 50]), np.array([1, *[2] * 50]), tuple("a" * 51), LEVELS[:2])
    rows = tree_rows(tree, np.arange(51), 2, most=40)
    assert len(rows) == 42
    assert (rows[0].images, rows[0].leaves) == (1275, 50)
    assert (rows[41].more, rows[41].images, rows[41].leaves) == (10, 55, 10)


def test_nodes_are_called_by_name_or_path_and_parts_keep_what_is_above() -> None:
    parent = np.array([-1, -1, 0, 1, 1, 2])
    tree = Taxonomy(parent, np.array([1, 1, 2, 2, 2, 3]), ("P", "A", "x", "x", "y", "z"), LEVELS[:3])
    assert tree.called([2, 3, 4]) == ["P_x", "A_x", "y"]
    assert tree.called([2, 4]) == ["x", "y"]
    assert tree.by_path([2, 3, 4]).tolist() == [3, 4, 2]
    part, number = tree.part([4, 5])
    assert part.paths == ["P", "A", "P_x", "A_y", "P_x_z"]
    assert number.tolist() == [0, 1, 2, -1, 3, 4]
    assert tree.within([5, 3, -1], 2).tolist() == [2, 3, -1]


WALKS: dict[str, Callable[[Taxonomy], object]] = {
    "from_edges": lambda tree: from_edges(_edges(len(tree))),
    "from_columns": lambda tree: from_columns(
        {"species": [f"s {each % 9}" for each in range(len(tree))], "below": tree.names}
    ),
    "up": lambda tree: tree.up(np.ones(len(tree))),
    "down": lambda tree: tree.down(np.ones(len(tree)), np.ones(len(tree))),
    "nodes_at": lambda tree: replace(tree).nodes_at(3),  # anew, so that no path is known
    "called": lambda tree: replace(tree).called(np.arange(len(tree))),
    "ancestors": lambda tree: tree.ancestors(np.arange(len(tree)), 1),
    "part": lambda tree: tree.part(np.arange(0, len(tree), 3)),
    "children": lambda tree: [replace(tree).children(0)],
    "tree_rows": lambda tree: tree_rows(tree, np.ones(len(tree)), 2),
}


def _edges(nodes: int) -> list[tuple[str, str]]:
    """A tenth of the nodes are genera, in families of ten."""
    genera = nodes // 10
    edges = [(f"g{each}", f"f{each // 10}") for each in range(genera)]
    return edges + [(f"s{each}", f"g{each % genera}") for each in range(nodes - genera - genera // 10)]


@pytest.mark.parametrize("walk", WALKS)
def test_ten_times_the_nodes_take_about_ten_times_as_long(walk: str) -> None:
    def seconds(tree: Taxonomy) -> float:
        found = []
        for _ in range(3):
            began = time.process_time()
            WALKS[walk](tree)
            found.append(time.process_time() - began)
        return min(found)

    few, many = (from_edges(_edges(nodes))[0] for nodes in (4_000, 40_000))
    assert len(many) == 10 * len(few)
    # What grows with the square of the nodes takes up to a hundred times as long.
    assert seconds(many) < 25 * max(seconds(few), 2e-4)
