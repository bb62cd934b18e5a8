"""Opens whatever the user calls a data set: a folder of arrays, or a store."""

from __future__ import annotations

import os
from pathlib import Path

from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.folder import FILES, read_folder
from headwater.ambiguity.stores import Columns, read_store
from headwater.errors import RequestError
from headwater.store import show_key

_PLAN = "plan.json"


def open_dataset(
    place: str | os.PathLike[str],
    *,
    target: str = "class",
    split: str = "split",
    labeled_rows: str = "",
    unlabeled_rows: str = "",
    target_rows: str = "",
) -> Dataset:
    """Open a folder with X_labeled.npy, y_labeled.npy, X_unlabeled.npy and X_val.npy, or a store.

    Args:
        place: the folder, or a store's folder or packed file.
        target: a store's column of labels.
        split: a store's column that says which rows are labeled, unlabeled and target.
        labeled_rows: its value for labeled rows; empty: labeled or train, whichever there is.
        unlabeled_rows: its value for unlabeled rows; empty: unlabeled, if there is any.
        target_rows: its value for the rows to predict; empty: target, test or val, whichever there is first.

    Raises:
        RequestError: there is no such data set, or it cannot be meant; the sentence says what is wrong.
    """
    path = Path(place)
    shown = show_key(str(path))
    if not path.exists():
        raise RequestError(f"there is no {shown}; give a folder with {', '.join(FILES)}, or a store")
    if path.is_dir() and not (path / _PLAN).exists():
        return read_folder(path)
    if path.is_file() and path.suffix.lower() not in (".h5", ".hdf5"):
        raise RequestError(
            f"{shown} is a file; give the folder that holds {', '.join(FILES)}, or a store made of images by "
            "`headwater extract`"
        )
    return read_store(path, Columns(target, split, labeled_rows, unlabeled_rows, target_rows))
