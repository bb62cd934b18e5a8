"""Tiny ambiguous data sets, made anew: two features that agree on labeled rows and cross elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Made = dict[str, NDArray[np.generic]]


def points(rows: int = 60, *, seed: int = 0) -> Made:
    """Two well separated real features; labels are the first one's side, and half of the others cross."""
    random = np.random.default_rng(seed)
    one, other = random.integers(0, 2, (2, 3, rows))
    other[0] = one[0]
    x = np.stack([one, other], axis=2) * 4.0 - 2 + random.normal(size=(3, rows, 2)) * 0.4
    return {
        "X_labeled": x[0],
        "y_labeled": one[0],
        "X_unlabeled": x[1],
        "X_val": x[2],
        "y_val": one[2],
    }


def pictures(rows: int = 40, *, seed: int = 0) -> Made:
    """Images of 1 x 6 x 12 whose halves are bright or dark; labels are the left half's, 3 or 8."""
    made = points(rows, seed=seed)
    random = np.random.default_rng(seed)
    for name in ("X_labeled", "X_unlabeled", "X_val"):
        bright = (made[name] > 0).astype(np.float32)
        images = np.repeat(bright, 6, axis=1)[:, None, None, :] * np.ones((1, 1, 6, 1), np.float32)
        made[name] = images * 0.8 + 0.05 * random.normal(size=images.shape).astype(np.float32)
    for name in ("y_labeled", "y_val"):
        made[name] = np.where(made[name] == 1, 8, 3)
    return made


def write(folder: Path, made: Made) -> Path:
    """A data set's folder, with the target's labels beside it as FOLDER.labels.npy."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in made.items():
        if name != "y_val":
            np.save(folder / f"{name}.npy", array)
    np.save(folder.with_suffix(".labels.npy"), made["y_val"])
    return folder


@pytest.fixture
def made() -> Callable[..., Made]:
    """The arrays of tiny images."""
    return pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of tiny images."""
    return write(tmp_path / "halves", pictures())
