"""Disks that fill up, read-only places, damaged files: one sentence, and what was finished stays."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headwater.errors import HeadwaterError
from headwater.store import StoreWriter, annotate, info, open_store, pack, verify
from headwater.store.files import explain, write_whole

_WRITE = """
import resource, sys
import numpy as np
from headwater.errors import HeadwaterError
from headwater.store import Plan, ShardRows, StoreWriter
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
keys = [f"image {row}" for row in range(400)]
plan = Plan.for_keys(keys, recipe={}, dim=512, rows_per_shard=100)
none = np.zeros(100, np.int32)
try:
    with StoreWriter(sys.argv[1], plan, keys) as writer:
        for shard in list(writer.missing):
            features = np.full((100, 512), shard, np.float16)
            rows = ShardRows(features, None, np.ones(100, np.uint8), ["x" * 100] * 100, none, none)
            writer.write(shard, rows)
        writer.finish({})
except HeadwaterError as error:
    print(error)
    sys.exit(1)
print("finished")
"""


def write_in_process(path: Path, limit: int = 0) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", _WRITE, str(path), str(limit)]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


# From failing in the first metadata to failing in the last block that HDF5 writes when it closes the file.
@pytest.mark.parametrize("limit", [1_000, 5_000, 112_000, 160_000])
def test_the_file_size_limit_is_one_sentence_at_every_point(tmp_path, limit):
    path = tmp_path / "store"
    done = write_in_process(path, limit)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("the file size limit was reached: could not write ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert [file.name for file in path.iterdir() if file.name.endswith(".tmp")] == []
    assert write_in_process(path).stdout == "finished\n"
    assert verify(path).ok


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of a given size in kB; needs to be root with the right to mount."""
    mounted = []

    def mount(kilobytes: int) -> Path:
        place = tmp_path / f"disk{kilobytes}"
        place.mkdir()
        try:
            arguments = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(place)]
            done = subprocess.run(arguments, capture_output=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command here")
        if done.returncode:
            pytest.skip("mounting is not allowed here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("kilobytes", [150, 330])
def test_a_full_disk_keeps_what_was_finished(small_disk, tmp_path, kilobytes):
    disk = small_disk(kilobytes)
    done = write_in_process(disk / "store")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("the disk is full: could not write shard-")
    assert "free some space and run again" in done.stdout
    assert done.stderr == ""
    finished = sorted((disk / "store").glob("shard-*.h5"))
    assert [file for file in (disk / "store").iterdir() if file.name.endswith(".tmp")] == []
    moved = Path(shutil.copytree(disk / "store", tmp_path / "roomier"))
    assert write_in_process(moved).stdout == "finished\n"
    for file in finished:
        assert file.read_bytes() == (moved / file.name).read_bytes()
    assert verify(moved).ok


def test_a_full_disk_while_annotating_keeps_the_old_columns(small_disk, make):
    disk = small_disk(400)
    made = make(rows=2000, rows_per_shard=2000)
    path = Path(shutil.copytree(made.path, disk / "store"))
    annotate(path, {"path": made.keys, "small": ["a"] * 2000})
    with pytest.raises(HeadwaterError, match="the disk is full"):
        annotate(path, {"path": made.keys, **{f"c{number}": range(2000) for number in range(40)}})
    assert open_store(path).annotations.names == ("small",)
    assert set(open_store(path).annotations["small"].texts()) == {"a"}


@pytest.fixture
def read_only(tmp_path):
    """The folder given, mounted read-only: permissions alone do not bind root."""
    mounted = []

    def mount(folder: Path) -> Path:
        place = tmp_path / "read-only"
        place.mkdir()
        for arguments in (["--bind", str(folder), str(place)], ["-o", "remount,ro,bind", str(place)]):
            try:
                done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
            except FileNotFoundError:
                pytest.skip("there is no mount command here")
            if done.returncode:
                pytest.skip("mounting is not allowed here")
            mounted.append(place)
        return place

    yield mount
    for place in mounted[:1]:
        subprocess.run(["umount", str(place)], check=True)


def test_a_read_only_place_is_one_sentence_for_every_writer_and_readers_do_not_mind(
    read_only, make, tmp_path
):
    made = make()
    place = read_only(made.path.parent)
    store = place / made.path.name
    np.testing.assert_array_equal(np.asarray(open_store(store).features), made.features)
    assert verify(store).ok
    for attempt in (
        lambda: StoreWriter(place / "new.store", made.plan, made.keys),
        lambda: StoreWriter(store, made.plan, made.keys),
        lambda: annotate(store, {"path": made.keys, "a": made.keys}),
        lambda: pack(made.path, place / "packed.h5"),
    ):
        with pytest.raises(HeadwaterError, match=r"read-only file system.* choose another folder"):
            attempt()


def test_every_reason_has_its_own_sentence():
    said = {explain(OSError(code, os.strerror(code)), Path("/a/b")) for code in (5, 13, 27, 28, 30, 122, 71)}
    assert len(said) == 6  # no space and quota read the same
    assert all("b" in sentence and "/a" in sentence for sentence in said)


@pytest.mark.parametrize("version", [2, 17])
def test_a_newer_format_is_refused_clearly(make, version):
    made = make()
    plan = made.path / "plan.json"
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "format": version}))
    for attempt in (
        lambda: open_store(made.path),
        lambda: verify(made.path),
        lambda: StoreWriter(made.path, made.plan, made.keys),
    ):
        with pytest.raises(
            HeadwaterError, match=rf"store format {version}.*reads up to 1; upgrade headwater"
        ):
            attempt()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 1}', b"\xff\xfe", b'{"format": 1, "rows": "x"}']
)
def test_a_torn_plan_is_one_sentence(make, content):
    made = make()
    (made.path / "plan.json").write_bytes(content)
    with pytest.raises(HeadwaterError, match=r"plan.json is damaged"):
        open_store(made.path)
    assert not verify(made.path).ok


