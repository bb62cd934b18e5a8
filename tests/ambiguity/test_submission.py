"""The file that is handed in, read back as the contest would, and what keeps it from being written."""

from __future__ import annotations

import csv
import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.ambiguity import write_submission
from headwater.ambiguity.submission import accuracy_of, submission_text, write_new
from headwater.errors import HeadwaterError, RequestError
from headwater.heads.ambiguity.oracles.label_file import labels_of_file


def test_one_label_a_line_no_header_no_index(tmp_path: Path) -> None:
    write_submission(tmp_path / "sub.csv", np.array([1, 0, 2, 1]), (4, 5, 6), 4)
    assert (tmp_path / "sub.csv").read_bytes() == b"5\n4\n6\n5\n"
    assert [path.name for path in tmp_path.iterdir()] == ["sub.csv"]  # nothing is left beside it


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), unique=True, min_size=2))
def test_any_names_come_back_as_they_were(names: list[str]) -> None:
    classes = tuple(sorted(names))
    codes = np.arange(len(classes))[::-1]
    text = submission_text(codes, classes, len(classes))
    assert [line[0] for line in csv.reader(text.splitlines())] == list(classes[::-1])


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    place = tmp_path / "sub.csv"
    place.write_text("mine", encoding="ascii")
    with pytest.raises(RequestError, match="exists already"):
        write_submission(place, [0, 1], (0, 1), 2)
    with pytest.raises(RequestError, match="exists already"):
        write_new(place, "0\n1\n")  # nor one that came to be after the first look
    assert place.read_text(encoding="ascii") == "mine"
    place.unlink()
    place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="exists already"):
        write_submission(place, [0, 1], (0, 1), 2)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def link(source: object, target: object) -> None:
        raise OSError(code, "no links here")

    monkeypatch.setattr("os.link", link)
    place = tmp_path / "sub.csv"
    write_submission(place, [1, 0], (3, 8), 2)
    assert place.read_bytes() == b"8\n3\n"
    with pytest.raises(RequestError, match="exists already"):
        write_new(place, "0\n")
    assert place.read_bytes() == b"8\n3\n"

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().name == "other.csv":
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(HeadwaterError, match="the disk is full"):
        write_new(tmp_path / "other.csv", "0\n")
    assert [path.name for path in tmp_path.iterdir()] == ["sub.csv"]  # a half is no file of labels


@pytest.mark.parametrize("name", ["sub.txt", "sub", "sub.csv.gz"])
def test_it_must_be_a_csv(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match=r"has to end in \.csv"):
        write_submission(tmp_path / name, [0, 1], (0, 1), 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("codes", "rows"),
    [([0, 1], 3), ([0, 1, 1], 2), ([0, 2], 2), ([0, -1], 2), ([[0], [1]], 2), ([0.5, 1], 2)],
)
def test_labels_that_are_not_one_known_class_per_row_are_not_written(
    tmp_path: Path, codes: list[int], rows: int
) -> None:
    with pytest.raises(HeadwaterError, match="nothing was written"):
        write_submission(tmp_path / "sub.csv", codes, (0, 1), rows)
    assert not list(tmp_path.iterdir())


def test_accuracy_is_the_share_of_equal_labels(tmp_path: Path) -> None:
    (tmp_path / "sub.csv").write_text("3\n8\n8\n3\n", encoding="ascii")
    np.save(tmp_path / "truth.npy", np.array([3, 8, 3, 3], np.uint8))
    assert accuracy_of(tmp_path / "sub.csv", tmp_path / "truth.npy") == 0.75
    (tmp_path / "sub.csv").write_text("3.0\n8.0\n8\n 3\n", encoding="ascii")  # as an oracle's file may
    assert accuracy_of(tmp_path / "sub.csv", tmp_path / "truth.npy") == 0.75
    np.save(tmp_path / "short.npy", np.array([3, 8, 3]))
    with pytest.raises(RequestError, match=r"has 4 labels and .* has 3"):
        accuracy_of(tmp_path / "sub.csv", tmp_path / "short.npy")


def test_several_arrays_are_no_labels(tmp_path: Path) -> None:
    with (tmp_path / "several.npy").open("wb") as file:
        np.savez(file, a=np.arange(2), b=np.arange(2))
    with pytest.raises(RequestError, match="several arrays"):
        labels_of_file(tmp_path / "several.npy")


@pytest.mark.parametrize("text", ["0,3\n1,8\n", "3\n\n8\n"])
def test_a_submission_with_an_index_or_a_gap_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "sub.csv").write_text(text, encoding="ascii")
    with pytest.raises(RequestError, match="not one label in line"):
        labels_of_file(tmp_path / "sub.csv")
