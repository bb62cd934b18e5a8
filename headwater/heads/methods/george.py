"""Groups found by clustering inside classes, then trained on robustly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from headwater.heads.methods.clusters import Kind, clusters, number_of_clusters, principal
from headwater.heads.methods.dro import ADJUSTMENT_SPACE, GroupDROSettings, group_risk, robust_spec
from headwater.heads.methods.erm import L2_SPACE, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, Needs, method
from headwater.heads.methods.stages import row_losses
from headwater.heads.specs.head import LinearHead
from headwater.heads.tasks.task import Task


class GEORGESettings(GroupDROSettings):
    """As published: Gaussian mixtures, up to 10 by silhouette, five times as many where over-clustering."""

    reference_l2: float = Field(
        1e-3, ge=0, description="weight decay of the plain head whose losses join the features"
    )
    components: int = Field(10, ge=1, description="principal components that a class is clustered in")
    loss: bool = Field(True, description="cluster by how wrong the plain head is, too")
    clusterer: Kind = Field("gmm", description="Gaussian mixtures or k-means")
    most: int = Field(10, ge=2, description="the most clusters of a class among which silhouettes choose")
    overcluster: int = Field(1, ge=1, description="how many times the chosen number to make in the end")


@method(
    "GEORGE",
    settings=GEORGESettings,
    needs=Needs(classes_on=("train",)),
    paper="Sohoni et al. 2020, No subclass left behind: fine-grained robustness in coarse-grained "
    "classification problems",
    space={"l2": L2_SPACE, "adjustment": ADJUSTMENT_SPACE, "overcluster": Among((1, 5))},
)
def george(task: Task, settings: GEORGESettings, random: np.random.Generator) -> Recipe:
    """Clusters each class by features and a plain head's errors, then GroupDRO on them (last-layer form).

    Knows no groups of train. The features that are clustered are those given, reduced to principal components
    of a class. Over-clustering takes all of the smaller clusters for groups; the authors keep only the
    tightest beside the large ones.
    """
    seed = int(random.integers(2**31))
    plain = settings.model_copy(update={"l2": settings.reference_l2})
    (reference,) = yield [train_spec(task, plain)]
    found = _clusters(task, settings, reference, seed)
    (head,) = yield [robust_spec(task, settings, group_risk(found, settings.adjustment))]
    counts = [len(np.unique(found[mine])) for mine in _by_class(task)]
    return Outcome(head, {"clusters": counts})


def _by_class(task: Task) -> list[NDArray[np.int64]]:
    """Places in train of the rows of each class."""
    target = task.target[task.rows("train").index]
    return [np.flatnonzero(target == code) for code in range(len(task.classes))]


def _clusters(task: Task, settings: GEORGESettings, reference: LinearHead, seed: int) -> NDArray[np.int64]:
    """A cluster number for each row of train, found once for settings that differ in nothing clusters see."""
    shared = (
        "GEORGE", reference, settings.standardise, settings.components, settings.loss,
        settings.clusterer, settings.most, seed,
    )  # fmt: skip
    key = (*shared, settings.overcluster)
    if key in task.kept:
        known: NDArray[np.int64] = task.kept[key]
        return known
    out = np.zeros(len(task.rows("train")), dtype=np.int64)
    # Such small products cost more in waiting for other threads than they save.
    with threadpool_limits(1):
        if shared not in task.kept:
            reduced = _reduced(task, settings, reference, seed)
            task.kept[shared] = [
                (part, *number_of_clusters(part, settings.clusterer, settings.most, seed)) for part in reduced
            ]
        first = 0
        for mine, (part, count, codes) in zip(_by_class(task), task.kept[shared], strict=True):
            many = count * settings.overcluster
            found = codes if many == count else clusters(part, settings.clusterer, many, seed)
            out[mine] = first + found
            first += many
    task.kept[key] = out
    return out


def _reduced(
    task: Task, settings: GEORGESettings, reference: LinearHead, seed: int
) -> list[NDArray[np.float32]]:
    """What each class is clustered by: principal components, and how wrong the plain head is.

    That is 1 - p_y rather than the loss, whose few largest values would make clusters of their own; twice the
    deviation of the first component lies between right and wrong.
    """
    train = task.rows("train").index
    x = np.asarray(task.features[train], dtype=np.float32)
    if settings.standardise:
        spread = x.std(axis=0, dtype=np.float64).astype(np.float32)
        x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1)
    wrong = -np.expm1(-row_losses(task, reference, train))
    reduced = []
    for mine in _by_class(task):
        part = principal(x[mine], settings.components, seed)
        if settings.loss:
            part = np.column_stack([part, (2 * part[:, 0].std() * wrong[mine]).astype(np.float32)])
        reduced.append(part)
    return reduced