@pytest.mark.parametrize("keep", [0, 100, 4096, 5000])
def test_a_torn_index_harms_no_reader_and_is_rebuilt(make, keep):
    made = make()
    index = made.path / "index.h5"
    whole = index.read_bytes()
    index.write_bytes(whole[:keep])
    np.testing.assert_array_equal(np.asarray(open_store(made.path).features), made.features)
    (problem,) = verify(made.path).problems
    assert problem.what.startswith("index.h5 is damaged")
    assert problem.way_out == f"run `headwater store verify --rebuild-index {made.path}`"
    assert verify(made.path, rebuild_index=True).ok
    assert index.read_bytes() == whole


def test_a_missing_shard_is_named_by_all(make):
    made = make()
    (made.path / "shard-00001.h5").unlink()
    with pytest.raises(HeadwaterError, match="1 of 3 shards are missing"):
        open_store(made.path)
    with pytest.raises(HeadwaterError, match="1 of 3 shards are missing"):
        pack(made.path, made.path.with_suffix(".h5"))
    (problem,) = verify(made.path).problems
    assert problem.what == "shard-00001.h5 is missing"
    made.write()
    assert verify(made.path).ok


@pytest.mark.parametrize("packed", [False, True])
def test_a_store_that_may_not_be_read_is_one_sentence(make, tmp_path, monkeypatch, packed):
    path = make().path
    if packed:
        path = pack(path, tmp_path / "packed.h5")
    refused = path if packed else path / "plan.json"
    allowed = Path.open

    def open_(self, *arguments, **options):
        if self == refused:
            raise PermissionError(errno.EACCES, "Permission denied")
        return allowed(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_)
    monkeypatch.setattr(Path, "read_bytes", lambda self: open_(self, "rb").read())
    with pytest.raises(HeadwaterError, match="may not be read; change its permissions"):
        open_store(path)


@pytest.fixture
def refuse(monkeypatch):
    """Make the system refuse to open files of these names: permissions do not bind root."""

    def install(*names: str) -> None:
        allowed = io.open

        def open_(file, *arguments, **options):
            if Path(str(file)).name in names:
                raise PermissionError(errno.EACCES, "Permission denied")
            return allowed(file, *arguments, **options)

        monkeypatch.setattr(io, "open", open_)

    return install


def test_a_file_that_may_not_be_read_is_not_called_damaged(make, refuse):
    made = make()
    annotate(made.path, {"path": made.keys, "n": list(range(len(made.keys)))})
    names = ["shard-00001.h5", "index.h5", "annotations.h5", "runs.jsonl"]
    refuse(*names)
    assert [(found.what, found.way_out) for found in verify(made.path).problems] == [
        (f"{name} may not be read", "change its permissions, or those of its folder") for name in names
    ]
    store = open_store(made.path)
    for attempt in (
        lambda: store.features[12],
        lambda: store.annotations,
        lambda: StoreWriter(made.path, made.plan, made.keys),
        lambda: pack(made.path, made.path.parent / "packed.h5"),
    ):
        with pytest.raises(HeadwaterError, match="may not be read; change its permissions") as error:
            attempt()
        assert "delete" not in str(error.value)


@pytest.mark.parametrize("name", ["plan.json", "plan.keys", "runs.jsonl"])
def test_a_record_that_may_not_be_read_is_one_sentence(make, refuse, name):
    path = make().path
    refuse(name)
    with pytest.raises(HeadwaterError, match=f"{name}' may not be read; change its permissions"):
        (info(path), open_store(path).keys)
    if name != "runs.jsonl":
        with pytest.raises(HeadwaterError, match=f"{name}' may not be read; change its permissions"):
            verify(path)


def test_a_folder_in_a_file_s_place_is_found(make):
    made = make()
    index = made.path / "index.h5"
    index.unlink()
    index.mkdir()
    assert [problem.what for problem in verify(made.path).problems] == [
        "index.h5 is damaged: it cannot be read (Is a directory)"
    ]


def test_columns_of_a_damaged_packed_file_do_not_tell_anyone_to_delete_it(make, tmp_path):
    made = make()
    annotate(made.path, {"path": made.keys, "n": list(range(len(made.keys)))})
    packed = pack(made.path, tmp_path / "packed.h5")
    columns = open_store(packed).annotations
    packed.write_bytes(packed.read_bytes()[:-1])
    with pytest.raises(HeadwaterError, match="get a fresh copy of it, or pack the store again"):
        columns["n"]


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_end(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor):
        events.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def replaced(self, target):
        events.append(("rename", str(self)))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_whole(tmp_path / "file", b"content")
    (_, temporary), *_ = events
    assert events == [("sync", temporary), ("rename", temporary), ("sync", str(tmp_path))]
    assert (tmp_path / "file").read_bytes() == b"content"
