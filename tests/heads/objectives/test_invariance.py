"""Penalties between groups against formulas written out naively, and derivatives against autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from headwater.errors import RequestError
from headwater.heads.objectives.base import RowCodes, RowWeights
from headwater.heads.objectives.invariance import invariance_of
from headwater.heads.specs.criterion import Invariance
from headwater.heads.specs.spec import Codes

GAMMAS = (0.1, 1, 10)


def _both(z: Tensor) -> Tensor:
    return torch.stack([-z[:, 0] / 2, z[:, 0] / 2], dim=1) if z.shape[1] == 1 else z


def _irm(z: Tensor, target: Tensor, codes: Tensor) -> Tensor:
    """By differentiating each group's cross-entropy by a factor on the logits."""
    total = torch.zeros((), dtype=z.dtype)
    for group in codes.unique():
        one = torch.ones((), dtype=z.dtype, requires_grad=True)
        mine = codes == group
        loss = torch.nn.functional.cross_entropy(one * _both(z)[mine], target[mine])
        (slope,) = torch.autograd.grad(loss, one, create_graph=True)
        total = total + slope**2
    return total


def _pairs(codes: Tensor) -> list[tuple[Tensor, Tensor]]:
    masks = [codes == group for group in codes.unique()]
    return [(a, b) for place, a in enumerate(masks) for b in masks[place + 1 :]]


def _coral(z: Tensor, target: Tensor, codes: Tensor) -> Tensor:
    def difference(x: Tensor, y: Tensor) -> Tensor:
        return (x.mean(0) - y.mean(0)).square().mean() + (x.T.cov() - y.T.cov()).square().mean()

    pairs = _pairs(codes)
    return sum(difference(_both(z)[a], _both(z)[b]) for a, b in pairs) / len(pairs)  # type: ignore[return-value]


def _mmd(z: Tensor, target: Tensor, codes: Tensor) -> Tensor:
    def kernel(x: Tensor, y: Tensor) -> Tensor:
        square = (x.unsqueeze(1) - y.unsqueeze(0)).square().sum(2)
        return sum(torch.exp(-gamma * square) for gamma in GAMMAS)  # type: ignore[return-value]

    def difference(x: Tensor, y: Tensor) -> Tensor:
        return kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean()

    pairs = _pairs(codes)
    return sum(difference(_both(z)[a], _both(z)[b]) for a, b in pairs) / len(pairs)  # type: ignore[return-value]


NAIVE: dict[Any, Any] = {"irm": _irm, "coral": _coral, "mmd": _mmd}


