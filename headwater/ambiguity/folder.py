"""A folder with X_labeled.npy, y_labeled.npy, X_unlabeled.npy and X_val.npy, read as a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.items import Survey, common_layout, common_scale, survey
from headwater.ambiguity.labels import read_labels
from headwater.ambiguity.pictures import array_pictures
from headwater.errors import RequestError
from headwater.heads.ambiguity.problem import Problem
from headwater.store import read_arrays, show_key
from headwater.store.files import explained_reading

LABELED, LABELS, UNLABELED, TARGET = "X_labeled.npy", "y_labeled.npy", "X_unlabeled.npy", "X_val.npy"
FILES = (LABELED, LABELS, UNLABELED, TARGET)
_POINTER = b"version https://git-lfs"


def read_folder(folder: Path) -> Dataset:
    """Read and check a folder's four arrays; nothing is ever unpickled, and what need not be copied is not.

    Raises:
        RequestError: a file is missing, a pointer of Git LFS, or no array of numbers; the arrays do not fit
            together; labels are of one class; some item is not finite; there is nothing to predict.
    """
    _check_there(folder)
    raw = {name: _read(folder / name) for name in FILES}
    for name in (LABELED, TARGET):
        if raw[name].ndim and not len(raw[name]):
            what = "labeled" if name == LABELED else "to predict"
            raise RequestError(
                f"{name} has no rows, so there is nothing {what}; its shape is {raw[name].shape}"
            )
    given = common_layout({name: raw[name] for name in (LABELED, UNLABELED, TARGET)})
    codes, classes = read_labels(LABELS, raw[LABELS], len(given[LABELED]))
    surveys = {name: survey(name, array) for name, array in given.items()}
    check_varied(surveys.values())
    items = common_scale(given, surveys)
    hashes = {name: found.hashes for name, found in surveys.items()}
    unlabeled, notes = useful_unlabeled(items[UNLABELED], items[TARGET], hashes[UNLABELED], hashes[LABELED])
    problem = Problem(items[LABELED], codes, unlabeled, items[TARGET], classes)
    target = len(problem.target)
    return Dataset(
        place=folder,
        problem=problem,
        content=content_of(problem, hashes.values()),
        items=np.arange(target),
        target_rows=target,
        picture=array_pictures(problem.target) if problem.are_images else _no_picture,
        notes=notes,
    )


def useful_unlabeled(
    unlabeled: NDArray[np.float32],
    target: NDArray[np.float32],
    hashes: NDArray[np.uint64],
    labeled_hashes: NDArray[np.uint64],
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The unlabeled rows, or the target's where there are none but labeled ones; and notes on that."""
    if not len(unlabeled):
        return target, ("there are no unlabeled rows, so only the target rows can show an ambiguity",)
    if np.isin(hashes, labeled_hashes).all():
        return target, (
            "every unlabeled row is one of the labeled rows, so only the target rows can show an ambiguity",
        )
    return unlabeled, ()


def check_varied(surveys: Iterable[Survey]) -> None:
    """RequestError where all rows of all files hold the same number everywhere."""
    found = [each for each in surveys if len(each.hashes)]
    low, high = min(each.low for each in found), max(each.high for each in found)
    if low == high:
        raise RequestError(f"every value of every row is {low:g}, so nothing tells the classes apart")


def content_of(problem: Problem, hashes: Any) -> str:
    """Tells a problem's values from any others', in hex, from the hashes of its rows."""
    whole = hashlib.sha256(repr((problem.classes, problem.labeled.shape[1:])).encode())
    whole.update(problem.labels.tobytes())
    for each in hashes:
        whole.update(len(each).to_bytes(8, "little") + each.tobytes())
    return whole.hexdigest()


_no_picture: Callable[[int], NDArray[np.uint8] | None] = lambda row: None  # noqa: E731


def _check_there(folder: Path) -> None:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not missing:
        return
    shown = show_key(str(folder))
    inside = sorted(each for each in folder.iterdir() if (each / LABELED).is_file())
    if len(missing) == len(FILES) and inside:
        raise RequestError(
            f"{shown} holds data sets and is none itself; name one of them, such as "
            f"{show_key(str(inside[0]))}"
        )
    raise RequestError(
        f"{shown} has no {' and no '.join(missing)}; a data set is a folder with {', '.join(FILES)}, "
        "or a store"
    )


def _read(path: Path) -> NDArray[Any]:
    with explained_reading(path), path.open("rb") as file:
        beginning = file.read(len(_POINTER))
    if beginning == _POINTER:
        raise RequestError(
            f"{path.name} is a pointer of Git LFS and not the array itself; "
            "fetch the arrays with `git lfs install` and `git lfs pull` in their repository"
        )
    if not beginning:
        raise RequestError(f"{path.name} is empty; copy or download it again")
    found = read_arrays(path)
    if not isinstance(found, np.ndarray):
        raise RequestError(f"{path.name} holds several arrays, as .npz files do; save one with numpy.save")
    # Mapped so that writing goes to memory: PyTorch warns of arrays that may not be written.
    return np.load(path, mmap_mode="c", allow_pickle=False) if found.size else found
