"""What ties heads to each other on rows without labels, as plain hashable data; computing it is elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headwater.heads.specs.hashed import Codes, Rows, Weights
from headwater.heads.specs.head import LinearHead


@dataclass(frozen=True)
class Independence:
    """`strength`·mutual information of the members' predictions + `balance`·KL(mean prediction ‖ prior).

    DivDis (Lee et al. 2022, eq. 2 and 3), over all pairs of members; the mutual information is that of the
    mean joint prediction. The prior are the shares of the classes among the labeled rows, by weight.
    """

    strength: float = 10.0
    balance: float = 10.0


@dataclass(frozen=True)
class Repulsion:
    """`strength`·the mean of -log(p₁(1 - p₂) + p₂(1 - p₁)) against each of some heads trained before.

    D-BAT (Pagliardini et al. 2022, eq. 3 and § 3.4): p are the probabilities of the class that the earlier
    head predicts. `against` are the classes' probabilities on each row by each of them, flattened.
    """

    strength: float
    against: tuple[Weights, ...]


@dataclass(frozen=True)
class TopDisagreement:
    """`strength`·Σ over ways to disagree of the mean of its smallest pseudo-label losses.

    ACE's top-k loss (Daniels et al. 2025). A way to disagree gives each member a class, not all the same;
    its loss on a row is the sum of the members' cross-entropies, and as many rows count as are its equal part
    of `mix_rate`, the share of rows (a lower bound, rather) on which members disagree.
    """

    strength: float
    mix_rate: float


@dataclass(frozen=True)
class Cells:
    """`strength`·the cost of giving each row to a cell, what one member says and what the other says.

    Two members. The cells' shares are set: (1 - mix_rate) by the classes' shares where they agree, and
    mix_rate in equal parts where not. The cost of a cell is -log p_A(a) - log p_B(b), and assignments pay
    `temperature`·their entropy less: entropic optimal transport between rows and cells. At temperature 1 it
    only asks that the mean joint prediction be as said, below 1 that rows be sure of their cell as well.
    """

    strength: float
    mix_rate: float
    temperature: float


@dataclass(frozen=True)
class SoftTargets:
    """`strength`·the mean cross-entropy to `values`, the classes' probabilities of each row, flattened."""

    strength: float
    values: Weights


Tie = Independence | Repulsion | TopDisagreement | Cells | SoftTargets


@dataclass(frozen=True)
class Coupling:
    """Trains `members` heads as one, tied by `tie` on `rows`, whose labels are not read.

    A spec with a coupling is a set of heads: each member minimises the loss of the spec's rows, and the
    penalty, and the tie comes on top. What comes out is one head with a block of classes for each member,
    which `members_of` takes apart; so are `start` and `anchor`. `own` marks those of the spec's rows with 1
    that only the first member is to fit.
    """

    tie: Tie
    rows: Rows
    members: int = 2
    own: Codes | None = None


def members_of(head: LinearHead, members: int) -> list[LinearHead]:
    """The heads of a set, from the one head with a block of classes for each, with its convergence record."""
    blocks = zip(np.split(head.weight, members), np.split(head.bias, members), strict=True)
    return [LinearHead(weight, bias, head.convergence) for weight, bias in blocks]


def as_set(heads: Sequence[LinearHead]) -> LinearHead:
    """Heads as the one head of a set, such as to start from; the record is the first one's."""
    return LinearHead(
        np.concatenate([head.weight for head in heads]),
        np.concatenate([head.bias for head in heads]),
        heads[0].convergence,
    )
