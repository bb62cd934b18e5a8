"""Sampled Newton steps: what is drawn, what the metric is, and heads far from their optimum found by them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.rows.blocks import Resident, Streamed
from headwater.heads.rows.reader import FeatureReader
from headwater.heads.solvers import path as path_module
from headwater.heads.solvers.newton import SampledNewton
from headwater.heads.solvers.onepass import MeanLoss
from headwater.heads.solvers.path import Room, solve_path
from headwater.heads.solvers.preconditioner import Directions, Preconditioner
from headwater.heads.solvers.sampling import Sample, systematic
from headwater.heads.solvers.stack import SmoothStack
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows, Weights


def rare_classes(rows=20_000, dim=12, classes=5, seed=0):
    """Classes nearly told apart, the rarest by few rows that weigh as much as all of the commonest."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, rows, p=np.array([500, 100, 20, 4, 1]) / 625)
    features = 8 / np.sqrt(dim) * rng.normal(size=(classes, dim))[labels] + rng.normal(size=(rows, dim))
    features[:, :4] *= 1 + 3 * (labels[:, None] > 2)  # moments differ between classes
    balanced = 1 / np.bincount(labels, minlength=classes)[labels]
    weights = np.stack([np.full(rows, 1 / rows), balanced / balanced.sum()])
    return torch.tensor(features - features.mean(0)), torch.tensor(labels), torch.tensor(weights)


def mean_loss(columns=5):
    x, labels, weights = rare_classes()
    return MeanLoss(Resident(x), labels if columns > 1 else (labels > 0).long(), weights, columns)


def slope_at(loss, theta, weight_of, l2):
    """The gradient in the plainest torch, by autograd."""
    leaf = theta.clone().requires_grad_()
    z = torch.einsum("nd,hkd->hnk", loss.rows.x, leaf[..., :-1]) + leaf[..., -1].unsqueeze(1)
    z = torch.cat([torch.zeros_like(z), z], dim=2) if loss.columns == 1 else z
    own = z.log_softmax(2)[:, torch.arange(z.shape[1]), loss.target]
    penalty = (l2 / 2 * leaf[..., :-1].square().sum((1, 2))).sum()
    (slope,) = torch.autograd.grad(penalty - (loss.weights[weight_of] * own).sum(), leaf)
    return slope


def test_a_sample_of_equal_chances_is_evenly_spread():
    x, labels, weights = rare_classes()
    sample = MeanLoss(Resident(x), labels, weights[:1], 5).sample(1000)
    assert_allclose(sample.x, x[12::20])
    assert_allclose(sample.weights, 1 / 1000)


