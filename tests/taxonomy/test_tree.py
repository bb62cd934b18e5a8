"""Walking and weighing a taxonomy, against walks node by node."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.taxonomy import LEVELS, Taxonomy, tree_lines


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


def test_lines_show_counts_to_a_depth_and_sum_up_what_is_many() -> None:
    parent = np.array([-1, 0, 0, *[1] * 50])
    level = np.array([1, 2, 2, *[3] * 50])
    names = ("Animalia", "Chordata", "Mollusca", *(f"C{n}" for n in range(50)))
    tree = Taxonomy(parent, level, names, LEVELS[:3])
    counts = np.array([0, 0, 4, *range(50)])
    shown = tree_lines(tree, counts, "phylum")
    assert shown == [
        "Animalia  1,229 images, 51 class",
        "  Chordata  1,225 images, 50 class",
        "  Mollusca  4 images",
    ]
    assert tree_lines(tree, counts, 3)[42] == "    … 10 more, 45 images"
