"""Sets of tied heads in the bank: against scipy, alone and stacked, and on two features that agree."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from headwater.errors import RequestError
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.coupling import (
    Cells,
    Coupling,
    Independence,
    Repulsion,
    SoftTargets,
    Tie,
    TopDisagreement,
    as_set,
    members_of,
)
from headwater.heads.specs.criterion import CVaR
from headwater.heads.specs.hashed import Codes, Rows, Weights
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty

LABELED, REST, DIM = 90, 480, 4


def two_coordinates(mix_rate: float, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, target (-1 for rows without label), and what each of two features says of the latter rows.

    Feature one is the sector of the first two coordinates, feature two that of the last two.
    """
    random = np.random.default_rng(0)
    label = np.arange(LABELED) % classes
    one = np.arange(REST) % classes
    crossed = np.arange(REST) < round(mix_rate * REST)
    other = np.where(crossed, (one + 1 + np.arange(REST) // classes % (classes - 1)) % classes, one)

    def sector(codes: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * (codes + random.uniform(-0.35, 0.35, len(codes))) / classes
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)

    first = np.concatenate([sector(label), sector(label)], axis=1)
    rest = np.concatenate([sector(one), sector(other)], axis=1)
    x = np.concatenate([first, rest]).astype(np.float32)
    return x, np.concatenate([label, np.full(REST, -1)]), np.stack([one, other])


def start(seed: int, classes: int, members: int = 2, spread: float = 1.0) -> LinearHead:
    weight = np.random.default_rng(seed).normal(0, spread, (members * classes, DIM)).astype(np.float32)
    record = Convergence(converged=False, iterations=0, objective=0.0, gradient_norm=0.0)
    return LinearHead(weight, np.zeros(members * classes, dtype=np.float32), record)


def spec(tie: Tie, classes: int = 2, seed: int = 0, members: int = 2, **more: Any) -> HeadSpec:
    given: dict[str, Any] = {
        "penalty": Penalty(l2=1e-2),
        "start": start(seed, classes, members),
        "tolerance": 1e-4,
        "rows": Rows(np.arange(LABELED)),
    }
    coupling = Coupling(tie, Rows(np.arange(LABELED, LABELED + REST)), members, more.pop("own", None))
    return HeadSpec(coupling=coupling, **{**given, **more})


def agreement(x: np.ndarray, head: LinearHead, truth: np.ndarray) -> float:
    """The lower accuracy of two members on crossed rows, each at the feature that it fits better."""
    crossed = truth[0] != truth[1]
    said = [member.predict(x[LABELED:])[crossed] for member in members_of(head, 2)]
    right = np.array([[(p == t[crossed]).mean() for t in truth] for p in said])
    return float(max(min(right[0, 0], right[1, 1]), min(right[0, 1], right[1, 0])))


# Of three classes, ACE counts four rows for each way to disagree at 0.05, which is too few to go by.
@pytest.mark.parametrize(
    ("kind", "mix_rate", "classes"),
    [
        *(("cells", rate, 2) for rate in (0.05, 0.5, 1.0)),
        *(("ACE", rate, 2) for rate in (0.05, 0.5, 1.0)),
        *(("cells", rate, 3) for rate in (0.05, 0.5)),
        ("ACE", 0.5, 3),
    ],
)
def test_both_coordinates_are_found_at_every_mix_rate(kind: str, mix_rate: float, classes: int) -> None:
    x, target, truth = two_coordinates(mix_rate, classes)
    tie = Cells(10.0, mix_rate, 0.5) if kind == "cells" else TopDisagreement(10.0, mix_rate)
    heads = HeadBank(x, target, classes).train(
        [spec(tie, classes, seed, max_iterations=100) for seed in range(4)]
    )
    best = min(heads, key=lambda head: head.convergence.objective)
    assert agreement(x, best, truth) > 0.97
    # The labels alone lead nowhere in particular.
    (plain,) = HeadBank(x, target, classes).train([HeadSpec(Rows(np.arange(LABELED)), Penalty(l2=1e-2))])
    assert agreement(x, as_set([plain, plain]), truth) < 0.8


def test_independent_heads_find_both_coordinates_where_these_are_independent() -> None:
    x, target, truth = two_coordinates(0.5)
    heads = HeadBank(x, target, 2).train([spec(Independence(), seed=seed) for seed in range(3)])
    assert agreement(x, min(heads, key=lambda head: head.convergence.objective), truth) > 0.97


def test_a_head_repelled_by_one_coordinate_is_the_other_where_all_rows_are_crossed() -> None:
    x, target, truth = two_coordinates(1.0)
    sure = np.where(np.eye(2)[truth[0]] > 0, 0.99, 0.01)
    (head,) = HeadBank(x, target, 2).train(
        [spec(Repulsion(1.0, (Weights(sure.ravel()),)), members=1, start=None)]
    )
    assert (head.predict(x[LABELED:]) == truth[1]).mean() > 0.97


def test_alone_and_stacked_among_other_kinds_heads_are_the_same() -> None:
    x, target, _ = two_coordinates(0.5)
    shifted = x + np.float32(3)  # centring must not show
    ties: list[Tie] = [Independence(), TopDisagreement(1.0, 0.3), Cells(1.0, 0.5, 0.7), Independence(1, 0)]
    fewer = Rows(np.arange(0, LABELED, 3))
    specs = [spec(tie, seed=seed, tolerance=1e-6) for seed, tie in enumerate(ties)]
    specs.append(dataclasses.replace(specs[0], rows=fewer))
    together = HeadBank(shifted, target, 2).train(specs)
    for each, stacked in zip(specs, together, strict=True):
        (alone,) = HeadBank(shifted, target, 2).train([each])
        np.testing.assert_allclose(stacked.weight, alone.weight, atol=2e-3)
        assert stacked.convergence.objective == pytest.approx(alone.convergence.objective, rel=1e-5)
        assert ", which is not convex" in alone.convergence.message


def test_soft_targets_reach_the_optimum_that_scipy_finds() -> None:
    x, target, _ = two_coordinates(0.5)
    wanted = np.random.default_rng(1).dirichlet([1, 1], REST)
    (head,) = HeadBank(x, target, 2).train(
        [spec(SoftTargets(0.5, Weights(wanted.ravel())), members=1, start=None, tolerance=1e-8)]
    )
    sign = 2 * target[:LABELED] - 1

    def value(theta: np.ndarray) -> float:
        z = x.astype(float) @ theta[:-1] + theta[-1]
        labeled = np.logaddexp(0, -sign * z[:LABELED]).mean()
        soft = wanted[:, 1] * np.logaddexp(0, -z[LABELED:]) + wanted[:, 0] * np.logaddexp(0, z[LABELED:])
        return float(labeled + 0.5 * soft.mean() + 0.005 * theta[:-1] @ theta[:-1])

    found = minimize(value, np.zeros(DIM + 1), method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(head.weight[1] - head.weight[0], found.x[:-1], atol=1e-4)
    assert head.convergence.objective == pytest.approx(found.fun, rel=1e-6)
    assert head.convergence.converged


def test_rows_of_its_own_bend_the_first_member_alone() -> None:
    x, target, truth = two_coordinates(0.5)
    asked = LABELED + np.flatnonzero(truth[0] != truth[1])[:4]
    target[asked] = truth[1][asked - LABELED]  # the second coordinate is meant
    rows = Rows(np.concatenate([np.arange(LABELED), asked]))
    answered = np.arange(len(rows)) >= LABELED
    weights = Weights(np.where(answered, 20.0, 1.0))
    made = [
        spec(Independence(), seed=seed, rows=rows, own=Codes(answered), weights=weights) for seed in range(4)
    ]
    for head in HeadBank(x, target, 2).train(made):
        first, _ = members_of(head, 2)
        assert (first.predict(x[LABELED:]) == truth[1]).mean() > 0.97
    best = min(HeadBank(x, target, 2).train(made), key=lambda head: head.convergence.objective)
    assert (members_of(best, 2)[1].predict(x[LABELED:]) == truth[0]).mean() > 0.97


@pytest.mark.parametrize(
    ("tie", "more", "said"),
    [
        (Cells(1.0, 0.0, 0.5), {}, "mix rate is a share of rows above 0"),
        (Cells(1.0, 0.5, 0.0), {}, "temperature of cells"),
        (Cells(1.0, 0.5, 0.5), {"members": 3}, "takes two members, not 3"),
        (Independence(), {"members": 1}, "takes at least two members"),
        (Independence(-1.0), {}, "strength of a tie between heads is -1"),
        (Repulsion(1.0, ()), {"members": 1}, "no head to disagree with"),
        (SoftTargets(1.0, Weights(np.ones(7))), {"members": 1}, "got 7 numbers"),
        (Independence(), {"risk": CVaR(0.5)}, "have no risk"),
        (Independence(), {"rows": Rows([0, 2])}, "need labeled rows of all 2 classes|all 2 training rows"),
    ],
)
def test_couplings_that_make_no_sense_are_refused(tie: Tie, more: dict[str, Any], said: str) -> None:
    x, target, _ = two_coordinates(0.5)
    with pytest.raises(RequestError, match=said):
        HeadBank(x, target, 2).train([spec(tie, **more)])
