"""Notices whether a data set's labels say which feature is meant; nothing is asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.datasets import open_dataset
from headwater.ambiguity.features import Extraction, features_of
from headwater.ambiguity.reporting import check_report, write_scan
from headwater.ambiguity.views import Views
from headwater.devices import choose_device
from headwater.errors import RequestError
from headwater.printable import nearest

if TYPE_CHECKING:
    import torch

    from headwater.extract import Progress
    from headwater.heads.ambiguity.clustering import Clusterer
    from headwater.heads.ambiguity.problem import Problem
    from headwater.heads.ambiguity.scan import Scan

_SEEDS = 2**32  # that scikit-learn takes


@dataclass(frozen=True, eq=False)
class Scanned:
    """What was found in a data set, and where the report of it is, if one was asked for.

    `goes_by` says of the readings that go by one place in images, or one column of vectors, by which.
    """

    dataset: Dataset
    found: Scan
    report: Path | None
    notes: tuple[str, ...] = ()
    goes_by: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The figures as plain numbers, texts and lists, for JSON, rows by their numbers in the data set."""
        plain = self.found.summary()
        items = self.dataset.items
        for reading in plain["readings"]:
            reading["goes_by"] = self.goes_by.get(reading["name"])
        for cluster in plain["clusters"]:
            cluster["typical"] = [int(items[row]) for row in cluster["typical"]]
            cluster["medoid"] = None if cluster["medoid"] is None else int(items[cluster["medoid"]])
        return {
            "dataset": str(self.dataset.place),
            "classes": list(self.dataset.problem.classes),
            **plain,
            "report": None if self.report is None else str(self.report),
            "notes": list(self.notes),
        }


def scan(
    dataset: Dataset | str | os.PathLike[str],
    *,
    report: str | os.PathLike[str] | None = None,
    features: Extraction | str | None = None,
    cache: str | os.PathLike[str] | None = None,
    seed: int = 0,
    clusterer: Clusterer = "kmeans",
    device: str = "auto",
    extracting: Callable[[Progress], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Scanned:
    """Look for kinds of rows that the labels never show, and for readings of the labels that differ on them.

    Args:
        dataset: an opened one, or what `open_dataset` opens: a folder of arrays, or a store.
        report: an HTML page of what was found; replaces an earlier one of this data set, and nothing else.
        features: of which backbone, for images alone; None: patches that are learned from the images.
        cache: a folder where patches that were learned are kept for another time; None: nowhere.
        seed: decides everything random; the same seed gives the same result.
        clusterer: how rows are clustered for the table of clusters: by `kmeans`, Gaussian mixtures (`gmm`) or
            their `density`. Whether labels are ambiguous is told without clusters.
        device: `auto`, `cpu`, `cuda` or `cuda:N`: where features are made and k-means runs.
        extracting: told how far the extraction of a backbone's features is.
        progress: told of a step's name, how many parts of it are done, and of how many.

    Raises:
        RequestError: the data set cannot be read, or cannot be meant.
    """
    from headwater.heads.ambiguity.meaning import going_by  # noqa: PLC0415

    _check_clusterer(clusterer)
    check_seed(seed)
    where = choose_device(device)
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    page = None if report is None else Path(report)
    if page is not None:
        check_report(page, opened)
    views = features_of(
        opened,
        features,
        seed=seed,
        device=where,
        cache=None if cache is None else Path(cache),
        extracting=extracting,
        progress=progress,
    )
    found = look_for_ambiguity(opened.problem, views, seed, clusterer, where)
    if page is not None:
        write_scan(page, opened, found, opened.notes)
    return Scanned(opened, found, page, opened.notes, going_by(opened.problem, found))


def look_for_ambiguity(
    problem: Problem,
    views: Views,
    seed: int,
    clusterer: Clusterer = "kmeans",
    device: torch.device | None = None,
) -> Scan:
    """The scan of a problem by the views of it, or by its own values where it has none."""
    from headwater.heads.ambiguity.feature_rows import FeatureRows  # noqa: PLC0415
    from headwater.heads.ambiguity.scan import scan as look  # noqa: PLC0415

    kinds = [FeatureRows.split(name, rows, problem) for name, rows in views.items()]
    return look(problem, kinds or None, seed=seed, clusterer=clusterer, device=device)


def check_seed(seed: int) -> None:
    """RequestError for a seed that no generator of random numbers takes."""
    if seed < 0:
        raise RequestError(f"a seed must not be negative, and this one is {seed}")
    if seed >= _SEEDS:
        raise RequestError(f"a seed must be less than {_SEEDS}, and this one is {seed}; give a smaller one")


def _check_clusterer(name: str) -> None:
    from headwater.heads.ambiguity.clustering import Clusterer  # noqa: PLC0415

    known = get_args(Clusterer)
    if name not in known:
        raise RequestError(f"rows cannot be clustered by {name!r}{nearest(name, known)}")
