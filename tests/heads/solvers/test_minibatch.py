"""Steps on mini-batches against torch.optim on the same batches, and what their record says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.solvers.minibatch import batches
from headwater.heads.specs.spec import Codes, HeadSpec, Minibatch, Penalty, Rows, Weights


def made(rows=240, dim=5, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, dim)).astype(np.float32) * 2 + 1
    labels = (features[:, :classes] + rng.normal(size=(rows, classes))).argmax(1)
    return features, labels


def by_torch(features, labels, plan, l2, weights):
    """The same steps by torch's own optimisers, on weights of standardised features, in float64."""
    x = torch.tensor((features - features.mean(0, dtype=float)) / features.std(0, dtype=float))
    classes = int(labels.max()) + 1
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    kind = torch.optim.Adam if plan.adam else torch.optim.SGD
    given = {} if plan.adam else {"momentum": plan.momentum}
    optimiser = kind([weight, bias], lr=plan.rate, **given)
    target, share = torch.tensor(labels), torch.tensor(weights / weights.mean())
    for first in range(0, len(plan.order), plan.batch):
        batch = torch.tensor(plan.order.values[first : first + plan.batch])
        loss = torch.nn.functional.cross_entropy(x[batch] @ weight.T + bias, target[batch], reduction="none")
        optimiser.zero_grad()
        ((share[batch] * loss).mean() + l2 / 2 * weight.square().sum()).backward()
        optimiser.step()
    raw = weight.detach().numpy() / features.std(0, dtype=float)
    return raw, bias.detach().numpy() - raw @ features.mean(0, dtype=float)


@pytest.mark.parametrize("adam", [False, True])
def test_the_steps_are_those_of_torch_in_the_given_order(adam):
    features, labels = made()
    order = Codes(np.random.default_rng(1).integers(0, 240, 600))
    weights = np.random.default_rng(2).uniform(0.5, 2, 240)
    rows = Rows(range(240))
    plans = [
        Minibatch(1, 32, rate, momentum=0.0 if adam else 0.9, adam=adam, order=order) for rate in (0.01, 0.05)
    ]
    specs = [
        HeadSpec(rows, Penalty(l2=0.01), Weights(weights), scaler_rows=rows, minibatch=plan) for plan in plans
    ]
    for plan, head in zip(plans, HeadBank(features, labels, 3, device="cpu").train(specs), strict=True):
        weight, bias = by_torch(features, labels, plan, 0.01, weights)
        np.testing.assert_allclose(head.weight, weight, atol=1e-5)
        np.testing.assert_allclose(head.bias, bias, atol=2e-5)


@pytest.mark.parametrize(
    ("rows", "batch", "contiguous"), [(100, 7, 16), (64, 64, 16), (50, 80, 10), (33, 1, 4)]
)
def test_an_epoch_visits_every_row_once_in_full_batches(rows, batch, contiguous):
    plan = Minibatch(3, batch, 0.1, seed=5)
    drawn = list(batches(plan, rows, contiguous))
    per_epoch = -(-rows // batch)
    assert len(drawn) == 3 * per_epoch
    for epoch in range(3):
        part = drawn[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(np.concatenate(part)) == list(range(rows))
        assert all(len(each) == batch for each in part[:-1])
    assert (
        any((a != b).any() for a, b in zip(drawn, drawn[per_epoch:], strict=False) if len(a) == len(b))
        or batch >= rows
    )
    again = list(batches(plan, rows, contiguous))
    assert all((a == b).all() for a, b in zip(drawn, again, strict=True))


def test_the_record_says_what_was_reached():
    features, labels = made()
    rows = Rows(range(240))

    def train(epochs, **more):
        spec = HeadSpec(
            rows,
            Penalty(l2=0.05),
            scaler_rows=rows,
            minibatch=replace(Minibatch(epochs, 240, 0.5), **more),
            tolerance=1e-4,
        )
        return HeadBank(features, labels, 3, device="cpu").train([spec])[0]

    (exact,) = HeadBank(features, labels, 3, device="cpu").train(
        [HeadSpec(rows, Penalty(l2=0.05), scaler_rows=rows)]
    )
    short, long, lost = train(1), train(400), train(400, rate=1e30)
    assert not short.convergence.converged
    assert short.convergence.stepped
    assert short.convergence.message.startswith("stepped 1 epochs, as asked; gap")
    assert not exact.convergence.stepped
    assert short.convergence.objective > exact.convergence.objective * 1.01
    assert long.convergence.converged
    far = train(1, rate=1e30).convergence
    assert far.stepped
    assert not far.converged  # where the loss is flat for all rows, and the gradient next to nothing
    assert not lost.convergence.stepped
    assert "steps ran off within 400 epochs" in lost.convergence.message
    assert long.convergence.objective <= exact.convergence.objective * (1 + 1e-4)
    assert train(3, seed=1) == train(3, seed=1)


def test_rows_larger_than_memory_step_to_the_same_heads(tmp_path):
    features, labels = made(90_000, 256, 2)
    np.save(tmp_path / "x.npy", features)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = Rows(np.arange(90_000))
    spec = HeadSpec(rows, Penalty(l2=0.1), scaler_rows=rows, minibatch=Minibatch(1, 4096, 0.01))
    (inside,) = HeadBank(features, labels, 2, device="cpu").train([spec])
    (outside,) = HeadBank(mapped, labels, 2, device="cpu", memory=64 << 20).train([spec])
    np.testing.assert_allclose(outside.weight, inside.weight, atol=1e-6)
