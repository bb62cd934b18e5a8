"""Writing: what goes in comes out, bytes depend on content only, resuming continues, others are refused."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import HeadwaterError, RequestError
from headwater.store import Plan, StoreWriter, open_store, verify


def shard_bytes(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.glob("*.h5"))}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("views", [0, 2])
def test_what_goes_in_comes_out(make, dtype, views):
    made = make(dtype=dtype, views=views, failed={3: "no image", 24: "ümläut\n"})
    store = open_store(made.path)
    assert store.keys.tolist() == made.keys
    np.testing.assert_array_equal(np.asarray(store.features), made.features)
    for view in range(views):
        np.testing.assert_array_equal(np.asarray(store.augmented(view + 1)), made.augmented[view])
    np.testing.assert_array_equal(store.ok, made.status == 0)
    assert store.errors == [(3, "no image"), (24, "ümläut\n")]
    np.testing.assert_array_equal(store.sizes, made.sizes)
    assert store.runs == [{"images_per_second": 12.5}]
    assert store.plan == made.plan
    assert (store.dim, store.views, store.dtype, len(store)) == (4, views, np.dtype(dtype), 25)


keys = st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"\n").decode("utf-8", "surrogateescape"))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(keys, unique_by=lambda key: key.encode("utf-8", "surrogateescape"), max_size=12),
    rows_per_shard=st.integers(1, 5),
)
def test_any_keys_round_trip(make, tmp_path_factory, names, rows_per_shard):
    made = make(written=False, keys=names, rows_per_shard=rows_per_shard)
    path = made.write(tmp_path_factory.mktemp("any") / "store")
    store = open_store(path)
    assert store.keys.tolist() == names
    np.testing.assert_array_equal(np.asarray(store.features), made.features)
    assert store.rows_of(names).tolist() == list(range(len(names)))
    assert verify(path).problems == []


def test_the_same_rows_give_the_same_bytes_whenever_and_in_whatever_order(make, tmp_path):
    made = make(views=1, failed={7: "why"})
    time.sleep(1.1)  # HDF5 counts its time stamps in seconds
    with StoreWriter(tmp_path / "again", made.plan, made.keys) as writer:
        for shard in (2, 0, 1):
            writer.write(shard, made.rows(shard))
        writer.finish({})
    assert shard_bytes(tmp_path / "again") == shard_bytes(made.path)
    assert len(shard_bytes(made.path)) == 4


def test_plain_h5py_reads_shards_and_the_index_also_after_a_move(make, tmp_path):
    made = make(views=2, failed={13: "broken"})
    moved = made.path.rename(tmp_path / "moved")
    with h5py.File(moved / "index.h5", "r") as index:
        np.testing.assert_array_equal(index["features"][...], made.features)
        np.testing.assert_array_equal(index["augmented"][...], made.augmented)
        assert [key.decode() for key in index["key"][...]] == made.keys
        assert index["key"].asstr()[4] == made.keys[4]
        assert index["error"][13] == b"broken"
        np.testing.assert_array_equal(index["status"][...], made.status)
        np.testing.assert_array_equal(index["width"][...], made.sizes[:, 0])
    with h5py.File(moved / "shard-00001.h5", "r") as shard:
        assert shard["features"].chunks is None
        assert shard["features"].id.get_offset() % 4096 == 0 or shard["features"].nbytes < 4096
        np.testing.assert_array_equal(shard["features"][...], made.features[10:20])


def test_large_features_begin_on_a_page(make):
    made = make(rows=8, dim=2048, rows_per_shard=4, views=1)
    with h5py.File(made.path / "shard-00000.h5", "r") as shard:
        assert shard["features"].id.get_offset() % 4096 == 0
        assert shard["augmented"].id.get_offset() % 4096 == 0


def test_resuming_does_only_what_is_missing(make):
    made = make(written=False)
    made.write(shards=[1])
    before = (made.path / "shard-00001.h5").stat()
    assert not (made.path / "index.h5").exists()
    with StoreWriter(made.path, made.plan, made.keys) as writer:
        assert writer.missing == [0, 2]
        assert writer.keys(2) == made.keys[20:]
        writer.write(0, made.rows(0))
        writer.write(2, made.rows(2))
        assert writer.missing == []
        writer.finish({})
    after = (made.path / "shard-00001.h5").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert verify(made.path).ok


def test_a_finished_job_has_nothing_missing(make):
    made = make()
    with StoreWriter(made.path, made.plan, made.keys) as writer:
        assert writer.missing == []


def test_the_plan_in_place_gives_order_and_shards(make):
    made = make(written=False)
    made.write(shards=[0])
    other = Plan.for_keys(
        made.keys[::-1], recipe=made.plan.recipe, dim=4, rows_per_shard=3, source="moved", details={"x": 1}
    )
    with StoreWriter(made.path, other, made.keys[::-1]) as writer:
        assert writer.plan == made.plan
        assert writer.missing == [1, 2]
        assert writer.keys(0) == made.keys[:10]
        assert writer.gone == ()


def test_keys_that_are_gone_are_allowed_and_named(make):
    made = make(written=False)
    made.write(shards=[0])
    fewer = [key for row, key in enumerate(made.keys) if row not in (2, 21)]
    plan = Plan.for_keys(fewer, recipe=made.plan.recipe, dim=4)
    with StoreWriter(made.path, plan, fewer) as writer:
        assert writer.gone == (made.keys[2], made.keys[21])
        assert writer.keys(2) == made.keys[20:]


def test_keys_that_are_new_are_refused(make):
    made = make(written=False)
    made.write(shards=[0])
    more = [*made.keys[1:], "new\nimage.jpg", "another.jpg"]
    plan = Plan.for_keys(more, recipe=made.plan.recipe, dim=4)
    with pytest.raises(RequestError) as caught:
        StoreWriter(made.path, plan, more)
    assert "2 of the rows now given" in str(caught.value)
    assert r"'new\nimage.jpg'" in str(caught.value)
    assert "26 rows now, the plan 25 and lacks 1" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": {"weights": {"sha256": "ff"}}}, "recipe.weights.sha256: 00 → ff"),
        ({"recipe": {"weights": {"sha256": "00"}, "crop": 224}}, "recipe.crop: none → 224"),
        ({"dim": 5}, "dim: 4 → 5"),
        ({"dtype": "float32"}, "dtype: float16 → float32"),
        ({"views": 3}, "views: 0 → 3"),
    ],
)
def test_another_recipe_is_refused_and_what_differs_is_named(make, change, said):
    made = make()
    before = shard_bytes(made.path)
    with pytest.raises(RequestError, match="another recipe") as caught:
        StoreWriter(made.path, dataclasses.replace(made.plan, **change), made.keys)
    assert said in str(caught.value)
    assert shard_bytes(made.path) == before


def test_details_and_source_are_no_part_of_the_identity(make):
    made = make()
    other = dataclasses.replace(made.plan, source="elsewhere", details={"a": [1, 2]})
    assert other.fingerprint == made.plan.fingerprint
    with StoreWriter(made.path, other, made.keys) as writer:
        assert writer.missing == []


def test_a_truncated_shard_counts_as_missing(make):
    made = make()
    shard = made.path / "shard-00001.h5"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-7])
    with StoreWriter(made.path, made.plan, made.keys) as writer:
        assert writer.missing == [1]
        writer.write(1, made.rows(1))
    assert shard.read_bytes() == whole


def test_leftovers_of_dead_writers_are_removed_but_not_those_of_annotators(make):
    made = make()
    for name in (".shard-00001.h5.99.tmp", ".index.h5.99.tmp", ".plan.json.9.tmp", ".annotations.h5.99.tmp"):
        (made.path / name).write_bytes(b"half")
    with StoreWriter(made.path, made.plan, made.keys):
        left = sorted(file.name for file in made.path.glob(".*.tmp"))
    assert left == [".annotations.h5.99.tmp"]


def test_a_folder_with_other_things_is_refused(make, tmp_path):
    made = make(written=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(RequestError, match=r"other things in it \('cat.jpg'\)"):
        StoreWriter(tmp_path / "photos", made.plan, made.keys)
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="is a file"):
        StoreWriter(tmp_path / "file", made.plan, made.keys)
    assert sorted(entry.name for entry in (tmp_path / "photos").iterdir()) == ["cat.jpg"]


def test_a_start_that_died_before_its_plan_is_started_over(make):
    made = make(written=False)
    made.path.mkdir()
    (made.path / "plan.keys").write_bytes(b"half a k")
    (made.path / ".store.lock").touch()
    made.write()
    assert verify(made.path).ok


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"features": np.zeros((10, 5), np.float16)}, "features must be float16 of shape"),
        ({"features": np.zeros((10, 4), np.float32)}, "this is float32"),
        ({"status": np.zeros(9, np.uint8)}, "status must be uint8"),
        ({"error": [""] * 9}, "9 error texts"),
        ({"augmented": np.zeros((1, 10, 4), np.float16)}, "0 augmented views"),
    ],
)
def test_rows_that_do_not_fit_the_plan_are_refused_and_nothing_is_written(make, change, said):
    made = make(written=False)
    with StoreWriter(made.path, made.plan, made.keys) as writer:
        with pytest.raises(RequestError, match=said):
            writer.write(0, dataclasses.replace(made.rows(0), **change))
        assert writer.missing == [0, 1, 2]
    assert list(made.path.glob("*.h5")) == []


def test_error_texts_are_cut_between_characters(make):
    made = make(failed={0: "é" * 400, 1: "a\0b\udcff"})
    texts = dict(open_store(made.path).errors)
    assert texts[0] == "é" * 254 + "…"
    assert texts[1] == "a\\x00b\\udcff"


def test_runs_survive_a_torn_line(make):
    made = make()
    with (made.path / "runs.jsonl").open("ab") as log:
        log.write(b'{"torn": ')
    assert open_store(made.path).runs == [{"images_per_second": 12.5}]
    with StoreWriter(made.path, made.plan, made.keys) as writer:
        writer.finish({"second": True})
    assert open_store(made.path).runs == [{"images_per_second": 12.5}, {"second": True}]


_HOLD = """
import json, sys, time
from headwater.store import Plan, StoreWriter
keys = json.loads(sys.argv[2])
plan = Plan.for_keys(keys, recipe={"weights": {"sha256": "00"}}, dim=4, rows_per_shard=10)
writer = StoreWriter(sys.argv[1], plan, keys)
print("held", flush=True)
time.sleep(60)
"""


def test_the_lock_names_its_holder_and_dies_with_it(make):
    made = make(written=False)
    arguments = [sys.executable, "-c", _HOLD, str(made.path), json.dumps(made.keys)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for _ in range(2):  # the first attempt must not wipe out what the second wants to say
            with pytest.raises(HeadwaterError, match="in use by") as caught:
                StoreWriter(made.path, made.plan, made.keys)
            assert f"process {holder.pid} on {os.uname().nodename} since 20" in str(caught.value)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    made.write()
    assert verify(made.path).ok


def test_the_lock_also_holds_within_one_process(make):
    made = make()
    with StoreWriter(made.path, made.plan, made.keys), pytest.raises(HeadwaterError, match=f"{os.getpid()}"):
        StoreWriter(made.path, made.plan, made.keys)
    StoreWriter(made.path, made.plan, made.keys).close()
    assert not (made.path / ".store.holder").exists()


def test_a_refused_writer_leaves_no_lock_behind(make):
    made = make()
    with pytest.raises(RequestError):
        StoreWriter(made.path, dataclasses.replace(made.plan, dim=9), made.keys)
    StoreWriter(made.path, made.plan, made.keys).close()
