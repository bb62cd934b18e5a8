"""How closely a sweep solves its heads; the bank that solves them is handed in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from headwater.heads.methods.recipes import Bank
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import SETTLING, HeadSpec

TOLERANCE = 2 * SETTLING
"""The gap to the optimum, relative to the objective, at which a head of a sweep has converged.

A head by itself goes on until its weights come to rest, so that they are the same to the fifth digit whatever
is trained beside them. A sweep compares accuracies, for which the gap is enough: its tolerance is above
`SETTLING`, from which on solvers wait for weights to rest.
"""


@dataclasses.dataclass(frozen=True)
class SweepBank:
    """A bank that asks another for heads of tolerance `TOLERANCE`, unless they were to be looser still."""

    bank: Bank

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        """See Bank."""
        return self.bank.train([_loosened(spec) for spec in specs])


def _loosened(spec: HeadSpec) -> HeadSpec:
    return spec if spec.tolerance >= TOLERANCE else dataclasses.replace(spec, tolerance=TOLERANCE)
