"""From head files to the page: figures against counts made by hand, pictures, requests that cannot be met."""

from __future__ import annotations

import base64
import io
import re
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from headwater.errors import RequestError
from headwater.extract.archives import ArchiveSource
from headwater.report import build_report
from headwater.report.archives import members
from headwater.report.galleries import _spread
from headwater.report.gather import gather
from headwater.report.run import open_run
from tests.report.conftest import CLASSES, PLACES, HandMade, save
from tests.report.test_page import Page

TEST = 2


def test_every_figure_is_the_one_counted_by_hand(made: HandMade) -> None:
    data = gather(open_run(made.run))
    assert [m.name for m in data.methods] == ["SUBG", "ERM"]
    assert (data.baseline, data.best, data.split) == ("ERM", "SUBG", "test")
    for method in data.methods:
        shares = []
        for group in method.groups:
            cls, place = CLASSES.index(group.name.split(", ")[0]), PLACES.index(group.name.split(", ")[1])
            right, count = made.right(method.name, TEST, cls, place)
            assert (group.correct, group.count) == (right, count)
            if count:
                shares.append(right / count)
        rows = made.ok & (made.split == TEST)
        assert method.overall.value == pytest.approx((made.said[method.name] == made.target)[rows].mean())
        assert method.balanced.value == pytest.approx(np.mean(shares))
        assert method.worst.value == pytest.approx(min(shares))
        assert method.worst.low <= method.worst.value <= method.worst.high
        assert method.train_weighted is None  # train holds a group that test does not


def test_the_page_shows_them(made: HandMade) -> None:
    page = Page(build_report(made.run).read_text("utf-8"))
    header, *rows = page.table("Group")
    for row in rows:
        cls, place = (row[0].rsplit(", ", 1)[0], row[0].rsplit(", ", 1)[1])
        for name, cell in zip(header[2:], row[2:], strict=True):
            right, count = made.right(name, TEST, CLASSES.index(cls), PLACES.index(place))
            assert row[1] == str(count)
            assert cell.startswith(f"{100 * right / count:.1f}" if count else "no images")
    assert "script" not in [tag for tag, _ in page.tags]
    assert CLASSES[0] in page.text


def test_counts_leave_out_failed_rows_and_say_so(made: HandMade) -> None:
    data = gather(open_run(made.run))
    for code, group in enumerate(data.classes):
        for number, split in enumerate(("train", "val", "test")):
            assert group.counts[split] == (made.ok & (made.split == number) & (made.target == code)).sum()
    assert data.left_out == "Left out: 2 that failed to extract."
    assert data.extraction.failures == (
        ("all/005.jpg", "the file is empty"),
        ("all/011.jpg", "the file is empty"),
    )
    assert data.extraction.rate == pytest.approx(100.0)
    assert [(s.name, s.slowest) for s in data.extraction.stages] == [("decode", False), ("backbone", True)]


def test_pictures_are_the_mistakes_of_the_worst_group(made: HandMade) -> None:
    data = gather(open_run(made.run))
    erm, subg = data.galleries
    cls, place = CLASSES.index(erm.group.split(", ")[0]), PLACES.index(erm.group.split(", ")[1])
    rows = made.ok & (made.split == TEST) & (made.target == cls) & (made.place == place)
    wrong = np.flatnonzero(rows & (made.said["ERM"] != made.target))
    assert (erm.method, erm.other_method, subg.method) == ("ERM", "SUBG", "SUBG")
    assert (erm.wrong, erm.count) == (len(wrong), rows.sum())
    assert erm.rescued == (made.said["SUBG"] == made.target)[wrong].sum()
    assert 0 < len(erm.pictures) <= 14
    for picture in erm.pictures:
        row = made.keys.index(picture.key)
        assert row in wrong
        assert (picture.truth, picture.predicted) == (CLASSES[cls], CLASSES[1 - cls])
        assert picture.other == CLASSES[made.said["SUBG"][row]]
        assert picture.other_right == (made.said["SUBG"][row] == made.target[row])
        shown = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))).convert("RGB")
        red, green, _ = shown.resize((1, 1)).getpixel((0, 0))
        assert abs(red - row % 256) < 12
        assert abs(green - 90) < 12


