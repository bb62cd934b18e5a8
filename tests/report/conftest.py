"""A run made by hand: a store whose features spell what two heads will predict, and the images beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from headwater.heads import HeadInfo, LinearHead, save_head
from headwater.heads.specs.head import Convergence
from headwater.store import ROW_FAILED, Plan, ShardRows, StoreWriter, annotate, open_store

CLASSES = ("<script>alert(1)</script>", "water")
PLACES = ("forest", "sea")
ROWS = 400


@dataclass
class HandMade:
    """The run's places and, per row, the truth that the report must come to."""

    run: Path
    store: Path
    images: Path
    keys: list[str]
    target: NDArray[np.int64]
    place: NDArray[np.int64]
    split: NDArray[np.int64]
    said: dict[str, NDArray[np.int64]]
    ok: NDArray[np.bool_]

    def right(self, name: str, split: int, cls: int, place: int) -> tuple[int, int]:
        """How many rows of a group are right and how many there are, counted here and nowhere else."""
        rows = self.ok & (self.split == split) & (self.target == cls) & (self.place == place)
        return int((self.said[name][rows] == self.target[rows]).sum()), int(rows.sum())


@pytest.fixture
def made(tmp_path: Path) -> HandMade:
    random = np.random.default_rng(3)
    target, place = random.integers(0, 2, ROWS), random.integers(0, 2, ROWS)
    split = random.integers(0, 3, ROWS)
    split[(target == 1) & (place == 1) & (split == 2)] = 0  # one group has no test images
    said = {
        "ERM": np.where(random.random(ROWS) < 0.7, place, target),
        "SUBG": np.where(random.random(ROWS) < 0.1, 1 - target, target),
    }
    keys = [f"all/{row:03d}.jpg" for row in range(ROWS)]
    keys[7] = "all/\udcff <b>7.jpg"
    images = tmp_path / "images"
    (images / "all").mkdir(parents=True)
    for row, key in enumerate(keys):
        Image.new("RGB", (40, 30), (row % 256, 90, 30)).save(images / key, "JPEG")
    features = np.stack([2.0 * said["ERM"] - 1, 2.0 * said["SUBG"] - 1, random.normal(size=ROWS)], axis=1)
    ok = np.ones(ROWS, dtype=bool)
    ok[[5, 11]] = False
    store = tmp_path / "birds.store"
    plan = Plan.for_keys(
        keys,
        recipe={"backbone": "tiny"},
        dim=3,
        dtype="float32",
        source=str(images),
        details={"weights": "w.pth"},
    )
    sizes = np.full(ROWS, 30, dtype=np.int32)
    with StoreWriter(store, plan, keys) as writer:
        status = np.where(ok, 0, ROW_FAILED).astype("u1")
        errors = ["" if good else "the file is empty" for good in ok]
        writer.write(0, ShardRows(features.astype("f4"), None, status, errors, sizes, sizes))
        record = {
            "rows": ROWS,
            "seconds": 4.0,
            "rates": {"decode": 900.0, "backbone": 100.0},
            "slowest": "backbone",
        }
        writer.finish(record)
    annotate(
        store,
        {
            "path": keys,
            "class": [CLASSES[c] for c in target],
            "place": [PLACES[p] for p in place],
            "split": [("train", "val", "test")[s] for s in split],
        },
    )
    found = HandMade(tmp_path / "run", store, images, keys, target, place, split, said, ok)
    for column, name in enumerate(said):
        save(found, name, column)
    return found


def save(made: HandMade, name: str, column: int, *, file: str | None = None, **changes: object) -> Path:
    """A head that says what feature `column` spells."""
    weight = np.zeros((2, 3), dtype=np.float32)
    weight[0, column], weight[1, column] = -1, 1
    head = LinearHead(weight, np.zeros(2, np.float32), Convergence(True, 12, 0.3, 1e-9))
    store = open_store(made.store)
    values: dict[str, object] = {
        "classes": CLASSES,
        "target": "class",
        "group_columns": ("place",),
        "group_names": (),
        "train_counts": (),
        "split": "split",
        "store_path": str(made.store),
        "store_fingerprint": store.fingerprint,
        "store_recipe": dict(store.plan.recipe),
        "method": name,
        "settings": {"l2": 0.25},
        "seed": 0,
        "trained": 3,
        "seconds": 0.5,
    }
    path = made.run / f"{file or name}.safetensors"
    save_head(path, head, HeadInfo(**{**values, **changes}))  # type: ignore[arg-type]
    return path
