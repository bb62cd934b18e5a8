"""What one head is: loss, weighting, penalty, rows, start and solver settings, as plain hashable data.

A method asks for heads by writing these; how they are trained is the bank's business, not this file's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwater.errors import RequestError
from headwater.heads.specs.coupling import Coupling
from headwater.heads.specs.criterion import PLAIN, Invariance, Loss, Mixing, Risk
from headwater.heads.specs.hashed import Codes, Rows, Weights

if TYPE_CHECKING:
    from headwater.heads.specs.head import LinearHead

__all__ = ["SETTLING", "Codes", "HeadSpec", "Minibatch", "Penalty", "Rows", "Weights"]

SETTLING = 1e-6
"""From this tolerance down a head without L1 goes on until its weights stand still, however small its gap."""


@dataclass(frozen=True)
class Penalty:
    """`l1`·‖W‖₁ + `l2`/2·‖W‖² added to the weighted mean loss; the bias goes free unless `bias` is set.

    It acts on the weights of the standardised features when the spec standardises. With more than two
    classes W has a column per class; with two (of two) it is the one vector w = w₁ - w₀ of the sigmoid's
    parametrisation. That is what scikit-learn's LogisticRegression penalises: `C` with `l1_ratio` r is
    `l1 = r/(C·n)` and `l2 = (1 - r)/(C·n)`, n being the sum of its sample weights; only liblinear differs,
    by penalising the bias. The bias is free unless `bias` is True, which is offered beside `l1` only: the
    bias of the standardised problem then counts as one more weight. RequestError for a negative strength.
    """

    l1: float = 0.0
    l2: float = 0.0
    bias: bool = False

    def __post_init__(self) -> None:
        if self.l1 < 0 or self.l2 < 0:
            raise RequestError(
                f"a penalty cannot be negative: l1 is {self.l1}, l2 is {self.l2}; give at least 0"
            )


@dataclass(frozen=True)
class Minibatch:
    """Train by steps on mini-batches and stop when the epochs are over, converged or not.

    For comparison with published training loops, and for a first approach to features larger than memory.
    `rate` is the learning rate, constant; `momentum` is SGD's and ignored by Adam. `order` are
    positions in the spec's rows, such as a sampler's draw for all epochs, which are equally long; no batch
    reaches into the next epoch. None: each epoch visits all rows in a fresh order.
    """

    epochs: int
    batch: int
    rate: float
    momentum: float = 0.0
    adam: bool = False
    seed: int = 0
    order: Codes | None = None


@dataclass(frozen=True)
class HeadSpec:
    """One head to train: minimise risk_i w_i·loss(x_i W + b, y_i) + invariance + penalty over `rows`.

    `risk` None is the weighted mean. `mixing` replaces rows by mixtures of pairs. `anchor`: the penalty
    acts on the difference of W from this head's. `scaler_rows`: rows whose mean and standard deviation
    standardise the features (None: none); the head that comes out acts on raw features all the same.
    `half_whitened`: the features are divided by the root of these rows' deviation instead, and then
    multiplied by the inverse fourth root of their covariance (`bank.whitening`); for plain L2 heads alone.
    `tolerance`: stop when the gap to the optimum, relative to the objective, is certified or estimated below
    it; the convergence record says which, and for a loss that is not convex, that the optimum is a local one.
    `coupling` makes it a set of heads that are tied to each other, which comes out as one head with a block
    of classes for each member. `start` warm-starts. `minibatch` None solves to the tolerance. RequestError
    where there are no rows, or where weights, groups or partners are not as many as the rows; the bank checks
    their values.
    """

    rows: Rows
    penalty: Penalty
    weights: Weights | None = None
    loss: Loss = PLAIN
    risk: Risk | None = None
    invariance: Invariance | None = None
    mixing: Mixing | None = None
    anchor: LinearHead | None = None
    scaler_rows: Rows | None = None
    half_whitened: bool = False
    coupling: Coupling | None = None
    start: LinearHead | None = None
    minibatch: Minibatch | None = None
    tolerance: float = SETTLING
    max_iterations: int = 500

    def __post_init__(self) -> None:
        if len(self.rows) == 0:
            raise RequestError("a head needs at least one training row, and its rows are empty")
        if self.half_whitened and (self.scaler_rows is None or self.penalty.l1 or not self.is_plain):
            raise RequestError(
                "half-whitened features are for heads with a plain L2 penalty and the rows of a scaler; "
                "standardise them instead, or leave out what is beside cross-entropy and l2"
            )
        parts: tuple[tuple[str, Weights | Codes | None], ...] = (
            ("weights", self.weights),
            ("groups of the risk", getattr(self.risk, "groups", None)),
            ("groups of the invariance", self.invariance.groups if self.invariance else None),
            ("partners of the mixing", self.mixing.partner if self.mixing else None),
            ("marks of the coupling", self.coupling.own if self.coupling else None),
        )
        for name, part in parts:
            if part is not None and len(part) != len(self.rows):
                raise RequestError(
                    f"there are {len(part)} {name} for {len(self.rows)} training rows; give one for each row"
                )

    @property
    def is_plain(self) -> bool:
        """Whether it is the penalised weighted mean of cross-entropy, which the fast solvers are made for."""
        return (
            self.loss == PLAIN
            and self.anchor is None
            and self.risk is None
            and self.invariance is None
            and self.mixing is None
            and self.coupling is None
            and self.minibatch is None
        )
