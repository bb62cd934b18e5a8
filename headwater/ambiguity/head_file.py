"""The final head of a data set as a file that `headwater heads evaluate` and `load_head` read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.features import Extraction, store_of
from headwater.ambiguity.submission import check_new
from headwater.errors import HeadwaterError, RequestError
from headwater.store import open_store

if TYPE_CHECKING:
    from headwater.heads.ambiguity.resolve import Resolution

METHOD = "ambiguity"
_ORDER = ("labeled", "unlabeled", "target")


def check_head(place: Path, dataset: Dataset, features: Extraction | None) -> None:
    """Refuse, before any work, a place that cannot be written, or features that nobody else can have.

    RequestError, or HeadwaterError when the system is in the way.
    """
    from headwater.heads.checkpoint import SUFFIX  # noqa: PLC0415

    check_new(place, SUFFIX, "--head")
    if dataset.problem.are_images and features is None:
        raise RequestError(
            "a head on patches that are learned in passing from these images would fit no other features; "
            "leave out --head, or name features that are kept, as with --backbone patches"
        )


def write_head(
    place: Path,
    dataset: Dataset,
    features: Extraction | None,
    resolution: Resolution,
    *,
    answers: int,
    seed: int,
) -> None:
    """Write the head that labels were spread to by so many `answers`; HeadwaterError where there is none."""
    from headwater.heads.checkpoint import HeadInfo, save_head  # noqa: PLC0415
    from headwater.heads.tasks.columns import split_called  # noqa: PLC0415

    if resolution.head is None:
        raise HeadwaterError("nothing was answered, and so there is no reading for a head to learn")
    problem = dataset.problem
    classes = tuple(map(str, problem.classes))
    convergence = resolution.head.convergence
    info = HeadInfo(
        classes=classes,
        target=dataset.columns.get("label", "class"),
        group_columns=(),
        group_names=classes,
        train_counts=tuple(np.bincount(problem.labels, minlength=len(classes)).tolist()),
        split=dataset.columns.get("split", "split"),
        **_features(dataset, features),
        method=METHOD,
        settings={},
        seed=seed,
        choices={
            "answers": answers,
            "settled": resolution.settled,
            "expected_accuracy": resolution.expected_accuracy,
        },
        seconds=float(sum(resolution.seconds.values())),
        rounds=1,
        trained=1,
        unconverged=int(not convergence.converged),
        # Arrays are in no store, where a split of a like name may hold other rows.
        fitted_on=tuple(split_called(dataset.columns[kind]) for kind in _ORDER if dataset.columns.get(kind))
        if dataset.columns
        else _ORDER,
    )
    save_head(place, resolution.head, info)


def _features(dataset: Dataset, features: Extraction | None) -> dict[str, Any]:
    """Which features it is for: a store's, or the data set's own values, which any store of them has."""
    if features is None and dataset.recipe is None:
        return {"store_path": "", "store_fingerprint": "", "store_recipe": {}}
    store = open_store(dataset.place if features is None else store_of(dataset, features))
    return {
        "store_path": str(store.path),
        "store_fingerprint": store.fingerprint,
        "store_recipe": store.plan.recipe,
    }
