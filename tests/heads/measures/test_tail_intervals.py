"""Intervals of worst-K areas against the spread over simulated sets of rows, for one head and for two."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.errors import RequestError
from headwater.heads.measures.metrics import GroupReport
from headwater.heads.measures.rates import Rates
from headwater.heads.measures.tail import worst_area
from headwater.heads.measures.tail_intervals import area_difference, worst_intervals, worst_k_interval

GROUPS, TRIALS = 60, 40


def _worlds(random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """True rates of groups, and how many rows each has: from one to ten."""
    return [
        (random.beta(4, 1.5, GROUPS), random.integers(1, 11, GROUPS)),
        (np.where(random.random(GROUPS) < 0.7, 0.95, 0.3), np.full(GROUPS, 10)),
        (np.full(GROUPS, 0.8), np.full(GROUPS, 3)),
    ]


def _areas(correct: np.ndarray, count: np.ndarray) -> np.ndarray:
    return worst_area(correct / count)


def test_the_area_of_tiny_groups_is_covered_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held, widths, spreads = [], [], []
    for rates, count in _worlds(random):
        many = _areas(random.binomial(count, rates, size=(1000, GROUPS)), count)
        for trial in range(TRIALS):
            found = worst_intervals(random.binomial(count, rates), count, seed=trial)
            held.append(found.area.low <= many.mean() <= found.area.high)
            widths.append((found.area.high - found.area.low) / (2 * 1.96))
            spreads.append(many.std())
    assert 0.88 <= np.mean(held) <= 0.99
    # A width of nothing and one of everything would both be found out here.
    assert np.mean(widths) == pytest.approx(np.mean(spreads), rel=0.12)


def test_the_mean_of_the_worst_k_is_covered_although_they_are_a_small_share_of_tiny_groups() -> None:
    random = np.random.default_rng(5)
    held = []
    for rates, count in _worlds(random):

        def worst(right: np.ndarray, count=count) -> np.ndarray:
            return np.sort(right / count, axis=-1)[..., :6].mean(axis=-1)

        true = worst(random.binomial(count, rates, size=(1000, GROUPS))).mean()
        for trial in range(TRIALS):
            right = random.binomial(count, rates)
            of = np.repeat(np.arange(GROUPS), count)
            wrong = np.concatenate([np.arange(n) >= k for n, k in zip(count, right, strict=True)])
            report = GroupReport(y_true=np.zeros(len(of)), y_pred=wrong, groups=of)
            found = report.interval("worst_k", k=6, seed=trial)
            assert trial or found == worst_k_interval(right, count, 6, seed=trial)
            assert found.estimate == pytest.approx(worst(right))
            held.append(found.low <= true <= found.high)
    assert 0.88 <= np.mean(held) <= 0.99


def test_the_difference_of_two_heads_is_covered_and_knows_that_they_share_their_rows() -> None:
    random = np.random.default_rng(1)
    held, widths, apart = [], [], []
    for rates, count in _worlds(random):
        better = np.clip(rates + 0.04, 0, 1)
        group = np.repeat(np.arange(GROUPS), count)

        def draw(rates=rates, better=better, group=group) -> tuple[np.ndarray, np.ndarray]:
            """Two heads that mostly err on the same rows."""
            one, new = random.random((2, len(group)))
            other = np.where(random.random(len(group)) < 0.8, one, new)
            return one < rates[group], other < better[group]

        def areas(right: np.ndarray, group=group, count=count) -> float:
            return float(_areas(np.bincount(group[right], minlength=GROUPS), count))

        pairs = [draw() for _ in range(400)]
        true = np.mean([areas(two) - areas(one) for one, two in pairs])
        for trial, (one, two) in enumerate(pairs[:20]):
            found = area_difference(one, two, group, seed=trial)
            assert found.estimate == pytest.approx(areas(two) - areas(one))
            held.append(found.low <= true <= found.high)
            widths.append(found.high - found.low)
            count_of = [np.bincount(group[right], minlength=GROUPS) for right in (one, two)]
            alone = [worst_intervals(each, count, seed=trial).area for each in count_of]
            apart.append(sum((each.high - each.low) ** 2 for each in alone) ** 0.5)
    assert 0.88 <= np.mean(held) <= 0.99
    assert np.mean(widths) < 0.8 * np.mean(apart)


def test_a_head_differs_from_itself_by_nothing_and_perfect_groups_still_have_a_width() -> None:
    right = np.random.default_rng(2).random(600) < 0.7
    group = np.repeat(np.arange(-1, 59), 10)
    same = area_difference(right, right, group)
    assert same.estimate == 0
    assert same.high - same.low < 0.03
    perfect = worst_intervals(np.full(50, 3), np.full(50, 3))
    assert perfect.area.low < 0.999
    assert perfect.area.high == 1
    with pytest.raises(RequestError, match="no row has a known group"):
        area_difference(right, right, np.full(600, -1))
    with pytest.raises(RequestError, match=r"shapes \(600,\), \(3,\)"):
        area_difference(right, right[:3], group)


def test_the_fitted_rates_are_those_of_the_groups() -> None:
    random = np.random.default_rng(3)
    true = np.where(random.random(4000) < 0.6, 0.9, 0.4)
    count = random.integers(1, 9, 4000)
    right = random.binomial(count, true)
    drawn = Rates.fitted(np.stack([right, count - right], axis=1)).drawn(20, random)[..., 0]
    assert drawn.mean() == pytest.approx(true.mean(), abs=0.01)
    # What was observed is spread wider than the truth, by the chance that a handful of rows leave.
    assert drawn.std() == pytest.approx(true.std(), rel=0.15)


def test_a_report_gives_the_curve_its_interval_and_lists_no_thousands_of_groups() -> None:
    random = np.random.default_rng(4)
    group = np.repeat(np.arange(300), 4)
    report = GroupReport(
        y_true=group % 2,
        y_pred=np.where(random.random(1200) < 0.8, group % 2, 1 - group % 2),
        groups=group,
        group_names=[f"g{code}" for code in range(310)],
    )
    found = report.to_dict()
    curve = found["worst_curve"]
    assert all(
        low <= at <= high
        for low, at, high in zip(curve["low"], curve["accuracies"], curve["high"], strict=True)
    )
    assert found["intervals"]["worst_area"]["estimate"] == curve["area"]
    assert (found["groups"], found["groups_with_rows"], len(found["by_group"])) == (310, 300, 200)
    accuracies = [each["accuracy"] for each in found["by_group"]]
    assert accuracies == sorted(accuracies)
    assert len(report.to_dict(most=1000)["by_group"]) == 310


def test_an_interval_of_nothing_is_one_that_other_rows_would_not_leave() -> None:
    # Of 31 groups of one row a third are wrong, so that the worst few are wrong in any other set, too.
    random = np.random.default_rng(7)
    count = np.ones(31, dtype=np.int64)
    right = np.arange(31) % 3 > 0
    found = worst_k_interval(right.astype(np.int64), count, 3)
    assert (found.low, found.estimate, found.high) == (0, 0, 0)
    others = np.sort(random.random((2000, 31)) < right.mean(), axis=1)[:, :3].mean(axis=1)
    assert np.quantile(others, 0.99) == 0
    # With few wrong it is not so.
    found = worst_k_interval((np.arange(31) > 2).astype(np.int64), count, 3)
    others = np.sort(random.random((2000, 31)) < 28 / 31, axis=1)[:, :3].mean(axis=1)
    assert others.mean() <= found.high
    assert found.high > 0.2
