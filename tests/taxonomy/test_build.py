"""Taxonomies from columns, folders, edges and tables."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.taxonomy import LEVELS, Taxonomy, from_columns, from_edges, from_folders, read_table

NAMES = st.sampled_from([None, "", "a", "b", "a_b", "A"])


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), max_size=25))
@settings(max_examples=100, deadline=None)
def test_every_row_finds_its_own_path_again(rows: list[tuple[str | None, ...]]) -> None:
    columns = {level: [row[at] for row in rows] for at, level in enumerate(("one", "two", "three"))}
    tree, leaf = from_columns(columns)
    lines = [tuple((at, name) for at, name in enumerate(row, start=1) if name) for row in rows]

    def walk(node: int) -> tuple[tuple[int, str], ...]:
        if node < 0:
            return ()
        return (*walk(int(tree.parent[node])), (int(tree.level[node]), tree.names[node]))

    assert [walk(node) for node in leaf] == lines
    # One node for every beginning of a path, and no other.
    assert len(tree) == len({path[:end] for path in lines for end in range(1, len(path) + 1)})


def test_homonyms_are_told_apart_by_their_place() -> None:
    folders = [
        "00000_Animalia_Arthropoda_Insecta_Hymenoptera_Braconidae_Agathis_montana",
        "00001_Plantae_Tracheophyta_Pinopsida_Pinales_Araucariaceae_Agathis_robusta",
        "00002_Animalia_Arthropoda_Insecta_Hymenoptera_Braconidae_Agathis_varipes_minor",
    ]
    tree, leaf = from_folders(folders)
    assert [tree.names[node] for node in tree.nodes_at("genus")] == ["Agathis", "Agathis"]
    assert [tree.names[node] for node in leaf] == [
        "Agathis montana",
        "Agathis robusta",
        "Agathis varipes minor",
    ]
    assert np.unique(tree.ancestors(leaf, "genus")).size == 2
    assert tree.path(int(tree.ancestors(leaf, 2)[1])) == "Plantae_Tracheophyta"


@pytest.mark.parametrize(
    "folder", ["cats", "00000_Animalia_Chordata", "Animalia_a_b_c_d_e_f", "1_animalia_a_b_c_d_e_f"]
)
def test_a_folder_of_another_kind_is_named(folder: str) -> None:
    with pytest.raises(RequestError, match=f"'{folder}' is not named like 00000_Animalia"):
        from_folders([folder])


def test_a_species_under_two_parents_is_refused() -> None:
    columns = {"family": ["Felidae"] * 2, "genus": ["Felis", "Lynx"], "species": ["Felis catus"] * 2}
    assert len(from_columns(columns)[0]) == 5
    with pytest.raises(
        RequestError, match=r"'Felis catus' stands under two parents, 'Felidae_Felis' and 'Felidae_Lynx'"
    ):
        from_columns(columns, one_parent="species")
    folders = [
        "0_Animalia_Chordata_Mammalia_Carnivora_Felidae_Felis_catus",
        "1_Animalia_Chordata_Mammalia_Carnivora_Felidea_Felis_catus",
    ]
    with pytest.raises(
        RequestError, match=r"two parents, '.*_Felidae_Felis' and '.*_Felidea_Felis'; correct"
    ):
        from_folders(folders)
    # A name may be given anew in another kingdom: there are a wasp and a conifer of this one.
    folders = [
        "0_Animalia_Arthropoda_Insecta_Hymenoptera_Braconidae_Agathis_montana",
        "1_Plantae_Tracheophyta_Pinopsida_Pinales_Araucariaceae_Agathis_montana",
    ]
    tree, leaf = from_folders(folders)
    assert [name.partition("_")[0] for name in tree.called(leaf)] == ["Animalia", "Plantae"]


@pytest.mark.parametrize("name", ["Felis catus", "Felis-catus", "felis_catus"])
@pytest.mark.parametrize("rank", ["species", "sp"])
def test_how_a_full_name_or_its_level_is_spelled_decides_nothing(name: str, rank: str) -> None:
    ranks = ("kingdom", "family", "genus", rank)
    cats = [
        ("Animalia", "Felidae", "Felis", name),
        ("Animalia", "Felidea", "Felis", name),
        ("Animalia", "Felidae", "Lynx", name),
        ("Plantae", "Felidae", "Felis", name),
        ("Plantae", "Felidae", "Lynx", name),
    ]

    def tree_of(*rows: tuple[str, ...], one_parent: str | None = rank) -> tuple[Taxonomy, np.ndarray]:
        return from_columns(dict(zip(ranks, zip(*rows, strict=True), strict=True)), one_parent=one_parent)

    wolf = ("Animalia", "Canidae", "Canis", "Canis lupus")
    for other, one, two in (
        (1, "Animalia_Felidae_Felis", "Animalia_Felidea_Felis"),
        (2, "Animalia_Felidae_Felis", "Animalia_Felidae_Lynx"),
    ):
        with pytest.raises(
            RequestError, match=f"the {rank} {name!r} stands under two parents, '{one}' and '{two}'; correct"
        ):
            tree_of(cats[0], wolf, cats[other])
    # Where nothing is said of the level, every place is a node, and so it is at the levels above.
    tree, leaf = tree_of(*cats, one_parent=None)
    assert [tree.path(node) for node in leaf] == ["_".join(row) for row in cats]
    for plant in cats[3:]:
        tree, leaf = tree_of(cats[0], plant)
        assert len(tree.nodes_at(rank)) == 2
    upper = [(*cats[0][:3], "one"), (*cats[1][:3], "two")]
    assert len(tree_of(*upper)[0].nodes_at("genus")) == 2


@pytest.mark.parametrize(
    "names", [("vulgaris", "vulgaris", "alba", "rubra"), ("other", "other", "a b", "b c")]
)
def test_names_that_say_no_parent_are_kept_apart(names: tuple[str, ...]) -> None:
    genera = ("Beta", "Sturnus", "Beta", "Quercus")
    tree, leaf = from_columns({"kingdom": ["K"] * 4, "genus": genera, "species": names}, one_parent="species")
    assert [tree.path(node) for node in leaf] == [
        f"K_{one}_{two}" for one, two in zip(genera, names, strict=True)
    ]


@given(st.integers(1, 40), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_edges_in_any_order_make_the_tree(nodes: int, random: object) -> None:
    above = {str(node): str(random.randrange(node)) if node else None for node in range(nodes)}  # type: ignore[attr-defined]
    edges = list(above.items())
    random.shuffle(edges)  # type: ignore[attr-defined]
    tree, places = from_edges(edges)
    assert len(tree) == nodes
    for name, parent in above.items():
        node = places[name]
        assert tree.names[node] == name
        assert tree.parent[node] == (-1 if parent is None else places[parent])
        at, depth = parent, 1
        while at is not None:
            at, depth = above[at], depth + 1
        assert tree.level[node] == depth


@pytest.mark.parametrize(
    ("edges", "levels", "says"),
    [
        (
            [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")],
            (),
            "circle: . under . under . under .; a taxonomy",
        ),
        ([("a", "a")], (), "circle: a under a"),
        ([("a", "b"), ("a", "c")], (), "'a' has two parents, 'b' and 'c'"),
        ([("a", "b"), ("a", None)], (), "'a' has two parents"),
        ([("", "b")], (), "edge 1 has no child"),
        ([("a", "b")], ("one",), "2 levels, but only 1 level names"),
    ],
)
def test_edges_that_make_no_tree_are_refused(
    edges: list[tuple[str, str | None]], levels: tuple[str, ...], says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        from_edges(edges, levels)


def test_a_table_of_species_is_read(tmp_path: Path) -> None:
    table = tmp_path / "species.csv"
    table.write_text("kingdom,phylum,id,species\nA,P,1,x\nA,P,2,y\nB,P,3,z\n")
    tree, leaf = read_table(table, ("kingdom", "phylum", "species"))
    assert tree.describe() == "2 kingdom, 2 phylum, 3 species"
    assert [tree.path(int(node)) for node in leaf] == ["A_P_x", "A_P_y", "B_P_z"]
    with pytest.raises(RequestError, match="no column 'genus'"):
        read_table(table, ("genus",))


def test_columns_of_different_lengths_and_none_at_all_are_refused() -> None:
    with pytest.raises(RequestError, match="at least one level"):
        from_columns({})
    with pytest.raises(RequestError, match="genus 1, species 2"):
        from_columns({"genus": ["a"], "species": ["b", "c"]})
    assert LEVELS[1] == "phylum"
