"""GroupDRO that listens to cross-validated losses, for features that leave no loss on the rows trained on."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import Among, Needs, Settings, method
from headwater.heads.methods.stages import row_losses
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows, Weights
from headwater.heads.tasks.task import Task

_PAPER = "none, this project's own; after Sagawa et al. 2020, Distributionally robust neural networks"
_SPLITS = {"train": ("train",), "val": ("val",), "train+val": ("train", "val")}


class CrossValidatedSettings(Settings):
    """More updates of a larger `step` go further from equal weights of the groups towards equal losses.

    The defaults were chosen on few rows of many features (PACS), on draws that the benchmarks do not use.
    """

    l2: float = Field(1.0, ge=0, description="weight decay, beside the mean loss")
    rows: Literal["train", "val", "train+val"] = Field("train+val", description="what it trains on")
    folds: int = Field(5, ge=2, description="parts of the rows held out in turns")
    updates: int = Field(2, ge=0, description="times the groups' weights are moved")
    step: float = Field(1.3, gt=0, description="how far a group's loss moves its weight")
    half_whiten: bool | None = Field(
        None, description="train on half-whitened features instead; None: where they are more than the rows"
    )
    standardise: bool = Field(True, description="train on features of mean 0 and deviation 1 over train")


def _needs(settings: CrossValidatedSettings) -> Needs:
    splits = _SPLITS[settings.rows]
    scaled_on_train = settings.standardise and settings.half_whiten is not True
    return Needs(
        splits=("train",) if scaled_on_train and settings.rows == "val" else (),
        groups_on=splits,
        rows_per_group=1 if len(splits) == 2 or not settings.updates else 2,  # one held out, one trained on
    )


@method(
    "CV-GroupDRO",
    settings=CrossValidatedSettings,
    needs=_needs,
    paper=_PAPER,
    space={
        "l2": Among((0.25, 0.5, 1.0, 2.0))
    },  # few: each costs folds x updates heads, and they differ little
)
def cv_group_dro(task: Task, settings: CrossValidatedSettings, random: np.random.Generator) -> Recipe:
    """GroupDRO by cross-validated losses: the group worst on rows held out in turns weighs more.

    This project's own, and no paper's. A head with more features than rows fits every group, so that the
    losses GroupDRO goes by are all near 0 and its weights say nothing. Here every update trains a head
    without each fold, with weights q_g / n_g, and lets L_g be the mean loss of group g's rows under the heads
    that did not see them; then q_g <- q_g exp(step L_g), made to sum to 1. The last head is trained on all
    rows.

    Half-whitened features are divided by the root of their deviation (Pareto scaling, van den Berg et al.
    2006, Centering, scaling, and transformations) and multiplied by the inverse fourth root of their
    covariance over all those rows: weak directions, which a ridge all but switches off where rows are few,
    then count for more.
    """
    rows = np.concatenate([task.rows(split).index for split in _SPLITS[settings.rows]])
    groups = np.unique(task.groups[rows], return_inverse=True)[1].reshape(-1)
    counts = np.bincount(groups)
    share = np.full(len(counts), 1 / len(counts))
    part = groups
    if settings.updates:
        # Views of one image are held out together.
        plain = rows < task.images
        of_image = np.zeros(task.images, dtype=np.int64)
        fewest = int(np.unique(groups[plain], return_counts=True)[1].min())
        of_image[rows[plain]] = dealt(groups[plain], min(settings.folds, fewest), random)
        part = of_image[rows % task.images]

    everything = Rows(rows)
    fewer_rows = len(rows) < task.dim
    half_whitened = fewer_rows if settings.half_whiten is None else settings.half_whiten
    # Looked up where it is needed alone: there may be no rows of train to keep to val.
    scaler = task.rows("train") if settings.standardise and not half_whitened else None

    def spec(kept: NDArray[np.bool_]) -> HeadSpec:
        each = share / np.maximum(np.bincount(groups[kept], minlength=len(share)), 1)
        return HeadSpec(
            rows=everything,  # a row held out weighs nothing, so that all heads share one pass over the rows
            penalty=Penalty(l2=settings.l2),
            weights=Weights(np.where(kept, each[groups], 0.0)),
            scaler_rows=everything if half_whitened else scaler,
            half_whitened=half_whitened,
            max_iterations=settings.max_iterations,
        )

    for _ in range(settings.updates):
        heads = yield [spec(part != fold) for fold in range(part.max() + 1)]
        losses = np.empty(len(rows))
        for fold, head in enumerate(heads):
            losses[part == fold] = row_losses(task, head, rows[part == fold])
        share = moved(share, np.bincount(groups, losses) / counts, settings.step)
    (head,) = yield [spec(np.ones(len(rows), dtype=bool))]
    present = np.unique(task.groups[rows])
    return Outcome(
        head,
        {
            "group_weights": {
                task.group_names[code]: float(each) for code, each in zip(present, share, strict=True)
            }
        },
    )


def moved(share: NDArray[np.float64], losses: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """A step of exponentiated gradient ascent: share · exp(step · losses), made to sum to 1."""
    grown = share * np.exp(step * (losses - losses.max()))
    return np.asarray(grown / grown.sum())


def dealt(codes: NDArray[np.int64], parts: int, random: np.random.Generator) -> NDArray[np.int64]:
    """A part, 0 to `parts` - 1, for every row: each code's rows are dealt out in turns, at random."""
    order = random.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    part = np.empty(len(codes), dtype=np.int64)
    _, counts = np.unique(codes, return_counts=True)
    part[order] = (np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)) % parts
    return part
