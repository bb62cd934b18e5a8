"""The temperature of two classes' logits against its closed form."""

import numpy as np
import pytest
from scipy.special import expit, logit

from headwater.heads.ambiguity.temperature import log_temperature


def shares(temperature: float) -> np.ndarray:
    right = expit(np.array([3.0, -3.0, 3.0]) / np.exp(temperature))
    return np.stack([right, 1 - right], axis=1)


@pytest.mark.parametrize("wanted", [0.55, 0.8, 0.99])
def test_it_is_the_one_that_makes_rows_as_sure_as_wanted(wanted: float) -> None:
    assert log_temperature(shares, wanted, (-4.0, 4.0)) == pytest.approx(np.log(3 / logit(wanted)))


def test_it_stays_within_its_bounds() -> None:
    assert log_temperature(shares, 1.0, (-2.0, 4.0)) == pytest.approx(-2)
    assert log_temperature(shares, 0.5, (-2.0, 4.0)) == pytest.approx(4)
