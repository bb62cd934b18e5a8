"""A sweep's heads are as close to their optimum as it says, and no closer; looser ones stay loose."""

from __future__ import annotations

import dataclasses

import numpy as np

from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows
from headwater.heads.sweeps.solving import TOLERANCE, SweepBank


def test_heads_are_within_the_tolerance_of_their_optimum() -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((300, 40)).astype(np.float32)
    labels = (features[:, 0] + random.standard_normal(300) > 0).astype(np.int64)
    bank = HeadBank(features, labels, 2, device="cpu")
    specs = [HeadSpec(Rows(range(300)), Penalty(l2=l2)) for l2 in (1e-3, 1e-2, 0.1, 1.0)]
    loose = dataclasses.replace(specs[0], tolerance=1e-2)
    quick = SweepBank(bank).train(specs)
    exact = bank.train([dataclasses.replace(spec, tolerance=1e-12) for spec in specs])
    for one, other in zip(quick, exact, strict=True):
        gap = one.convergence.objective / other.convergence.objective - 1
        assert one.convergence.converged
        assert gap <= TOLERANCE
        assert one.convergence.iterations < other.convergence.iterations
    (kept,), (closer,) = SweepBank(bank).train([loose]), bank.train(specs[:1])
    assert kept.convergence.iterations < closer.convergence.iterations
