"""Tasks whose target and groups are levels of one taxonomy, against a naive reading of every row's line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.heads.evaluation import report_on, small_groups
from headwater.heads.methods import plan
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.tasks.task import Task
from headwater.store import annotate, drop_annotations, import_features, open_store, pack, set_levels
from headwater.taxonomy import LEVELS, Taxonomy, from_edges

LEVEL_NAMES = ("realm", "kind", "sort", "breed")
CELL = st.sampled_from(["", "a", "b", "c"])


def columns_of(rows: list[tuple[str, ...]], names: tuple[str, ...] = LEVEL_NAMES) -> dict[str, list[str]]:
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def zeros(rows: int) -> np.ndarray:
    return np.zeros((rows, 2), dtype=np.float32)


@given(
    st.lists(st.tuples(CELL, CELL, CELL, CELL), min_size=1, max_size=30),
    st.integers(1, 4).flatmap(lambda at: st.tuples(st.just(at), st.integers(at, 4))),
)
@settings(max_examples=150, deadline=None)
def test_classes_and_groups_are_the_nodes_of_every_rows_line(
    rows: list[tuple[str, ...]], asked: tuple[int, int]
) -> None:
    at, deep = asked
    rows = [*rows, ("a", "a", "a", "a"), ("b", "b", "b", "b")]
    # Names that differ between levels, or paths over skipped ones could be the same.
    rows = [tuple(name and f"{name}{level}" for level, name in enumerate(row)) for row in rows]
    # A name of the last level may stand in one place below a root only.
    rows = [(*row[:3], row[3] and "-".join(row)) for row in rows]
    task = Task.from_arrays(zeros(len(rows)), at, deep, levels=columns_of(rows))
    # A line is what a row says down to the groups' level; its class what it says down to the target's.
    lines = [tuple((level, name) for level, name in enumerate(row[:deep], 1) if name) for row in rows]
    classes = [
        tuple(step for step in line if step[0] <= at) if row[at - 1] else None
        for line, row in zip(lines, rows, strict=True)
    ]
    order = sorted({line for line in classes if line}, key=lambda line: "_".join(name for _, name in line))
    joined = ["_".join(name for _, name in line) for line in order]
    tree, node, level = task.tree.tree, task.tree.node, task.tree.target_level
    assert (level, task.target_name) == (at, LEVEL_NAMES[at - 1])
    seen = {}
    for row, line in enumerate(classes):
        assert (task.target[row] < 0) == (line is None)
        if line is not None:
            assert joined[task.target[row]] == "_".join(name for _, name in line)
            assert seen.setdefault(line, task.target[row]) == task.target[row]
    assert sorted(seen.values()) == list(range(len(task.classes)))
    part = [line for line, known in zip(lines, classes, strict=True) if known]
    inner = {line[:end] for line in part for end in range(len(line))}
    found = {}
    for row, line in enumerate(lines):
        is_group = classes[row] is not None and line not in inner
        assert (task.groups[row] >= 0) == is_group
        if is_group:
            assert found.setdefault(line, task.groups[row]) == task.groups[row]
            mine = node[task.groups[row]]
            walked = []
            while mine >= 0:
                walked.append((int(tree.level[mine]), tree.names[mine]))
                mine = tree.parent[mine]
            assert tuple(reversed(walked)) == line
    assert sorted(found.values()) == list(range(len(task.group_names)))
    assert len(set(task.classes)) == len(task.classes)
    # Each group's class is the node above it, and domains tell groups apart below the classes' level alone.
    above = tree.ancestors(node, level)
    assert len(set(above.tolist())) <= len(task.classes)
    known = task.groups >= 0
    assert ((task.domains >= 0) == known).all()
    assert len(np.unique(task.domains[known])) == (len(found) if deep > at else min(1, len(found)))


def test_homonyms_are_called_by_their_path_and_order_is_the_paths() -> None:
    # A row for each species, as an id would have: levels are never refused for it.
    rows = [(f"K{n % 2}", "Zebra" if n % 2 == 0 else "Ant", "Agathis", f"s{n:03}") for n in range(100)] + [
        ("K1", "Bee", "Agathis", "t")
    ]
    task = Task.from_arrays(zeros(101), "kind", "breed", levels=columns_of(rows))
    assert task.classes == ("Zebra", "Ant", "Bee")  # K0_Zebra, K1_Ant, K1_Bee
    assert len(task.group_names) == 101
    assert task.group_columns == ("breed",)
    sorts = Task.from_arrays(zeros(101), "realm", "sort", levels=columns_of(rows))
    assert sorts.group_names == ("K0_Zebra_Agathis", "K1_Ant_Agathis", "K1_Bee_Agathis")
    assert sorts.tree.tree.level_names == ("realm", "kind", "sort")
    as_classes = Task.from_arrays(zeros(101), "sort", levels=columns_of(rows))
    assert as_classes.classes == as_classes.group_names == sorts.group_names
    assert as_classes.group_columns == ()
    again = Task.from_arrays(
        zeros(101), "sort", levels=columns_of(rows), classes=["K1_Bee_Agathis", *sorts.group_names[:2]]
    )
    assert again.classes[again.target[100]] == "K1_Bee_Agathis"
    assert again.target[100] == 0


def test_a_tree_with_each_rows_node_is_a_task_too() -> None:
    tree, place = from_edges([("Felis", "cat"), ("Lynx", "cat"), ("Canis", "dog"), ("domestic", "Felis")])
    nodes = [place[name] for name in ("Felis", "Lynx", "Canis", "domestic", "Canis")]
    task = Task.from_arrays(zeros(5), 1, 2, levels=(tree, np.array(nodes)))
    assert task.classes == ("cat", "dog")
    assert [task.group_names[group] for group in task.groups] == ["Felis", "Lynx", "Canis", "Felis", "Canis"]
    deep = Task.from_arrays(zeros(5), 1, 3, levels=(tree, np.array(nodes)))
    # The first row's line ends where the fourth's goes on: which of the groups below it is is unknown.
    assert [deep.group_names[group] if group >= 0 else "" for group in deep.groups] == [
        "",
        "Lynx",
        "Canis",
        "domestic",
        "Canis",
    ]


@pytest.mark.parametrize(
    ("target", "groups", "says"),
    [
        ("sort", "kind", "groups' level 'kind' lies above the target's, 'sort'; .*below it \\(breed\\)"),
        (5, None, "level 5 is out of range; the levels are 1 to 4: realm, kind, sort, breed"),
        (0, None, "level 0 is out of range"),
        ("1", ["9"], "level 9 is out of range"),
        ("race", None, "no level 'race'; its levels are realm, kind, sort, breed"),
        ("kind", [[0, 1]], "target and groups are names or numbers of levels, and not list"),
    ],
)
def test_levels_that_cannot_be_meant(target: Any, groups: Any, says: str) -> None:
    rows = [("a", "b", "c", "d"), ("b", "b", "c", "d")]
    with pytest.raises(RequestError, match=says):
        Task.from_arrays(zeros(2), target, groups, levels=columns_of(rows))


def test_species_that_train_lacks_are_counted_and_refused_by_none() -> None:
    random = np.random.default_rng(0)
    rows = [(f"k{n % 2}", f"s{n % 2}", "x", f"b{n % 10}") for n in range(80)]
    split = ["train"] * 60 + ["test"] * 20
    for row in range(60, 64):
        rows[row] = ("k0", "s0", "x", f"new {row % 2}")
    features = random.normal(size=(80, 4)).astype(np.float32)
    task = Task.from_arrays(features, "realm", "breed", split, levels=columns_of(rows))
    assert {name: small_groups(task)[name] for name in ("new 0", "new 1")} == {"new 0": 0, "new 1": 0}
    for name in ("RWG", "GroupDRO", "SUBG", "HierRW"):
        (fitted,) = run_recipes(task, [plan(task, name)])
        (report,) = report_on(task, [fitted.head], "test")
        assert {group.name: group.count for group in report.by_group}["new 1"] == 2
    # Without a taxonomy a group that train lacks is an obstacle, as it was.
    crossed = [", ".join(row[1:]) for row in rows]
    plain = Task.from_arrays(features, [row[0] for row in rows], crossed, split)
    assert (task.groups_may_lack_rows, plain.groups_may_lack_rows) == (True, False)
    plan(replace(plain, groups_may_lack_rows=True), "RWG")
    with pytest.raises(RequestError, match="at least 1 row of every group in split 'train'"):
        plan(replace(plain, hierarchy=plain.tree), "RWG")
    with pytest.raises(RequestError, match="at least 1 row of every group in split 'train'"):
        plan(plain, "RWG")


def test_bad_trees_nodes_and_names_get_one_sentence() -> None:
    genera = ["Felis", "Lynx"]
    for name in ("Felis catus", "felis-catus"):
        cats = {"family": ["Felidae"] * 2, "genus": genera, "species": [name] * 2}
        with pytest.raises(
            RequestError,
            match=f"species '{name}' stands under two parents, 'Felidae_Felis' and 'Felidae_Lynx'; correct",
        ):
            Task.from_arrays(zeros(2), "genus", "species", levels=cats)
        # That is known of the last level alone, here not used or with one below, and of one tree alone.
        assert Task.from_arrays(zeros(2), "genus", levels=cats).classes == ("Felis", "Lynx")
        deeper = Task.from_arrays(zeros(2), "genus", "species", levels={**cats, "sex": ["f", "m"]})
        assert deeper.group_names == (f"Felidae_Felis_{name}", f"Felidae_Lynx_{name}")
        del cats["family"]
        trees = Task.from_arrays(zeros(2), "genus", "species", levels=cats)
        assert trees.group_names == (f"Felis_{name}", f"Lynx_{name}")
    with pytest.raises(RequestError, match="both called 'a_b_c', path and all"):
        Task.from_arrays(zeros(4), 2, levels={"x": ["a_b", "a", "z", "z"], "y": ["c", "b_c"] * 2})
    with pytest.raises(RequestError, match="two groups are both called 'a_b_c', path and all; rename one"):
        Task.from_arrays(
            zeros(4),
            "w",
            "y",
            levels={"w": ["a", "a", "z", "z"], "x": ["b_c", "b", "b_c", "u"], "y": ["", "c", "", "c"]},
        )
    with pytest.raises(RequestError, match="two groups are both called 'a, b, c'"):
        Task.from_arrays(zeros(3), ["a, b", "a", "z"], {"place": ["c", "b, c", "c"]})
    tree = Taxonomy(np.array([-1, -1]), np.array([1, 1]), ("a", "b"), ("one",))
    with pytest.raises(RequestError, match="a row has the node 2, and the taxonomy has nodes 0 to 1"):
        Task.from_arrays(zeros(2), "one", levels=(tree, np.array([0, 2])))
    with pytest.raises(RequestError, match="levels has 2 rows, the features 3"):
        Task.from_arrays(zeros(3), "one", levels={"one": ["a", "b"]})


def test_a_stores_levels_are_targets_and_groups_by_any_two(
    store_at: Callable[..., Path], tmp_path: Path
) -> None:
    path = store_at()
    store = open_store(path)
    birds, places = store.annotations["class"].texts(), store.annotations["place"].texts()
    sorts = [f"{bird} {row % 3}" if row % 7 else None for row, bird in enumerate(birds)]
    annotate(path, {"path": store.keys.tolist(), "realm": [f"{b}s" for b in birds], "sort": sorts})
    crossed = Task.from_store(open_store(path), "class", ["sort"])
    assert crossed.hierarchy is None  # no one has said that these are levels
    assert crossed.group_names[0] == "landbird, landbird 0"
    set_levels(path, ("realm", "class", "sort"))
    pack(path, tmp_path / "packed.h5")
    import_features(tmp_path / "packed.h5", tmp_path / "again.store")
    for where in (path, tmp_path / "packed.h5", tmp_path / "again.store"):
        store = open_store(where)
        assert store.annotations.levels == ("realm", "class", "sort")
        task = Task.from_store(store, "class", ["sort", "class"])
        assert (task.group_columns, task.tree.target_level) == (("sort",), 2)
        for row in range(1, len(store)):  # the first failed to extract
            assert task.classes[task.target[row]] == birds[row]
            assert (task.group_names[task.groups[row]] if task.groups[row] >= 0 else None) == sorts[row]
    task = Task.from_store(store, "class", ["place", "sort"])
    assert task.group_columns == ("sort", "place")
    assert task.tree.tree.level_names == ("realm", "class", "sort", "place")
    for row in np.flatnonzero(task.groups >= 0).tolist():
        assert task.group_names[task.groups[row]] == f"{sorts[row]}, {places[row]}"
        assert task.tree.tree.path(task.tree.node[task.groups[row]]).split("_") == [
            f"{birds[row]}s",
            birds[row],
            sorts[row],
            places[row],
        ]
    plain = Task.from_store(store, 2, ["place"])
    assert plain.group_names[:2] == ("landbird, land", "landbird, water")
    assert sorted(set(plain.domains.tolist())) == [-1, 0, 1]
    annotate(path, {"path": open_store(path).keys.tolist(), "id": open_store(path).keys.tolist()})
    with pytest.raises(RequestError, match=r"column 'id' has .* fewer than two rows each"):
        Task.from_store(open_store(path), "class", ["id"])
    drop_annotations(path, ["class"])
    assert open_store(path).annotations.levels == ("realm", "sort")


def test_the_seven_levels_need_no_saying_and_wrong_ones_are_refused(store_at: Callable[..., Path]) -> None:
    path = store_at()
    keys = open_store(path).keys.tolist()
    species = [
        ("Animalia", "Chordata", "Aves", "x", "y", "Agathis", f"Agathis {n % 5}") for n in range(len(keys))
    ]
    table = columns_of(species, LEVELS)
    annotate(
        path, {"path": keys, **{name: table[name] for name in LEVELS if name != "species"}}, replace=True
    )
    assert Task.from_store(open_store(path), "place", ["genus"]).hierarchy is None
    with pytest.raises(RequestError, match="one class only, 'Agathis'"):
        Task.from_store(open_store(path), "genus")
    annotate(path, {"path": keys, "species": table["species"]})
    assert len(Task.from_store(open_store(path), 7).classes) == 5
    for names, says in (
        (("genus", "kin"), "no column 'kin' for a level"),
        (("genus", "temperature"), "'temperature' holds real numbers"),
        (("genus", "genus"), "named twice"),
    ):
        with pytest.raises(RequestError, match=says):
            set_levels(path, names)
