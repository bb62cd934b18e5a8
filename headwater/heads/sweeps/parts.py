"""What a sweep has trained, on disk: after every round one file with the heads that ended with it.

A part is whole or absent. Which recipes there are, and what their heads come to, is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from headwater.errors import HeadwaterError
from headwater.heads.methods.recipes import Ended, FailedRecipe, FittedHead
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.store.files import explained_reading, write_whole

FOLDER = "trained"
_SUFFIX = ".safetensors"


def write_part(folder: Path, ended: Mapping[str, Ended]) -> Path | None:
    """Keep what ended, by the recipe's key, in the next part of `folder`; equal heads are stored once."""
    if not ended:
        return None
    heads: dict[LinearHead, int] = {}
    records: dict[str, dict[str, Any]] = {}
    for key, each in ended.items():
        record = {"method": each.method, "settings": dict(each.settings), "seed": each.seed}
        if isinstance(each, FailedRecipe):
            records[key] = {**record, "reason": each.reason}
            continue
        records[key] = {
            **record,
            "head": heads.setdefault(each.head, len(heads)),
            "convergence": asdict(each.head.convergence),
            "choices": dict(each.choices),
            "seconds": each.seconds,
            "rounds": each.rounds,
            "trained": each.trained,
            "unconverged": each.unconverged,
            "obstacle": each.obstacle,
        }
    tensors = {}
    if heads:
        tensors = {
            "weight": np.stack([head.weight for head in heads]),
            "bias": np.stack([head.bias for head in heads]),
        }
    taken = [int(path.stem) for path in _parts(folder)]
    path = folder / f"{max(taken, default=-1) + 1:05}{_SUFFIX}"
    write_whole(path, save(tensors, metadata={"records": json.dumps(records, default=_plain)}))
    return path


def _plain(value: Any) -> Any:
    """A NumPy number as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is no plain value")


def read_parts(folder: Path) -> list[tuple[str, Ended]]:
    """All that ended so far with its key, as it was written; HeadwaterError for a part that is damaged.

    A sweep that was asked for more may have used a key twice.
    """
    return [each for path in _parts(folder) for each in _read(path).items()]


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"[0-9]*{_SUFFIX}")) if folder.is_dir() else []


def _read(path: Path) -> dict[str, Ended]:
    try:
        with explained_reading(path), safe_open(path, framework="numpy") as file:
            records = json.loads(file.metadata()["records"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return {key: _ended(record, tensors) for key, record in records.items()}
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
        raise HeadwaterError(
            f"{str(path)!r} is damaged; delete it and give the command again: what it held is trained anew"
        ) from error


def _ended(record: dict[str, Any], tensors: Mapping[str, Any]) -> Ended:
    who = {"method": record["method"], "settings": record["settings"], "seed": record["seed"]}
    if "reason" in record:
        return FailedRecipe(**who, reason=record["reason"])
    number = record["head"]
    head = LinearHead(
        tensors["weight"][number], tensors["bias"][number], Convergence(**record["convergence"])
    )
    counted = {name: record[name] for name in ("seconds", "rounds", "trained", "unconverged", "obstacle")}
    return FittedHead(head=head, **who, choices=record["choices"], **counted)