@pytest.mark.parametrize("count", [200, 1000, 15_000])
def test_rows_are_drawn_by_their_chance_and_stand_for_the_others(count):
    loss = mean_loss()
    chance = loss.weights[1] * (1 + torch.arange(20_000) % 7)
    sample = loss.sample(count, chance)
    assert abs(len(sample.x) - count) <= 1
    assert_allclose(sample.weights[1].sum(), 1, atol=4 / np.sqrt(count))
    of_rarest = sample.weights[1] / sample.weights[0] > 100  # they weigh as much as each other class
    assert of_rarest.sum() > 0.4 * min(int((loss.target == 4).sum()), count // 6)


def test_every_row_may_be_drawn_whatever_its_chance():
    chance = torch.zeros(1000, dtype=torch.float64)
    chance[:500] = 1
    places, included = systematic(chance, 200)
    assert 8 <= (places >= 500).sum() <= 12  # half of the tenth that all share alike
    assert_allclose((1 / included).sum(), 1000, rtol=0.03)
    places, included = systematic(torch.zeros(1000), 100)
    assert len(places) == 100
    assert_allclose(included, 0.1)
    places, included = systematic(chance, 5000)
    assert_allclose(places, np.arange(1000))
    assert_allclose(included, 1)


def test_a_head_whose_rows_are_not_in_the_sample_bends_as_if_all_weighed_the_same():
    loss = mean_loss()
    sample = Sample(loss.rows.x[:100], torch.zeros(2, 100, dtype=torch.float64), 20_000)
    bends = sample.curvature(torch.zeros(1, 5, 13, dtype=torch.float64), torch.tensor([1])).mean()
    assert_allclose(bends[0], np.eye(5) / 5 - 1 / 25)


@pytest.mark.parametrize("columns", [1, 5])
def test_what_rows_are_drawn_by_is_the_trace_of_their_curvature(columns):
    loss, weight_of = mean_loss(columns), torch.tensor([1, 0, 1])
    theta = torch.randn(3, columns, 13, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = loss.curved(theta, weight_of, torch.tensor([2.0, 3.0, 0.5], dtype=torch.float64))
    expected = torch.zeros_like(found)
    for head in range(3):
        z = loss.rows.x @ theta[head, :, :-1].T + theta[head, :, -1]
        p = z.sigmoid() if columns == 1 else z.softmax(1)
        trace = (p * (1 - p)).sum(1) * loss.weights[weight_of[head]]
        expected += trace / (2.0, 3.0, 0.5)[head]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("columns", [1, 5])
def test_the_metric_of_all_rows_is_nearly_the_inverse_hessian(columns):
    loss, weight_of = mean_loss(columns), torch.tensor([0, 1])
    theta = 0.3 * torch.randn(2, columns, 13, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    l2 = torch.tensor([1e-2, 1e-3], dtype=torch.float64)
    everything = loss.sample(20_000)
    assert len(everything.x) == 20_000
    simple = Preconditioner(Directions.full(loss.rows), loss.sample(), theta, weight_of, l2)
    gradient = slope_at(loss, theta, weight_of, l2)
    found = SampledNewton(simple, everything, theta, weight_of, l2).solve(gradient)
    for head in range(2):

        def slope(flat, head=head):
            at = flat.view(1, columns, 13)
            z = loss.rows.x @ at[0, :, :-1].T + at[0, :, -1]
            z = torch.cat([torch.zeros_like(z), z], dim=1) if columns == 1 else z
            own = z.log_softmax(1)[torch.arange(len(z)), loss.target]
            return l2[head] / 2 * at[..., :-1].square().sum() - (loss.weights[weight_of[head]] * own).sum()

        hessian = torch.autograd.functional.hessian(slope, theta[head].reshape(-1))
        right = gradient[head].reshape(-1)
        step = found[head].reshape(-1)
        # What conjugate gradients leave, in the norm that they reduce: of the quadratic model's decrease.
        best = right @ torch.linalg.pinv(hessian, hermitian=True) @ right / 2
        assert right @ step - step @ hessian @ step / 2 > 0.97 * best


@pytest.fixture
def counted(monkeypatch):
    """How many times a stack took a Newton step, and which heads were found one after another."""
    seen = SimpleNamespace(steps=0, descended=[], held=0)
    solve, descend, held = SampledNewton.solve, path_module._Path.descend, Resident.held

    def counted_solve(metric, gradient):
        seen.steps += 1
        return solve(metric, gradient)

    def counted_descend(path, heads):
        seen.descended += heads
        return descend(path, heads)

    def counted_held(rows):
        seen.held += 1
        return held(rows)

    monkeypatch.setattr(SampledNewton, "solve", counted_solve)
    monkeypatch.setattr(path_module._Path, "descend", counted_descend)
    monkeypatch.setattr(Resident, "held", counted_held)
    return seen


@pytest.mark.parametrize("columns", [1, 5])
def test_slow_heads_are_found_from_stronger_ones_in_few_steps(columns, counted):
    loss = mean_loss(columns)
    count = 17
    l2 = torch.logspace(-5, 0, count, dtype=torch.float64).repeat(2)
    stack = SmoothStack(
        loss=loss,
        weight_of=torch.arange(2).repeat_interleave(count),
        l2=l2,
        theta=torch.zeros(2 * count, columns, 13, dtype=torch.float64),
        cold=torch.ones(2 * count, dtype=torch.bool),
        tolerance=torch.full((2 * count,), 1e-9, dtype=torch.float64),
        max_iterations=torch.full((2 * count,), 1000),
    )
    directions, family = Directions.full(loss.rows), stack.weight_of.numpy()
    plain = solve_path(stack, directions, family, Room(50))
    assert counted.steps == 0
    solved = solve_path(stack, directions, family, Room(7, 4096, held=True))
    assert counted.steps > 10
    assert counted.held == 1
    # In strides of eight, with those that were slow.
    assert {head % count for head in counted.descended} >= {0, 8}
    assert plain.converged.all()
    assert solved.converged.all()
    theta = torch.cat([solved.weight, solved.bias.unsqueeze(0)]).permute(2, 1, 0)
    assert slope_at(loss, theta, stack.weight_of, l2).abs().max() < 1e-6
    assert (solved.objective <= plain.objective * (1 + 1e-9)).all()
    assert solved.iterations.max() <= 30
    assert solved.iterations.sum() < 0.6 * plain.iterations.sum()


def test_heads_on_many_single_precision_rows_are_those_of_double_precision(counted):
    rows, dim = 20_000, 128
    x, labels, weights = rare_classes(rows, dim)
    x = ((x - x.mean(0)) / x.std(0)).float()
    l2 = np.logspace(-3, 0, 5)
    chosen = Rows(np.arange(rows))
    specs = [HeadSpec(chosen, Penalty(l2=float(each)), weights=Weights(weights[1].numpy())) for each in l2]
    trained = HeadBank(x.numpy(), labels.numpy(), 5, device="cpu").train(specs)
    assert counted.steps > 0
    loss = MeanLoss(Resident(x.double()), labels, weights, 5)
    for place, head in ((0, trained[0]), (2, trained[2])):
        assert head.convergence.converged
        assert head.convergence.iterations < 60
        assert abs(head.bias.mean()) < 1e-4  # nothing has run off where the loss cannot see it
        theta = torch.tensor(np.column_stack([head.weight, head.bias]))[None].double()
        slope = slope_at(loss, theta, torch.tensor([1]), torch.tensor([l2[place]]))
        assert slope.abs().max() < 2e-6
    counted.steps = 0
    few = Rows(np.arange(16_000))  # a sample of an eighth of these would be too small for the metric
    HeadBank(x.numpy(), labels.numpy(), 5, device="cpu").train([HeadSpec(few, Penalty(l2=1e-5))])
    assert counted.steps == 0


def test_rows_of_a_file_are_drawn_and_held_as_those_in_memory():
    features = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    index, centre, scale = np.arange(0, 500, 2), features.mean(0).astype(float), features.std(0).astype(float)
    streamed = Streamed(FeatureReader(features, torch.device("cpu")), index, centre, scale)
    expected = ((features[index] - centre) / scale).astype(np.float32)
    assert_allclose(streamed.held().x, expected, atol=1e-6)
    places = torch.tensor([3, 4, 200])
    assert_allclose(streamed.at(places), expected[places], atol=1e-6)
    assert_allclose(Resident(torch.tensor(expected)).at(places), expected[places])
