"""Correct-n-contrast for a head: rows of a class weighted by what a plain head takes them for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Needs, method
from headwater.heads.methods.stages import IDENTIFICATION_L2_SPACE, early_spec
from headwater.heads.specs.spec import Weights
from headwater.heads.tasks.task import Task


class CnCSettings(TrainSettings):
    """The paper's first network is regularised as JTT's is: its mistakes show the spurious feature."""

    identification_l2: float = Field(
        1.0, ge=0, description="weight decay of the first head; stands in for stopping it early"
    )


@method(
    "CnC",
    settings=CnCSettings,
    needs=Needs(classes_on=("train",)),
    paper="Zhang et al. 2022, Correct-n-contrast: a contrastive approach for improving robustness to "
    "spurious correlations",
    space={"identification_l2": IDENTIFICATION_L2_SPACE, "l2": L2_SPACE},
)
def cnc(task: Task, settings: CnCSettings, random: np.random.Generator) -> Recipe:
    """Within each class, rows taken for each class by a plain head weigh the same (last-layer form).

    CnC pulls together the representations of rows of one class that the first network tells apart, each
    anchor with as many rows of its class and another prediction. Representations are frozen here; what is
    left of it for a head is how often rows are seen: each class as often, and within it the rows predicted
    right (anchors) as often as those taken for each other class (contrasts).
    """
    train = task.rows("train").index
    (first,) = yield [early_spec(task, settings, settings.identification_l2)]
    predicted = task.predict([first], train)[0]
    weights = Weights(contrast_weights(task.target[train], predicted))
    (head,) = yield [train_spec(task, settings, weights=weights)]
    return Outcome(head, {"contrasts": int((predicted != task.target[train]).sum())})


def contrast_weights(codes: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.float64]:
    """1/(parts of the class · rows of the part), a part being a class's rows of one prediction; (rows,)."""
    classes = int(predicted.max()) + 1
    parts, part_of, sizes = np.unique(codes * classes + predicted, return_inverse=True, return_counts=True)
    per_class = np.bincount(parts // classes)
    return np.asarray(1.0 / (per_class[codes] * sizes[part_of]))
