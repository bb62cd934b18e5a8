"""The solvers' parts by themselves: loss against autograd, bases against numpy, rounds and interpolation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.heads import loss as loss_module
from headwater.heads.loss import LogisticLoss
from headwater.heads.solvers.curvature import Basis, Metric
from headwater.heads.solvers.path import lagrange, levels
from headwater.heads.solvers.span import Span


def make(rows=37, columns=3, heads=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = max(columns, 2)
    weights = torch.rand(rows, 2, generator=generator, dtype=torch.float64)
    loss = LogisticLoss(
        torch.randint(classes, (rows,), generator=generator),
        weights / weights.sum(0),
        torch.tensor([0, 1, 1, 0])[:heads],
        columns,
    )
    draw = [torch.randn(rows, columns, heads, generator=generator, dtype=torch.float64) for _ in range(2)]
    return loss, *draw


def plain(loss, z):
    """The same loss in the plainest torch, for autograd."""
    logits = torch.cat([torch.zeros_like(z), z], dim=1) if loss.columns == 1 else z
    log_p = logits.log_softmax(1)
    own = log_p[torch.arange(len(z)), loss.target]
    return -(loss.weights[:, loss.weight_of] * own).sum(0)


@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_loss_slope_and_residual_agree_with_autograd(columns, chunk, monkeypatch):
    monkeypatch.setattr(loss_module, "CHUNK", chunk)
    loss, z, d = make(columns=columns)
    t = torch.tensor([0.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    point = (z + t * d).requires_grad_()
    expected = plain(loss, point)
    (residual,) = torch.autograd.grad(expected.sum(), point)
    before = z.clone(), d.clone()
    out = torch.empty_like(z)
    value, slope = loss.along(z, d, t, out)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(out, residual)
    torch.testing.assert_close(slope, (residual * d).sum((0, 1)))
    torch.testing.assert_close((z, d), before)


@pytest.mark.parametrize("columns", [1, 3])
def test_hessian_and_curvature_agree_with_autograd(columns):
    loss, z, d = make(columns=columns)

    def gradient(at):
        out = torch.empty_like(at)
        loss.along(at, None, None, out)
        return out

    step = 1e-6
    change = (gradient(z + step * d) - gradient(z - step * d)) / (2 * step)
    torch.testing.assert_close(loss.hessian(z)(d), change, atol=1e-8, rtol=1e-6)
    shift = torch.randn(columns, dtype=torch.float64)
    summed = loss.hessian(z)(shift.view(1, -1, 1).expand_as(z).contiguous()).sum(0)
    torch.testing.assert_close(torch.einsum("hkj,j->kh", loss.curvature(z), shift), summed)


def test_far_logits_give_finite_losses():
    loss, z, _ = make(columns=3)
    value, _ = loss.along(z * 1e4, None, None, torch.empty_like(z))
    assert torch.isfinite(value).all()
    torch.testing.assert_close(value, plain(loss, z * 1e4))


def test_the_metric_inverts_curvature_times_gram_plus_penalty():
    x = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss, z, _ = make(rows=50)
    basis, curvature = Basis.of(x), loss.curvature(z)
    l2 = torch.tensor([0.1, 1.0, 0.01, 3.0], dtype=torch.float64)
    gradient = torch.randn(6, 3, 4, dtype=torch.float64)
    gradient -= gradient.mean(1, keepdim=True)  # a loss' gradient never points along a shift of all logits
    weight, _ = Metric(basis, curvature, l2, x.dtype).solve(
        basis.into(gradient), torch.zeros(3, 4, dtype=x.dtype)
    )
    found = basis.out(weight)
    gram = x.T @ x / 50
    for h in range(4):
        hessian = torch.kron(gram, curvature[h]) + l2[h] * torch.eye(18, dtype=x.dtype)
        expected = torch.linalg.solve(hessian, gradient[..., h].reshape(-1))
        torch.testing.assert_close(found[..., h].reshape(-1), expected)


@given(st.integers(1, 6), st.integers(0, 1000))
def test_interpolation_is_exact_for_polynomials(count, seed):
    rng = np.random.default_rng(seed)
    nodes = np.arange(count) + rng.uniform(-0.3, 0.3, count)
    polynomial = np.polynomial.Polynomial(rng.normal(size=count))
    assert lagrange(nodes, 2.2) @ polynomial(nodes) == pytest.approx(polynomial(2.2), rel=1e-6, abs=1e-6)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1e-3, 0.1, 1.0, 7.0]), st.integers(0, 2), st.booleans()), min_size=1
    )
)
def test_every_head_is_in_one_round_and_path_ends_come_first(heads):
    l2, family, alone = (np.array(column) for column in zip(*heads, strict=True))
    rounds = levels(l2, family, alone)
    assert sorted(head for members in rounds for head in members) == list(range(len(heads)))
    for number in np.unique(family):
        path = [h for h in range(len(heads)) if family[h] == number and not alone[h] and l2[h] > 0]
        ordered = sorted(path, key=lambda h: l2[h])
        assert not ordered or {ordered[0], ordered[-1]} <= set(rounds[0])


@pytest.mark.parametrize("repeat", [1, 2])
def test_the_span_keeps_logits_and_norms(repeat):
    x = torch.randn(10, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).repeat(repeat, 1)
    span = Span.of(x)
    assert span.rows.shape == (10 * repeat, 10)
    inner = torch.randn(10, 2, 3, dtype=torch.float64)
    outer = span.out(inner)
    torch.testing.assert_close(
        torch.einsum("nd,dkh->nkh", x, outer), torch.einsum("nr,rkh->nkh", span.rows, inner)
    )
    torch.testing.assert_close(outer.square().sum(), inner.square().sum())
    torch.testing.assert_close(span.into(outer), inner)
