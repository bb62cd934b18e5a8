"""Annotations: joined by key in any order, typed, with missing values, refused whole when they do not fit."""

from __future__ import annotations

import unicodedata
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.store import (
    Column,
    StoreWriter,
    add_columns,
    annotate,
    column_from_values,
    drop_annotations,
    open_store,
    pack,
    verify,
)

values = st.one_of(
    st.lists(
        st.one_of(st.none(), st.text(st.characters(exclude_characters="\0"), max_size=5)),
        min_size=6,
        max_size=6,
    ),
    st.lists(st.one_of(st.none(), st.integers(-(2**63) + 1, 2**63 - 1)), min_size=6, max_size=6),
    st.lists(st.one_of(st.none(), st.floats(allow_nan=False)), min_size=6, max_size=6),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(column=values, order=st.permutations(range(6)), name=st.text("ab/%.é 2EF\n", min_size=1))
def test_values_come_back_at_their_rows(make, tmp_path_factory, column, order, name):
    made = make(written=False, keys=list("uvwxyz"))
    path = made.write(tmp_path_factory.mktemp("any") / "store")
    annotate(
        path,
        {"key of the row": [made.keys[row] for row in order], name: [column[row] for row in order]},
        key="key of the row",
    )
    found = open_store(path).annotations
    assert found.names == (name,)
    plain = [None if value == "" else value for value in column]
    assert found[name].missing.tolist() == [value is None for value in plain]
    if found[name].categories is None:
        back = [
            None if gone else value
            for value, gone in zip(found[name].values.tolist(), found[name].missing, strict=True)
        ]
    else:
        back = found[name].texts()
    assert back == plain


def test_kinds_of_columns(make):
    made = make(keys=list("abcd"))
    annotate(
        made.path,
        {
            "path": list("dcba"),
            "class": ["x", None, "z", "x"],
            "n": np.array([4, 3, 2, 1], np.int16),
            "flag": [True, False, None, True],
            "real": [1, 2.5, float("nan"), None],
            "empty": [None, "", None, float("nan")],
            "array": np.array(["007", "7", "", "b"], dtype=object),
        },
    )
    found = open_store(made.path).annotations
    assert found.names == ("class", "n", "flag", "real", "empty", "array")
    kinds = ["category", "int", "int", "float", "category", "category"]
    assert [column.kind for column in found.values()] == kinds
    assert found["class"].categories == ("x", "z")
    assert found["class"].values.tolist() == [0, 1, -1, 0]
    assert found["n"].values.tolist() == [1, 2, 3, 4]
    assert found["flag"].values.tolist() == [1, np.iinfo(np.int64).min, 0, 1]
    np.testing.assert_array_equal(found["real"].values, [np.nan, np.nan, 2.5, 1])
    assert found["empty"].missing.all()
    assert found["array"].texts() == ["b", None, "7", "007"]
    assert not found["class"].values.flags.writeable


def test_any_column_as_categories():
    numbers = column_from_values("n", [10, None, 9, 10])
    codes, names = numbers.codes()
    assert (codes.tolist(), codes.dtype, names) == ([1, -1, 0, 1], np.int64, ("9", "10"))
    assert column_from_values("r", [0.5, float("nan")]).codes()[1] == ("0.5",)
    texts = Column("t", np.array([2, -1, 0], np.int32), ("a", "b", "c"))
    assert texts.codes()[0].tolist() == [2, -1, 0]
    assert texts.codes()[1] == ("a", "b", "c")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (["a", 1], "mixes text with numbers such as 1"),
        ([[1], [2]], "of type list"),
        ([2**63, 0], "out of range"),
        ([-(2**63), 0], "out of range"),
        (np.array([2**64 - 1, 0], np.uint64), "too large"),
        (np.zeros((2, 2)), "one value per row"),
        (["a\0b", ""], "NUL character"),
    ],
)
def test_values_that_are_no_column_are_refused(column, said):
    with pytest.raises(RequestError, match=said):
        column_from_values("name", column)


def test_unknown_keys_are_counted_shown_and_explained(make):
    nfc, nfd = unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg")
    made = make(keys=["a/Bird.jpg", nfc, "line\nbreak"])
    for keys, said in (
        (
            ["a/Bird.jpg", nfd, "line\nbreak"],
            "1 of the table's 3 keys are not in .*differ only by Unicode normalisation",
        ),
        (["a/bird.jpg", nfc, "line\nbreak"], "differ only by letter case"),
        (["Bird.jpg", nfc, "line\nbreak"], r"start with the leading folder 'a/'"),
        (
            ["1\n", "2", "3", "4", "5"],
            r"5 of the table's 5 keys .*: '1\\n', '2', '3' and 2 more; correct or remove",
        ),
    ):
        with pytest.raises(RequestError, match=said) as caught:
            annotate(made.path, {"path": keys, "n": range(len(keys))})
        assert "\n" not in str(caught.value)
    assert not (made.path / "annotations.h5").exists()


