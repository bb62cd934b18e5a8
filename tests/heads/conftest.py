"""Small worlds to fit heads in: a class, a shortcut that mostly agrees with it, and splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power

from headwater.heads.tasks.task import Task
from headwater.store import Plan, ShardRows, StoreWriter, annotate

# Rows per (class, place) in each split: two groups are rare in train, and no two counts are equal.
COUNTS = {"train": (60, 9, 12, 70), "val": (20, 15, 11, 24), "test": (30, 30, 31, 29)}


def _world(
    counts: dict[str, tuple[int, ...]] = COUNTS, dim: int = 12, seed: int = 0, signal: float = 1.2
) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    label = np.concatenate([np.repeat([0, 0, 1, 1], counts[split]) for split in counts])
    place = np.concatenate([np.repeat([0, 1, 0, 1], counts[split]) for split in counts])
    split = np.concatenate([np.repeat(split, sum(counts[split])) for split in counts])
    order = random.permutation(len(label))
    label, place, split = label[order], place[order], split[order]
    features = random.normal(size=(len(label), dim)).astype(np.float32) * np.linspace(
        0.5, 3, dim, dtype=np.float32
    )
    features[:, 0] += signal * (2 * label - 1)
    features[:, 1] += 2.0 * (2 * place - 1)
    return {
        "features": features + 3,
        "class": np.array(["landbird", "waterbird"])[label],
        "place": np.array(["land", "water"])[place],
        "split": split,
    }


@pytest.fixture
def world() -> Callable[..., dict[str, Any]]:
    """Makes arrays: features (rows, dim) and the columns class, place, split."""
    return _world


@pytest.fixture
def task() -> Task:
    """A task with groups class x place over train, val and test."""
    made = _world()
    return Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])


@pytest.fixture
def store_at(tmp_path: Path) -> Callable[..., Path]:
    """Makes a store with columns class, place, split, temperature; its first row failed to extract."""

    def make(name: str = "birds.store", recipe: dict[str, Any] | None = None, **kind: Any) -> Path:
        made = _world(**kind)
        features = made["features"]
        keys = [f"{number:04}.jpg" for number in range(len(features))]
        plan = Plan.for_keys(
            keys,
            recipe=recipe or {"backbone": "resnet50", "weights_sha256": "0" * 64},
            dim=features.shape[1],
            dtype="float32",
            rows_per_shard=100,
        )
        with StoreWriter(tmp_path / name, plan, keys) as writer:
            for shard in list(writer.missing):
                start, stop = plan.shard_range(shard)
                failed = np.arange(start, stop) == 0
                rows = np.where(failed[:, None], 0, features[start:stop]).astype(np.float32)
                sizes = np.full(stop - start, 224, dtype=np.int32)
                errors = ["not an image" if each else "" for each in failed]
                writer.write(shard, ShardRows(rows, None, failed.astype(np.uint8), errors, sizes, sizes))
            writer.finish({})
        columns = {name: made[name].tolist() for name in ("class", "place", "split")}
        temperature = np.linspace(0.5, 30, len(keys)).tolist()
        annotate(tmp_path / name, {"path": keys, **columns, "temperature": temperature})
        return tmp_path / name

    return make


def half_whitened(features: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """What the docstrings say, from whole matrices: those rows have a mean variance of 1 afterwards."""
    x = features.astype(float)
    x = (x - x[measured].mean(0)) / np.sqrt(x[measured].std(0))
    covariance = np.cov(x[measured].T, bias=True)
    varying = min(len(measured) - 1, x.shape[1])
    floor = 0.1 * np.trace(covariance) / varying
    x = x @ fractional_matrix_power(covariance + floor * np.eye(x.shape[1]), -0.25).real
    return np.asarray(x / np.sqrt(x[measured].var(0).mean()))
