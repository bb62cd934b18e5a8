"""A small store that the commands are tried on, and the commands as a user gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headwater.store import Plan, ShardRows, StoreWriter, annotate


@pytest.fixture
def store(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    label, place = random.integers(0, 2, 240), random.integers(0, 2, 240)
    features = random.normal(size=(240, 6)).astype("f4")
    features[:, 0] += 2 * label
    keys = [f"{number}.jpg" for number in range(240)]
    plan = Plan.for_keys(keys, recipe={"backbone": "pixels"}, dim=6, dtype="float32")
    zeros = np.zeros(240, dtype=np.int32)
    with StoreWriter(tmp_path / "birds.store", plan, keys) as writer:
        status = (np.arange(240) < 2).astype("u1")
        errors = ["empty file"] * 2 + [""] * 238
        writer.write(0, ShardRows(features, None, status, errors, zeros, zeros))
        writer.finish({})
    columns = {
        "class": np.array(["land\nbird", "water"])[label].tolist(),
        "place": np.array(["forest", "sea"])[place].tolist(),
        "split": np.array(["train", "val", "test"])[np.arange(240) % 3].tolist(),
    }
    annotate(tmp_path / "birds.store", {"path": keys, **columns})
    return tmp_path / "birds.store"


@pytest.fixture
def command(headwater: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    """Runs `headwater heads …` likewise, on a terminal of 100 columns unless told."""
    return lambda *words, columns=100: headwater("heads", *words, columns=columns)
