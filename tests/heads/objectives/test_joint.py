"""Objectives side by side against the same ones by themselves."""

from __future__ import annotations

import pytest
import torch

from headwater.heads.objectives.base import Objective, RowWeights, WeightedMean
from headwater.heads.objectives.joint import JointObjective
from headwater.heads.objectives.risk import risk_of
from headwater.heads.objectives.rowloss import FocalShape, Logarithm, ShapedLoss
from headwater.heads.specs.criterion import CVaR

ROWS, COUNTS = 30, (2, 0, 3, 1)
HEADS = sum(COUNTS)


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parts(columns: int) -> list[Objective]:
    """Cross-entropy, nobody's, focal with three strengths, and the worst share of cross-entropy."""
    target = torch.arange(ROWS) % max(2, columns)
    values = torch.softmax(draw(ROWS, 3, seed=0), dim=0)

    def weights(*column: int) -> RowWeights:
        return RowWeights(values, torch.tensor(column, dtype=torch.long))

    plain = ShapedLoss(target, columns, Logarithm())
    focal = ShapedLoss(target, columns, FocalShape(torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64)))
    return [
        Objective(plain, WeightedMean(weights(0, 2))),
        Objective(plain, WeightedMean(weights())),
        Objective(focal, WeightedMean(weights(1, 1, 0))),
        Objective(plain, risk_of([CVaR(0.3)], weights(2), None)),
    ]


@pytest.mark.parametrize("columns", [1, 3])
def test_all_heads_have_the_values_and_slopes_of_their_own_parts(columns: int) -> None:
    alone = parts(columns)
    joint = JointObjective.of_parts(alone, COUNTS)
    z, d, t = draw(ROWS, columns, HEADS, seed=1), draw(ROWS, columns, HEADS, seed=2), draw(HEADS, seed=3)
    out = torch.empty_like(z)
    value, slope = joint.along(z, d, t, out)
    first = 0
    for objective, count in zip(alone, COUNTS, strict=True):
        heads, first = slice(first, first + count), first + count
        if count:
            own = torch.empty_like(z[..., heads])
            expected = objective.along(z[..., heads], d[..., heads], t[heads], own)
            torch.testing.assert_close((value[heads], slope[heads]), expected)
            torch.testing.assert_close(out[..., heads], own)
            torch.testing.assert_close(joint.curvature(z)[heads], objective.curvature(z[..., heads]))
    torch.testing.assert_close(joint.at(z + t * d), (value, out))
    step = 1e-6
    ahead, _ = joint.at(z + (t + step) * d)
    behind, _ = joint.at(z + (t - step) * d)
    torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-7)
    assert joint.flags("is_convex").tolist() == [True, True, False, False, False, True]


@pytest.mark.parametrize(
    ("keep", "spans"),
    [([1, 2, 4, 5], [(0, 1), (1, 3), (3, 4)]), ([0, 5], [(0, 1), (1, 2)]), ([3], [(0, 1)])],
)
def test_some_heads_only_keep_what_they_had(keep: list[int], spans: list[tuple[int, int]]) -> None:
    joint = JointObjective.of_parts(parts(1), COUNTS)
    z, d, t = draw(ROWS, 1, HEADS, seed=1), draw(ROWS, 1, HEADS, seed=2), draw(HEADS, seed=3)
    whole = torch.empty_like(z)
    value, slope = joint.along(z, d, t, whole)
    chosen = torch.tensor(keep)
    some = joint.of(chosen)
    out = torch.empty_like(z[..., chosen])
    found = some.along(z[..., chosen], d[..., chosen], t[chosen], out)
    torch.testing.assert_close(found, (value[chosen], slope[chosen]))
    torch.testing.assert_close(out, whole[..., chosen])
    assert [(part.first, part.end) for part in some.parts] == spans
