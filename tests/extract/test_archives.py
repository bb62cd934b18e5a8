"""Archives give what the folder that they unpack to gives; damage and what leads out of them is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import HeadwaterError, RequestError
from headwater.extract.archives import ArchiveSource, inflating, readers, spool, streams
from headwater.extract.archives.inflating import PointsOnTheWay
from headwater.extract.folder import FolderSource
from headwater.extract.rows import ReadError
from headwater.extract.sources import open_source
from headwater.store import open_store

from .tiny import BROKEN, run, stop

TAXA = (
    "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris",
    "00001_Plantae_Tracheophyta_Liliopsida_Poales_Poaceae_Zea_mays_var_alba",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with all that its source tells apart; the bytes are no pictures, which is not looked at."""
    root = tmp_path / "tree"
    draw = random.Random(4)
    names = [
        *(f"train/{taxon}/{number:03d}.jpg" for taxon in TAXA for number in (10, 9, 1)),
        f"train/{TAXA[0]}/ünï code & spaces.PNG",
        f"train/{TAXA[1]}/{'long' * 40}.webp",
        f"train/{TAXA[1]}/empty.gif",
        "train/.hidden/a.jpg",
        "train/.hidden/b.jpg",
        f"__MACOSX/train/{TAXA[0]}/._001.jpg",
        f"train/{TAXA[0]}/.also.jpg",
        "README.txt",
        "train/noending",
    ]
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"" if "empty" in name else draw.randbytes(draw.randrange(1, 3000)))
    (root / "train" / TAXA[0] / "folder.jpg").mkdir()
    (root / "train" / TAXA[0] / "folder.jpg/inside.txt").write_bytes(b"inside")
    return root


def pack_tar(root: Path, to: io.BytesIO, *, shuffled: bool = False, **options: object) -> None:
    with tarfile.open(fileobj=to, mode="w", **options) as tar:  # type: ignore[call-overload]
        paths = sorted(root.rglob("*"))
        random.Random(2).shuffle(paths) if shuffled else None
        for path in paths:
            tar.add(path, path.relative_to(root), recursive=False)


def pack_zip(root: Path, to: io.BytesIO, method: int) -> None:
    with zipfile.ZipFile(to, "w", method) as archive:
        for path in sorted(root.rglob("*"), reverse=True):
            if method == zipfile.ZIP_DEFLATED or path.is_file():
                archive.write(path, path.relative_to(root))


def packed(tar: bytes, kind: str) -> bytes:
    """A tar in another compression."""
    if kind == "zst":
        made: bytes = pa.Codec("zstd").compress(tar, asbytes=True)
        return made
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "": bytes}[kind](tar)


def tar_of(root: Path, **options: object) -> bytes:
    buffer = io.BytesIO()
    pack_tar(root, buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def zip_of(root: Path, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    pack_zip(root, buffer, method)
    return buffer.getvalue()


FORMS: dict[str, Callable[[Path], bytes]] = {
    "a.tar": tar_of,
    "ustar.TAR": lambda root: tar_of(root, format=tarfile.GNU_FORMAT),
    "a.tar.gz": lambda root: packed(tar_of(root), "gz"),
    "shuffled.tgz": lambda root: packed(tar_of(root, shuffled=True), "gz"),
    "parts.tar.gz": lambda root: b"".join(
        packed(tar_of(root)[start : start + 9000], "gz") for start in range(0, len(tar_of(root)), 9000)
    ),
    "a.tar.bz2": lambda root: packed(tar_of(root, shuffled=True), "bz2"),
    "a.tar.xz": lambda root: packed(tar_of(root), "xz"),
    "a.tar.zst": lambda root: packed(tar_of(root, shuffled=True), "zst"),
    "wrong name.tar": lambda root: packed(tar_of(root), "gz"),
    "a.zip": zip_of,
    "stored.zip": lambda root: zip_of(root, zipfile.ZIP_STORED),
}


def contents(source: FolderSource | ArchiveSource) -> dict[str, bytes | str]:
    def content(row: int) -> bytes | str:
        try:
            return source.load(row)
        except ReadError as error:
            return error.reason

    return {key: content(row) for row, key in enumerate(source.keys)}


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


# links and names that lead elsewhere


def tar_with(*members: tuple[str, bytes, str]) -> bytes:
    """A tar of (name, type, target); files hold their name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            content = name.encode() if kind == tarfile.REGTYPE else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_with(*members: tuple[str, str]) -> bytes:
    """A zip of (name, target); without a target it is a file that holds its name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, target in members:
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = ((stat.S_IFLNK if target else stat.S_IFREG) | 0o644) << 16
            archive.writestr(info, target or name)
    return buffer.getvalue()


FILE, SYMLINK, HARDLINK = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("../evil.jpg", "", "the member '../evil.jpg'"),
        ("cat/../../evil.jpg", "", "the member 'cat/../../evil.jpg'"),
        ("cat/../dog.jpg", "", "the member"),
        ("../evil.txt", "", "the member '../evil.txt'"),
        ("/etc/evil.jpg", "", "the member '/etc/evil.jpg'"),
        ("C:\\evil.jpg", "", "the member"),
        ("cat/l.jpg", "/etc/passwd", "the link 'cat/l.jpg' to '/etc/passwd'"),
        ("cat/l.jpg", "../../x.jpg", "the link 'cat/l.jpg' to '../../x.jpg'"),
        ("cat/others", "../..", "the link 'cat/others' to '../..'"),
    ],
)
@pytest.mark.parametrize("ending", [".tar", ".zip"])
def test_what_leads_out_is_refused(name: str, target: str, said: str, ending: str, tmp_path: Path) -> None:
    kind = SYMLINK if target else FILE
    made = tar_with(("1.jpg", FILE, ""), (name, kind, target))
    path = tmp_path / f"a{ending}"
    path.write_bytes(made if ending == ".tar" else zip_with(("1.jpg", ""), (name, target)))
    with pytest.raises(RequestError) as caught:
        open_source(path)
    assert said in str(caught.value)
    assert "leads out of the archive" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hard_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_with(("cat/1.jpg", HARDLINK, "../../etc/passwd")))
    with pytest.raises(RequestError, match="leads out of the archive"):
        ArchiveSource(tmp_path / "a.tar")