def test_without_the_images_the_page_says_so(made: HandMade) -> None:
    shutil.move(made.images, made.images.with_name("elsewhere"))
    page = Page(build_report(made.run).read_text("utf-8"))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert "The images are not at hand" in page.text
    again = Page(build_report(made.run, images=made.images.with_name("elsewhere")).read_text("utf-8"))
    assert [tag for tag, _ in again.tags if tag == "img"]
    with pytest.raises(RequestError, match="nothing at"):
        build_report(made.run, images=made.images)


def test_pictures_that_cannot_be_read_are_counted(made: HandMade) -> None:
    shown = [p.key for gallery in gather(open_run(made.run)).galleries for p in gallery.pictures]
    for key in shown:
        (made.images / key).write_bytes(b"no picture")
    data = gather(open_run(made.run))
    assert all(not gallery.pictures for gallery in data.galleries)
    assert data.gallery_note == f"Of the pictures, {len(shown)} could not be read; they are left out."
    (made.images / shown[0]).unlink()
    said = f"Of the pictures, 1 could not be found and {len(shown) - 1} could not be read; they are left out."
    assert gather(open_run(made.run)).gallery_note == said


def _packed(images: Path, place: Path) -> Path:
    files = sorted(images.rglob("*.jpg"))
    if place.suffix == ".zip":
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                if "\udcff" not in file.name:  # which zips do not hold
                    archive.write(file, f"./{file.relative_to(images)}")
        return place
    with tarfile.open(place, "w" if place.suffix == ".tar" else "w:gz") as archive:
        for file in files:
            archive.add(file, f"./{file.relative_to(images)}")
    return place


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tgz"])
def test_pictures_out_of_an_archive_are_those_of_its_folder(ending: str, made: HandMade, tmp_path) -> None:
    expected = gather(open_run(made.run))
    place = _packed(made.images, tmp_path / f"packed{ending}")
    shutil.rmtree(made.images)
    found = gather(open_run(made.run), place)
    assert sum(len(gallery.pictures) for gallery in found.galleries) > 10
    assert found.galleries == expected.galleries
    assert not found.gallery_note
    place.write_bytes(place.read_bytes()[: place.stat().st_size // 2])
    torn = gather(open_run(made.run), place)
    lost = [sum(len(each.pictures) for each in data.galleries) for data in (found, torn)]
    assert lost[0] > lost[1]
    said = f"Of the pictures, {lost[0] - lost[1]} could not be read; they are left out."
    assert torn.gallery_note == said


FORMS = {
    ".tar": "w",
    ".TAR": "w:gz",
    ".tgz": "w",
    ".tar.gz": "w:gz",
    ".tar.bz2": "w:bz2",
    ".tar.xz": "w:xz",
    ".tar.zst": "w",
}


@pytest.mark.parametrize("ending", sorted(FORMS))
def test_members_of_a_tar_are_those_that_extraction_makes_rows_of(ending: str, tmp_path: Path) -> None:
    place = tmp_path / f"a{ending}"
    links = {
        "cats/hard.jpg": (tarfile.LNKTYPE, "./dogs//2.jpg"),
        "cats/soft.jpg": (tarfile.SYMTYPE, "../dogs/./2.jpg"),
        "cats/on.jpg": (tarfile.SYMTYPE, "hard.jpg"),
        "early.jpg": (tarfile.SYMTYPE, "late.jpg"),
    }
    with tarfile.open(place, FORMS[ending]) as archive:
        for name in ("./cats/1.jpg", "dogs/2.jpg", "caf\udce9.jpg", *links, "late.jpg"):
            info = tarfile.TarInfo(name)
            if name in links:
                info.type, info.linkname = links[name]
            info.size = 0 if name in links else len(name)
            archive.addfile(info, io.BytesIO(b"#" * (info.size - 1) + bytes([len(name)])))
    if ending == ".tar.zst":
        place.write_bytes(pa.Codec("zstd").compress(place.read_bytes(), asbytes=True))
    source = ArchiveSource(place)
    expected = {key: source.load(row) for row, key in enumerate(source.keys)}
    assert len(expected) == 8
    assert members(place, list(expected)) == expected
    for key, content in expected.items():  # whatever else is asked for
        assert members(place, [key, "none.jpg"]) == {key: content}


def test_members_of_a_zip_are_those_that_extraction_makes_rows_of(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, target in (("cats\\1.jpg", ""), ("link.jpg", "./cats/1.jpg"), ("unix\\2.jpg", "")):
            info = zipfile.ZipInfo("made")
            info.filename, info.create_system = name, 0 if name.startswith("cats") else 3
            info.external_attr = (stat.S_IFLNK if target else stat.S_IFREG) << 16
            archive.writestr(info, target or f"holds {name}")
    (tmp_path / "a.zip").rename(tmp_path / "a.tar")  # whatever it is called
    source = ArchiveSource(tmp_path / "a.tar")
    expected = {key: source.load(row) for row, key in enumerate(source.keys)}
    assert set(expected) == {"cats/1.jpg", "link.jpg", "unix\\2.jpg"}
    assert members(tmp_path / "a.tar", [*expected, "none.jpg"]) == expected


def test_members_that_are_no_pictures_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("link.jpg", tarfile.SYMTYPE), ("pipe.jpg", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "real.jpg"
            archive.addfile(info)
        for content in (b"earlier", b"later"):  # which replaces the earlier where it is unpacked
            info = tarfile.TarInfo("a//real.jpg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    wanted = ["a/real.jpg", "link.jpg", "pipe.jpg", "absent.jpg"]
    found = {"a/real.jpg": b"later", "link.jpg": None, "pipe.jpg": None}
    assert members(tmp_path / "a.tar", wanted) == found
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.jpg", "good")
        archive.writestr("torn.jpg", "torn")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"torn.jpgtorn") + len("torn.jpg")] ^= 1  # its checksum is another now
    (tmp_path / "a.zip").write_bytes(content)
    assert members(tmp_path / "a.zip", ["good.jpg", "torn.jpg"]) == {"good.jpg": b"good", "torn.jpg": None}
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and no list")
    assert members(tmp_path / "a.zip", ["good.jpg"]) == {"good.jpg": None}


def test_archives_that_are_slow_to_look_into_are_said_to_be(
    made: HandMade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.report.archives.MOST_PACKED", 1_000)
    for ending, start, said in (
        (".tar", b"\x1f\x8b", "all of a large compressed tar would be unpacked"),
        (".tgz", b"BZh", "all of a large compressed tar would be unpacked"),
        (".7z", b"7z", "not at hand"),
        (".tar.gz", b"no tar", "could not be read; they are left out"),
    ):
        (tmp_path / f"packed{ending}").write_bytes(start + bytes(2_000))
        data = gather(open_run(made.run), tmp_path / f"packed{ending}")
        assert said in data.gallery_note
        assert not any(gallery.pictures for gallery in data.galleries)


def test_the_makers_words_are_shown(made: HandMade) -> None:
    assert gather(open_run(made.run)).about == ""
    (made.run / "about.txt").write_text("Birds <b>on</b>\nplaces.\n")
    assert "Birds <b>on</b> places." in Page(build_report(made.run).read_text("utf-8")).text


def test_array_sources_give_pictures_too(made: HandMade, tmp_path) -> None:
    from headwater.report.pictures import Pictures

    images = np.zeros((3, 3, 8, 8), dtype=np.float32)
    images[1, 0] = 1.0
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(3))
    uri = Pictures(tmp_path / "images.npz").thumbnail("1")
    shown = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    red, green, blue = shown.convert("RGB").getpixel((80, 80))
    assert red > 245
    assert max(green, blue) < 12
    np.savez(tmp_path / "several.npz", Images=images, masks=images[:, 0])  # told by its name
    assert Pictures(tmp_path / "several.npz").thumbnail("1") == uri
    assert not Pictures(tmp_path / "several.npz").note


def test_an_array_file_without_images_is_not_said_to_be_missing(made: HandMade, tmp_path) -> None:
    np.savez(tmp_path / "table.npz", images=np.zeros((3, 8)))
    page = Page(build_report(made.run, images=tmp_path / "table.npz").read_text("utf-8"))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert re.search(r"The images are not shown: \S+table\.npz. has no array of images", page.text)
    assert "not at hand" not in page.text


def test_undecodable_names_are_visible_escapes(made: HandMade) -> None:
    from headwater.report.text import shown

    assert shown(made.keys[7]) == "all/\\xff <b>7.jpg"
    assert shown("a\nb\u202ec") == "a\\nb\\u202ec"
    build_report(made.run).read_text("utf-8")


def test_an_earlier_report_of_the_run_is_replaced_and_nothing_else(made: HandMade, tmp_path) -> None:
    place = build_report(made.run)
    first = place.read_bytes()
    assert place == made.run / "report.html"
    assert build_report(made.run) == place
    assert place.read_bytes() == first
    thesis = tmp_path / "thesis.html"
    thesis.write_text("my thesis")
    with pytest.raises(RequestError, match="is no headwater report"):
        build_report(made.run, thesis)
    assert thesis.read_text() == "my thesis"
    other = tmp_path / "other"
    shutil.copytree(made.run, other)
    with pytest.raises(RequestError, match="another run"):
        build_report(other, place)
    build_report(other, place, replace=True)
    with pytest.raises(RequestError, match="is a folder"):
        build_report(made.run, tmp_path)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"group_columns": ()}, "differ in groups"),
        ({"target": "place", "classes": PLACES}, "differ in target"),
        ({"store_fingerprint": "0" * 64}, "differ in features"),
    ],
)
def test_heads_that_do_not_belong_together_are_refused(made: HandMade, changes, what) -> None:
    save(made, "RWG", 0, **changes)
    with pytest.raises(RequestError, match=what):
        build_report(made.run)


