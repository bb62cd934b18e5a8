"""What the two-stage methods share, against counting and naive arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from headwater.errors import RequestError
from headwater.heads.methods import plan
from headwater.heads.methods.stages import distance_penalty, log_probabilities, row_losses, split_off
from headwater.heads.specs.head import LinearHead
from headwater.heads.tasks.task import Task
from tests.heads.methods.scipy_bank import RECORD


@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
)
def test_a_split_leaves_every_code_in_both_parts(counts: list[int], share: float, seed: int) -> None:
    codes = np.repeat(np.arange(len(counts)) * 3, counts)
    rows = np.sort(np.random.default_rng(7).permutation(1000)[: len(codes)])
    rest, taken = split_off(rows, codes, share, np.random.default_rng(seed))
    assert sorted([*rest, *taken]) == rows.tolist()
    of_row = dict(zip(rows.tolist(), codes.tolist(), strict=True))
    for part in (rest, taken):
        assert (np.diff(part) > 0).all()
        assert {of_row[row] for row in part.tolist()} == set(codes.tolist())
    assert abs(len(taken) - share * len(rows)) <= len(counts)  # each code is at most one row off
    again = split_off(rows, codes, share, np.random.default_rng(seed))
    assert again[1].tolist() == taken.tolist()


def test_a_split_is_as_random_as_published_where_no_code_is_rare() -> None:
    rows, codes = np.arange(400), np.repeat([0, 1], 200)
    of_first = [
        int((split_off(rows, codes, 0.2, np.random.default_rng(seed))[1] < 200).sum()) for seed in range(200)
    ]
    assert np.mean(of_first) == pytest.approx(40, abs=2)
    assert np.std(of_first) == pytest.approx(np.sqrt(80 * 0.5 * 0.5 * 0.8), rel=0.25)  # hypergeometric
    rest, taken = split_off(rows, codes, 1.0, np.random.default_rng(0))
    assert taken.tolist() == rows.tolist()
    assert not len(rest)


def test_row_losses_are_cross_entropies(task: Task) -> None:
    random = np.random.default_rng(0)
    head = LinearHead(random.normal(size=(2, 12)).astype("f4"), random.normal(size=2).astype("f4"), RECORD)
    rows = task.splits["val"][[3, 1, 8]]
    for row, loss, logs in zip(
        rows, row_losses(task, head, rows), log_probabilities(task, head, rows), strict=True
    ):
        z = head.weight.astype("f8") @ task.features[row] + head.bias
        p = np.exp(z) / np.exp(z).sum()
        np.testing.assert_allclose(logs, np.log(p), rtol=1e-4, atol=1e-4)
        assert loss == pytest.approx(-np.log(p[task.target[row]]), rel=1e-4, abs=1e-4)


def test_the_distance_penalty_is_the_papers_over_one_column_per_class() -> None:
    """λ/2·‖W - W₀‖² over two columns, minimised by scipy, against the one column that a head of two has."""
    random = np.random.default_rng(1)
    x, y, start = random.normal(size=(40, 3)), random.integers(0, 2, 40), random.normal(size=(2, 3))

    def two_columns(flat: np.ndarray) -> float:
        w = flat.reshape(2, 3)
        z = x @ w.T
        return float((np.logaddexp(z[:, 0], z[:, 1]) - z[np.arange(40), y]).mean()) + 0.7 / 2 * float(
            ((w - start) ** 2).sum()
        )

    def one_column(w: np.ndarray) -> float:
        away = w - (start[1] - start[0])
        return float(np.logaddexp(0, -(2 * y - 1) * (x @ w)).mean()) + distance_penalty(
            0.7, 2
        ).l2 / 2 * float((away**2).sum())

    both, one = minimize(two_columns, np.zeros(6)).x.reshape(2, 3), minimize(one_column, np.zeros(3)).x
    np.testing.assert_allclose(both[1] - both[0], one, atol=1e-4)
    assert distance_penalty(0.7, 3).l2 == 0.7


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("SqrtReWeight", {"by": "groups"}, "SqrtReWeight cannot take by = 'groups': input should be 'class'"),
        ("CBLoss", {"beta": 1}, "CBLoss cannot take beta = 1: input should be less than 1"),
        ("AFR", {"gamma": "4,-1"}, "AFR cannot take gamma = '4,-1': input should be greater than or equal"),
        ("AFR", {"strength": ""}, "AFR cannot take strength = ''"),
        ("AFR", {"share": 1}, "AFR cannot take share = 1: input should be less than 1"),
        ("AFR", {"lambda": 1}, "AFR has no setting 'lambda'"),
        ("SELF", {"by": "dropuot"}, "SELF cannot take by = 'dropuot': input should be 'early-stop'"),
        ("SELF", {"rows": 1}, "SELF cannot take rows = 1"),
        ("SELF", {"finetune": 0}, "SELF cannot take finetune = 0: input should be greater than 0"),
        ("LLR-class", {"share": 1.5}, "LLR-class cannot take share = 1.5"),
        ("JTT", {"upweight": 0}, "JTT cannot take upweight = 0: input should be greater than 0"),
        ("JTT", {"upwieght": 2}, "JTT has no setting 'upwieght' (did you mean 'upweight'?)"),
        ("LfF", {"q": 1.2}, "LfF cannot take q = 1.2: input should be less than or equal to 1"),
        ("LfF", {"rounds": 0}, "LfF cannot take rounds = 0"),
        ("EIIL", {"learner": "DRO"}, "EIIL cannot take learner = 'DRO': input should be 'GroupDRO' or 'IRM'"),
        ("EIIL", {"adjustment": -1}, "EIIL cannot take adjustment = -1"),
        ("CRT", {"epochs": 0.5}, "CRT cannot take epochs = 0.5"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    task: Task, name: str, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(RequestError) as error:
        plan(task, name, settings)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
