"""A sweep's heads are as close to their optimum as it says, and no closer; looser ones stay loose."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows
from headwater.heads.sweeps.solving import TOLERANCE, SweepBank


class Recorder:
    """A bank that remembers what it was asked for."""

    def __init__(self, bank: HeadBank) -> None:
        self.bank = bank
        self.asked: list[HeadSpec] = []

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        self.asked.extend(specs)
        return self.bank.train(specs)


@pytest.fixture
def bank() -> HeadBank:
    random = np.random.default_rng(0)
    features = random.standard_normal((300, 40)).astype(np.float32)
    labels = (features[:, 0] + random.standard_normal(300) > 0).astype(np.int64)
    return HeadBank(features, labels, 2, device="cpu")


SPECS = [HeadSpec(Rows(range(300)), Penalty(l2=l2)) for l2 in (1e-3, 1e-2, 0.1, 1.0)]


def test_specs_are_handed_on_with_the_tolerance_of_sweeps_unless_they_are_looser(bank: HeadBank) -> None:
    recorder = Recorder(bank)
    loose = dataclasses.replace(SPECS[0], tolerance=1e-2)
    tight = dataclasses.replace(SPECS[1], tolerance=1e-12)
    SweepBank(recorder).train([SPECS[0], loose, tight])
    expected = [dataclasses.replace(spec, tolerance=TOLERANCE) for spec in SPECS[:2]]
    assert recorder.asked == [expected[0], loose, expected[1]]


def test_heads_are_within_the_tolerance_of_their_optimum_and_do_not_wait_for_weights_to_rest(
    bank: HeadBank,
) -> None:
    quick, resting = SweepBank(bank).train(SPECS), bank.train(SPECS)
    exact = bank.train([dataclasses.replace(spec, tolerance=1e-12) for spec in SPECS])
    for one, rest, best in zip(quick, resting, exact, strict=True):
        assert one.convergence.converged
        assert one.convergence.objective / best.convergence.objective - 1 <= TOLERANCE
        assert one.convergence.iterations < rest.convergence.iterations
