"""The metric that general heads start from, against the matrix that it says it inverts."""

from __future__ import annotations

import pytest
import torch

from headwater.heads.solvers.compact import Metric
from headwater.heads.solvers.preconditioner import Directions


def _psd(size: int, seed: int) -> torch.Tensor:
    half = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return half @ half.T / size + 0.1 * torch.eye(size, dtype=torch.float64)


@pytest.mark.parametrize("columns", [1, 3])
def test_steep_directions_are_in_the_inverse(columns: int) -> None:
    dim, rank = 5, 2
    moments, curvature = _psd(dim, 0), _psd(columns, 1)
    values, vectors = torch.linalg.eigh(moments)
    generator = torch.Generator().manual_seed(2)
    steep = torch.randn(1, columns, dim + 1, rank, generator=generator, dtype=torch.float64)
    l2 = torch.tensor([0.3], dtype=torch.float64)
    metric = Metric(Directions(vectors, values), curvature[None], l2, torch.float64, steep=steep)
    with_bias = torch.block_diag(moments, torch.ones(1, 1, dtype=torch.float64))
    matrix = torch.kron(curvature, with_bias)
    matrix += torch.diag(0.3 * torch.tensor(([1.0] * dim + [0.0]) * columns, dtype=torch.float64))
    flat = steep[0].reshape(-1, rank)
    matrix += flat @ flat.T
    gradient = torch.randn(1, columns, dim + 1, generator=generator, dtype=torch.float64)
    found = metric.solve(gradient).flatten()
    torch.testing.assert_close(found, torch.linalg.solve(matrix, gradient.flatten()), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rest", [None, 0.2])
def test_leading_directions_take_their_own_inverse(rest: float | None) -> None:
    dim, known, count = 6, 4, 2
    vectors = torch.linalg.qr(_psd(dim, 3)).Q[:, :known]
    values = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    leading = torch.linalg.inv(_psd(count + 1, 4))
    l2 = torch.tensor([0.3], dtype=torch.float64)
    curvature = torch.full((1, 1, 1), 0.25, dtype=torch.float64)
    metric = Metric(Directions(vectors, values, rest), curvature, l2, torch.float64, leading=leading[None])
    gradient = torch.randn(1, 1, dim + 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    weight, bias = gradient[0, 0, :-1], gradient[0, 0, -1:]
    along = vectors.T @ weight
    answer = along / (0.25 * values + 0.3)
    own = leading @ torch.cat([along[-count:], bias])
    answer[-count:] = own[:-1]
    expected = vectors @ answer
    if rest is not None:
        expected += (weight - vectors @ along) / (0.25 * rest + 0.3)
    torch.testing.assert_close(metric.solve(gradient)[0, 0], torch.cat([expected, own[-1:]]))


def test_one_heads_metric_is_replaced_and_no_other() -> None:
    generator = torch.Generator().manual_seed(6)
    directions = Directions(None, torch.tensor([1.0, 2.0], dtype=torch.float64))
    curvature = torch.rand(3, 1, 1, generator=generator, dtype=torch.float64) + 0.1
    steep = torch.randn(3, 1, 3, 2, generator=generator, dtype=torch.float64)
    l2 = torch.ones(3, dtype=torch.float64)
    metric = Metric(directions, curvature, l2, torch.float64, steep=steep)
    gradient = torch.randn(3, 1, 3, generator=generator, dtype=torch.float64)
    before = metric.solve(gradient)
    other = Metric(directions, 2 * curvature[1:2], l2[1:2], torch.float64, steep=steep[1:2, ..., :1])
    metric.put(torch.tensor([1]), other)
    after = metric.solve(gradient)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
    torch.testing.assert_close(after[1:2], other.solve(gradient[1:2]))
    assert not torch.allclose(after[1], before[1])
