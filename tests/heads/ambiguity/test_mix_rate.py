"""Shares of unseen kinds against known mixtures, and false alarms where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headwater.heads.ambiguity.mix_rate import Cut, Strata, best_cut, cuts, mix_rate, permutation_p_value
from headwater.heads.ambiguity.novelty import Folds, Scores, likely_classes, nearest_rows, neighbour_scores


def scores_of(random: np.random.Generator, n: int, m: int, share: float, apart: float) -> Scores:
    """Labeled scores N(0, 1); others (1 - share) N(0, 1) + share N(apart, 1)."""
    new = np.arange(m) < round(share * m)
    return Scores("known", random.standard_normal(n), random.standard_normal(m) + apart * new)


def one_stratum(n: int, m: int) -> Strata:
    return Strata(np.zeros(n, dtype=np.int64), np.zeros(m, dtype=np.int64))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 1.0])
def test_the_share_of_a_known_mixture_is_found(share: float) -> None:
    random = np.random.default_rng(0)
    scores = scores_of(random, 2000, 4000, share, 8.0)
    strata = one_stratum(2000, 4000)
    cut = best_cut([scores], strata)
    found = mix_rate(cut.labeled, cut.rest, strata)
    assert abs(found.share - share) < 0.01 + 0.03 * share
    assert found.low <= found.share <= found.high
    # The best of many cuts proves a little more than one that was chosen beforehand.
    assert found.low < share + 0.01


def test_where_kinds_overlap_the_share_beyond_a_cut_is_the_closed_form() -> None:
    random = np.random.default_rng(1)
    scores, strata = scores_of(random, 100_000, 100_000, 0.4, 2.0), one_stratum(100_000, 100_000)
    cut = Cut(scores, 1.0)
    ordinary, new = stats.norm.sf(1.0), stats.norm.sf(-1.0)
    beyond = 0.6 * ordinary + 0.4 * new
    expected = (beyond - ordinary) / (1 - ordinary)
    assert mix_rate(cut.labeled, cut.rest, strata).share == pytest.approx(expected, abs=0.005)


def test_the_interval_of_one_stratum_is_clopper_and_pearsons() -> None:
    labeled, rest = np.zeros(50, dtype=bool), np.arange(200) < 30
    found = mix_rate(labeled, rest, one_stratum(50, 200), level=0.9)
    low = stats.binomtest(30, 200).proportion_ci(0.8).low
    none = stats.binomtest(0, 50).proportion_ci(0.8).high
    assert found.share == pytest.approx(0.15)
    assert found.low == pytest.approx(max(0, (low - none) / (1 - none)), abs=1e-9)


def test_p_values_are_small_no_more_often_than_they_say() -> None:
    random = np.random.default_rng(3)
    found = []
    for trial in range(120):
        both = random.standard_normal((2, 360))
        measures = [Scores(str(place), each[:120], each[120:]) for place, each in enumerate(both)]
        folds = Folds.draw(np.zeros(120, dtype=np.int64), 240, trial)
        found.append(permutation_p_value(measures, one_stratum(120, 240), folds, draws=60, seed=trial))
    values = np.array(found)
    # Binomial bounds that a calibrated test passes but for one seed in a thousand.
    assert (values <= 0.05).sum() <= stats.binom.ppf(0.999, 120, 0.05)
    assert stats.kstest(values, "uniform").pvalue > 0.001


def test_unseen_rows_of_two_in_a_hundred_are_noticed() -> None:
    random = np.random.default_rng(4)
    folds = Folds.draw(np.zeros(400, dtype=np.int64), 1200, 0)
    scores = scores_of(random, 400, 1200, 0.02, 6.0)
    assert permutation_p_value([scores], one_stratum(400, 1200), folds, draws=99) == pytest.approx(0.01)


def test_more_of_one_class_is_no_surprise() -> None:
    # Class 1 scores higher, and other rows have more of it: only strata tell that nothing is new.
    random = np.random.default_rng(5)
    strata = Strata(np.arange(300) % 2, (np.arange(900) % 10 > 0).astype(np.int64))
    scores = Scores(
        "of a class",
        random.standard_normal(300) + 3 * strata.labeled,
        random.standard_normal(900) + 3 * strata.rest,
    )
    folds = Folds.draw(strata.labeled, 900, 0)
    assert permutation_p_value([scores], strata, folds, draws=99) > 0.05
    assert permutation_p_value([scores], one_stratum(300, 900), folds, draws=99) == pytest.approx(0.01)
    cut = Cut(scores, 2.0)
    assert mix_rate(cut.labeled, cut.rest, strata).low < 0.05


@given(n=st.integers(3, 60), m=st.integers(1, 60), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_shares_stay_shares(n: int, m: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = Scores("any", random.integers(0, 4, n).astype(float), random.integers(0, 4, m).astype(float))
    strata = Strata(random.integers(0, 3, n), random.integers(0, 3, m))
    for at in cuts(scores):
        cut = Cut(scores, at)
        found = mix_rate(cut.labeled, cut.rest, strata)
        assert 0 <= found.low <= found.share <= found.high <= 1


def test_nearest_rows_are_those_of_brute_force() -> None:
    random = np.random.default_rng(6)
    rows, pool = (random.standard_normal((size, 5)).astype(np.float32) for size in (30, 200))
    apart = ((rows[:, None].astype(np.float64) - pool[None]) ** 2).sum(axis=2)
    assert (nearest_rows(rows, pool, 7) == np.argsort(apart, axis=1)[:, :7]).all()


def test_rows_of_a_kind_without_labels_score_higher() -> None:
    random = np.random.default_rng(7)
    labels = np.arange(200) % 2
    corners = np.array([[0, 0], [6, 6], [0, 6], [6, 0]])
    kinds = np.arange(400) % 4
    labeled = (corners[labels] + random.standard_normal((200, 2))).astype(np.float32)
    rest = (corners[kinds] + random.standard_normal((400, 2))).astype(np.float32)
    folds = Folds.draw(labels, 400, 0)
    for scores in neighbour_scores("plane", labeled, labels, rest, folds):
        new, old = scores.rest[kinds >= 2], scores.rest[kinds < 2]
        assert stats.mannwhitneyu(new, old).statistic / (len(new) * len(old)) > 0.9
    ours, theirs = likely_classes(labeled, labels, rest, folds)
    assert (ours == labels).mean() > 0.98
    assert (theirs[kinds < 2] == kinds[kinds < 2]).mean() > 0.98


def test_every_row_lies_in_one_fold_and_classes_are_dealt_evenly() -> None:
    labels = np.array([0] * 30 + [1] * 9)
    folds = Folds.draw(labels, 20, 5)
    counts = np.array([np.bincount(folds.labeled[labels == code], minlength=3) for code in (0, 1)])
    assert counts.tolist() == [[10, 10, 10], [3, 3, 3]]
    assert sorted(np.bincount(folds.rest, minlength=3)) == [6, 7, 7]
