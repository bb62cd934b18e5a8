"""Verification: whatever bit of a store is flipped is found, as are rows that stand in the wrong place."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from headwater.errors import HeadwaterError, RequestError
from headwater.store import annotate, open_store, pack, verify
from headwater.store.annotations import write_annotations
from headwater.store.columns import Column
from headwater.store.shard import write_shard


@pytest.fixture
def annotated(make):
    made = make(rows=13, rows_per_shard=8, views=1, failed={2: "broken"})
    annotate(made.path, {"path": made.keys, "class": ["a", "b"] * 6 + [None], "n": list(range(13))})
    return made


def test_a_sound_store_has_no_problems(annotated):
    report = verify(annotated.path)
    assert report.ok
    assert report.notes == []
    assert (report.rows, report.failed_rows, report.files) == (13, 1, 6)


def is_found(path: Path) -> bool:
    try:
        return not verify(path).ok
    except HeadwaterError as error:
        return "upgrade headwater" in str(error)  # the format's number itself was flipped


def places(size: int, generator: np.random.Generator) -> list[int]:
    """Every region of a file: the seal's lines, its padding, HDF5's own bytes, the data, and the very end."""
    return [*range(0, 300, 23), 3000, 4095, 4096, size - 1, *generator.integers(4096, size, 40).tolist()]


@pytest.mark.parametrize("name", ["shard-00000.h5", "shard-00001.h5", "index.h5", "annotations.h5"])
def test_any_flipped_bit_of_a_file_is_found(annotated, name):
    generator = np.random.default_rng(5)
    file = annotated.path / name
    whole = file.read_bytes()
    for place in places(len(whole), generator):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(generator.integers(8))
        file.write_bytes(flipped)
        problems = verify(annotated.path).problems
        assert [problem.what.startswith(f"{name} is damaged") for problem in problems] == [True], place
        assert problems[0].way_out
    file.write_bytes(whole)
    assert verify(annotated.path).ok


@pytest.mark.parametrize("name", ["plan.json", "plan.keys"])
def test_any_flipped_bit_of_the_plan_is_found(annotated, name):
    file = annotated.path / name
    whole = file.read_bytes()
    for place in range(0, len(whole), 3 if name == "plan.json" else 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        file.write_bytes(flipped)
        assert is_found(annotated.path), place


def test_any_flipped_bit_of_a_packed_file_is_found(annotated):
    file = pack(annotated.path, annotated.path.with_suffix(".h5"))
    assert verify(file).ok
    whole = file.read_bytes()
    generator = np.random.default_rng(6)
    for place in places(len(whole), generator):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(generator.integers(8))
        file.write_bytes(flipped)
        assert not verify(file).ok, place


def test_a_file_cut_short_or_grown_is_found(annotated):
    shard = annotated.path / "shard-00001.h5"
    whole = shard.read_bytes()
    for content in (whole[:-1], whole[:4096], whole[:10], b"", whole + b"\0"):
        shard.write_bytes(content)
        (problem,) = verify(annotated.path).problems
        assert problem.way_out == "delete shard-00001.h5 and run the same extract command again to finish"


def test_the_way_out_works(annotated):
    shard = annotated.path / "shard-00001.h5"
    whole = shard.read_bytes()
    shard.write_bytes(whole.replace(annotated.features[9].tobytes(), bytes(8)))
    assert not verify(annotated.path).ok
    shard.unlink()
    annotated.write()
    assert shard.read_bytes() == whole
    assert verify(annotated.path).ok


def test_shards_in_each_others_place_are_found(make):
    made = make(rows=20, rows_per_shard=10)
    first, second = (made.path / f"shard-0000{number}.h5" for number in (0, 1))
    kept = first.read_bytes()
    shutil.copy(second, first)
    second.write_bytes(kept)
    problems = verify(made.path).problems
    assert [problem.what.partition(":")[0] for problem in problems] == [
        "shard-00000.h5 is damaged",
        "shard-00001.h5 is damaged",
    ]


def test_a_shard_of_another_store_is_found(make):
    made, other = make(), make("other.store", keys=[f"class {row % 3}/other {row}.jpg" for row in range(25)])
    shutil.copy(other.path / "shard-00001.h5", made.path / "shard-00001.h5")
    (problem,) = verify(made.path).problems
    assert problem.what == "shard-00001.h5 holds other row keys than the plan in 10 rows"
    strange = make("strange.store", recipe={"weights": "else"})
    shutil.copy(strange.path / "shard-00001.h5", made.path / "shard-00001.h5")
    assert "of the recipe" in verify(made.path).problems[0].what


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_good_rows_that_are_not_finite_are_found_and_failed_ones_are_not(make, dtype, value):
    made = make(written=False, dtype=dtype, views=1, failed={4: "broken"})
    made.features[[4, 11], 2] = value
    made.augmented[0, 23, 0] = value
    made.write()
    problems = [problem.what for problem in verify(made.path).problems]
    assert problems == [
        "shard-00001.h5 has features that are not finite in 1 good rows: 'class 2/image 11.jpg'",
        "shard-00002.h5 has features that are not finite in 1 good rows: 'class 2/image 23.jpg'",
    ]


def test_the_largest_finite_numbers_are_finite(make):
    made = make(written=False)
    made.features[0] = np.finfo(np.float16).max
    made.features[1] = -np.finfo(np.float16).max
    assert verify(made.write()).ok


def test_failed_rows_must_say_why(make):
    made = make(failed={3: ""})
    assert verify(made.path).problems[0].what == "shard-00000.h5 has failed rows that do not say why"


def test_annotations_of_other_rows_are_refused_and_found(make):
    made, other = make(), make("other.store", keys=["a", "b"])
    annotate(other.path, {"path": ["a", "b"], "class": ["x", "y"]})
    shutil.copy(other.path / "annotations.h5", made.path / "annotations.h5")
    with pytest.raises(HeadwaterError, match="belongs to other rows"):
        _ = open_store(made.path).annotations
    assert "belongs to other rows" in verify(made.path).problems[0].what


def test_columns_that_do_not_fit_are_found(make):
    made = make()
    columns = {
        "short": Column("short", np.zeros(3)),
        "wild": Column("wild", np.full(25, 7, np.int32), ("only",)),
    }
    write_annotations(made.path / "annotations.h5", made.plan, columns)
    assert [problem.what for problem in verify(made.path).problems] == [
        "the column 'short' has 3 values for 25 rows",
        "the column 'wild' has codes without a category",
    ]


def test_oddities_are_notes(make):
    made = make()
    write_shard(
        made.path / "shard-00002.h5", made.plan, 2, [k.encode() for k in made.keys[20:]], made.rows(2)
    )
    shutil.copy(made.path / "shard-00002.h5", made.path / "shard-00003.h5")
    (made.path / ".shard-00001.h5.7.tmp").touch()
    with (made.path / "runs.jsonl").open("a") as log:
        log.write('{"half')
    report = verify(made.path)
    assert report.ok
    assert [note.split()[0] for note in report.notes] == [".shard-00001.h5.7.tmp", "shard-00003.h5", "the"]


def test_progress_is_told(make):
    seen = []
    verify(make().path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_what_is_no_store_is_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    (tmp_path / "text").write_text("hello")
    for name in ("text", "nothing"):
        with pytest.raises(RequestError):
            verify(tmp_path / name)
    assert "not headwater's" in verify(tmp_path / "other.h5").problems[0].what
