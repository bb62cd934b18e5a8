"""Views of a data set's images, kept as stores, so that the same data set is not looked at twice.

How views are made is `views.py`'s business. What is kept costs time where it cannot be read or written, and
nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater._version import __version__
from headwater.ambiguity.cache_bound import make_room, note_use
from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.views import Views, views_recipe
from headwater.errors import HeadwaterError
from headwater.store import ROW_OK, Plan, ShardRows, StoreWriter, check_resumable, open_store
from headwater.store.plan import canonical_json

_SHARD_BYTES = 1 << 26
_WIDTHS = "widths"
_log = logging.getLogger(__name__)


def kept_views(folder: Path, dataset: Dataset, seed: int, make: Callable[[], Views]) -> Views:
    """The views that a store in `folder` holds of these images, else those that `make` gives, kept there.

    Those used longest ago are taken away where all together are more than `cache_bound.BYTES`.
    """
    recipe = {**views_recipe(seed), "images": dataset.content, "headwater": __version__}
    place = folder / f"{hashlib.sha256(canonical_json(recipe)).hexdigest()[:32]}.store"
    keys = dataset.keys
    found = _read(place, recipe, keys)
    if found is None:
        found = make()
        _write(place, recipe, keys, found)
        make_room(place)
    note_use(place)
    return found


def _read(place: Path, recipe: Mapping[str, Any], keys: list[str]) -> Views | None:
    try:
        store = open_store(place)
        widths = dict(store.plan.details.get(_WIDTHS, []))
        expected = _plan(recipe, keys, widths)
        if (store.fingerprint, store.plan.keys_sha256) != (expected.fingerprint, expected.keys_sha256):
            return None
        if store.dim != expected.dim or not store.ok.all():
            return None
        rows = store.features.read(0, len(store))
    except (HeadwaterError, OSError, TypeError, ValueError) as error:
        _log.info("no views are read from %s: %s", place, error)
        return None
    ends = np.cumsum(list(widths.values()))[:-1]
    return dict(zip(widths, map(np.ascontiguousarray, np.split(rows, ends, axis=1)), strict=True))


def _write(place: Path, recipe: Mapping[str, Any], keys: list[str], views: Views) -> None:
    rows = np.concatenate(list(views.values()), axis=1)
    plan = _plan(recipe, keys, {name: view.shape[1] for name, view in views.items()})
    try:
        _clear(place, plan, keys)
        with StoreWriter(place, plan, keys) as writer:
            for shard in list(writer.missing):
                start, stop = writer.plan.shard_range(shard)
                writer.write(shard, _shard(rows[start:stop]))
            writer.finish({"job": "views", "rows": len(keys)})
    except (HeadwaterError, OSError) as error:
        _log.info("the views cannot be kept in %s: %s", place, error)


def _plan(recipe: Mapping[str, Any], keys: list[str], widths: Mapping[str, int]) -> Plan:
    dim = sum(widths.values())
    return Plan.for_keys(
        keys,
        recipe=recipe,
        dim=dim,
        dtype="float32",
        rows_per_shard=max(1, _SHARD_BYTES // max(1, 4 * dim)),
        details={_WIDTHS: list(widths.items())},
    )


def _clear(place: Path, plan: Plan, keys: list[str]) -> None:
    """Take away what is there, unless it is a store of these views, which is finished, or mended."""
    if not place.exists():
        return
    try:
        check_resumable(place, plan, keys)
    except HeadwaterError:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()


def _shard(rows: NDArray[np.float32]) -> ShardRows:
    none = np.zeros(len(rows), np.int32)
    status = np.full(len(rows), ROW_OK, np.uint8)
    return ShardRows(np.ascontiguousarray(rows), None, status, [""] * len(rows), none, none)
