"""Makes the risk of a stack of heads from their specs; the risks live in `worst_rows` and `worst_groups`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from headwater.heads.objectives.base import RowCodes, RowWeights
from headwater.heads.objectives.worst_case import WorstCase
from headwater.heads.objectives.worst_groups import WorstGroup
from headwater.heads.objectives.worst_rows import WorstInBall, WorstShare
from headwater.heads.specs.criterion import ChiSquare, CVaR, GroupRisk, Risk


def risk_of(risks: Sequence[Risk], weights: RowWeights, codes: RowCodes | None) -> WorstCase:
    """The risks, all of one kind, of a stack of heads; `codes` are the groups' of a GroupRisk.

    TypeError for risks of more kinds than one, and ValueError for a GroupRisk without codes: a caller's slip.
    """
    kinds = {type(risk) for risk in risks}
    if len(kinds) != 1:
        raise TypeError(f"a stack has risks of one kind, not {sorted(kind.__name__ for kind in kinds)}")
    device = weights.values.device
    groups = [risk for risk in risks if isinstance(risk, GroupRisk)]
    if groups:
        if codes is None:
            raise ValueError("a GroupRisk needs the codes of its groups")
        return WorstGroup.of_groups(groups, weights, codes)
    if isinstance(risks[0], CVaR):
        shares = [risk.share for risk in risks if isinstance(risk, CVaR)]
        numbers = torch.tensor(shares, dtype=torch.float64, device=device)
        return WorstShare(weights, 1 / numbers, _ones(numbers), None)
    radii = [risk.radius for risk in risks if isinstance(risk, ChiSquare)]
    numbers = torch.tensor(radii, dtype=torch.float64, device=device)
    return WorstInBall(weights, numbers, _ones(numbers), None)


def _ones(like: Tensor) -> Tensor:
    return torch.ones_like(like)
