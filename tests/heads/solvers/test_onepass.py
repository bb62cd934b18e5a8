"""The loss in one reading of the rows, against autograd; its curvature and the metric made of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.rows import blocks as blocks_module
from headwater.heads.rows.blocks import Resident
from headwater.heads.solvers.onepass import MeanLoss
from headwater.heads.solvers.preconditioner import Directions, Preconditioner
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows, Weights


def made(rows=300, dim=6, columns=3, heads=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    weights = torch.rand(2, rows, generator=generator, dtype=torch.float64)
    target = torch.randint(max(columns, 2), (rows,), generator=generator)
    loss = MeanLoss(Resident(x), target, weights / weights.sum(1, keepdim=True), columns)
    theta = torch.randn(heads, columns, dim + 1, generator=generator, dtype=torch.float64)
    return loss, theta, torch.tensor([0, 1, 1, 0])[:heads]


def plain(loss, theta, weight_of):
    """The same losses (H,) in the plainest torch."""
    z = torch.einsum("nd,hkd->hnk", loss.rows.x, theta[..., :-1]) + theta[..., -1].unsqueeze(1)
    z = torch.cat([torch.zeros_like(z), z], dim=2) if loss.columns == 1 else z
    own = z.log_softmax(2)[:, torch.arange(z.shape[1]), loss.target]
    return -(loss.weights[weight_of] * own).sum(1)


@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("block", [1, 1 << 24])
def test_loss_and_gradient_agree_with_autograd(columns, block, monkeypatch):
    monkeypatch.setattr(blocks_module, "_BLOCK_BYTES", block)
    loss, theta, weight_of = made(columns=columns)
    leaf = theta.clone().requires_grad_()
    expected = plain(loss, leaf, weight_of)
    (slope,) = torch.autograd.grad(expected.sum(), leaf)
    value, gradient = loss.at(theta, weight_of)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, slope)


def test_far_logits_give_finite_losses():
    loss, theta, weight_of = made()
    value, gradient = loss.at(theta * 1e4, weight_of)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(value, plain(loss, theta * 1e4, weight_of))


@pytest.mark.parametrize("columns", [1, 4])
def test_where_all_directions_are_written_down_the_metric_is_the_inverse_hessian(columns):
    loss, theta, weight_of = made(rows=4000, dim=5, columns=columns)
    theta *= 0.3
    l2 = torch.tensor([0.5, 0.1, 1.0, 0.2], dtype=torch.float64)
    sample = replace(loss.sample(), of=10**9)  # so many rows that every direction is worth its cost
    metric = Preconditioner(Directions.full(loss.rows), sample, theta, weight_of, l2)
    _, gradient = loss.at(theta, weight_of)
    found = metric.solve(gradient)
    for head in range(4):

        def one(flat, head=head):
            at = flat.view(1, *theta.shape[1:])
            penalty = l2[head] / 2 * at[..., :-1].square().sum()
            return plain(loss, at, weight_of[head : head + 1])[0] + penalty

        hessian = torch.autograd.functional.hessian(one, theta[head].reshape(-1))
        expected = torch.linalg.pinv(hessian, hermitian=True) @ gradient[head].reshape(-1)
        torch.testing.assert_close(found[head].reshape(-1), expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("directions", [Directions.full, Directions.sketched])
def test_directions_are_those_of_the_second_moments(directions):
    scale = torch.logspace(1, -2, 40, dtype=torch.float64)
    x = torch.randn(150, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * scale
    found = directions(Resident(x))
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    count = len(found.values)
    torch.testing.assert_close(found.values[-5:], values[-5:], rtol=1e-6, atol=0)
    overlap = (vectors[:, -5:].T @ found.vectors[:, -5:]).abs()
    torch.testing.assert_close(overlap, torch.eye(5, dtype=torch.float64), atol=1e-3, rtol=0)
    if found.rest is not None:
        total = found.values.sum() + found.rest * (40 - count)
        torch.testing.assert_close(total, values.sum(), rtol=1e-2, atol=0)


@pytest.mark.parametrize("classes", [2, 3])
def test_in_single_precision_too_a_head_is_the_same_alone_and_in_a_stack(classes):
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(3000, 12)) @ rng.normal(size=(12, 700)) * 0.4).astype(np.float32)
    features += rng.normal(size=features.shape).astype(np.float32)
    labels = (features[:, :classes] + 2 * rng.normal(size=(3000, classes))).argmax(1)
    rows = Rows(range(3000))
    specs = [
        HeadSpec(rows, Penalty(l2=float(l2)), weights, scaler_rows=rows)
        for weights in (None, Weights(rng.uniform(0.3, 2, 3000)))
        for l2 in np.logspace(-2, 1, 12)
    ]

    def train(some):
        return HeadBank(features, labels, classes, device="cpu").train(some)

    stacked = train(specs)
    scale = features.std(0)
    for place in (0, 5, 13):
        (alone,) = train([specs[place]])
        assert alone.convergence.converged
        np.testing.assert_allclose(stacked[place].weight * scale, alone.weight * scale, atol=1e-5)