def test_missing_keys_are_an_error_unless_allowed(make):
    made = make()
    table = {"path": made.keys[5:], "n": list(range(20)), "class": ["a"] * 20}
    with pytest.raises(
        RequestError, match=r"leaves out 5 of the 25 rows .*: 'class 0/image 0.jpg', .* and 2 more; add"
    ):
        annotate(made.path, table)
    annotate(made.path, table, allow_missing=True)
    found = open_store(made.path).annotations
    assert found["n"].missing.tolist() == found["class"].missing.tolist() == [True] * 5 + [False] * 20


def test_replacing_and_dropping(make):
    made = make(keys=["a", "b"])
    annotate(made.path, {"path": ["a", "b"], "x": [1, 2], "y": ["p", "q"]})
    with pytest.raises(RequestError, match="has the column 'x' already"):
        annotate(made.path, {"path": ["a", "b"], "x": [3, 4], "z": [0, 0]})
    with pytest.raises(RequestError, match=r"has the columns 'x', 'y' already; .* they may .* new ones"):
        annotate(made.path, {"path": ["a", "b"], "x": [3, 4], "y": ["p", "p"], "z": [0, 0]})
    store = open_store(made.path)
    assert store.annotations.names == ("x", "y")
    annotate(made.path, {"path": ["b", "a"], "x": [3, 4], "z": [0, 0]}, replace=True)
    assert store.annotations["x"].values.tolist() == [4, 3]  # an open store sees the change
    assert store.annotations.names == ("x", "y", "z")
    with pytest.raises(RequestError, match="no column 'nope' to drop; it has x, y, z"):
        drop_annotations(made.path, ["x", "nope"])
    drop_annotations(made.path, ["x", "z"])
    assert store.annotations.names == ("y",)
    with pytest.raises(RequestError, match="no column 'x'; it has y"):
        _ = store.annotations["x"]
    assert verify(made.path).ok


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"file": ["a", "b"], "x": [1, 2]}, "no column 'path' to join by"),
        ({"path": ["a", "b"]}, "no column besides 'path'"),
        ({"path": ["a", "b"], "x": [1]}, "1 values for 2 keys"),
        ({"path": ["a", "a"], "x": [1, 2]}, "'a' more than once"),
        ({"path": ["a", "b"], "": [1, 2]}, "needs a name"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(make, table, said):
    made = make(keys=["a", "b"])
    with pytest.raises(RequestError, match=said):
        annotate(made.path, table)


def test_a_packed_file_is_not_annotated_and_the_way_out_is_named(make):
    made = make(keys=["a", "b"])
    packed = pack(made.path, made.path.with_suffix(".h5"))
    before = packed.read_bytes()
    with pytest.raises(RequestError, match=f"headwater store import {packed} --out FOLDER"):
        annotate(packed, {"path": ["a", "b"], "x": [1, 2]})
    assert packed.read_bytes() == before


def test_an_unfinished_store_can_be_annotated_while_it_is_written(make):
    made = make(written=False)
    with StoreWriter(made.path, made.plan, made.keys):
        annotate(made.path, {"path": made.keys, "n": range(25)})
    assert open_store(made.path, unfinished=True).annotations["n"].values.tolist() == list(range(25))


def test_two_who_annotate_at_once_lose_nothing(make):
    made = make()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: annotate(made.path, {"path": made.keys, f"c{n}": [n] * 25}), range(12)))
    found = open_store(made.path).annotations
    assert {name: set(column.values.tolist()) for name, column in found.items()} == {
        f"c{n}": {n} for n in range(12)
    }


def test_aligned_columns_must_fit(make):
    made = make()
    with pytest.raises(RequestError, match="3 values for 25 rows"):
        add_columns(made.path, [column_from_values("x", [1, 2, 3])])


def test_a_table_of_species_gives_every_row_the_levels_of_its_own(make):
    made = make(keys=list("uvwxyz"))
    species = ["cat", "dog", None, "cat", "ant", "dog"]
    annotate(made.path, {"path": made.keys, "species": species})
    table = {"species": ["ant", "bee", "cat", "dog"], "kin": ["insect", "insect", "beast", "beast"]}
    assert annotate(made.path, table, key="species", by="species") == ["kin"]
    assert open_store(made.path).annotations["kin"].texts() == [
        "beast",
        "beast",
        None,
        "beast",
        "insect",
        "beast",
    ]
    other = {"name": ["cat", "dog"], "size": [3, 4]}
    with pytest.raises(
        RequestError, match=r"leaves out 1 of the values in column 'species' .*: 'ant'; add them"
    ):
        annotate(made.path, other, key="name", by="species")
    annotate(made.path, other, key="name", by="species", allow_missing=True)
    assert open_store(made.path).annotations["size"].missing.tolist() == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]
    with pytest.raises(RequestError, match="the key 'cat' more than once"):
        annotate(made.path, {"species": ["cat", "cat"], "b": [1, 2]}, key="species", by="species")
    with pytest.raises(RequestError, match="no column 'kind'"):
        annotate(made.path, other, key="name", by="kind")
