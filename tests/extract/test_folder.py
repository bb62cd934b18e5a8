"""Which files of a folder are rows, in which order, under which keys; and what a failing file says."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.extract.decode import decode
from headwater.extract.files import read_file
from headwater.extract.folder import FolderSource, list_images
from headwater.extract.rows import DecodeError, ReadError
from headwater.extract.sources import open_source

from .pictures import encode

RED = encode(np.full((4, 6, 3), (255, 0, 0), np.uint8), "PNG")


def put(root: Path, *names: str | bytes, content: bytes = RED) -> None:
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def reason(source: FolderSource, key: str) -> str:
    with pytest.raises((ReadError, DecodeError)) as caught:
        decode(source.load(list(source.keys).index(key)))
    return caught.value.reason


def test_images_by_extension_in_any_case_at_any_depth(tmp_path: Path) -> None:
    images = [
        "a.jpg",
        "b/c.JPEG",
        "b/d/e/f.Png",
        "g.jpe",
        "h.jfif",
        "i.webp",
        "j.bmp",
        "k.GIF",
        "l.tif",
        "m.tiff",
    ]
    put(tmp_path, *images, "notes.txt", "b/x.pdf", "jpg", "b/archive.jpg.zip", "README")
    source = open_source(tmp_path)
    assert list(source.keys) == sorted(images)
    assert source.skipped == 5
    assert source.name == str(tmp_path)
    assert all(source.load(row) == RED for row in range(len(images)))


def test_order_is_that_of_the_whole_paths_bytes(tmp_path: Path) -> None:
    names = [
        "a/z.jpg",
        "a-b/x.jpg",
        "a.jpg",
        "B.jpg",
        "a0/x.jpg",
        "é.jpg",
        "z.jpg",
        "a/b/x.jpg",
        "10.jpg",
        "9.jpg",
    ]
    put(tmp_path, *names)
    assert list(open_source(tmp_path).keys) == sorted(names, key=lambda name: name.encode())
    assert list(open_source(tmp_path).keys)[:3] == ["10.jpg", "9.jpg", "B.jpg"]


@settings(max_examples=30, deadline=None)
@given(
    st.sets(
        st.binary(min_size=1, max_size=12).filter(
            lambda name: not {b"/"[0], 0} & set(name) and not name.startswith(b".") and name != b"__MACOSX"
        ),
        min_size=1,
        max_size=12,
    )
)
def test_any_name_is_a_row_of_its_own(tmp_path_factory: pytest.TempPathFactory, names: set[bytes]) -> None:
    root = tmp_path_factory.mktemp("names")
    expected = {}
    for number, name in enumerate(sorted(names)):
        content = encode(np.full((1, 1, 3), number, np.uint8), "PNG")
        put(root, name + b".png", content=content)
        expected[name + b".png"] = number
    source = open_source(root)
    found = {
        os.fsencode(key): int(decode(source.load(row)).pixels[0, 0, 0]) for row, key in enumerate(source.keys)
    }
    assert found == expected
    assert [os.fsencode(key) for key in source.keys] == sorted(expected)


def test_names_that_look_alike_stay_apart(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    names = [
        composed,
        decomposed,
        "cat.jpg",
        "Cat.jpg",
        "cat.JPG",
        "two\nlines.jpg",
        " space .jpg",
        "q'\"uote.jpg",
    ]
    put(tmp_path, *names, b"latin-\xe9.jpg")
    keys = list(open_source(tmp_path).keys)
    assert set(keys) == {*names, "latin-\udce9.jpg"}
    assert len(keys) == len(names) + 1


def test_hidden_files_and_resource_forks_are_skipped(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", ".b.jpg", ".git/c.jpg", ".git/d.jpg", "__MACOSX/e.jpg", "x/._f.jpg")
    source = open_source(tmp_path)
    assert list(source.keys) == ["a.jpg"]
    assert source.skipped == 4  # two files and two folders


def test_a_hidden_root_is_no_hidden_folder(tmp_path: Path) -> None:
    put(tmp_path, ".cache/a.jpg")
    assert list(open_source(tmp_path / ".cache").keys) == ["a.jpg"]


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    put(tmp_path, "real/a.jpg", "real/deep/b.jpg")
    put(tmp_path / "outside", "c.jpg")
    root = tmp_path / "real"
    (root / "up").symlink_to(root)
    (root / "deep" / "loop").symlink_to("..")
    (root / "deep" / "self").symlink_to("self")
    (root / "twice").symlink_to(root / "deep")
    (root / "other").symlink_to(tmp_path / "outside")
    assert list(open_source(root).keys) == ["a.jpg", "deep/b.jpg", "other/c.jpg", "twice/b.jpg"]


def test_a_linked_root(tmp_path: Path) -> None:
    put(tmp_path, "real/a.jpg")
    (tmp_path / "link").symlink_to("real")
    assert list(open_source(tmp_path / "link").keys) == ["a.jpg"]


def test_a_folder_with_an_images_name_fails_as_a_row_and_shows_its_images(tmp_path: Path) -> None:
    put(tmp_path, "folder.jpg/inside.jpg", "z.jpg")
    (tmp_path / "empty.png").mkdir()
    source = FolderSource(tmp_path)
    assert list(source.keys) == ["empty.png", "folder.jpg", "folder.jpg/inside.jpg", "z.jpg"]
    assert reason(source, "empty.png") == "a folder, not a file"
    assert reason(source, "folder.jpg") == "a folder, not a file"
    assert source.load(2) == RED


def test_what_is_no_file_never_hangs(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "terminal.jpg").symlink_to("/dev/tty")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(tmp_path, os.O_RDONLY)  # a socket's path must be short
        try:
            server.bind(f"/proc/self/fd/{here}/socket.jpg")
        finally:
            os.close(here)
        source = FolderSource(tmp_path)
        found: dict[str, str] = {}

        def work() -> None:
            for key in ("pipe.jpg", "zero.jpg", "socket.jpg", "terminal.jpg"):
                found[key] = reason(source, key)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(10)
    assert found["pipe.jpg"] == "not a regular file (a named pipe)"
    assert found["zero.jpg"] == "not a regular file (a device)"
    assert found["socket.jpg"] == "not a regular file (a socket or a device)"
    assert "not a regular file" in found["terminal.jpg"]


def test_unreadable_files_are_rows_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "empty.jpg", content=b"")
    put(tmp_path, "text.jpg", content=b"not a picture at all\n")
    put(tmp_path, "cut.png", content=RED[:-40])
    put(tmp_path, "png.jpg", "secret.jpg", "vanished.jpg", "later/x.jpg")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    source = FolderSource(tmp_path)
    assert len(source.keys) == 9
    (tmp_path / "vanished.jpg").unlink()
    (tmp_path / "later" / "x.jpg").unlink()
    (tmp_path / "later").rmdir()
    put(tmp_path, "later")  # now a file stands where a folder was
    real_open = os.open

    def no_secrets(path: bytes, flags: int) -> int:
        if path.endswith(b"secret.jpg"):
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", no_secrets)
    assert reason(source, "empty.jpg") == "empty file"
    assert "text that starts 'not a picture" in reason(source, "text.jpg")
    assert "cannot be decoded" in reason(source, "cut.png")
    assert reason(source, "secret.jpg") == "permission denied"
    assert reason(source, "vanished.jpg").startswith("no such file")
    assert reason(source, "broken.jpg").startswith("no such file")
    assert reason(source, "later/x.jpg").startswith("no such file")
    assert reason(source, "self.jpg") == "a symbolic link that leads back to itself"
    assert decode(source.load(list(source.keys).index("png.jpg"))).pixels[0, 0].tolist() == [255, 0, 0]


def test_a_reason_names_no_path_of_the_machine(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    source = FolderSource(tmp_path)
    (tmp_path / "a.jpg").unlink()
    assert str(tmp_path) not in reason(source, "a.jpg")


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(5 << 30)
    assert "5,368,709,120 bytes" in reason(FolderSource(tmp_path), "huge.jpg")


def test_a_file_that_grows_while_it_is_read_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.bin", content=b"x" * 3_000_000)
    real = os.fstat

    def smaller(file: int) -> os.stat_result:
        status = list(real(file))
        status[6] = 10
        return os.stat_result(status)

    monkeypatch.setattr(os, "fstat", smaller)
    assert len(read_file(os.fsencode(tmp_path / "a.bin"))) == 3_000_000


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.jpg", "locked\n/b.jpg")
    real = os.scandir

    def locked(path: bytes) -> object:
        if b"locked" in path:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(RequestError, match=r"locked\\n' \(Permission denied\); make it readable"):
        open_source(tmp_path)


def test_a_folder_without_images_says_what_it_looked_for(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "b/c.txt")
    with pytest.raises(RequestError, match=r"no images below .* \(2 other files\); names must end in jpg"):
        open_source(tmp_path)


def test_many_folders_and_files_are_all_found(tmp_path: Path) -> None:
    for folder in range(20):
        (tmp_path / f"{folder:02}").mkdir()
        for number in range(200):
            os.close(os.open(tmp_path / f"{folder:02}" / f"{number}.jpg", os.O_CREAT | os.O_WRONLY))
    found, skipped = list_images(os.fsencode(tmp_path))
    assert (len(found), skipped) == (4000, 0)
    assert found == sorted(found)


def test_folder_classes_reach_the_annotations(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg")
    assert open_source(tmp_path).annotations == {
        "split": ["train", "train", "val"],
        "class": ["cat", "dog", "cat"],
    }
