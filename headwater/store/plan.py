"""The plan of a store: what its features are and how its rows lie in shards, frozen when the job starts.

Holds the JSON form of `plan.json` and how two plans differ; it reads and writes no files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash

from headwater.errors import HeadwaterError, RequestError
from headwater.store.keys import encode_keys, hash_keys, join_keys

FORMAT = 1
"""The newest store format that this code reads, and the one it writes."""

DTYPES = ("float16", "float32")


class NewerFormatError(HeadwaterError):
    """A store of a format that only a newer headwater can read."""


@dataclass(frozen=True)
class Plan:
    """What determines a store; equal fingerprints mean that features may stand in the same store.

    `recipe`: everything that determines a feature (weights hash, architecture, layer, transform, decoder, …),
    as JSON. `views`: augmented embeddings next to the plain one. `key_bytes`: length of the longest key in
    bytes, at least 1. `source` and `details` are for people and later rooms, and no part of the identity.
    """

    recipe: Mapping[str, Any]
    dim: int
    dtype: str
    views: int
    rows: int
    rows_per_shard: int
    keys_sha256: str
    key_bytes: int
    source: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise RequestError(
                f"features are stored as float16 or float32, not as {self.dtype!r}; choose one"
            )
        for name, least in (("dim", 1), ("views", 0), ("rows", 0), ("rows_per_shard", 1), ("key_bytes", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise RequestError(
                    f"a plan's {name} must be a whole number of {least} or more, not {value!r}"
                )
        for name in ("recipe", "details"):
            # Through JSON and back, so that a plan made now equals the plan read later (tuples become lists).
            object.__setattr__(self, name, _as_json(name, getattr(self, name)))

    @classmethod
    def for_keys(
        cls,
        keys: Sequence[str],
        *,
        recipe: Mapping[str, Any],
        dim: int,
        dtype: str = "float16",
        views: int = 0,
        rows_per_shard: int = 8192,
        source: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Plan:
        """The plan for rows of these keys in order; RequestError for a key that is twice or has a NUL."""
        raw = encode_keys(keys)
        return cls(
            recipe=recipe,
            dim=dim,
            dtype=dtype,
            views=views,
            rows=len(raw),
            rows_per_shard=rows_per_shard,
            keys_sha256=hash_keys(join_keys(raw)),
            key_bytes=max(map(len, raw), default=1) or 1,
            source=source,
            details=details or {},
        )

    @property
    def fingerprint(self) -> str:
        """Sha256, in hex, over the canonical JSON of recipe, dtype and views."""
        identity = {"recipe": self.recipe, "dtype": self.dtype, "views": self.views}
        return hashlib.sha256(canonical_json(identity)).hexdigest()

    @property
    def shards(self) -> int:
        """How many shards the rows fill."""
        return -(-self.rows // self.rows_per_shard)

    def shard_range(self, shard: int) -> tuple[int, int]:
        """The first row of a shard and the row after its last.

        RequestError for a shard that the plan does not have.
        """
        if not 0 <= shard < self.shards:
            raise RequestError(f"there is no shard {shard}; the plan has shards 0 to {self.shards - 1}")
        start = shard * self.rows_per_shard
        return start, min(start + self.rows_per_shard, self.rows)

    @property
    def feature_dtype(self) -> np.dtype[Any]:
        """The numpy type of the features, little-endian."""
        return np.dtype("<f2" if self.dtype == "float16" else "<f4")


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, ASCII only: the same value always gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _as_json(name: str, value: Any) -> Any:
    try:
        return json.loads(canonical_json(value))
    except (TypeError, ValueError) as error:
        raise RequestError(f"a plan's {name} must be plain JSON, and this one is not: {error}") from None


def render_plan(plan: Plan) -> bytes:
    """The exact content of `plan.json`; `checksum` covers everything else in it."""
    body = {
        "format": FORMAT,
        "fingerprint": plan.fingerprint,
        "dim": plan.dim,
        "dtype": plan.dtype,
        "views": plan.views,
        "rows": plan.rows,
        "rows_per_shard": plan.rows_per_shard,
        "keys_sha256": plan.keys_sha256,
        "key_bytes": plan.key_bytes,
        "source": plan.source,
        "recipe": plan.recipe,
        "details": plan.details,
    }
    body["checksum"] = "xxh3_128:" + xxhash.xxh3_128_hexdigest(canonical_json(body))
    return json.dumps(body, indent=2, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"


def parse_plan(content: bytes, where: str) -> Plan:
    """The plan in the content of a `plan.json`; HeadwaterError when it is torn or of a newer format."""
    try:
        body = json.loads(content)
        version = body["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HeadwaterError(
            f"{where} is damaged: it is not the JSON of a plan; "
            "restore it from a copy, or extract into a new folder"
        ) from None
    if isinstance(version, int) and version > FORMAT:
        raise NewerFormatError(
            f"{where} is of store format {version}, and this headwater reads up to {FORMAT}; "
            "upgrade headwater"
        )
    try:
        names = (
            "recipe",
            "dim",
            "dtype",
            "views",
            "rows",
            "rows_per_shard",
            "keys_sha256",
            "key_bytes",
            "source",
        )
        return Plan(**{name: body[name] for name in names}, details=body["details"])
    except (KeyError, TypeError, RequestError) as error:
        raise HeadwaterError(
            f"{where} is damaged ({error}); restore it from a copy, or extract into a new folder"
        ) from None


def plan_differences(old: Plan, new: Plan) -> list[str]:
    """What differs between the identities of two plans, one short text each, `entry: old → new`."""
    found = []
    for name in ("dim", "dtype", "views"):
        if getattr(old, name) != getattr(new, name):
            found.append(f"{name}: {getattr(old, name)} → {getattr(new, name)}")
    return found + _json_differences("recipe", old.recipe, new.recipe)


def _json_differences(name: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in sorted({*old, *new}):
            found += _json_differences(f"{name}.{key}", old.get(key), new.get(key))
        return found
    return [] if old == new else [f"{name}: {_short(old)} → {_short(new)}"]


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:24] + "…" + text[-12:]
