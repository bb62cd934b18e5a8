"""Rows, labels and settings that no head can be trained on are refused in a sentence, before any training."""

import numpy as np
import pytest

from headwater.errors import RequestError
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows, Weights

ALL = Rows(range(60))
BAD = {
    "unknown label": (lambda x, y: y.__setitem__(4, -1), HeadSpec(ALL, Penalty(l2=1)), "row 4"),
    "NaN": (lambda x, y: x.__setitem__((7, 2), np.nan), HeadSpec(ALL, Penalty(l2=1)), "row 7"),
    "infinite": (lambda x, y: x.__setitem__((9, 0), np.inf), HeadSpec(ALL, Penalty(l2=1)), "row 9"),
    "one class": (lambda x, y: y.__setitem__(slice(None), 1), HeadSpec(ALL, Penalty(l2=1)), "class 1"),
    "a row too far": (lambda x, y: None, HeadSpec(Rows([0, 1, 60]), Penalty(l2=1)), "row 60"),
    "a negative row": (lambda x, y: None, HeadSpec(Rows([0, 1, -1]), Penalty(l2=1)), "row -1"),
    "negative weight": (
        lambda x, y: None,
        HeadSpec(ALL, Penalty(l2=1), Weights([-1.0] + [1] * 59)),
        "weights",
    ),
    "no weight": (lambda x, y: None, HeadSpec(ALL, Penalty(l2=1), Weights([0.0] * 60)), "zero"),
    "NaN weight": (lambda x, y: None, HeadSpec(ALL, Penalty(l2=1), Weights([np.nan] * 60)), "weights"),
    "penalty": (lambda x, y: None, HeadSpec(ALL, Penalty(l2=np.inf)), "l2"),
    "tolerance": (lambda x, y: None, HeadSpec(ALL, Penalty(l2=1), tolerance=0), "tolerance"),
    "iterations": (lambda x, y: None, HeadSpec(ALL, Penalty(l2=1), max_iterations=0), "max_iterations"),
    "scaler rows": (lambda x, y: None, HeadSpec(ALL, Penalty(l2=1), scaler_rows=Rows([99])), "row 99"),
    "start": (
        lambda x, y: None,
        HeadSpec(
            ALL,
            Penalty(l2=1),
            start=LinearHead(
                np.zeros((2, 9), np.float32), np.zeros(2, np.float32), Convergence(True, 0, 0, 0)
            ),
        ),
        "(2, 9)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_trained_is_refused_before_any_training(case, monkeypatch):
    spoil, spec, says = BAD[case]
    features = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    labels = np.arange(60) % 3
    spoil(features, labels)
    monkeypatch.setattr(HeadBank, "_solve", lambda *_: pytest.fail("training began"))
    good = HeadSpec(Rows(np.arange(10, 60)), Penalty(l2=1))
    specs = [spec] if case == "one class" else [good, spec]
    with pytest.raises(RequestError) as raised:
        HeadBank(features, labels, 3).train(specs)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("features", "target", "classes", "says"),
    [
        (np.zeros((5, 2), np.float32), [0, 1], 2, "5 rows"),
        (np.zeros((2, 2), np.float32), [0, 3], 2, "3"),
        (np.zeros((2, 2), np.float32), [0, -2], 2, "-2"),
        (np.zeros((2, 2), np.float32), ["a", "b"], 2, "integer"),
        (np.zeros((2, 2), np.float32), [0.0, 1.0], 2, "float64"),
        (np.zeros((2, 2), np.int32), [0, 1], 2, "int32"),
        (np.zeros(2, np.float32), [0, 1], 2, "(2,)"),
        (np.zeros((2, 2), np.float32), [0, 0], 1, "two classes"),
    ],
)
def test_features_and_targets_that_make_no_sense_are_refused(features, target, classes, says):
    with pytest.raises(RequestError) as raised:
        HeadBank(features, target, classes)
    assert says in str(raised.value)


def test_an_unknown_device_is_refused():
    with pytest.raises(RequestError, match="abacus"):
        HeadBank(np.zeros((2, 2), np.float32), [0, 1], 2, device="abacus")
