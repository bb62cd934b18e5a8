"""Heads on disk: a safetensors file with the weights and everything needed to use them again.

The file holds `weight` (classes, dim) and `bias` (classes,), float32, and one metadata entry `headwater` with
a JSON object, the fields of `HeadInfo`. Reading a network's checkpoint is `headwater.checkpoints`' business.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from headwater._version import __version__
from headwater.errors import HeadwaterError, RequestError
from headwater.heads.methods.recipes import FittedHead
from headwater.heads.methods.registry import splits_read
from headwater.heads.seen import marks_in, seen_rows, splits_shared
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.tasks.task import Origin, Task
from headwater.store.files import (
    explained_reading,
    make_folder_of,
    refuse_unwritable,
    write_whole,
)

FORMAT = 1
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class HeadInfo:
    """What a head file says about its head, as plain values.

    `classes` by output; `group_names` and `train_counts` (rows per group in train, for train-weighted
    accuracy) align; `group_columns` empty: the groups are the classes. `store_path` is where the store was, a
    hint only; `store_fingerprint` and `store_recipe` say which features the head fits. `summary` holds a
    group report's plain data by split. `unconverged` of the `trained` heads did not converge. It was trained
    on so many augmented `views` beside each image.

    `fitted_on`: the splits whose rows decided the head: it was fitted, tuned or standardised on them; None:
    an older file that does not say. `chosen_by` names the rule that chose the head among a sweep's, by its
    figures on `chosen_on`; empty for a head that was fitted alone. `seen` marks the rows of these splits, see
    `seen.py`; empty: an older file, or arrays.
    """

    classes: tuple[str, ...]
    target: str
    group_columns: tuple[str, ...]
    group_names: tuple[str, ...]
    train_counts: tuple[int, ...]
    split: str
    store_path: str
    store_fingerprint: str
    store_recipe: Mapping[str, Any]
    method: str
    settings: Mapping[str, Any]
    seed: int
    choices: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    rounds: int = 0
    trained: int = 0
    unconverged: int = 0
    views: int = 0
    fitted_on: tuple[str, ...] | None = None
    chosen_by: str = ""
    chosen_on: str = ""
    seen: Mapping[str, str] = field(default_factory=dict, repr=False)
    headwater: str = __version__

    @classmethod
    def of(
        cls,
        task: Task,
        fitted: FittedHead,
        summary: Mapping[str, Any] | None = None,
        *,
        chosen_by: str = "",
        chosen_on: str = "",
    ) -> HeadInfo:
        """The record of a head fitted on a task, and chosen by a rule that looked at a split if it was."""
        origin: Origin = task.origin
        counts = task.group_counts("train") if "train" in task.splits else np.zeros(0, dtype=np.int64)
        fitted_on = splits_read(fitted.method, fitted.settings)
        seen = {each: seen_rows(task, each) for each in (*fitted_on, chosen_on) if each in task.splits}
        return cls(
            classes=task.classes,
            target=task.target_name,
            group_columns=task.group_columns,
            group_names=task.group_names,
            train_counts=tuple(counts.tolist()),
            split=task.split_name,
            store_path=origin.path,
            store_fingerprint=origin.fingerprint,
            store_recipe=origin.recipe,
            method=fitted.method,
            settings=fitted.settings,
            seed=fitted.seed,
            choices=fitted.choices,
            summary=summary or {},
            seconds=fitted.seconds,
            rounds=fitted.rounds,
            trained=fitted.trained,
            unconverged=fitted.unconverged,
            views=task.views,
            fitted_on=fitted_on,
            chosen_by=chosen_by,
            chosen_on=chosen_on,
            seen={name: marks for name, marks in seen.items() if marks},
        )

    def in_sample(self, split: str, task: Task | None = None) -> str:
        """Why figures on a split are no figures of new rows, as what the head is; empty where they are.

        `task`: that whose split it is, if not the one that the head was trained on. Its rows are then looked
        for among those seen, whatever either task calls its splits; where no rows are marked, names decide.
        """
        shared = None if task is None else splits_shared(task, split, self.seen)
        shared = [split] if shared is None else shared
        if any(name in shared for name in self.fitted_on or ()):
            return f"fitted, tuned or standardised on rows of {split}"
        if self.chosen_on in shared:
            looked = f"which looks at {self.chosen_on}"
            where = "" if split == self.chosen_on else f", and so at rows of {split}"
            return f"chosen among a sweep's heads by rule {self.chosen_by!r}, {looked}{where}"
        return ""


def save_head(
    path: str | os.PathLike[str], head: LinearHead, info: HeadInfo, *, replace: bool = False
) -> None:
    """Write a head file, whole or not at all; an existing file is replaced only when asked for.

    RequestError where one is there, HeadwaterError where classes and outputs differ or the disk refuses.
    """
    path = Path(path)
    check_place(path, replace=replace)
    if head.weight.shape[0] != len(info.classes):
        raise HeadwaterError(
            f"a head with {head.weight.shape[0]} outputs cannot have {len(info.classes)} classes"
        )
    content = {"format": FORMAT, **asdict(info), "convergence": asdict(head.convergence)}
    tensors = {"weight": np.ascontiguousarray(head.weight), "bias": np.ascontiguousarray(head.bias)}
    make_folder_of(path)
    # ASCII JSON, so that names that are no valid Unicode pass through safetensors unharmed. Not its own
    # save_file, whose failures are no OSError and do not say why.
    write_whole(path, save(tensors, metadata={"headwater": json.dumps(content)}))


def load_head(path: str | os.PathLike[str]) -> tuple[LinearHead, HeadInfo]:
    """Read a head file; RequestError when it is missing, no head, damaged or of a newer format."""
    path = Path(path)
    shown = repr(str(path))
    with explained_reading(path):
        if not path.is_file():
            raise RequestError(f"no head at {shown}; `headwater heads fit` makes one")
        # The libraries that read it say of a file they may not open that it is damaged.
        path.open("rb").close()
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RequestError(
            f"{shown} is damaged or no head file; give one that `headwater heads fit` made"
        ) from error
    if "headwater" not in metadata or set(tensors) != {"weight", "bias"}:
        raise RequestError(f"{shown} holds no headwater head; give one that `headwater heads fit` made")
    try:
        content = json.loads(metadata["headwater"])
        written = int(content["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{shown} has damaged metadata; fit the head again") from error
    if written > FORMAT:
        raise RequestError(
            f"{shown} is of head format {written}, and headwater {__version__} reads up to {FORMAT}; "
            "upgrade headwater"
        )
    try:
        return _parsed(content, tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RequestError(f"{shown} has damaged metadata ({error}); fit the head again") from error


def _parsed(content: Mapping[str, Any], tensors: Mapping[str, Any]) -> tuple[LinearHead, HeadInfo]:
    known = {each.name for each in fields(HeadInfo)}
    values = {name: content[name] for name in known if name in content}
    for name in ("classes", "group_columns", "group_names", "train_counts"):
        values[name] = tuple(values[name])
    if values.get("fitted_on") is not None:
        values["fitted_on"] = tuple(values["fitted_on"])
    info = HeadInfo(**values)
    for marks in info.seen.values():
        marks_in(marks)
    weight, bias = tensors["weight"].astype(np.float32), tensors["bias"].astype(np.float32)
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or len(info.classes) != len(bias):
        raise ValueError(f"weight {weight.shape} and bias {bias.shape} for {len(info.classes)} classes")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ValueError("weights that are not finite")
    return LinearHead(weight, bias, Convergence(**content["convergence"])), info


def check_place(path: Path, *, replace: bool) -> None:
    """Refuse, before any work, a path that cannot be written or that has something there already.

    Nothing a user made is silently replaced. RequestError, or HeadwaterError when the system is in the way.
    """
    refuse_unwritable(path)
    if path.is_dir():
        raise RequestError(f"{str(path)!r} is a folder; give the name of a file in it")
    if path.exists() and not replace:
        raise RequestError(f"{str(path)!r} exists already; choose another name, or say --replace")
