"""Methods that train on mixtures of pairs of rows; one head on train, on features in place of images."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.heads.methods.domains import domains
from headwater.heads.methods.erm import L2_SPACE, TrainSettings, train_spec
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.methods.registry import LogUniform, Needs, Uniform, method
from headwater.heads.specs.criterion import Mixing
from headwater.heads.specs.spec import Codes, HeadSpec, Rows, Weights
from headwater.heads.tasks.task import Task


class MixupSettings(TrainSettings):
    """`alpha` as used on features; SubpopBench draws it from 0.1 to 10.

    Published training draws new partners in every epoch; `partners` of each row together stand in for them.
    """

    alpha: float = Field(2.0, gt=0, description="shares are drawn from Beta(alpha, alpha)")
    partners: int = Field(4, ge=1, le=100, description="mixtures that each row begins")


class LISASettings(MixupSettings):
    """`p_sel` as published; SubpopBench draws it from 0 to 1."""

    p_sel: float = Field(
        0.5, ge=0, le=1, description="chance of a partner of the same class and another domain"
    )


def _mixed(
    task: Task, settings: MixupSettings, partner: NDArray[np.int64], random: np.random.Generator
) -> HeadSpec:
    """A head on mixtures of each train row, repeated, with its `partner` (a place in the repeated rows)."""
    train = task.rows("train")
    share = random.beta(settings.alpha, settings.alpha, len(partner))
    spec = train_spec(task, settings, Rows(np.tile(train.index, settings.partners)))
    return dataclasses.replace(spec, mixing=Mixing(Codes(partner), Weights(share)))


@method(
    "Mixup",
    settings=MixupSettings,
    needs=Needs(classes_on=("train",)),
    paper="Zhang et al. 2018, mixup: Beyond empirical risk minimization",
    space={"alpha": LogUniform(0.1, 10.0), "l2": L2_SPACE},
)
def mixup(task: Task, settings: MixupSettings, random: np.random.Generator) -> Recipe:
    """Random pairs of rows and their labels, mixed in random shares (on features, last-layer form)."""
    n = len(task.rows("train"))
    partner = np.concatenate([random.permutation(n) for _ in range(settings.partners)])
    (head,) = yield [_mixed(task, settings, partner, random)]
    return Outcome(head)


@method(
    "LISA",
    settings=LISASettings,
    needs=Needs(groups_on=("train",), domains=2),
    paper="Yao et al. 2022, Improving out-of-distribution robustness via selective augmentation",
    space={"alpha": LogUniform(0.1, 10.0), "p_sel": Uniform(0.0, 1.0), "l2": L2_SPACE},
)
def lisa(task: Task, settings: LISASettings, random: np.random.Generator) -> Recipe:
    """Rows mixed with ones of their class and another domain, or the reverse (on features, last-layer form).

    Groups are crossings of class and domain. A row that has no such partner stays as it is.
    """
    train = task.rows("train").index
    classes, places = task.target[train], domains(task, train)
    same_class = random.random(settings.partners * len(train)) < settings.p_sel
    partner = selected_partners(classes, places, same_class, random)
    (head,) = yield [_mixed(task, settings, partner, random)]
    return Outcome(head)


def selected_partners(
    classes: NDArray[np.int64],
    places: NDArray[np.int64],
    same_class: NDArray[np.bool_],
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """A partner for each of several runs over the rows, itself where there is none that fits.

    `classes` and domains `places` (n,); `same_class` (runs·n,): of the same class and another domain, else of
    the same domain and another class. The answer (runs·n,) are places in the n rows.
    """
    n = len(classes)
    partner = np.tile(np.arange(n), len(same_class) // n)
    luck = random.random(len(partner))
    _, group = np.unique(np.stack([classes, places]), axis=1, return_inverse=True)
    group = group.reshape(-1)
    every = np.tile(group, len(same_class) // n)
    for code in np.unique(group):
        one = int(np.argmax(group == code))
        for intra_class in (True, False):
            fits = (
                (classes == classes[one]) & (places != places[one])
                if intra_class
                else (classes != classes[one]) & (places == places[one])
            )
            candidates = np.flatnonzero(fits)
            asking = (every == code) & (same_class == intra_class)
            if len(candidates):
                partner[asking] = candidates[(luck[asking] * len(candidates)).astype(np.int64)]
    return partner