def test_links_within_the_archive_are_followed_and_devices_are_not_read(tmp_path: Path) -> None:
    made = tar_with(
        ("cat/1.jpg", FILE, ""),
        ("cat/hard.jpg", HARDLINK, "cat/1.jpg"),
        ("dog/soft.jpg", SYMLINK, "../cat/./hard.jpg"),
        ("dog/dangling.jpg", SYMLINK, "nothing.jpg"),
        ("dog/round.jpg", SYMLINK, "round.jpg"),
        ("bird", SYMLINK, "cat"),
        ("dog/tty.jpg", tarfile.CHRTYPE, ""),
        ("dog/pipe.jpg", tarfile.FIFOTYPE, ""),
        ("dog/pipe", tarfile.FIFOTYPE, ""),
    )
    (tmp_path / "a.tar").write_bytes(made)
    source = ArchiveSource(tmp_path / "a.tar")
    found = contents(source)
    assert [found[f"{name}.jpg"] for name in ("cat/1", "cat/hard", "dog/soft")] == [b"cat/1.jpg"] * 3
    assert "link to none" in str(found["dog/dangling.jpg"])
    assert "leads back to itself" in str(found["dog/round.jpg"])
    assert "a device" in str(found["dog/tty.jpg"])
    assert "a named pipe" in str(found["dog/pipe.jpg"])
    assert source.skipped == 2
    assert "left out what lies behind 1 link to folders" in source.notes[0]
    (tmp_path / "a.zip").write_bytes(zip_with(("cat/1.jpg", ""), ("dog/soft.jpg", "../cat/1.jpg")))
    assert contents(ArchiveSource(tmp_path / "a.zip")) == {
        "cat/1.jpg": b"cat/1.jpg",
        "dog/soft.jpg": b"cat/1.jpg",
    }


