"""What leads out of an archive is refused, and so are damage and malice, or fail the member alone."""

from __future__ import annotations

import io
import os
import random
import stat
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError, RequestError
from headwater.extract.archives import ArchiveSource, spool, streams
from headwater.extract.sources import open_source

from .packing import FILE, HARDLINK, SYMLINK, contents, draw_tree, packed, tar_of, tar_with, zip_of, zip_with


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return draw_tree(tmp_path / "tree")


# links and names that lead elsewhere


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


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_fails_alone_in_every_compression(method: int, tmp_path: Path) -> None:
    content = random.Random(method).randbytes(20_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in ("1.jpg", "2.jpg"):
            archive.writestr(name, content)
        link = zipfile.ZipInfo("3.jpg")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o644) << 16
        archive.writestr(link, "1.jpg", compress_type=method)
        starts = {info.filename: info.header_offset + 30 + len(info.filename) for info in archive.infolist()}
    whole = buffer.getvalue()
    (tmp_path / "a.zip").write_bytes(whole)
    assert contents(ArchiveSource(tmp_path / "a.zip")) == dict.fromkeys(("1.jpg", "2.jpg", "3.jpg"), content)
    failed = {"2.jpg": 0, "3.jpg": 0}
    for at in (*range(18), 9_000):  # head, first block and middle
        made = bytearray(whole)
        made[starts["2.jpg"] + at] ^= 0xFF
        made[starts["3.jpg"] + at % 7] ^= 0xFF
        (tmp_path / "a.zip").write_bytes(made)
        found = contents(ArchiveSource(tmp_path / "a.zip"))
        assert found["1.jpg"] == content
        for name in failed:
            reason = str(found[name])
            failed[name] += reason.startswith(("damaged within", "made to be unpacked with more memory"))
            assert found[name] == content or reason.startswith(("damaged", "made to")), at
    assert min(failed.values()) > 5  # not every byte matters


def test_a_compression_that_some_pythons_know_fails_alone(tmp_path: Path) -> None:
    made = bytearray(zip_with(("1.jpg", ""), ("2.jpg", "")))
    for at in (made.index(b"PK\x03\x04") + 8, made.index(b"PK\x01\x02") + 10):
        made[at] = 93  # Zstandard
    (tmp_path / "a.zip").write_bytes(made)
    assert contents(ArchiveSource(tmp_path / "a.zip")) == {
        "1.jpg": "compressed in a way that cannot be read; pack the archive anew",
        "2.jpg": b"2.jpg",
    }


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_unpacks_to_more_than_it_says_takes_no_more_memory(method: int, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("1.jpg", bytes(20 << 20))
    made = bytearray(buffer.getvalue())
    at = made.rindex(b"PK\x01\x02") + 24
    made[at : at + 4] = (1 << 20).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(made)
    source = ArchiveSource(tmp_path / "a.zip")
    tracemalloc.start()
    try:
        assert contents(source) == {"1.jpg": "damaged within the archive"}
        assert tracemalloc.get_traced_memory()[1] < 14 << 20  # the decompressor's own 8 MiB counted in
    finally:
        tracemalloc.stop()


def test_an_lzma_member_that_asks_for_much_memory_fails_alone(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("1.jpg", b"1")
        archive.writestr("2.jpg", b"2")
    made = bytearray(buffer.getvalue())
    made[30 + len("1.jpg") + 5 : 30 + len("1.jpg") + 9] = b"\xff" * 4
    (tmp_path / "a.zip").write_bytes(made)
    found = contents(ArchiveSource(tmp_path / "a.zip"))
    assert "more memory than any picture needs" in str(found["1.jpg"])
    assert found["2.jpg"] == b"2"
