"""The CSV that is handed in: one label per target row, no header, no index; checked, and written once."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater.ambiguity.labels import Label, codes_of, plain_labels
from headwater.errors import HeadwaterError, RequestError
from headwater.heads.ambiguity.oracles.label_file import labels_of_file
from headwater.printable import counted, listed
from headwater.store import show_key
from headwater.store.files import explained, make_folder_of, refuse_unwritable, sync_file, sync_folder

SUFFIX = ".csv"
_UNDECODABLE = "surrogateescape"  # bytes of names that are no text come out as they were


def check_new(path: Path, suffix: str, option: str = "--out") -> None:
    """Refuse, before any work, a file that is named wrongly, cannot be written, or is there already.

    RequestError, or HeadwaterError when the system is in the way.
    """
    shown = show_key(str(path))
    if path.is_dir():
        raise RequestError(f"{shown} is a folder; give {option} the name of a file in it")
    if path.suffix.lower() != suffix:
        raise RequestError(f"{option} is {shown}, and has to end in {suffix}")
    if os.path.lexists(path):
        raise RequestError(f"{shown} exists already; choose another name with {option}, or move it away")
    refuse_unwritable(path)


def submission_text(codes: Sequence[int] | NDArray[np.int64], classes: Sequence[Label], rows: int) -> str:
    """The file's text: the label of each code on a line; HeadwaterError where it would not be one per row."""
    found = np.asarray(codes)
    if found.shape != (rows,):
        raise HeadwaterError(
            f"{len(found):,} labels were made for {counted(rows, 'target row')}; nothing was written"
        )
    if found.dtype.kind not in "iu" or ((found < 0) | (found >= len(classes))).any():
        raise HeadwaterError("a target row got a label that is none of the classes; nothing was written")
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([classes[code]] for code in found.tolist())
    text = file.getvalue()
    again = [line[0] for line in csv.reader(io.StringIO(text))]
    if again != [str(classes[code]) for code in found.tolist()]:
        raise HeadwaterError(
            f"the labels {listed(map(str, classes))} cannot be written as lines of a CSV file"
        )
    return text


def write_submission(
    path: Path, codes: Sequence[int] | NDArray[np.int64], classes: Sequence[Label], rows: int
) -> None:
    """Write the CSV whole or not at all, and never over a file that is there; see `submission_text`."""
    check_new(path, SUFFIX)
    write_new(path, submission_text(codes, classes, rows))


def write_new(path: Path, text: str, option: str = "--out") -> None:
    """Write a file whole or not at all; RequestError where one of that name has come to be meanwhile."""
    make_folder_of(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(path):
        try:
            temporary.write_text(text, encoding="utf-8", errors=_UNDECODABLE, newline="")
            sync_file(temporary)
            _put(temporary, path, text)
        except FileExistsError:
            raise RequestError(
                f"{show_key(str(path))} exists already; choose another name with {option}, or move it away"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def _put(temporary: Path, path: Path, text: str) -> None:
    """Give a file its name; FileExistsError, which a rename would not raise, where there is one."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, as on sticks and shares
        _write_anew(path, text)


def _write_anew(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8", errors=_UNDECODABLE, newline="") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink()
            raise


def accuracy_of(submission: Path, truth: Path) -> float:
    """The share of a submission's labels that are those of `truth`, a CSV or .npy file of as many rows."""
    mine, theirs = (
        [str(value) for value in plain_labels(show_key(str(path)), labels_of_file(path)).tolist()]
        for path in (submission, truth)
    )
    if len(mine) != len(theirs) or not mine:
        raise RequestError(
            f"{show_key(str(submission))} has {counted(len(mine), 'label')} and {show_key(str(truth))} has "
            f"{len(theirs):,}; they have to be of the same rows"
        )
    classes = sorted(set(theirs))
    return float((codes_of(mine, classes) == codes_of(theirs, classes)).mean())
