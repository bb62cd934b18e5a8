"""The group report against row-by-row counting, closed forms of the binomial, and simulated coverage."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import binomtest

from headwater.errors import RequestError
from headwater.heads.measures.grouped import accuracies_by_group
from headwater.heads.measures.intervals import lowest, resampled_sum, wilson
from headwater.heads.measures.metrics import GroupReport, Level

CLASSES, GROUPS = ("a", "b", "c"), ("g0", "g1", "g2", "g3", "g4")

rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(-1, 4)), min_size=1, max_size=40)


def _report(table: list[tuple[int, int, int]], **more: object) -> GroupReport:
    true, predicted, groups = np.array(table).T
    return GroupReport(
        y_true=true, y_pred=predicted, groups=groups, classes=CLASSES, group_names=GROUPS, **more
    )


@settings(max_examples=150, deadline=None)
@given(rows)
def test_against_counting_row_by_row(table: list[tuple[int, int, int]]) -> None:
    report = _report(table)
    assert report.rows == len(table)
    assert report.overall == pytest.approx(sum(t == p for t, p, _ in table) / len(table))
    by_group = {}
    for code, name in enumerate(GROUPS):
        right = [t == p for t, p, g in table if g == code]
        found = report.by_group[code]
        assert (found.name, found.count, found.correct) == (name, len(right), sum(right))
        assert found.accuracy == (sum(right) / len(right) if right else None)
        if right:
            by_group[name] = sum(right) / len(right)
    for code, each in enumerate(report.by_class):
        assert each.count == sum(t == code for t, _, _ in table)
        assert each.correct == sum(t == p == code for t, p, _ in table)
    assert report.missing_groups == tuple(name for name in GROUPS if name not in by_group)
    if by_group:
        ranked = sorted(by_group.values())
        assert report.balanced == pytest.approx(sum(ranked) / len(ranked))
        assert report.worst_group.accuracy == ranked[0]
        for k in range(1, len(ranked) + 1):
            assert report.worst_k(k) == pytest.approx(sum(ranked[:k]) / k)
        weighted = _report(table, train_counts=[3, 0, 1, 0, 5])
        drawn = weighted.intervals(resamples=20)
        assert drawn["train_weighted"] == weighted.interval("train_weighted", resamples=20)
        for what, one in drawn.items():
            value = weighted.worst_curve().area if what == "worst_area" else getattr(weighted, what)
            value = value.accuracy if what == "worst_group" else value
            assert (one is None) == (value is None)
            assert one is None or one.estimate == pytest.approx(value)
            assert one is None or 0 <= one.low <= one.estimate <= one.high <= 1
    else:
        assert report.to_dict()["worst_group"] is report.to_dict()["balanced"] is None
        assert report.interval("worst_group") is None
        with pytest.raises(RequestError, match="no row has a known group"):
            _ = report.worst_group


def test_train_weighted_by_hand_and_undefined_without_a_train_group() -> None:
    # group 0: 1 of 2 right, group 1: 3 of 3; train is nine tenths group 0
    true, predicted, groups = [0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 1, 1]

    def weighted(counts: list[int] | None) -> float | None:
        names = GROUPS[: len(counts or [0, 0])]
        return GroupReport(
            y_true=true, y_pred=predicted, groups=groups, group_names=names, train_counts=counts
        ).train_weighted

    assert weighted([90, 10]) == pytest.approx(0.9 * 0.5 + 0.1 * 1.0)
    assert weighted(None) is None
    assert weighted([90, 10, 0]) == pytest.approx(0.55)
    assert weighted([90, 9, 1]) is None  # a group of train that nothing here speaks for


def test_groups_are_the_classes_when_none_are_given() -> None:
    report = GroupReport(y_true=[0, 0, 1], y_pred=[0, 1, 1], classes=("a", "b"))
    assert [(g.name, g.accuracy) for g in report.by_group] == [("a", 0.5), ("b", 1.0)]


def test_the_plain_data_shows_a_missing_group_as_missing() -> None:
    data = _report([(0, 0, 0), (0, 1, 0), (1, 1, 1)]).to_dict()
    assert data["missing_groups"] == ["g2", "g3", "g4"]
    assert data["by_group"][2] == {"name": "g2", "count": 0, "correct": 0, "accuracy": None, "interval": None}
    assert data["worst_group"]["name"] == "g0"
    assert data["intervals"]["train_weighted"] is None
    assert data["intervals"]["overall"]["low"] < data["overall"] < data["intervals"]["overall"]["high"]


@pytest.mark.parametrize(("correct", "count"), [(0, 1), (1, 1), (0, 7), (7, 7), (3, 9), (400, 642)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipys(correct: int, count: int, level: float) -> None:
    expected = binomtest(correct, count).proportion_ci(level, method="wilson")
    found = wilson(correct, count, level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.high > found.low


def test_the_bootstrap_is_the_one_that_resamples_rows() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], [400, 150, 60])
    right = random.random(len(groups)) < np.array([0.9, 0.7, 0.5])[groups]
    report = GroupReport(y_true=np.zeros(len(groups)), y_pred=1 - right, groups=groups)
    drawn: dict[str, list[float]] = {"overall": [], "balanced": []}
    for _ in range(3000):
        resample = np.concatenate(
            [random.choice(np.flatnonzero(groups == g), (groups == g).sum()) for g in range(3)]
        )
        by_group = [right[resample][groups[resample] == g].mean() for g in range(3)]
        drawn["overall"].append(right[resample].mean())
        drawn["balanced"].append(np.mean(by_group))
    for what, values in drawn.items():
        found = report.interval(what, resamples=3000)
        assert found is not None
        expected = np.quantile(values, [0.025, 0.975])
        assert (found.low, found.high) == pytest.approx(expected, abs=0.012)


def test_a_perfect_group_does_not_get_the_width_zero() -> None:
    report = GroupReport(y_true=[0] * 8 + [1] * 8, y_pred=[0] * 8 + [1] * 8)
    for what in ("overall", "balanced", "worst_group"):
        found = report.interval(what)
        assert found is not None
        assert found.high == 1.0
        assert found.low < 0.95


def test_thousands_of_tiny_groups_do_not_pull_the_interval_off_the_estimate() -> None:
    random = np.random.default_rng(0)
    correct = random.binomial(3, 0.9, size=5000)
    found = resampled_sum(np.full(5000, 1 / 5000), correct, np.full(5000, 3))
    assert found.low < found.estimate < found.high
    assert found.high - found.low < 0.02
    # centred on the estimate: a plain smoothed bootstrap would centre on 0.8
    assert abs((found.low + found.high) / 2 - found.estimate) < 0.002


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    count, chance = np.array([200, 60, 20]), np.array([0.95, 0.8, 0.6])
    covered = 0
    for trial in range(400):
        correct = random.binomial(count, chance)
        found = resampled_sum(np.full(3, 1 / 3), correct, count, resamples=400, seed=trial)
        covered += found.low <= chance.mean() <= found.high
    assert 0.91 <= covered / 400 <= 0.985


@pytest.mark.parametrize(
    ("count", "chance"),
    [
        ([642, 642, 2255, 2255], [0.9, 0.9, 0.9, 0.9]),
        ([133, 133, 466, 467], [0.8, 0.82, 0.85, 0.95]),
        ([30] * 20, [0.8] * 20),
        ([10] * 300, [0.8] * 300),
        ([60], [0.7]),
    ],
)
def test_the_worst_groups_interval_covers_although_the_worst_is_picked(
    count: list[int], chance: list[float]
) -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        correct = random.binomial(count, chance)
        found = lowest(correct, np.array(count))
        assert found.low <= found.estimate == (correct / count).min() <= found.high
        covered += found.low <= min(chance) <= found.high
    assert covered / 400 >= 0.93


@pytest.mark.parametrize("correct", [0, 1, 7, 9])
def test_the_worst_of_one_group_has_scipys_exact_interval(correct: int) -> None:
    report = GroupReport(
        y_true=[0] * 9, y_pred=[0] * correct + [1] * (9 - correct), group_names=["a"], groups=[0] * 9
    )
    found = report.interval("worst_group", level=0.9)
    expected = binomtest(correct, 9).proportion_ci(0.9, method="exact")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_seed_decides_and_k_is_checked() -> None:
    report = _report([(0, 0, 0), (0, 1, 0), (1, 1, 1), (1, 0, 1)] * 5)
    assert report.interval("balanced", seed=3) == report.interval("balanced", seed=3)
    assert report.interval("worst_k", k=2).estimate == report.worst_k(2)  # type: ignore[union-attr]
    for k in (0, 3):
        with pytest.raises(RequestError, match="k must be between 1 and the 2 groups"):
            report.worst_k(k)
    for k in ("x", None, 1.5, True):
        for ask in (report.worst_k, report.worst, lambda k: report.interval("worst_k", k=k)):
            with pytest.raises(RequestError, match=f"k is a whole number of groups, and not {k!r}"):
                ask(k)
    assert report.worst_k(np.int64(2)) == report.worst_k(2)
    with pytest.raises(RequestError, match="level"):
        report.interval("overall", level=95)


def test_impossible_input_is_refused() -> None:
    with pytest.raises(RequestError, match="no rows"):
        GroupReport(y_true=[], y_pred=[])
    with pytest.raises(RequestError, match="one value per row"):
        GroupReport(y_true=[0, 1], y_pred=[0, 1, 1])
    with pytest.raises(RequestError, match="code 1 has no name"):
        GroupReport(y_true=[0, 1], y_pred=[0, 1], classes=("a",))


def test_accuracies_of_many_heads_are_those_of_each() -> None:
    random = np.random.default_rng(0)
    true, groups = random.integers(0, 3, 50), random.integers(-1, 4, 50)
    predictions = random.integers(0, 3, (6, 50))
    found = accuracies_by_group(true, predictions, groups, 5)
    for each, row in zip(predictions, found, strict=True):
        report = _report(list(zip(true, each, groups, strict=True)))
        expected = [np.nan if g.accuracy is None else g.accuracy for g in report.by_group]
        np.testing.assert_array_equal(row, expected)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.lists(st.integers(1, 100), min_size=1))
def test_the_worst_curve_is_the_naive_one_and_rises(right: list[int], percents: list[int]) -> None:
    percents = sorted(set(percents))
    groups = np.repeat(np.arange(len(right)), 5)
    predicted = np.concatenate([np.arange(5) >= each for each in right]).astype(int)
    report = GroupReport(y_true=np.zeros(len(groups)), y_pred=predicted, groups=groups)
    curve = report.worst_curve(percents)
    ranked = sorted(each / 5 for each in right)
    for percent, count, accuracy in zip(percents, curve.groups, curve.accuracies, strict=True):
        expected = -(-percent * len(right) // 100)  # rounded up, in whole numbers
        assert count == expected
        assert accuracy == pytest.approx(sum(ranked[:expected]) / expected)
        assert accuracy == pytest.approx(report.worst_k(count))
    assert list(curve.accuracies) == sorted(curve.accuracies)
    assert report.worst_curve([100]).accuracies[0] == pytest.approx(report.balanced)
    if len(percents) > 1:
        expected_area = trapezoid(curve.accuracies, x=percents) / (percents[-1] - percents[0])
        assert curve.area == pytest.approx(expected_area)
    else:
        assert curve.area == curve.accuracies[0]


def test_the_worst_curve_leaves_missing_groups_out_and_refuses_shares_that_are_none() -> None:
    report = _report([(0, 0, 0), (0, 1, 0), (1, 1, 1), (1, 1, 4)])
    curve = report.worst_curve([1, 34, 67])
    assert curve.groups == (1, 2, 3)  # of the three groups that have rows
    assert curve.accuracies == pytest.approx((0.5, 0.75, 2.5 / 3))
    assert report.worst_curve([0.5]).groups == (1,)
    assert report.interval("worst_area").estimate == pytest.approx(report.worst_curve().area)
    for wrong in ([0], [101], [], [20, 10]):
        with pytest.raises(RequestError, match=r"share|at least one K"):
            report.worst_curve(wrong)


def test_the_interval_of_a_sum_over_many_groups_is_the_bootstraps() -> None:
    random = np.random.default_rng(0)
    count = random.integers(1, 400, 500)
    correct = random.binomial(count, random.uniform(0.3, 1, 500))
    weights = random.dirichlet(np.full(500, 0.3))  # a few groups weigh much, most next to nothing
    found = resampled_sum(weights, correct, count, resamples=4000)
    estimate, rate = float(weights @ (correct / count)), (correct + 0.5) / (count + 1)
    drawn = estimate + (random.binomial(count, rate, size=(4000, 500)) / count - rate) @ weights
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.estimate == pytest.approx(estimate)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_a_coarser_level_counts_what_lands_in_the_right_part() -> None:
    # species 0, 1 are of genus "x", 2 of "y"; no row is of species 3, whose genus is not known
    level = Level(np.array([0, 0, 1, -1]), ("x", "y", "z"))
    true, predicted = [0, 0, 1, 1, 2, 2], [0, 1, 0, 3, 2, 0]
    report = GroupReport(y_true=true, y_pred=predicted, classes=list("abcd"), levels={"genus": level})
    genus = report.by_level["genus"]
    assert (report.overall, genus.overall) == (2 / 6, 4 / 6)
    assert [(each.name, each.count, each.correct) for each in genus.by_class] == [
        ("x", 4, 3),
        ("y", 2, 1),
        ("z", 0, 0),
    ]
    found = report.to_dict()["by_level"]["genus"]
    assert (found["overall"], found["balanced"]) == (4 / 6, (0.75 + 0.5) / 2)
    assert (found["worst_class"]["name"], found["missing_classes"]) == ("y", ["z"])
    with pytest.raises(RequestError, match="code 2 has rows and no place at level 'genus'"):
        GroupReport(y_true=true, y_pred=predicted, levels={"genus": Level(np.array([0, 0, -1, 0]), ("x",))})


def test_ten_thousand_groups_cost_milliseconds() -> None:
    random = np.random.default_rng(0)
    true = np.repeat(np.arange(10_000), 10)
    predicted = np.where(random.random(100_000) < 0.7, true, 0)
    began = time.process_time()
    area = GroupReport(y_true=true, y_pred=predicted).worst_curve().area
    assert time.process_time() - began < 0.2  # about a hundredth of a second on an idle machine
    assert 0.4 < area < 0.7
