"""Specs are plain data that compare by content, which is what lets the bank train equal ones once."""

import numpy as np
import pytest

from headwater.errors import RequestError
from headwater.heads.specs.spec import HeadSpec, Penalty, Rows, Weights


def test_specs_of_equal_arrays_are_equal_and_hash_alike():
    def spec(last):
        return HeadSpec(Rows([3, 1, last]), Penalty(l2=0.5), weights=Weights([1, 2, 3]))

    assert spec(2) == spec(2)
    assert hash(spec(2)) == hash(spec(2))
    assert spec(2) != spec(4)
    assert Rows([1, 2]) != Weights([1, 2])


def test_rows_and_weights_are_their_own_read_only_copies():
    index = np.array([1, 2, 3])
    rows = Rows(index)
    index[0] = 9
    assert rows.index.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        rows.index[0] = 5
    assert Weights([1]).values.dtype == np.float64


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Penalty(l1=-1), "negative"),
        (lambda: Penalty(l2=-0.1), "negative"),
        (lambda: HeadSpec(Rows([]), Penalty()), "at least one"),
        (lambda: HeadSpec(Rows([0, 1]), Penalty(), weights=Weights([1.0])), "1 weights for 2 training rows"),
    ],
)
def test_impossible_specs_cannot_be_written(build, says):
    with pytest.raises(RequestError, match=says):
        build()
