"""Makes the objective of a stack of heads from their specs: from rows and names to tensors.

It asks `risk.risk_of(risks, weights, codes)` for the risk of specs that share one kind of risk (`codes` None
where it has no groups), over the rows that the risk sees: mixtures, or unique rows. It asks
`invariance.invariance_of(invariances, weights, codes, target, columns)` for a penalty on the unique rows, of
class numbers `target` (n,) among the classes present.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.errors import RequestError
from headwater.heads.objectives.base import (
    InvarianceOf,
    Mixtures,
    Objective,
    RiskOf,
    RowCodes,
    RowLoss,
    RowWeights,
    WeightedMean,
)
from headwater.heads.objectives.couplings import check_coupling, tied, tied_as
from headwater.heads.objectives.invariance import invariance_of
from headwater.heads.objectives.members import MembersLoss
from headwater.heads.objectives.risk import risk_of
from headwater.heads.objectives.rowloss import FocalShape, Logarithm, MixedLoss, PowerShape, Shape, ShapedLoss
from headwater.heads.specs.criterion import CrossEntropy, Focal, GeneralizedCrossEntropy, GroupRisk, Loss
from headwater.heads.specs.hashed import Codes, Rows
from headwater.heads.specs.spec import HeadSpec


@dataclass(frozen=True)
class Layout:
    """The rows that specs share, as an objective sees them.

    `rows` are unique and ascending; `target` (rows,) are class numbers among the `classes` present, anything
    for a row without weight; `columns` is 1 for a two-class problem, else their number.
    """

    rows: Rows
    target: NDArray[np.int64]
    classes: NDArray[np.int64]
    columns: int


def kind_of(spec: HeadSpec) -> Hashable:
    """Specs of equal kind on the same rows have one objective, in which only numbers differ."""
    return (
        type(spec.loss),
        None if spec.risk is None else type(spec.risk),
        isinstance(spec.risk, GroupRisk) and spec.risk.share is None,
        None if spec.invariance is None else spec.invariance.kind,
        spec.mixing is not None,
        None if spec.coupling is None else tied_as(spec.coupling),
    )


def check_criterion(spec: HeadSpec, n_classes: int) -> None:
    """Raise RequestError for a criterion that cannot be trained; features and rows are checked elsewhere."""
    if spec.penalty.l1 or spec.penalty.bias:
        raise RequestError(
            f"an l1 penalty ({spec.penalty.l1}) goes with the plain mean of cross-entropy only; leave "
            "out the other parts or use l2"
        )
    _check_loss(spec.loss, n_classes)
    if spec.coupling is not None:
        check_coupling(spec, n_classes)
    if spec.mixing is not None:
        if spec.invariance is not None:
            raise RequestError("mixed rows belong to no one group; leave out the mixing or the invariance")
        partner, share = spec.mixing.partner.values, spec.mixing.share.values
        if len(share) != len(partner) or not ((share >= 0) & (share <= 1)).all():
            raise RequestError("the shares of a mixing must lie between 0 and 1, one for each row")
        if partner.min() < 0 or partner.max() >= len(partner):
            raise RequestError(
                f"the partners of a mixing are places in its {len(partner)} rows, from 0, and one is "
                f"{partner.min() if partner.min() < 0 else partner.max()}"
            )
    if spec.invariance is not None:
        codes, strength = spec.invariance.groups.values, spec.invariance.strength
        if codes.min() < 0:
            raise RequestError(f"group codes of an invariance start at 0, and one is {codes.min()}")
        if not (math.isfinite(strength) and strength >= 0):
            raise RequestError(f"the strength of an invariance is {strength}; give at least 0")


def _check_loss(loss: Loss, n_classes: int) -> None:
    if isinstance(loss, Focal) and not (math.isfinite(loss.gamma) and loss.gamma >= 0):
        raise RequestError(f"the focal loss takes a gamma of at least 0, not {loss.gamma}")
    if isinstance(loss, GeneralizedCrossEntropy) and not 0 < loss.q <= 1:
        raise RequestError(f"generalised cross-entropy takes q above 0 and up to 1, not {loss.q}")
    if isinstance(loss, CrossEntropy):
        if not (math.isfinite(loss.scale) and loss.scale > 0):
            raise RequestError(f"the scale of logits must be above 0, and it is {loss.scale}")
        for name, values in (("offset", loss.offset), ("margin", loss.margin)):
            if values is not None and (len(values) != n_classes or not np.isfinite(values).all()):
                raise RequestError(
                    f"the {name} of a loss must be {n_classes} finite numbers, one per class, not {values}"
                )


def objective_of(
    specs: Sequence[HeadSpec], layout: Layout, device: torch.device, dtype: torch.dtype
) -> Objective:
    """The objective of specs of one kind on the rows of `layout`."""
    return _Builder(specs, layout, device, dtype).build()


class _Builder:
    def __init__(
        self, specs: Sequence[HeadSpec], layout: Layout, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.specs, self.layout, self.device, self.dtype = specs, layout, device, dtype
        self.mixed = specs[0].mixing is not None
        self._places: dict[Rows, NDArray[np.int64]] = {}

    def build(self) -> Objective:
        weights = self._weights()
        loss, mixtures = self._loss()
        return Objective(loss, self._risk(weights), self._invariance(weights), mixtures)

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return torch.tensor(values, device=self.device)

    def _columns(self, parts: Sequence[Hashable]) -> tuple[list[int], Tensor]:
        """The first spec with each different part, and the column (H,) that each spec finds its own in."""
        first: dict[Hashable, int] = {}
        for number, part in enumerate(parts):
            first.setdefault(part, number)
        column = {number: place for place, number in enumerate(first.values())}
        return list(column), self._tensor(np.array([column[first[part]] for part in parts]))

    def _place(self, spec: HeadSpec) -> NDArray[np.int64]:
        """Which of the unique rows each of a spec's rows is."""
        if spec.rows not in self._places:
            self._places[spec.rows] = np.searchsorted(self.layout.rows.index, spec.rows.index)
        return self._places[spec.rows]

    def _weights(self) -> RowWeights:
        """Weights of the rows the risk sees: mixtures, or unique rows, where those of repeats add up."""
        chosen, column = self._columns([(spec.rows, spec.weights) for spec in self.specs])
        made = []
        for spec in (self.specs[number] for number in chosen):
            place = self._place(spec)
            values = None if spec.weights is None else spec.weights.values / spec.weights.values.max()
            if not self.mixed:
                values = np.bincount(place, values, minlength=len(self.layout.rows))
            elif values is None:
                values = np.ones(len(place))
            made.append(values / values.sum())
        return RowWeights(self._tensor(np.stack(made, axis=1)).to(self.dtype), column)

    def _codes(self, codes: Sequence[Codes], what: str) -> RowCodes:
        """Group codes of the same rows; each spec has its own in `codes`."""
        chosen, column = self._columns(
            [(spec.rows, each) for spec, each in zip(self.specs, codes, strict=True)]
        )
        made = []
        for number in chosen:
            values = codes[number].values
            if not self.mixed:
                place = self._place(self.specs[number])
                spread = np.full(len(self.layout.rows), -1, dtype=np.int64)
                spread[place] = values
                if (spread[place] != values).any():
                    raise RequestError(
                        f"a row that is repeated has two different groups of the {what}; give it one"
                    )
                values = spread
            made.append(values)
        return RowCodes(self._tensor(np.stack(made, axis=1)), column)

    def _loss(self) -> tuple[RowLoss, Mixtures | None]:
        target = self._tensor(self.layout.target)
        if not self.mixed:
            shaped = self._shaped(target)
            coupling = self.specs[0].coupling
            if coupling is None:
                return shaped, None
            return MembersLoss(shaped, coupling.members, self._own()), None
        chosen, column = self._columns([spec.mixing for spec in self.specs])
        mixings = [mixing for number in chosen if (mixing := self.specs[number].mixing) is not None]
        place = self._place(self.specs[0])
        own = self._tensor(place)
        partner = self._tensor(np.stack([place[mixing.partner.values] for mixing in mixings], axis=1))
        share = np.stack([mixing.share.values for mixing in mixings], axis=1)
        shares = self._tensor(share).to(self.dtype)
        loss = MixedLoss(self._shaped(target[own]), self._shaped(target[partner][:, column]), shares, column)
        return loss, Mixtures(own, partner, shares, column)

    def _own(self) -> Tensor | None:
        """The rows (n, H) that only the first member of each set has to fit; None where there are none."""
        marks = [None if spec.coupling is None else spec.coupling.own for spec in self.specs]
        if all(each is None for each in marks):
            return None
        own = np.zeros((len(self.layout.rows), len(self.specs)), dtype=bool)
        for number, (spec, each) in enumerate(zip(self.specs, marks, strict=True)):
            if each is not None:
                own[self._place(spec)[each.values > 0], number] = True
        return self._tensor(own)

    def _shaped(self, target: Tensor) -> ShapedLoss:
        losses = [spec.loss for spec in self.specs]
        plain = [loss if isinstance(loss, CrossEntropy) else CrossEntropy() for loss in losses]
        scales = np.array([loss.scale for loss in plain])
        return ShapedLoss(
            target,
            self.layout.columns,
            self._shape(losses),
            offset=self._per_class([loss.offset for loss in plain]),
            margin=self._per_class([loss.margin for loss in plain]),
            scale=self._tensor(scales) if (scales != 1).any() else None,
        )

    def _per_class(self, values: Sequence[tuple[float, ...] | None]) -> Tensor | None:
        if all(each is None for each in values):
            return None
        zero = np.zeros(len(self.layout.classes))
        table = [zero if each is None else np.array(each)[self.layout.classes] for each in values]
        return self._tensor(np.stack(table, axis=1))

    def _shape(self, losses: Sequence[Loss]) -> Shape:
        focal = [loss.gamma for loss in losses if isinstance(loss, Focal)]
        if focal:
            return FocalShape(self._tensor(np.array(focal)))
        powers = [loss.q for loss in losses if isinstance(loss, GeneralizedCrossEntropy)]
        return PowerShape(self._tensor(np.array(powers))) if powers else Logarithm()

    def _risk(self, weights: RowWeights) -> RiskOf:
        risks = [spec.risk for spec in self.specs if spec.risk is not None]
        if not risks:
            return WeightedMean(weights)
        groups = [risk.groups for risk in risks if isinstance(risk, GroupRisk)]
        return risk_of(risks, weights, self._codes(groups, "risk") if groups else None)

    def _invariance(self, weights: RowWeights) -> InvarianceOf | None:
        if self.specs[0].coupling is not None:
            return tied(self.specs, self.layout.rows, self._priors(weights), self.dtype)
        asked = [spec.invariance for spec in self.specs if spec.invariance is not None]
        if not asked:
            return None
        codes = self._codes([each.groups for each in asked], "invariance")
        target = self._tensor(self.layout.target)
        return invariance_of(asked, weights, codes, target, self.layout.columns)

    def _priors(self, weights: RowWeights) -> Tensor:
        """The classes' shares of the rows by weight, (classes, H) float64."""
        count = max(2, self.layout.columns)
        labels = torch.nn.functional.one_hot(self._tensor(self.layout.target).clamp(0, count - 1), count)
        return (labels.double().T @ weights.values.double())[:, weights.column]
