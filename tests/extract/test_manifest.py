"""Manifests: which column holds the paths, what the others become, and what is refused with its line."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.extract.manifest import typed
from headwater.extract.rows import ReadError
from headwater.extract.sources import Source, open_source

from .pictures import encode

PICTURES = [encode(np.full((2, 2, 3), k, np.uint8), "PNG") for k in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for k, raw in enumerate(PICTURES):
        (tmp_path / "images" / f"{k}.png").write_bytes(raw)
    return tmp_path


def write(folder: Path, text: str, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def loaded(source: Source) -> list[int]:
    return [PICTURES.index(source.load(row)) for row in range(len(source.keys))]  # type: ignore[arg-type]


def test_order_paths_and_columns(folder: Path) -> None:
    path = write(
        folder, "path,y,place,split\nimages/2.png,1,water,0\nimages/0.png,0,,2\nimages/1.png,1,land,1\n"
    )
    source = open_source(path)
    assert list(source.keys) == ["images/2.png", "images/0.png", "images/1.png"]
    assert loaded(source) == [2, 0, 1]
    assert source.annotations == {"y": [1, 0, 1], "place": ["water", None, "land"], "split": [0, 2, 1]}
    assert source.skipped == 0


def test_identifiers_with_leading_zeros_stay_text(folder: Path) -> None:
    path = write(folder, "id,file_name,plain,real\n007,images/0.png,7,0.5\n42,images/1.png,42,-1e-3\n")
    annotations = open_source(path).annotations
    assert annotations == {"id": ["007", "42"], "plain": [7, 42], "real": [0.5, -0.001]}
    assert [type(v) for v in annotations["plain"]] == [int, int]


@given(st.lists(st.text(st.sampled_from("0123456789.-+eEnaif _"), max_size=6), max_size=5))
def test_typing_a_column_loses_nothing(cells: list[str]) -> None:
    values = typed(cells)
    for cell, value in zip(cells, values, strict=True):
        if not cell:
            assert value is None
        elif isinstance(value, int):
            assert str(value) == cell
        elif isinstance(value, float):
            assert value == float(cell) or (math.isnan(value) and cell.lower() == "nan")
            assert not cell.lstrip("-").startswith(
                ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09")
            )
        else:
            assert value == cell
    assert len({type(value) for value in values} - {type(None)}) <= 1


def test_typing_by_example() -> None:
    assert typed(["1", "", "-20", "0"]) == [1, None, -20, 0]
    assert typed(["1", "2.5", "", ".5"]) == [1.0, 2.5, None, 0.5]
    assert typed(["1", "02"]) == ["1", "02"]
    assert typed(["1", "x"]) == ["1", "x"]
    assert typed(["-0", "1"]) == [-0.0, 1.0]
    assert typed(["1", "99999999999999999999"]) == ["1", "99999999999999999999"]
    assert typed(["1.5", "12345678901234567"]) == ["1.5", "12345678901234567"]
    assert typed(["E0", "1"]) == ["E0", "1"]
    assert typed(["", ""]) == [None, None]
    assert typed(["inf", "1"]) == ["inf", "1"]
    assert typed(["a\udcff"]) == ["a\\xff"]


@pytest.mark.parametrize(
    "name", ["path", "file", "filename", "file_name", "Image", "IMG_FILENAME", "filepath", "image_path"]
)
def test_the_path_column_is_found_by_name(folder: Path, name: str) -> None:
    source = open_source(write(folder, f"id,{name}\n1,images/0.png\n"))
    assert (list(source.keys), list(source.annotations)) == (["images/0.png"], ["id"])


def test_a_named_path_column(folder: Path) -> None:
    path = write(folder, "image_id,file,path\nimages/1.png,a,b\n")
    source = open_source(path, path_column="image_id")
    assert loaded(source) == [1]
    assert source.annotations == {"file": ["a"], "path": ["b"]}


def test_a_named_path_column_of_numbers_stays_text(folder: Path) -> None:
    (folder / "7").write_bytes(PICTURES[0])
    source = open_source(write(folder, "id,y\n7,1\n"), path_column="id")
    assert list(source.keys) == ["7"]
    assert loaded(source) == [0]


def test_absolute_paths_and_paths_as_written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x.png"
    elsewhere.write_bytes(PICTURES[2])
    keys = [str(elsewhere), "./images/0.png", "images/../images/0.png", "images/1.png"]
    source = open_source(write(folder, "path\n" + "\n".join(keys) + "\n"))
    assert list(source.keys) == keys
    assert loaded(source) == [2, 0, 0, 1]


def test_it_works_from_any_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "path\nimages/1.png\n")
    monkeypatch.chdir(folder)
    source = open_source("m.csv")
    monkeypatch.chdir("/")
    assert loaded(source) == [1]


def test_a_byte_order_mark_windows_lines_quotes_and_blank_lines(folder: Path) -> None:
    text = '\ufeffpath,note\r\nimages/0.png,"a, ""b""\nc"\r\n\r\nimages/1.png,d\r\n'
    path = folder / "m.CSV"
    path.write_bytes(text.encode())
    source = open_source(path)
    assert list(source.keys) == ["images/0.png", "images/1.png"]
    assert source.annotations == {"note": ['a, "b"\nc', "d"]}


def test_tabs(folder: Path) -> None:
    assert loaded(open_source(write(folder, "path\ty\nimages/1.png\t3\n", "m.tsv"))) == [1]


def test_pandas_row_numbers_are_left_out(folder: Path) -> None:
    source = open_source(write(folder, ",path,y\n0,images/0.png,5\n1,images/1.png,6\n"))
    assert source.annotations == {"y": [5, 6]}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.binary(min_size=1, max_size=9).filter(
            lambda name: not {0, 47} & set(name) and name not in (b".", b"..")
        ),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_any_file_name_can_be_named(tmp_path_factory: pytest.TempPathFactory, names: list[bytes]) -> None:
    root = tmp_path_factory.mktemp("names")
    keys = [name.decode("utf-8", "surrogateescape") for name in names]
    for number, key in enumerate(keys):
        (root / key).write_bytes(bytes([number]))
    path = root.parent / f"{root.name}.csv"
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(
            [["path"], *[[f"{root.name}/{key}"] for key in keys]]
        )
    source = open_source(path)
    assert [source.load(row) for row in range(len(keys))] == [bytes([k]) for k in range(len(keys))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,y\n1,2\n",
            r"no column that is named like image paths \(its columns: 'id', 'y'\); name it with --path",
        ),
        ("path,file\na,b\n", r"several columns that may hold image paths \(its columns: 'path', 'file'\)"),
        ("path,y\na.png,1\nb.png,2\na.png,3\n", "names 'a.png' twice, in line 2 and line 4"),
        ("path,y\na.png,1\n,2\n", "in column 'path', line 3 of .* is empty"),
        ("path,y\n\na.png,1\n\n,2\n", "line 5 of .* is empty"),
        ("path,y\na.png,1,2\n", "line 2 of .* has 3 cells where the header has 2"),
        ("path,y\na.png\n", "line 2 of .* has 1 cells"),
        ('path,y\n"a.png,1\n', "is no CSV"),
        ("path,y,y\na.png,1,2\n", "two columns named 'y'"),
        ("path,,y\na.png,1,2\n", "a column without a name"),
        ("", "is empty; its first line must name the columns"),
        ("path,y\n", "has no rows"),
    ],
)
def test_what_is_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        open_source(write(folder, text))
    assert "\n" not in str(caught.value)


def test_an_unknown_path_column(folder: Path) -> None:
    with pytest.raises(RequestError, match="has no column 'where'; it has 'path', 'y'"):
        open_source(write(folder, "path,y\na,1\n"), path_column="where")


def test_missing_files_are_rows_that_fail(folder: Path) -> None:
    source = open_source(write(folder, "path\nimages/0.png\nimages/9.png\nimages\n"))
    assert source.load(0) == PICTURES[0]
    for row, reason in ((1, "no such file"), (2, "a folder, not a file")):
        with pytest.raises(ReadError, match=reason):
            source.load(row)


def test_parquet(folder: Path) -> None:
    table = pa.table(
        {
            "image": ["images/1.png", "images/0.png"],
            "id": ["007", None],
            "n": pa.array([5, None], pa.int32()),
            "x": [0.5, 1.5],
            "flag": [True, False],
            "place": pa.array(["land", "water"]).dictionary_encode(),
            "day": pa.array([0, 1], pa.date32()),
            "boxes": [[1, 2], [3]],
        }
    )
    path = folder / "m.parquet"
    pq.write_table(table, path)
    source = open_source(path)
    assert loaded(source) == [1, 0]
    assert source.annotations == {
        "id": ["007", None],
        "n": [5, None],
        "x": [0.5, 1.5],
        "flag": [1, 0],
        "place": ["land", "water"],
        "day": ["1970-01-01", "1970-01-02"],
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["a", "a"]}, "names 'a' twice, in row 1 and row 2"),
        ({"path": ["a", None]}, "row 2 of .* is empty"),
        ({"path": [1, 2]}, "holds 1, not text"),
        ({"id": ["a"]}, "no column that is named like"),
        ({"path": pa.array([], pa.string())}, "has no rows"),
    ],
)
def test_parquet_that_is_refused(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(RequestError, match=message):
        open_source(path)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot read the manifest .* as Parquet"):
        open_source(write(tmp_path, "path,y\na,1\n", "m.parquet"))


def test_a_table_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal is put in place of the reading, since no permission holds for the superuser."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.parquet").write_bytes(b"")
    monkeypatch.setattr("pyarrow.parquet.read_table", refuse)
    with pytest.raises(RequestError, match=r"may not be read; check its permissions"):
        open_source(tmp_path / "x.parquet")
