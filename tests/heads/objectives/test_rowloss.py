"""Row losses, mixtures and their composition against autograd on the papers' formulas, in float64."""

import pytest
import torch

from headwater.heads.objectives import base
from headwater.heads.objectives.base import Mixtures, Objective, RowWeights, WeightedMean
from headwater.heads.objectives.rowloss import FocalShape, Logarithm, MixedLoss, PowerShape, ShapedLoss

ROWS, HEADS = 23, 4
GAMMA = torch.tensor([0.0, 0.5, 2.0, 5.0], dtype=torch.float64)
Q = torch.tensor([0.1, 0.5, 0.7, 1.0], dtype=torch.float64)
# What each head's φ is, written as the papers do, for the probability of the row's class.
FORMULAS = {
    "cross-entropy": lambda p: -p.log(),
    "focal": lambda p: -((1 - p) ** GAMMA) * p.log(),
    "generalised": lambda p: (1 - p**Q) / Q,
}
SHAPES = {"cross-entropy": Logarithm(), "focal": FocalShape(GAMMA), "generalised": PowerShape(Q)}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(classes, *shape, seed=1):
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def make(kind, columns, *, adjusted, target=None):
    classes = max(columns, 2)
    target = labels(classes, ROWS) if target is None else target
    if not adjusted:
        return ShapedLoss(target, columns, SHAPES[kind])
    offset, margin = draw(classes, HEADS, seed=2), draw(classes, HEADS, seed=3).abs()
    scale = torch.tensor([1.0, 0.5, 2.0, 3.0], dtype=torch.float64)
    return ShapedLoss(target, columns, SHAPES[kind], offset, margin, scale)


def naive(kind, loss, z, target):
    """The losses (rows, heads) as the papers write them, with probabilities spelt out."""
    logits = torch.cat([torch.zeros_like(z), z], dim=1) if loss.columns == 1 else z
    target = target.view(len(z), -1).expand(-1, z.shape[2])
    own = torch.nn.functional.one_hot(target, logits.shape[1]).permute(0, 2, 1).double()  # rows, K, heads
    if loss.offset is not None:
        margin = (own * loss.margin).sum(1, keepdim=True)
        logits = loss.scale * (logits + loss.offset - margin * own)
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return FORMULAS[kind]((p * own).sum(1))


