"""Tables from files: numbers become numbers only where nothing is lost, all else stays as it was."""

from __future__ import annotations

import csv
import datetime
import math

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from headwater.errors import RequestError
from headwater.store import read_table


def write(path, content: str | bytes):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_kinds_in_a_csv(tmp_path):
    table = read_table(
        write(
            tmp_path / "t.csv",
            "path,whole,real,id,text,hole,long,version,mixed\n"
            "a.jpg,1,1.5,007,x,,12345678901234567890,1.10,1\n"
            '"b, c.jpg",-20,2,010,"y ""q""",,5,1.2,one\n'
            '"line\nbreak",,nan,1,,,6,3,\n',
        )
    )
    assert table == {
        "path": ["a.jpg", "b, c.jpg", "line\nbreak"],
        "whole": [1, -20, None],
        "real": [1.5, 2.0, pytest.approx(float("nan"), nan_ok=True)],
        "id": ["007", "010", "1"],
        "text": ["x", 'y "q"', None],
        "hole": [None, None, None],
        "long": ["12345678901234567890", "5", "6"],
        "version": [1.1, 1.2, 3.0],
        "mixed": ["1", "one", None],
    }


def test_the_key_column_stays_text(tmp_path):
    file = write(tmp_path / "t.csv", "path,id\n1.50,1.50\n2,2\n")
    assert read_table(file) == {"path": ["1.50", "2"], "id": [1.5, 2.0]}
    assert read_table(file, key="id") == {"path": [1.5, 2.0], "id": ["1.50", "2"]}


def test_bytes_that_are_no_utf8_survive(tmp_path):
    table = read_table(write(tmp_path / "t.csv", b"path,n\ncaf\xe9.jpg,1\n,2\n"))
    assert table == {"path": ["caf\udce9.jpg", None], "n": [1, 2]}


def test_other_separators_and_a_byte_order_mark(tmp_path):
    truth = {"path": ["a,b"], "n": [1]}
    assert read_table(write(tmp_path / "t.tsv", "path\tn\na,b\t1\n")) == truth
    assert read_table(write(tmp_path / "s.csv", "path;n\na,b;1\n")) == truth
    assert read_table(write(tmp_path / "b.csv", b'\xef\xbb\xbfpath,n\r\n"a,b",1\r\n')) == truth


cells = st.text(st.characters(exclude_characters="\0\r", exclude_categories=("Cs",)), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(cells.filter(bool), cells), min_size=1, max_size=8))
def test_any_text_written_by_python_s_csv_comes_back(tmp_path, rows):
    with (tmp_path / "any.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(
            [("path", "text"), *((a, "x" + b) for a, b in rows)]
        )
    table = read_table(tmp_path / "any.csv")
    assert table == {"path": [a for a, _ in rows], "text": ["x" + b for _, b in rows]}


@given(
    values=st.lists(
        st.one_of(
            st.none(), st.integers(-(10**25), 10**25), st.floats(), st.text("0123456789+-.eE_ ", max_size=6)
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cell_is_only_made_a_number_when_it_is_one(tmp_path, values):
    texts = ["" if value is None else str(value) for value in values]
    with (tmp_path / "n.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("path", "v"), *(("k", text) for text in texts)])
    for text, value in zip(texts, read_table(tmp_path / "n.csv")["v"], strict=True):
        if isinstance(value, int):
            assert str(value) == text
        elif isinstance(value, float):
            assert value == float(text) or math.isnan(value)
        else:
            assert (value or "") == text


def test_parquet_values(tmp_path):
    table = pa.table(
        {
            "path": pa.array([1, 22]),
            "text": pa.array(["a", None]),
            "coded": pa.array(["x", "y"]).dictionary_encode(),
            "bytes": pa.array([b"caf\xe9", None]),
            "whole": pa.array([5, None], pa.int8()),
            "half": pa.array([1.5, None], pa.float16()),
            "flag": pa.array([True, None]),
            "day": pa.array([datetime.date(2024, 2, 29), None]),
            "null": pa.nulls(2),
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet") == {
        "path": ["1", "22"],
        "text": ["a", None],
        "coded": ["x", "y"],
        "bytes": ["caf\udce9", None],
        "whole": [5, None],
        "half": [1.5, None],
        "flag": [True, None],
        "day": ["2024-02-29", None],
        "null": [None, None],
    }


def test_what_is_no_table_is_refused(tmp_path):
    parquet.write_table(pa.table({"path": ["a"], "list": [[1, 2]]}), tmp_path / "nested.parquet")
    for name, content, said in (
        ("a.xlsx", b"", "no table that can be read"),
        ("missing.csv", None, "there is no table"),
        ("ragged.csv", b"path,n\na,1,2\n", "cannot be read as a table: .*Expected 2 columns, got 3"),
        ("twice.csv", b"path,n,n\na,1,2\n", "two columns named 'n'"),
        ("empty.csv", b"", "cannot be read as a table"),
        ("torn.parquet", b"PAR1....", "cannot be read as a table"),
        ("nested.parquet", None, "the column 'list' holds"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(RequestError, match=said) as caught:
            read_table(tmp_path / name)
        assert "\n" not in str(caught.value)
