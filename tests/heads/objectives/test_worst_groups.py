"""Worst shares of groups and losses shrunk in a tree, against linear programmes and the formula by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from headwater.heads.objectives.base import RowCodes, RowWeights
from headwater.heads.objectives.risk import risk_of
from headwater.heads.objectives.worst_groups import WorstGroup
from headwater.heads.specs.criterion import GroupRisk, GroupTree, Shrinking
from headwater.heads.specs.spec import Codes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def made(risks: list[GroupRisk], weights: Floats) -> WorstGroup:
    """The risk of heads that share row weights and the groups of the first."""
    zeros = torch.zeros(len(risks), dtype=torch.long)
    of_rows = RowWeights(torch.tensor(weights / weights.sum()).view(-1, 1), zeros)
    codes = RowCodes(torch.tensor(risks[0].groups.values).view(-1, 1), zeros)
    risk = risk_of(risks, of_rows, codes)
    assert isinstance(risk, WorstGroup)
    return risk


def by_formula(losses: Floats, weights: Floats, codes: Ints, tree: GroupTree, strength: float) -> Floats:
    """Each group's shrunk loss, by the definition, for one head's losses (n,)."""
    parent, above = tree.parent.values, tree.above.values
    weights = weights * (weights > 0).sum() / weights.sum()

    def lines(group: int) -> list[int]:
        nodes, node = [], int(above[group])
        while node >= 0:
            nodes.append(node)
            node = int(parent[node])
        return [-1, *reversed(nodes)]

    below: dict[int, list[int]] = {}
    for group in range(len(above)):
        for node in lines(group):
            below.setdefault(node, []).append(group)
    out = np.zeros(len(above))
    for group in range(len(above)):
        value = 0.0
        for node in [*lines(group), None]:
            rows = np.isin(codes, [group] if node is None else below[node])
            n = weights[rows].sum()
            if n == 0:
                continue
            mean = np.average(losses[rows], weights=weights[rows])
            value = mean if node == -1 else (n * mean + strength * value) / (n + strength)
        out[group] = value
    return out


@st.composite
def worlds(draw: Any) -> tuple[Floats, Floats, Ints, GroupTree, Floats]:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups, nodes, heads = draw(st.integers(1, 7)), draw(st.integers(0, 6)), draw(st.integers(1, 3))
    n = groups + draw(st.integers(0, 12))
    codes = np.concatenate([np.arange(groups), random.integers(0, groups, n - groups)])
    parent = np.array([random.integers(-1, node) for node in range(nodes)], dtype=np.int64)
    tree = GroupTree(Codes(parent), Codes(random.integers(-1, nodes, groups) if nodes else [-1] * groups))
    weights = random.choice([0.0, 1.0, 2.5], n) if draw(st.booleans()) else np.ones(n)
    weights[0] = 1.0
    losses = random.exponential(size=(n, heads)) * 10.0 ** random.integers(-2, 2)
    return losses, weights, codes, tree, random.choice([0.0, 0.3, 2.0, 50.0], heads)


@settings(max_examples=50, deadline=None)
@given(worlds(), st.sampled_from([None, 0.01, 0.3, 0.5, 1.0]), st.booleans())
def test_the_worst_case_is_a_linear_programme_of_shrunk_losses(
    world: Any, share: float | None, adjusted: bool
) -> None:
    losses, weights, codes, tree, strengths = world
    count = len(tree.above)
    adjustment = np.random.default_rng(0).uniform(size=count) * losses.mean() * adjusted
    risks = [
        GroupRisk(Codes(codes), tuple(adjustment), share, Shrinking(tree, float(each))) for each in strengths
    ]
    risk = made(risks, weights)
    given = torch.tensor(losses)
    present = np.bincount(codes, weights, minlength=count) > 0
    exact, _, largest = risk.bounds(given)
    most = 1.0 if share is None else max(1 / (share * present.sum()), 1 / present.sum())
    for head, strength in enumerate(strengths):
        shrunk = by_formula(losses[:, head], weights, codes, tree, float(strength))
        np.testing.assert_allclose(risk.means.at(given)[present, head], shrunk[present], rtol=1e-9)
        for found, values in ((exact + risk.common, shrunk + adjustment), (largest, shrunk)):
            direct = linprog(
                -values[present],
                A_eq=np.ones((1, present.sum())),
                b_eq=[1.0],
                bounds=[(0, min(1.0, most))] * int(present.sum()),
            )
            assert float(found[head]) == pytest.approx(-direct.fun, rel=1e-6, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(worlds(), st.sampled_from([None, 0.2, 0.5]), st.sampled_from([0.1, 5.0, 1e3, 1e6]))
def test_smoothed_weights_lie_in_the_set_and_are_the_derivative(
    world: Any, share: float | None, sharpness: float
) -> None:
    losses, weights, codes, tree, strengths = world
    risks = [
        GroupRisk(Codes(codes), (0.0,) * len(tree.above), share, Shrinking(tree, float(each)))
        for each in strengths
    ]
    given = torch.tensor(losses / losses.mean())
    risk = made(risks, weights).moved(given * 0, torch.full((len(risks),), sharpness, dtype=torch.float64))
    value, q = risk.at(given)
    assert (q >= 0).all()
    np.testing.assert_allclose(q.sum(0), 1, rtol=1e-9)
    exact, under, _ = risk.bounds(given)
    np.testing.assert_allclose(under, (q * given).sum(0), rtol=1e-8)
    assert (under <= exact * (1 + 1e-6)).all()
    assert (value <= under + 1e-6).all()
    assert (exact - value <= risk.diameter / sharpness + 1e-6 * exact).all()
    step = 1e-5 / sharpness
    change = torch.tensor(np.random.default_rng(1).normal(size=losses.shape))
    rise = risk.at(given + step * change)[0] - risk.at(given - step * change)[0]
    np.testing.assert_allclose((q * change).sum(0), rise / (2 * step), atol=1e-4 * max(1, 1e-4 * sharpness))


def test_endless_strength_is_the_mean_of_all_rows_and_none_the_plain_risk() -> None:
    random = np.random.default_rng(3)
    codes = random.integers(0, 5, 40)
    tree = GroupTree(Codes([-1, -1, 0]), Codes([0, 2, 2, 1, -1]))
    losses, weights = torch.tensor(random.exponential(size=(40, 3))), np.ones(40)
    risks = [
        GroupRisk(Codes(codes), (0.0,) * 5, None, None),
        GroupRisk(Codes(codes), (0.0,) * 5, None, Shrinking(tree, 0.0)),
        GroupRisk(Codes(codes), (0.0,) * 5, None, Shrinking(tree, 1e12)),
    ]
    exact, _, _ = made(risks, weights).bounds(losses)
    means = np.stack([losses[codes == group].mean(0) for group in range(5)])
    np.testing.assert_allclose(exact[:2], means.max(0)[:2], rtol=1e-12)
    assert float(exact[2]) == pytest.approx(float(losses[:, 2].mean()))


def test_a_stack_of_different_trees_and_groups_is_each_alone() -> None:
    random = np.random.default_rng(4)
    tree = GroupTree(Codes([-1, 0]), Codes([0, 1, 1]))
    other = GroupTree(Codes([-1]), Codes([-1, 0, 0, 0]))
    codes = np.stack([random.permutation(np.arange(24) % count) for count in (3, 4, 3)], axis=1)
    risks = [
        GroupRisk(Codes(codes[:, 0]), (0.0,) * 3, 0.5, Shrinking(tree, 2.0)),
        GroupRisk(Codes(codes[:, 1]), (0.0, 0.3, 0.0, 0.1), 0.5, Shrinking(other, 3.0)),
        GroupRisk(Codes(codes[:, 2]), (0.0,) * 3, 0.9),
    ]
    weights = torch.tensor(random.uniform(0.2, 1, (24, 2)))
    weights /= weights.sum(0)
    together = risk_of(
        risks,
        RowWeights(weights, torch.tensor([0, 1, 1])),
        RowCodes(torch.tensor(codes), torch.arange(3)),
    )
    losses = torch.tensor(random.exponential(size=(24, 3)))
    value, q = together.at(losses)
    zero = torch.zeros(1, dtype=torch.long)
    for head, risk in enumerate(risks):
        own = weights[:, [min(head, 1)]]
        alone = risk_of([risk], RowWeights(own, zero), RowCodes(torch.tensor(codes[:, [head]]), zero))
        expected, by_row = alone.at(losses[:, [head]])
        kept, _ = together.of(torch.tensor([head])).at(losses[:, [head]])
        torch.testing.assert_close(value[[head]], expected)
        torch.testing.assert_close(kept, expected)
        torch.testing.assert_close(q[:, [head]], by_row)


@pytest.mark.parametrize("share", [None, 0.3])
def test_of_many_groups_the_bend_is_their_rows_own(share: float | None) -> None:
    """With one row in each group, where that is exact but for what all have in common."""
    losses = torch.tensor(np.random.default_rng(8).exponential(size=(90, 1)))
    risk = made([GroupRisk(Codes(range(90)), (0.0,) * 90, share)], np.ones(90))
    risk = risk.moved(losses, torch.tensor([0.7], dtype=torch.float64))
    diagonal, directions = risk.bend(losses)
    assert directions is None
    assert diagonal is not None
    inside = diagonal > 0
    change = torch.randn(90, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * inside
    fixed = torch.cat([diagonal, losses * inside], dim=1)
    change -= fixed @ torch.linalg.lstsq(fixed, change).solution
    up, down = (risk.at(losses + step * change)[1] for step in (1e-5, -1e-5))
    np.testing.assert_allclose((up - down) / 2e-5, diagonal * change, rtol=1e-4, atol=1e-8)
