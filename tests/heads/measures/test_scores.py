"""Figures from scores against scikit-learn, brute force over bins, and properties they must have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, roc_auc_score

from headwater.errors import RequestError
from headwater.heads.measures.many import measure_many
from headwater.heads.measures.metrics import GroupReport
from headwater.heads.measures.scores import area_under, auroc, calibration_error, scored

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]


def _drawn(classes: int, heads: int = 4, rows: int = 400, seed: int = 0) -> Drawn:
    """Scores of some skill, class codes of unequal frequency, group codes with a gap and unknown ones."""
    random = np.random.default_rng(seed)
    y = np.minimum(random.geometric(0.4, size=rows) - 1, classes - 1)
    z = random.normal(size=(heads, rows, classes)) * 2
    z[:, np.arange(rows), y] += random.uniform(0, 3, size=(heads, 1))
    groups = random.choice([-1, 0, 1, 3], size=rows)
    return z, y, groups


def _brute_force_calibration_error(z: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    p = softmax(z, axis=1)
    error = 0.0
    for low in np.arange(bins) / bins:
        mine = (p.max(axis=1) > low) & (p.max(axis=1) <= low + 1 / bins)
        if mine.any():
            right = p[mine].argmax(axis=1) == y[mine]
            error += mine.mean() * abs(right.mean() - p[mine].max(axis=1).mean())
    return error


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_many_heads_get_the_figures_of_scikit_learn(classes: int, dtype: str) -> None:
    z, y, _ = _drawn(classes)
    found = measure_many(y, z.astype(dtype))
    close = {"rel": 1e-5 if dtype == "f4" else 1e-12}
    for head, each in enumerate(z):
        p = softmax(each, axis=1)
        area = roc_auc_score(y, p[:, 1] if classes == 2 else p, multi_class="ovr", average="macro")
        figures = {name: values[head] for name, values in found.figures.items()}
        assert figures["overall"] == pytest.approx(accuracy_score(y, each.argmax(axis=1)))
        assert figures["balanced"] == pytest.approx(balanced_accuracy_score(y, each.argmax(axis=1)))
        assert figures["log_loss"] == pytest.approx(log_loss(y, p), **close)
        assert figures["auroc"] == pytest.approx(area, **close)
        assert figures["ece"] == pytest.approx(_brute_force_calibration_error(each, y), **close)


def test_many_heads_get_the_figures_of_each_ones_report() -> None:
    z, y, groups = _drawn(3, heads=7)
    counts = [5, 0, 0, 2, 0]
    found = measure_many(
        y, (block for block in np.split(z, [2, 3])), groups=groups, n_groups=5, train_counts=counts
    )
    for head, each in enumerate(z):
        report = GroupReport(
            y_true=y,
            y_pred=each.argmax(axis=1),
            groups=groups,
            classes=list("abc"),
            group_names=list("vwxyz"),
            train_counts=counts,
        )
        for name in ("overall", "balanced", "train_weighted"):
            assert found.figures[name][head] == pytest.approx(getattr(report, name))
        assert found.figures["worst_group"][head] == report.worst_group.accuracy
        assert found.figures["worst_class"][head] == report.worst_class.accuracy
        by_group = [np.nan if g.accuracy is None else g.accuracy for g in report.by_group]
        np.testing.assert_array_equal(found.by_group[head], by_group)
    missing = measure_many(y, z, groups=groups, n_groups=5, train_counts=[1, 1, 1, 1, 1])
    assert np.isnan(missing.figures["train_weighted"]).all()  # a group of train that has no rows here


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_the_area_counts_ties_by_half(table: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([row[0] for row in table]), np.array([row[1] for row in table])
    if positive.all() or not positive.any():
        return
    above, below = scores[positive][:, None], scores[~positive]
    expected = ((above > below) + 0.5 * (above == below)).mean()
    for dtype in ("f4", "f8"):
        signed = np.where(scores == 0, -0.0, scores).astype(dtype)  # -0 and 0 are the same score
        signed[::2] += 0.0
        assert area_under(signed[None], positive)[0] == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["f4", "f8"]))
def test_the_area_does_not_change_under_a_monotone_map(seed: int, dtype: str) -> None:
    random = np.random.default_rng(seed)
    scores, positive = random.integers(-40, 40, size=(3, 60)).astype(dtype), random.random(60) < 0.3
    positive[:2] = [True, False]
    expected = area_under(scores, positive)
    np.testing.assert_array_equal(area_under(scores**3, positive), expected)
    np.testing.assert_array_equal(area_under(np.exp2(scores), positive), expected)
    np.testing.assert_allclose(area_under(-scores, positive), 1 - expected, atol=1e-12)


def test_rows_that_are_sure_are_still_told_apart() -> None:
    # as float32 probabilities these are all exactly 1, and the area would be that of a coin
    z = np.zeros((1, 4, 3), dtype="f4")
    z[0, :, 0] = [60, 70, 80, 90]
    found = scored(z, np.array([1, 1, 0, 0]))
    assert (found.confidence == 1).all()
    assert area_under(found.log_odds[0], np.array([False, False, True, True]))[0] == 1.0
    np.testing.assert_allclose(found.log_loss[0], [60, 70, 0, 0], atol=1e-6)


def test_calibrated_scores_have_a_small_error_and_sharpened_ones_the_gap() -> None:
    random = np.random.default_rng(0)
    z = random.normal(size=(1, 60_000, 4)) * 2
    p = softmax(z[0], axis=1)
    y = (random.random(len(p))[:, None] > p.cumsum(axis=1)).sum(axis=1)
    calibrated = measure_many(y, z).figures["ece"][0]
    assert calibrated < 0.01
    sharp = measure_many(y, 3 * z)
    gap = softmax(3 * z[0], axis=1).max(axis=1).mean() - sharp.figures["overall"][0]
    assert sharp.figures["ece"][0] == pytest.approx(gap, abs=0.01)
    assert gap > 0.1


def test_the_edge_of_a_bin_belongs_to_the_bin_below() -> None:
    confidence, right = np.array([[0.5, 0.25, 1.0]]), np.array([[True, False, True]])
    # bins of a half: (0, 0.5] holds the first two rows, whose errors cancel in part
    assert calibration_error(confidence, right, bins=2)[0] == pytest.approx(abs(0.5 - 0.25) / 3)


def test_a_class_without_rows_is_left_out_of_the_mean_area() -> None:
    z, y, _ = _drawn(3, heads=1)
    wider = np.concatenate([z, np.full((*z.shape[:2], 1), -30.0)], axis=2)
    three = measure_many(y, z).figures
    four = measure_many(y, wider).figures
    assert four["auroc"][0] == pytest.approx(three["auroc"][0])
    assert four["worst_class"][0] == three["worst_class"][0]
    assert np.isnan(auroc(scored(z, np.zeros_like(y)).log_odds, np.zeros_like(y))).all()


def test_a_head_of_nan_has_no_figures_and_spoils_no_other() -> None:
    z, y, _ = _drawn(3)
    alone = measure_many(y, z[2:]).figures
    z[0, 7, 1] = np.nan
    z[1] = np.inf
    found = measure_many(y, z)
    for name, values in found.figures.items():
        assert np.isnan(values[:2]).all()
        np.testing.assert_array_equal(values[2:], alone[name])
    assert np.isnan(found.by_group[:2]).all()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"y_true": [0, -1, 1]}, "known class code of every row"),
        ({"y_true": [0, 3, 1]}, "class code 3 has no column"),
        ({"logits": np.zeros((2, 4, 3))}, "each of the 3 rows"),
        ({"logits": np.zeros((2, 3, 1))}, "at least two scores"),
        ({"logits": []}, "no heads"),
        ({"groups": [0, 1]}, "2 groups for 3 rows"),
        ({"train_counts": [1, 1]}, "2 train counts for 3 groups"),
    ],
)
def test_impossible_input_is_refused(wrong: dict[str, object], sentence: str) -> None:
    good = {"y_true": [0, 1, 1], "logits": np.zeros((2, 3, 3))}
    given = {**good, **wrong}
    with pytest.raises(RequestError, match=sentence):
        measure_many(given.pop("y_true"), given.pop("logits"), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [2, 4])
def test_a_report_reads_the_same_figures_from_logits(classes: int) -> None:
    z, y, groups = _drawn(classes, heads=1)
    many = measure_many(y, z).figures
    report = GroupReport(y_true=y, logits=z[0], groups=groups)
    in_blocks = GroupReport(y_true=y, logits=iter(np.split(z[0], [7, 150])), groups=groups)
    for found in (report, in_blocks):
        for name in ("overall", "log_loss", "ece", "auroc"):
            assert getattr(found, name) == pytest.approx(many[name][0], rel=1e-12)
    assert report.to_dict() == in_blocks.to_dict()
    assert report.to_dict()["intervals"]["auroc"]["estimate"] == report.auroc
    other = GroupReport(y_true=y, y_pred=y, logits=z[0])  # predictions by another rule than the highest score
    assert (other.overall, other.ece) == (1.0, report.ece)
    silent = GroupReport(y_true=y, y_pred=y)
    assert silent.log_loss is silent.ece is silent.auroc is silent.scores is None
    assert silent.to_dict()["auroc"] is None
    assert "auroc" not in silent.to_dict()["intervals"]


def test_the_intervals_are_those_of_drawing_rows_anew_within_groups() -> None:
    random = np.random.default_rng(0)
    z, y, groups = _drawn(3, heads=1, rows=400)
    report = GroupReport(y_true=y, logits=z[0], groups=groups)
    strata = y * 10 + groups
    places = [np.flatnonzero(strata == each) for each in np.unique(strata)]
    drawn = []
    for _ in range(500):
        rows = np.concatenate([random.choice(place, len(place)) for place in places])
        drawn.append([measure_many(y[rows], z[:, rows]).figures[name][0] for name in ("log_loss", "auroc")])
    found = report.scores.intervals()  # type: ignore[union-attr]
    ends = np.quantile(drawn, [0.025, 0.975], axis=0).T.tolist()
    for name, (low, high) in zip(("log_loss", "auroc"), ends, strict=True):
        assert found[name].low <= found[name].estimate <= found[name].high
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_the_intervals_cover_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    covered = {"log_loss": 0, "auroc": 0, "ece": 0}

    def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
        y = random.integers(0, 2, rows)
        score = 2.4 * random.normal(size=rows) + 2.4 * (2 * y - 1)  # twice as sure as it should be
        return y, np.stack([-score / 2, score / 2], axis=1)

    truth = {name: values[0] for name, values in measure_many(*_first(draw(400_000))).figures.items()}
    for _ in range(300):
        y, z = draw(300)
        found = GroupReport(y_true=y, logits=z).scores.intervals()  # type: ignore[union-attr]
        for name in covered:
            covered[name] += found[name].low <= truth[name] <= found[name].high
    assert all(0.9 <= count / 300 <= 0.99 for count in covered.values()), covered


def _first(drawn: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return drawn[0], drawn[1][None]


def test_a_perfect_area_does_not_get_the_width_zero() -> None:
    y = np.repeat([0, 1], [5, 50])
    report = GroupReport(y_true=y, logits=np.stack([-y, y], axis=1) + 0.0)
    interval = report.scores.intervals()["auroc"]  # type: ignore[union-attr]
    assert (report.auroc, interval.high) == (1.0, 1.0)
    assert 0.4 < interval.low < 0.7  # five rows prove little
    assert GroupReport(y_true=y * 0, logits=np.zeros((55, 2))).to_dict()["intervals"]["auroc"] is None


def test_logits_that_cannot_be_read_are_refused() -> None:
    y = np.array([0, 1, 1])
    for logits, sentence in (
        (np.zeros((3, 4)), "the logits have 4 columns, and there are 2 classes"),
        (np.zeros((2, 2)), "2 rows"),
        (np.zeros((3, 2), dtype=int), "must be floats"),
        (np.full((3, 2), np.nan), "NaN or infinite"),
    ):
        with pytest.raises(RequestError, match=sentence):
            GroupReport(y_true=y, logits=logits, classes=("a", "b"))
    with pytest.raises(RequestError, match="needs y_pred or logits"):
        GroupReport(y_true=y)
