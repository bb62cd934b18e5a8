"""Criteria that make no sense are refused in one sentence that names the value, before any training."""

import numpy as np
import pytest

from headwater.errors import RequestError
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.criterion import (
    ChiSquare,
    CrossEntropy,
    CVaR,
    Focal,
    GeneralizedCrossEntropy,
    GroupRisk,
    GroupTree,
    Invariance,
    Mixing,
    Shrinking,
)
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.specs.spec import Codes, HeadSpec, Minibatch, Penalty, Rows, Weights

N = 20
ALL = Rows(range(N))
HALVES = Codes([0, 1] * (N // 2))
NEGATIVE = Codes([-1] + [0] * (N - 1))


def head(value=0.0, dim=3):
    return LinearHead(
        np.full((2, dim), value, np.float32), np.zeros(2, np.float32), Convergence(True, 0, 0.0, 0.0)
    )


def shrunk(parent, above, strength):
    return GroupRisk(
        HALVES, (0.0, 0.0), shrinking=Shrinking(GroupTree(Codes(parent), Codes(above)), strength)
    )


BAD = {
    "bias without l1": ({"penalty": Penalty(l2=1, bias=True)}, "bias"),
    "gamma": ({"loss": Focal(-0.5)}, "-0.5"),
    "NaN gamma": ({"loss": Focal(float("nan"))}, "nan"),
    "q above 1": ({"loss": GeneralizedCrossEntropy(1.5)}, "1.5"),
    "q of 0": ({"loss": GeneralizedCrossEntropy(0.0)}, "0.0"),
    "offsets": ({"loss": CrossEntropy(offset=(0.0, 1.0, 2.0))}, "2 finite numbers"),
    "scale": ({"loss": CrossEntropy(scale=0.0)}, "scale"),
    "share of 0": ({"risk": CVaR(0.0)}, "0.0"),
    "share above 1": ({"risk": CVaR(1.25)}, "1.25"),
    "NaN share": ({"risk": CVaR(float("nan"))}, "nan"),
    "radius": ({"risk": ChiSquare(0.0)}, "radius"),
    "endless radius": ({"risk": ChiSquare(float("inf"))}, "inf"),
    "groups of a risk": ({"risk": GroupRisk(NEGATIVE, (0.0,))}, "-1"),
    "adjustment": ({"risk": GroupRisk(HALVES, (0.0,))}, "2 groups"),
    "endless adjustment": ({"risk": GroupRisk(HALVES, (0.0, float("inf")))}, "finite"),
    "share of groups": ({"risk": GroupRisk(HALVES, (0.0, 0.0), share=1.5)}, "1.5"),
    "endless shrinking": ({"risk": shrunk([-1], [0, 0], np.inf)}, "inf"),
    "negative shrinking": ({"risk": shrunk([-1], [0, 0], -2.0)}, "-2.0"),
    "a tree's order": (
        {"risk": shrunk([-1, 2, -1], [0, 0], 1.0)},
        "parent of node 1 in a tree",
    ),
    "a tree of too few groups": ({"risk": shrunk([-1], [0], 1.0)}, "each of 2 groups, not 1"),
    "no such node above": ({"risk": shrunk([-1], [0, 1], 1.0)}, "node 1 is said"),
    "strength": ({"invariance": Invariance("irm", HALVES, -1.0)}, "-1.0"),
    "groups of an invariance": ({"invariance": Invariance("irm", NEGATIVE, 1.0)}, "-1"),
    "mixing share": (
        {"mixing": Mixing(Codes(range(N)), Weights([np.nan] * N))},
        "between 0 and 1",
    ),
    "mixing partner": ({"mixing": Mixing(Codes([N] * N), Weights([0.5] * N))}, "20"),
    "anchor's shape": ({"anchor": head(dim=4)}, "anchor"),
    "anchor's weights": ({"anchor": head(np.nan)}, "anchor"),
    "epochs": ({"minibatch": Minibatch(0, 8, 0.1)}, "epoch"),
    "rate": ({"minibatch": Minibatch(1, 8, 0.0)}, "rate"),
    "momentum": ({"minibatch": Minibatch(1, 8, 0.1, momentum=1.0)}, "momentum"),
    "order": ({"minibatch": Minibatch(1, 8, 0.1, order=Codes([0, N]))}, "20"),
    "unequal epochs": (
        {"minibatch": Minibatch(2, 8, 0.1, order=Codes([0, 1, 2]))},
        "3 places, which 2 epochs",
    ),
    "mini-batches of another loss": ({"minibatch": Minibatch(1, 8, 0.1), "loss": Focal(2.0)}, "mini-batches"),
    "mini-batches with l1": (
        {"minibatch": Minibatch(1, 8, 0.1), "penalty": Penalty(l1=0.1)},
        "mini-batches",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_criterion_that_makes_no_sense_is_refused_before_any_training(case, monkeypatch):
    changes, says = BAD[case]
    monkeypatch.setattr(HeadBank, "_solve", lambda *_: pytest.fail("training began"))
    features = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
    labels = np.arange(N) % 2
    wrong = HeadSpec(**{"rows": ALL, "penalty": Penalty(l2=1.0), **changes})
    with pytest.raises(RequestError) as raised:
        HeadBank(features, labels, 2, device="cpu").train([HeadSpec(ALL, Penalty(l2=1.0)), wrong])
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_memory_too_small_for_anything_is_refused():
    with pytest.raises(RequestError, match="1000 bytes"):
        HeadBank(np.zeros((4, 2), np.float32), [0, 1, 0, 1], 2, memory=1000)
