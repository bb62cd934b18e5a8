"""A folder to run in, and a small store in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headwater.store import annotate

from .runs import write_store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(here: Path) -> Path:
    """A store with classes, places and no split, whose features tell both."""
    random = np.random.default_rng(0)
    label, place = random.integers(0, 2, 200), random.integers(0, 2, 200)
    features = random.normal(size=(200, 5)).astype("f4")
    features[:, 0] += 3 * label
    features[:, 1] += 3 * place
    keys = [f"{number}.jpg" for number in range(200)]
    write_store(here / "birds.store", keys, features)
    annotate("birds.store", {"path": keys, "class": np.array(["land", "water"])[label].tolist()})
    lines = [f"{key},{'ns'[where]}" for key, where in zip(keys, place.tolist(), strict=True)]
    Path("places.csv").write_text("path,place\n" + "\n".join(lines) + "\n")
    return here / "birds.store"