@pytest.mark.parametrize("adjusted", [False, True])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("kind", list(FORMULAS))
def test_losses_and_derivatives_are_those_of_the_papers_formula(kind, columns, adjusted):
    loss = make(kind, columns, adjusted=adjusted)
    z = draw(ROWS, columns, HEADS).requires_grad_()
    expected = naive(kind, loss, z, loss.target)
    (slope,) = torch.autograd.grad(expected.sum(), z)
    before = z.detach().clone()
    found, derivative = loss.at(z.detach())
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(derivative, slope)
    torch.testing.assert_close(z.detach(), before)
    part = slice(5, 12)
    torch.testing.assert_close(loss.at(z.detach()[part], part)[1], slope[part])
    keep = torch.tensor([3, 1])
    torch.testing.assert_close(loss.of(keep).at(z.detach()[..., keep])[0], expected.detach()[:, keep])


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("kind", list(FORMULAS))
def test_far_logits_stay_finite_in_single_precision(kind, columns):
    loss = make(kind, columns, adjusted=True)
    for size in (1e-6, 30.0, 1e4):
        z = (size * draw(ROWS, columns, HEADS)).float()
        found, derivative = loss.at(z)
        assert torch.isfinite(found).all()
        assert torch.isfinite(derivative).all()
        assert (found >= 0).all()
        exact, slope = loss.at(z.double())
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(derivative.double(), slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("columns", [1, 3])
def test_the_curvature_of_cross_entropy_is_the_mean_hessian(columns):
    loss = make("cross-entropy", columns, adjusted=True)
    z, weights = draw(ROWS, columns, HEADS), draw(ROWS, HEADS, seed=5).abs()
    expected = torch.zeros(HEADS, columns, columns, dtype=torch.float64)
    for h in range(HEADS):

        def total(shift, h=h):
            moved = naive("cross-entropy", loss, z + shift.view(1, -1, 1), loss.target)
            return (weights[:, h] * moved[:, h]).sum()

        expected[h] = torch.autograd.functional.hessian(total, torch.zeros(columns, dtype=torch.float64))
    torch.testing.assert_close(loss.curvature(z, weights), expected)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("kind", ["focal", "generalised"])
def test_other_losses_have_curvature_without_negative_directions(kind, columns):
    loss = make(kind, columns, adjusted=True)
    values = torch.linalg.eigvalsh(loss.curvature(3 * draw(ROWS, columns, HEADS), torch.ones(ROWS, HEADS)))
    assert (values > -1e-12).all()
    assert (values[:, -1] > 0).all()


def mixed(kind, columns, different):
    """A loss of mixtures with its parts, in which heads share the mixture or have one of two."""
    own = torch.arange(ROWS).repeat(2)
    kinds = 2 if different else 1
    partner = labels(ROWS, len(own), kinds, seed=7)
    share = torch.rand(len(own), kinds, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    column = torch.tensor([0, 1, 1, 0]) if different else torch.zeros(HEADS, dtype=torch.int64)
    target = labels(max(columns, 2), ROWS)
    parts = [
        make(kind, columns, adjusted=True, target=target[own]),
        make(kind, columns, adjusted=True, target=target[partner][:, column]),
    ]
    loss = MixedLoss(parts[0], parts[1], share, column)
    return loss, Mixtures(own, partner, share, column)


@pytest.mark.parametrize("different", [False, True])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("kind", list(FORMULAS))
def test_a_mixture_of_rows_is_trained_as_mixup_says(kind, columns, different):
    loss, mixtures = mixed(kind, columns, different)
    rows = len(mixtures.own)
    weights = torch.rand(rows, 1, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    mean = WeightedMean(RowWeights(weights / weights.sum(), torch.zeros(HEADS, dtype=torch.int64)))
    objective = Objective(loss, mean, mixtures=mixtures)
    z = draw(ROWS, columns, HEADS).requires_grad_()
    expected = []
    for h in range(HEADS):
        c = int(mixtures.column[h])
        share = mixtures.share[:, c].view(-1, 1, 1)
        seen = share * z[mixtures.own] + (1 - share) * z[mixtures.partner[:, c]]
        first = naive(kind, loss.own, seen, loss.own.target)[:, h]
        second = naive(kind, loss.partner, seen, loss.partner.target)[:, h]
        share = share.flatten()
        expected.append((mean.weights.values[:, 0] * (share * first + (1 - share) * second)).sum())
    expected = torch.stack(expected)
    (slope,) = torch.autograd.grad(expected.sum(), z)
    value, residual = objective.at(z.detach())
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(residual, slope)
    keep = torch.tensor([2, 0])
    value, residual = objective.of(keep).at(z.detach()[..., keep])
    torch.testing.assert_close(value, expected.detach()[keep])
    torch.testing.assert_close(residual, slope[..., keep])


class Worst:
    """A risk with weights that depend on the losses: the mean of their squares."""

    def at(self, losses):
        return losses.square().mean(0, dtype=torch.float64), 2 * losses / len(losses)

    def of(self, keep):
        return self


class Spread:
    """A penalty on logits: half the sum of their squares."""

    is_convex = True

    def at(self, z):
        return z.square().sum((0, 1)) / 2, z.clone()

    def of(self, keep):
        return self


@pytest.mark.parametrize("chunk", [11, 1 << 20])
@pytest.mark.parametrize("with_mixtures", [False, True])
@pytest.mark.parametrize("parts", ["mean", "risk", "invariance", "both"])
def test_value_slope_and_residual_along_a_line(parts, with_mixtures, chunk, monkeypatch):
    monkeypatch.setattr(base, "_CHUNK", chunk)
    columns = 3
    loss, mixtures = mixed("cross-entropy", columns, different=True) if with_mixtures else (None, None)
    loss = loss or make("cross-entropy", columns, adjusted=True)
    weights = draw(2 * ROWS if with_mixtures else ROWS, 2, seed=4).abs()
    weighted = WeightedMean(RowWeights(weights / weights.sum(0), torch.tensor([0, 1, 1, 0])))
    objective = Objective(
        loss,
        Worst() if parts in ("risk", "both") else weighted,
        Spread() if parts in ("invariance", "both") else None,
        mixtures,
    )
    z, d = draw(ROWS, columns, HEADS), draw(ROWS, columns, HEADS, seed=6)
    t = torch.tensor([0.0, 0.3, 1.0, 4.0], dtype=torch.float64)

    def plain(point):
        losses = loss.at(point if mixtures is None else mixtures.mix(point))[0]
        weight = weighted.weights.values[:, weighted.weights.column]
        value = losses.square().mean(0) if parts in ("risk", "both") else (losses * weight).sum(0)
        return value + (point.square().sum((0, 1)) / 2 if parts in ("invariance", "both") else 0)

    out = torch.empty_like(z)
    before = z.clone(), d.clone()
    value, slope = objective.along(z, d, t, out)
    torch.testing.assert_close((z, d), before)
    torch.testing.assert_close(value, plain(z + t * d))
    step = 1e-6
    for place in [(0, 0, 0), (5, 2, 1), (ROWS - 1, 1, 3)]:
        nudge = torch.zeros_like(z)
        nudge[place] = step
        change = (plain(z + t * d + nudge) - plain(z + t * d - nudge)) / (2 * step)
        torch.testing.assert_close(out[place], change[place[2]], rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(slope, (out * d).sum((0, 1)))
    torch.testing.assert_close(objective.at(z + t * d)[1], out)
    torch.testing.assert_close(objective.losses(z), loss.at(z if mixtures is None else mixtures.mix(z))[0])


def test_an_objective_is_convex_only_if_all_its_parts_are():
    weights = WeightedMean(RowWeights(torch.ones(ROWS, 1) / ROWS, torch.zeros(HEADS, dtype=torch.int64)))
    loss = make("cross-entropy", 3, adjusted=True)
    wavy = Spread()
    wavy.is_convex = False
    assert Objective(loss, weights, Spread()).is_convex
    assert not Objective(loss, weights, wavy).is_convex
    assert not Objective(make("focal", 3, adjusted=False), weights).is_convex
    assert not Objective(mixed("generalised", 3, different=False)[0], weights).is_convex


def test_curvature_from_a_sample_of_rows_is_near_that_from_all():
    rows = 40_000
    loss = ShapedLoss(labels(3, rows), 3, Logarithm())
    weights = draw(rows, 1, seed=4).abs()
    mean = WeightedMean(RowWeights(weights / weights.sum(0), torch.zeros(1, dtype=torch.int64)))
    z = draw(rows, 3, 1)
    slope = loss.at(z)[1][:, :, 0]
    squares = (slope * mean.weights.values).T @ slope
    exact = loss.curvature(z, mean.weights.values) + 0.1 * squares
    torch.testing.assert_close(Objective(loss, mean).curvature(z), exact, rtol=0.05, atol=1e-2)


@pytest.mark.parametrize("own", [False, True])
def test_many_heads_side_by_side_have_the_losses_that_each_has_alone(own):
    many = 24
    target = labels(3, ROWS, many) if own else labels(3, ROWS)
    z = draw(ROWS, 3, many)
    loss = ShapedLoss(target, 3, Logarithm())
    before = z.clone()
    found, slope = loss.at(z)
    curved = loss.curvature(z, torch.ones(ROWS, many))
    torch.testing.assert_close(z, before)
    for head in range(many):
        alone, place = loss.of(torch.tensor([head])), z[..., [head]]
        one, derivative = alone.at(place)
        torch.testing.assert_close(found[:, [head]], one)
        torch.testing.assert_close(slope[..., [head]], derivative)
        torch.testing.assert_close(curved[[head]], alone.curvature(place, torch.ones(ROWS, 1)))