def test_requests_that_cannot_be_met(made: HandMade, tmp_path) -> None:
    with pytest.raises(RequestError, match="no folder of heads"):
        build_report(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="holds no heads"):
        build_report(tmp_path / "empty")
    made.store.rename(tmp_path / "moved.store")
    with pytest.raises(RequestError, match="--store"):
        build_report(made.run)
    assert build_report(made.run, store=tmp_path / "moved.store").is_file()


def test_two_heads_of_one_method_are_told_apart_by_file(made: HandMade) -> None:
    save(made, "ERM", 1, file="ERM-second")
    data = gather(open_run(made.run))
    assert sorted(m.name for m in data.methods) == ["ERM", "ERM-second", "SUBG"]


def test_without_a_test_split_val_is_reported_with_a_warning(made: HandMade) -> None:
    from headwater.store import annotate

    annotate(
        made.store,
        {"path": made.keys, "split": [("train", "val", "")[s] for s in made.split]},
        replace=True,
        allow_missing=True,
    )
    data = gather(open_run(made.run))
    assert data.split == "val"
    assert data.note.startswith("There is no test split")
    assert re.search(r"\d+ in no split", data.left_out)


def test_many_heads_are_cut_but_the_baseline_stays(made: HandMade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.report.gather.MOST_HEADS", 6)
    for number in range(10):
        save(made, "SUBG", 1, file=f"s{number:02d}")
    data = gather(open_run(made.run))
    assert len(data.methods) == 6
    assert data.baseline == "ERM"
    assert data.methods[-1].name == "ERM"
    assert "12 heads" in data.note


@pytest.mark.parametrize(("count", "most"), [(0, 5), (3, 5), (5, 5), (100, 7), (14, 13)])
def test_pictures_are_spread_evenly_over_the_mistakes(count: int, most: int) -> None:
    chosen = _spread(np.arange(count, dtype=np.int64), most)
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    if count:
        gaps = np.diff(chosen)
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        assert gaps.max() - gaps.min() <= 1
