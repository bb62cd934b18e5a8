"""Archives give what the folder that they unpack to gives."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from headwater.extract.archives import ArchiveSource, inflating, readers, spool
from headwater.extract.folder import FolderSource
from headwater.extract.sources import open_source
from headwater.store import open_store

from .packing import FILE, FORMS, SYMLINK, contents, draw_tree, packed, tar_of, tar_with
from .tiny import BROKEN, run, stop


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return draw_tree(tmp_path / "tree")


@pytest.mark.parametrize("form", sorted(FORMS))
def test_an_archive_gives_what_its_folder_gives(form: str, tree: Path, tmp_path: Path) -> None:
    (tmp_path / form).write_bytes(FORMS[form](tree))
    folder, archive = FolderSource(tree), open_source(str(tmp_path / form))
    assert isinstance(archive, ArchiveSource)
    assert list(archive.keys) == list(folder.keys)
    assert contents(archive) == contents(folder)
    assert archive.annotations == folder.annotations
    assert set(archive.annotations) >= {"taxon", "species", "split"}
    assert archive.skipped == folder.skipped
    assert archive.name == str(tmp_path / form)


def test_names_with_dots_and_double_slashes_are_those_of_the_folder(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("./cat/1.jpg", "cat//2.jpg", "dog/./3.jpg", "."):
            tar.addfile(tarfile.TarInfo(name))
    assert list(ArchiveSource(tmp_path / "a.tar").keys) == ["cat/1.jpg", "cat/2.jpg", "dog/3.jpg"]


def test_the_last_of_two_members_of_one_name_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for content in (b"first", b"second!"):
            info = tarfile.TarInfo("1.jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert contents(ArchiveSource(tmp_path / "a.tar")) == {"1.jpg": b"second!"}
    made = tar_with(
        ("1.jpg", FILE, ""), ("2.jpg", FILE, ""), ("1.jpg", tarfile.FIFOTYPE, ""), ("2.jpg", SYMLINK, "none")
    )
    (tmp_path / "b.tar").write_bytes(made)
    source = ArchiveSource(tmp_path / "b.tar")
    assert list(source.keys) == ["1.jpg", "2.jpg"]
    found = contents(source)
    assert "a named pipe" in str(found["1.jpg"])
    assert "link to none" in str(found["2.jpg"])


def test_names_that_are_no_utf8_and_backslashes_of_windows(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("caf\udce9/1.jpg"))
    assert list(ArchiveSource(tmp_path / "a.tar").keys) == ["caf\udce9/1.jpg"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename, info.create_system = "cat\\1.jpg", 0
        archive.writestr(info, b"1")
    assert list(ArchiveSource(tmp_path / "a.zip").keys) == ["cat/1.jpg"]


def test_an_order_far_from_the_rows_is_put_right_once_in_a_temporary_file(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflating, "FIRST_SPAN", 10_000)
    monkeypatch.setattr(inflating, "_OUTPUT", 500)
    monkeypatch.setattr(inflating, "KEPT_BYTES", 1)
    monkeypatch.setattr(readers, "MOST_UNPACKED", 2)
    for number in range(60):
        (tree / f"{number}.jpg").write_bytes(random.Random(number).randbytes(1000))
    folder = contents(FolderSource(tree))
    made: list[spool.Spool] = []

    class Counted(spool.Spool):
        def __init__(self, shown: str) -> None:
            super().__init__(shown)
            made.append(self)

    monkeypatch.setattr(readers, "Spool", Counted)
    for shuffled in (False, True):
        (tmp_path / "a.tar.gz").write_bytes(packed(tar_of(tree, shuffled=shuffled), "gz"))
        source = ArchiveSource(tmp_path / "a.tar.gz")
        assert len(made) == shuffled
        assert contents(source) == folder


@pytest.mark.parametrize("form", ["a.tar", "shuffled.tgz", "a.zip"])
def test_a_store_from_an_archive_is_the_folders_also_after_a_stop(
    form: str, images: Path, tmp_path: Path
) -> None:
    run(images, tmp_path / "folder.store", rows_per_shard=4)
    (tmp_path / form).write_bytes(FORMS[form](images))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / form, tmp_path / "archive.store", rows_per_shard=4, progress=stop)
    run(tmp_path / form, tmp_path / "archive.store", rows_per_shard=4)
    ours, theirs = open_store(tmp_path / "archive.store"), open_store(tmp_path / "folder.store")
    assert list(ours.keys) == list(theirs.keys)
    assert ours.plan.fingerprint == theirs.plan.fingerprint
    np.testing.assert_array_equal(ours.features[:], theirs.features[:])
    assert ours.annotations["class"].texts() == theirs.annotations["class"].texts()
    assert {str(ours.keys[row]) for row, _ in ours.errors} == BROKEN
    assert run(tmp_path / form, tmp_path / "folder.store").already_done
    assert run(images, tmp_path / "archive.store").already_done