def _world(columns: int, heads: int, groups: int = 3, rows: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    random = np.random.default_rng(columns * 10 + heads)
    z = torch.tensor(random.normal(size=(rows, columns, heads)) * 1.5)
    target = torch.tensor(random.integers(0, max(2, columns), rows))
    codes = torch.tensor(
        np.concatenate([np.arange(groups), np.arange(groups), random.integers(0, groups, rows)])
    )
    return z, target, codes[:rows]


def _ones(rows: int, heads: int) -> RowWeights:
    values = torch.full((rows, 1), 1 / rows, dtype=torch.float64)
    return RowWeights(values, torch.zeros(heads, dtype=torch.long))


@pytest.mark.parametrize("kind", ["irm", "coral", "mmd"])
@pytest.mark.parametrize("columns", [1, 2, 4])
def test_value_and_derivative(kind: Any, columns: int) -> None:
    z, target, codes = _world(columns, heads=3)
    strengths = (1.0, 0.5, 7.0)
    given = RowCodes(codes.view(-1, 1), torch.zeros(3, dtype=torch.long))
    widths = (1.0, 4.0, 0.25) if kind == "mmd" else (1.0, 1.0, 1.0)
    parts = [
        Invariance(kind, Codes(codes.numpy()), strength, width)
        for strength, width in zip(strengths, widths, strict=True)
    ]
    penalty = invariance_of(parts, _ones(len(z), 3), given, target, columns)
    value, derivative = penalty.at(z)
    for head, strength in enumerate(strengths):
        own = z[:, :, head].clone().requires_grad_()
        naive = strength * NAIVE[kind](own / widths[head] ** 0.5, target, codes)
        (slope,) = torch.autograd.grad(naive, own)
        assert float(value[head]) == pytest.approx(float(naive.detach()), rel=1e-5)
        torch.testing.assert_close(
            derivative[:, :, head], slope, rtol=1e-4, atol=1e-5 * float(slope.abs().max())
        )
    kept, slope = penalty.of(torch.tensor([2, 0])).at(z[:, :, [2, 0]])
    torch.testing.assert_close(kept, value[[2, 0]])
    torch.testing.assert_close(slope, derivative[:, :, [2, 0]])


@pytest.mark.parametrize("kind", ["irm", "coral"])
def test_weights_count_as_repeats(kind: Any) -> None:
    z, target, codes = _world(3, heads=1)
    times = torch.arange(len(z)) % 3
    repeated = torch.repeat_interleave(torch.arange(len(z)), times)
    weights = RowWeights((times / times.sum()).double().view(-1, 1), torch.zeros(1, dtype=torch.long))
    part = [Invariance(kind, Codes(codes.numpy()), 1.0)]
    given = RowCodes(codes.view(-1, 1), torch.zeros(1, dtype=torch.long))
    value, derivative = invariance_of(part, weights, given, target, 3).at(z)
    if kind == "irm":  # CORAL's n - 1 counts rows, and a repeated row is not two
        expected = NAIVE[kind](z[repeated][:, :, 0], target[repeated], codes[repeated])
        assert float(value) == pytest.approx(float(expected))
    assert (derivative[times == 0] == 0).all()
    assert (derivative[times > 0] != 0).any()


def test_heads_with_groupings_of_their_own() -> None:
    z, target, codes = _world(2, heads=2)
    other = (codes + torch.arange(len(codes))) % 2
    both = RowCodes(torch.stack([codes, other], dim=1), torch.tensor([1, 0]))
    parts = [Invariance("coral", Codes(each.numpy()), 1.0) for each in (other, codes)]
    value, _ = invariance_of(parts, _ones(len(z), 2), both, target, 2).at(z)
    assert float(value[0]) == pytest.approx(float(_coral(z[:, :, 0], target, other)))
    assert float(value[1]) == pytest.approx(float(_coral(z[:, :, 1], target, codes)))


def _slopes(z: Tensor, target: Tensor, codes: Tensor) -> Tensor:
    """What IRM squares, for each group."""
    p = torch.softmax(_both(z), dim=1)
    labels = torch.nn.functional.one_hot(target, p.shape[1])
    parts = ((p - labels) * _both(z)).sum(1)
    return torch.stack([parts[codes == group].mean() for group in codes.unique()])


def _differences(z: Tensor, target: Tensor, codes: Tensor) -> Tensor:
    """What CORAL squares, for each pair of groups, each by the root of its share in the sum."""
    pairs, both, out = _pairs(codes), _both(z), []
    for a, b in pairs:
        out.append((both[a].mean(0) - both[b].mean(0)) / 2**0.5)
        out.append((both[a].T.cov() - both[b].T.cov()).flatten() / 2)
    return torch.cat(out) / len(pairs) ** 0.5


@pytest.mark.parametrize(
    ("kind", "columns", "squared"), [("irm", 1, _slopes), ("irm", 3, _slopes), ("coral", 1, _differences)]
)
def test_steep_directions_are_gauss_newtons(kind: Any, columns: int, squared: Any) -> None:
    z, target, codes = _world(columns, heads=2, rows=20)
    given = RowCodes(codes.view(-1, 1), torch.zeros(2, dtype=torch.long))
    parts = [Invariance(kind, Codes(codes.numpy()), strength) for strength in (0.5, 7.0)]
    found = invariance_of(parts, _ones(len(z), 2), given, target, columns).steep(z)
    assert found is not None
    for head, part in enumerate(parts):
        own = z[:, :, head]
        jacobian = torch.autograd.functional.jacobian(lambda at: squared(at, target, codes), own)  # type: ignore[no-untyped-call]
        jacobian = jacobian.flatten(1)
        steep = found[:, :, head].flatten(0, 1)
        torch.testing.assert_close(steep @ steep.T, 2 * part.strength * jacobian.T @ jacobian)


def test_no_steep_directions_where_they_are_many() -> None:
    z, target, codes = _world(1, heads=1, groups=40, rows=80)
    given = RowCodes(codes.view(-1, 1), torch.zeros(1, dtype=torch.long))
    for kind in ("irm", "coral", "mmd"):
        part = [Invariance(kind, Codes(codes.numpy()), 1.0)]  # type: ignore[arg-type]
        assert invariance_of(part, _ones(80, 1), given, target, 1).steep(z) is None


def test_equal_groups_are_not_penalised() -> None:
    z, target, _ = _world(2, heads=1, rows=20)
    twice, labels = torch.cat([z, z]), torch.cat([target, target])
    codes = torch.repeat_interleave(torch.tensor([0, 1]), 20)
    given = RowCodes(codes.view(-1, 1), torch.zeros(1, dtype=torch.long))
    for kind in ("coral", "mmd"):
        part = [Invariance(kind, Codes(codes.numpy()), 1.0)]  # type: ignore[arg-type]
        value, derivative = invariance_of(part, _ones(40, 1), given, labels, 2).at(twice)
        assert float(value) == pytest.approx(0, abs=1e-6)
        assert float(derivative.abs().max()) < 1e-6


def test_mmd_of_large_groups_is_close_and_the_same_every_time() -> None:
    random = np.random.default_rng(0)
    codes = torch.tensor(random.integers(0, 2, 1000))
    z = torch.tensor(random.normal(size=(1000, 2, 1))) + 2.0 * codes.view(-1, 1, 1)
    part = [Invariance("mmd", Codes(codes.numpy()), 1.0)]
    given = RowCodes(codes.view(-1, 1), torch.zeros(1, dtype=torch.long))
    made = [invariance_of(part, _ones(1000, 1), given, codes, 2) for _ in range(2)]
    value, derivative = made[0].at(z)
    assert float(value) == pytest.approx(float(_mmd(z[:, :, 0], codes, codes)), rel=0.15)
    again, same = made[1].at(z)
    assert torch.equal(value, again)
    assert torch.equal(derivative, same)


def test_mmd_refuses_too_many_groups() -> None:
    codes = torch.arange(500)
    given = RowCodes(codes.view(-1, 1), torch.zeros(1, dtype=torch.long))
    with pytest.raises(RequestError, match="at most 96 groups, and there are 500"):
        invariance_of([Invariance("mmd", Codes(codes.numpy()), 1.0)], _ones(500, 1), given, codes % 2, 1)
