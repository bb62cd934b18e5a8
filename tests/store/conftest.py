"""A small store to test with, and the arrays that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from headwater.store import Plan, ShardRows, StoreWriter


@dataclass
class Made:
    path: Path
    plan: Plan
    keys: list[str]
    features: np.ndarray
    augmented: np.ndarray
    status: np.ndarray
    errors: list[str]
    sizes: np.ndarray

    def rows(self, shard: int) -> ShardRows:
        start, stop = self.plan.shard_range(shard)
        return ShardRows(
            features=self.features[start:stop],
            augmented=self.augmented[:, start:stop] if self.plan.views else None,
            status=self.status[start:stop],
            error=self.errors[start:stop],
            width=self.sizes[start:stop, 0],
            height=self.sizes[start:stop, 1],
        )

    def write(self, path: Path | None = None, shards: Sequence[int] | None = None) -> Path:
        target = path or self.path
        with StoreWriter(target, self.plan, self.keys) as writer:
            for shard in list(writer.missing) if shards is None else shards:
                writer.write(shard, self.rows(shard))
            writer.finish({"images_per_second": 12.5})
        return target


def build(
    path: Path,
    *,
    rows: int = 25,
    dim: int = 4,
    dtype: str = "float16",
    views: int = 0,
    rows_per_shard: int = 10,
    keys: Sequence[str] | None = None,
    failed: Mapping[int, str] | None = None,
    recipe: Mapping[str, object] | None = None,
    seed: int = 0,
) -> Made:
    """Arrays and plan for a store that is not written yet."""
    names = [f"class {row % 3}/image {row}.jpg" for row in range(rows)] if keys is None else list(keys)
    rows = len(names)
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((rows, dim)).astype(dtype)
    augmented = generator.standard_normal((views, rows, dim)).astype(dtype)
    status, errors = np.zeros(rows, np.uint8), [""] * rows
    for row, error in (failed or {}).items():
        status[row], errors[row], features[row], augmented[:, row] = 1, error, 0, 0
    sizes = generator.integers(1, 5000, (rows, 2)).astype(np.int32)
    plan = Plan.for_keys(
        names,
        recipe=recipe or {"weights": {"sha256": "00"}},
        dim=dim,
        dtype=dtype,
        views=views,
        rows_per_shard=rows_per_shard,
        source="a test",
        details={"layer": "avgpool"},
    )
    return Made(path, plan, names, features, augmented, status, errors, sizes)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Build and write a store: `make(rows=…, views=…)`."""

    def build_and_write(name: str = "made.store", *, written: bool = True, **settings: object) -> Made:
        made = build(tmp_path / name, **settings)  # type: ignore[arg-type]
        if written:
            made.write()
        return made

    return build_and_write


@pytest.fixture(scope="session")
def builder() -> Callable[..., Made]:
    """`build` itself, for fixtures that outlive a test."""
    return build