# damage and malice


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz", "zst"])
def test_an_archive_that_is_cut_off_is_refused(kind: str, tree: Path, tmp_path: Path) -> None:
    whole = packed(tar_of(tree), kind)
    path = tmp_path / f"a.tar.{kind}" if kind else tmp_path / "a.tar"
    end = len(tar_of(tree).rstrip(b"\0")) if not kind else len(whole) - 4
    for length in (0, 5, 100, len(whole) // 3, end // 2, end - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(RequestError, match="damaged or incomplete") as caught:
            ArchiveSource(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
def test_a_damaged_archive_is_refused(kind: str, tree: Path, tmp_path: Path) -> None:
    tar = bytearray(tar_of(tree))
    if not kind:  # a plain tar has checksums over its headers only
        with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
            tar[opened.getmembers()[9].offset + 20] ^= 4
    made = bytearray(packed(bytes(tar), kind))
    if kind:
        made[len(made) // 2] ^= 4
    path = tmp_path / f"a.tar.{kind}" if kind else tmp_path / "a.tar"
    path.write_bytes(made)
    with pytest.raises(RequestError, match="damaged or incomplete"):
        ArchiveSource(path)


def test_a_zip_that_is_cut_off_is_refused_and_a_damaged_member_fails_alone(
    tree: Path, tmp_path: Path
) -> None:
    made = bytearray(zip_of(tree))
    (tmp_path / "cut.zip").write_bytes(made[: len(made) // 2])
    with pytest.raises(RequestError, match="damaged or incomplete"):
        ArchiveSource(tmp_path / "cut.zip")
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        info = max(archive.infolist(), key=lambda info: info.file_size * info.filename.endswith(".jpg"))
    made[info.header_offset + 30 + len(info.filename.encode()) + 40] ^= 1
    (tmp_path / "bad.zip").write_bytes(made)
    found = contents(ArchiveSource(tmp_path / "bad.zip"))
    assert found.pop(info.filename) == "damaged within the archive"
    assert sum(isinstance(content, bytes) for content in found.values()) == len(found) - 1  # folder.jpg


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("length", [1, 30_000, 4_000_000])
def test_the_checksum_of_a_zips_member_is_compared(method: int, length: int, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("1.jpg", b"a" * length)
    made = bytearray(buffer.getvalue())
    made[made.rindex(b"PK\x01\x02") + 16] ^= 1
    (tmp_path / "a.zip").write_bytes(made)
    assert contents(ArchiveSource(tmp_path / "a.zip")) == {"1.jpg": "damaged within the archive"}


def test_an_encrypted_zip_and_an_archive_without_images_are_refused(tree: Path, tmp_path: Path) -> None:
    made = bytearray(zip_with(("1.jpg", "")))
    made[made.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(made)
    with pytest.raises(RequestError, match="is encrypted"):
        ArchiveSource(tmp_path / "a.zip")
    (tmp_path / "b.zip").write_bytes(zip_with(("1.txt", "")))
    with pytest.raises(RequestError, match=r"no images in the archive .* \(1 other files\)"):
        ArchiveSource(tmp_path / "b.zip")
    (tmp_path / "c.tar").write_bytes(b"these are no headers " * 100)
    with pytest.raises(RequestError, match="damaged or incomplete"):
        ArchiveSource(tmp_path / "c.tar")
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(RequestError, match="not a regular file"):
        open_source(tmp_path / "pipe.tar")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_bombs_are_noticed_on_the_way(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FREE_BYTES", 8 << 20)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("1.jpg")
        info.size = 24 << 20
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    (tmp_path / "bomb.tar").write_bytes(packed(buffer.getvalue(), kind))
    with pytest.raises(RequestError, match="unpacks to more than 200 times its size"):
        ArchiveSource(tmp_path / "bomb.tar")


def test_a_header_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 7 << 30
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(RequestError, match=r"a header says that it has 7,516,192,768 bytes"):
        ArchiveSource(tmp_path / "a.tar")


def test_a_file_larger_than_any_picture_fails_without_being_read(tmp_path: Path) -> None:
    made = bytearray(zip_with(("1.jpg", "")))
    at = made.rindex(b"PK\x01\x02") + 24
    made[at : at + 4] = (3 << 30).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(made)
    assert "3,221,225,472 bytes, more than any picture" in str(
        contents(ArchiveSource(tmp_path / "a.zip"))["1.jpg"]
    )


def test_a_full_disk_is_told_with_the_way_out(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.tar.xz").write_bytes(packed(tar_of(tree), "xz"))
    monkeypatch.setattr(spool.tempfile, "TemporaryFile", lambda **_: open("/dev/full", "wb", buffering=0))  # noqa: SIM115, PTH123
    with pytest.raises(HeadwaterError, match=r"find no room in .* set TMPDIR"):
        ArchiveSource(tmp_path / "a.tar.xz")


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


# any part of a gzip file


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(0, 60_000),
    members=st.integers(1, 4),
    span=st.integers(200, 20_000),
    most=st.integers(2, 9),
    parts=st.lists(st.tuples(st.integers(0, 61_000), st.integers(0, 30_000)), max_size=12),
    padding=st.sampled_from([0, 7, 40_000]),
)
def test_any_part_of_a_gzip_file_is_had(  # noqa: PLR0917
    length: int, members: int, span: int, most: int, parts: list[tuple[int, int]], padding: int
) -> None:
    draw = np.random.default_rng(length)
    content = bytes(np.repeat(draw.integers(0, 256, length // 3 + 1, dtype=np.uint8), 3)[:length])
    bounds = np.linspace(0, length, members + 1).astype(int).tolist()
    file = b"".join(gzip.compress(content[a:b]) + bytes(padding) for a, b in pairwise(bounds))
    handle = os.memfd_create("gzip")
    try:
        os.write(handle, file)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inflating, "FIRST_SPAN", span)
            patch.setattr(inflating, "MOST_POINTS", most)
            patch.setattr(inflating, "KEPT_BYTES", 3 * span)
            patch.setattr(inflating, "_OUTPUT", 700)
            patch.setattr(inflating, "_INPUT", 300)
            points = PointsOnTheWay(handle)
            through = b"".join(iter(points.read_on, b""))
            assert through == content
            assert points.length == length
            assert len(points._points) <= most
            for offset, size in parts:
                assert points.part(offset, size) == content[offset : offset + size]
    finally:
        os.close(handle)


def test_points_cost_what_is_said_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflating, "FIRST_SPAN", 1000)
    monkeypatch.setattr(inflating, "_OUTPUT", 1000)
    monkeypatch.setattr(inflating, "KEPT_BYTES", 1)
    handle = os.memfd_create("gzip")
    os.write(handle, gzip.compress(random.Random(1).randbytes(10_000)))
    points = PointsOnTheWay(handle)
    while points.read_on():
        pass
    assert points.unpacked_for(range(0, 10_000, 100)) == 10_000
    assert points.unpacked_for([0, 9999, 5000] * 7) > 20_000
    os.close(handle)


# whole jobs


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
