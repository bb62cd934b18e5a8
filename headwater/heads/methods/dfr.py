"""Deep feature reweighting: the mean of many sparse heads, each trained on a group-balanced subset.

Follows Kirichenko, Izmailov, Wilson 2023, "Last layer re-training is sufficient for robustness to spurious
correlations", and its authors' code. Unlike there, where liblinear counts the intercept as one more weight,
it is free unless asked: train's scaler leaves small balanced subsets far from zero, where the intercept has
work to do. More than two classes share one softmax instead of one head against the rest.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from headwater.heads.measures.grouped import accuracies_by_group
from headwater.heads.methods.recipes import Outcome, Recipe, average
from headwater.heads.methods.registry import Among, Needs, Settings, method, numbers
from headwater.heads.methods.subsampling import balanced_subset
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows
from headwater.heads.tasks.task import Task

_PAPER = (
    "Kirichenko et al. 2023, Last layer re-training is sufficient for robustness to spurious correlations"
)
_PUBLISHED_C = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
_SPACE = {"penalty": Among(("l1", "l2"))}

Strengths = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(numbers), Field(min_length=1)
]


class DFRSettings(Settings):
    """`C` as in scikit-learn: the penalty is 1/(C·n) for n rows. One value alone is used without tuning."""

    C: Strengths = Field(_PUBLISHED_C, description="strengths tried, the smaller the stronger the penalty")
    penalty: Literal["l1", "l2"] = Field("l1", description="sparse or plain weights")
    penalised_intercept: bool = Field(
        False, description="count the intercept among the L1 penalty's weights, as liblinear does"
    )


class DFRValSettings(DFRSettings):
    """`scaler`: what standardises the final heads; the authors' first code says train, a later one val."""

    subsets: int = Field(20, ge=1, description="balanced subsets of val whose heads are averaged")
    scaler: Literal["train", "val"] = Field(
        "train", description="the split that standardises the final heads"
    )
    halvings: int = Field(1, ge=1, description="random halvings of val over which C is tuned")


class DFRTrainSettings(DFRSettings):
    """The published protocol tunes on one balanced subset of train and averages several others."""

    subsets: int = Field(10, ge=1, description="balanced subsets of train whose heads are averaged")


def _val_needs(settings: DFRValSettings) -> Needs:
    return Needs(
        splits=(settings.scaler,),
        groups_on=("val",),
        rows_per_group=1 if len(settings.C) == 1 else 2,  # each half of val needs every group
    )


def _train_needs(settings: DFRTrainSettings) -> Needs:
    return Needs(groups_on=("train",) if len(settings.C) == 1 else ("train", "val"))


@method("DFR-val", settings=DFRValSettings, needs=_val_needs, paper=_PAPER, space=_SPACE)
def dfr_val(task: Task, settings: DFRValSettings, random: np.random.Generator) -> Recipe:
    """Mean of sparse heads on group-balanced subsets of val.

    C is tuned first: heads on a balanced subset of one half of val, standardised by that subset, and the C
    with the best worst-group accuracy on the other half (the first of equals).
    """
    tuning, final = random.spawn(2)
    val = task.rows("val").index
    chosen, choices, start = settings.C[0], {}, None
    if len(settings.C) > 1:
        halves = [halved(val, task.groups[val], tuning) for _ in range(settings.halvings)]
        subsets = [balanced_subset(half, task.groups[half], tuning) for half, _ in halves]
        heads = yield [_spec(settings, c, subset, subset) for subset in subsets for c in settings.C]
        several = len(settings.C)
        worst = np.mean(
            [
                worst_group_accuracies(task, heads[place * several : (place + 1) * several], held_out)
                for place, (_, held_out) in enumerate(halves)
            ],
            axis=0,
        )
        best = int(worst.argmax())
        chosen, choices, start = settings.C[best], {"tuning_worst_group": float(worst.max())}, heads[best]
    subsets = [balanced_subset(val, task.groups[val], final) for _ in range(settings.subsets)]
    scaler = task.rows(settings.scaler)
    heads = yield [_spec(settings, chosen, subset, scaler, start) for subset in subsets]
    return Outcome(average(heads), {"C": chosen, **choices})


@method("DFR-tr", settings=DFRTrainSettings, needs=_train_needs, paper=_PAPER, space=_SPACE)
def dfr_train(task: Task, settings: DFRTrainSettings, random: np.random.Generator) -> Recipe:
    """Mean of sparse heads on group-balanced subsets of train.

    C is tuned first: heads on one balanced subset, and the C with the best worst-group accuracy on val.
    """
    tuning, final = random.spawn(2)
    scaler = task.rows("train")
    train = scaler.index
    chosen, choices, start = settings.C[0], {}, None
    if len(settings.C) > 1:
        subset = balanced_subset(train, task.groups[train], tuning)
        heads = yield [_spec(settings, c, subset, scaler) for c in settings.C]
        worst = worst_group_accuracies(task, heads, task.rows("val").index)
        best = int(worst.argmax())
        chosen, choices, start = settings.C[best], {"tuning_worst_group": float(worst.max())}, heads[best]
    subsets = [balanced_subset(train, task.groups[train], final) for _ in range(settings.subsets)]
    heads = yield [_spec(settings, chosen, subset, scaler, start) for subset in subsets]
    return Outcome(average(heads), {"C": chosen, **choices})


def _spec(
    settings: DFRSettings, c: float, rows: Rows, scaler: Rows, start: LinearHead | None = None
) -> HeadSpec:
    strength = 1.0 / (c * len(rows))
    return HeadSpec(
        rows=rows,
        penalty=Penalty(l1=strength, bias=settings.penalised_intercept)
        if settings.penalty == "l1"
        else Penalty(l2=strength),
        scaler_rows=scaler,
        start=start,
        max_iterations=settings.max_iterations,
    )


def halved(
    rows: NDArray[np.int64], groups: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two random halves of `rows`, (to train on, held out); `groups` has one code per row.

    As published the halving takes no notice of groups. Where that would leave a half without one of them,
    each group is halved by itself instead.
    """
    order = random.permutation(len(rows))
    held_out, train = order[: len(rows) // 2], order[len(rows) // 2 :]
    present = len(np.unique(groups))
    if len(np.unique(groups[held_out])) < present or len(np.unique(groups[train])) < present:
        order = order[np.argsort(groups[order], kind="stable")]
        _, counts = np.unique(groups, return_counts=True)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        held_out, train = order[place % 2 == 0], order[place % 2 == 1]
    return rows[train], rows[held_out]


def worst_group_accuracies(
    task: Task, heads: list[LinearHead], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The lowest accuracy over the groups that `rows` has, one per head."""
    accuracies = accuracies_by_group(
        task.target[rows], task.predict(heads, rows), task.groups[rows], len(task.group_names)
    )
    worst: NDArray[np.float64] = np.nanmin(accuracies, axis=1)
    return worst
