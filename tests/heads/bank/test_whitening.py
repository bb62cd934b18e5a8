"""Half whitening against scipy's matrix powers, and heads on it against scikit-learn on such features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from headwater.errors import RequestError
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.bank.whitening import HalfWhitening
from headwater.heads.specs.criterion import Focal
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows
from tests.heads.conftest import half_whitened

L2 = 0.2
SHAPES = [(30, 50), (200, 20)]  # fewer rows than features, and more


def problem(rows: int, dim: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(rows)
    latent = random.normal(size=(rows, 4))
    noise = random.normal(size=(rows, dim)) * random.uniform(0.1, 3, size=dim)
    features = latent @ random.normal(size=(4, dim)) + noise + 5
    target = (latent[:, :classes] + 0.5 * random.normal(size=(rows, classes))).argmax(axis=1)
    target[:classes] = np.arange(classes)
    return features.astype(np.float32), target


@pytest.mark.parametrize(("rows", "dim"), SHAPES)
def test_the_matrix_is_a_power_of_the_covariance(rows: int, dim: int) -> None:
    x = problem(rows, dim)[0].astype(float)
    x /= np.sqrt(x.std(0))
    whitening = HalfWhitening.of(torch.from_numpy(x))
    expected = half_whitened(problem(rows, dim)[0], np.arange(rows))
    found = whitening.apply(torch.from_numpy(x - x.mean(0)))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(whitening.undo(found), x - x.mean(0), atol=1e-9)


def test_rows_that_do_not_differ_are_left_as_they_are() -> None:
    whitening = HalfWhitening.of(torch.ones(3, 4, dtype=torch.float64))
    x = torch.arange(4.0, dtype=torch.float64)
    assert torch.equal(whitening.apply(x), x)
    assert torch.equal(whitening.undo(x), x)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("rows", "dim"), SHAPES)
def test_a_head_is_what_scikit_learn_makes_of_such_features(rows: int, dim: int, classes: int) -> None:
    features, target = problem(rows, dim, classes)
    measured, trained = np.arange(rows // 5, rows), np.arange(0, rows - 3)
    x = half_whitened(features, measured)
    model = LogisticRegression(C=1 / (L2 * len(trained)), solver="newton-cg", tol=1e-11, max_iter=5000)
    expected = model.fit(x[trained], target[trained]).predict_log_proba(x)
    spec = HeadSpec(
        Rows(trained), Penalty(l2=L2), scaler_rows=Rows(measured), half_whitened=True, tolerance=1e-10
    )
    bank = HeadBank(features, target, classes, device="cpu")
    (alone,) = bank.train([spec])
    standardised = HeadSpec(Rows(trained), Penalty(l2=L2), scaler_rows=Rows(measured))
    others = [standardised, HeadSpec(Rows(np.arange(rows)), Penalty(l2=3 * L2))]
    beside = bank.train([*others, spec])[-1]
    again = HeadSpec(spec.rows, spec.penalty, scaler_rows=spec.scaler_rows, half_whitened=True, start=alone)
    (warm,) = bank.train([again])
    for head in (alone, beside, warm):
        logits = head.logits(features).astype(float)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(log_p, expected, atol=2e-3)
    assert warm.convergence.iterations <= 1
    (plain,) = bank.train([standardised])
    assert np.abs(plain.logits(features) - alone.logits(features)).max() > 0.05


@pytest.mark.parametrize(
    "asked",
    [
        {"penalty": Penalty(l2=1.0)},
        {"penalty": Penalty(l1=1.0), "scaler_rows": Rows(np.arange(3))},
        {"penalty": Penalty(l2=1.0), "scaler_rows": Rows(np.arange(3)), "loss": Focal(2.0)},
    ],
)
def test_only_plain_l2_heads_with_a_scaler_can_have_it(asked: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="half-whitened features are for heads with a plain L2 penalty"):
        HeadSpec(Rows(np.arange(4)), half_whitened=True, **asked)  # type: ignore[arg-type]
