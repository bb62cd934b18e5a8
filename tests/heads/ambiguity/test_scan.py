"""The scan on sets whose truth is known: crossed rows, none, and rows that differ in another way."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from headwater.heads.ambiguity import scan as scanning
from headwater.heads.ambiguity.contradiction import Contradiction
from headwater.heads.ambiguity.feature_rows import FeatureRows, joined, leading, plain_features
from headwater.heads.ambiguity.problem import Problem
from headwater.heads.ambiguity.scan import ALARM, Scan, scan


def two_features(
    rate: float, *, seed: int = 0, rows: tuple[int, int, int] = (240, 600, 200), spread: float = 0.35
) -> tuple[Problem, np.ndarray, np.ndarray]:
    """Two features of a few coordinates each, equal in labeled rows; cells of unlabeled and target rows."""
    random = np.random.default_rng(seed)
    parts, cells = [], []
    for size, crossed in zip(rows, (0.0, rate, 0.5 if rate else 0.0), strict=True):
        first = random.permutation(np.arange(size) % 2)
        # As many of either sort of crossed rows.
        second = first.copy()
        for code in (0, 1):
            mine = np.flatnonzero(first == code)
            second[mine[: round(crossed * len(mine))]] = 1 - code
        centres = np.repeat(2.0 * np.stack([first, second], axis=1) - 1, 3, axis=1)
        parts.append((centres + 2 * spread * random.standard_normal((size, 6))).astype(np.float32))
        cells.append(np.stack([first, second], axis=1))
    labels = cells[0][:, 0].astype(np.int64)
    return Problem(parts[0], labels, parts[1], parts[2], (0, 1)), cells[1], cells[2]


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_crossed_rows_are_noticed_and_their_share_is_found(rate: float) -> None:
    problem, cells, target = two_features(rate)
    found = scan(problem)
    assert found.is_ambiguous
    assert abs(found.mix_rate.share - rate) < 0.08
    assert abs(found.target_rate.share - 0.5) < 0.12
    crossed = cells[:, 0] != cells[:, 1]
    assert crossed[found.unseen_unlabeled].mean() > 0.8
    assert (target[found.unseen_target, 0] != target[found.unseen_target, 1]).mean() > 0.9
    # One reading is the first feature, the other the second.
    said = np.stack([each.unlabeled for each in found.readings[:2]])
    truth = cells[found.unseen_unlabeled].T
    match = np.array([[(each == feature).mean() for feature in truth] for each in said])
    assert sorted(match.argmax(axis=1)) == [0, 1]
    assert match.max(axis=1).min() > 0.85


@pytest.mark.parametrize("classes", [2, 12])
def test_the_map_shows_as_many_unseen_rows_as_the_mix_rate_says(classes: int) -> None:
    random = np.random.default_rng(3)
    spots = 2.0 * random.standard_normal((2, classes, 12))
    parts, cells = [], []
    for size, crossed in ((360, False), (600, True), (150, True)):
        first = np.arange(size) % classes
        second = random.integers(0, classes, size) if crossed else first
        places = np.concatenate([spots[0, first], spots[1, second]], axis=1)
        parts.append((places + 0.7 * random.standard_normal(places.shape)).astype(np.float32))
        cells.append((first, second))
    problem = Problem(parts[0], cells[0][0].astype(np.int64), parts[1], parts[2], tuple(range(classes)))
    found = scan(problem)
    assert found.novelty >= ALARM
    unseen = [kind for kind in found.evidence.kinds if kind.code is None]
    shown = sum(kind.rows for kind in unseen)
    assert shown == sum(found.counted_unseen)
    assert found.counted_unseen[0] / 600 == pytest.approx(found.mix_rate.share, abs=0.05)
    assert found.counted_unseen[1] / 150 == pytest.approx(found.target_rate.share, abs=0.1)
    assert [kind.is_mixed for kind in unseen] == ([True] if classes == 12 else [False, False])
    # Dots of these kinds are rows that are crossed in truth.
    drawn = found.evidence.place_of[found.evidence.place_kinds >= classes] - 360
    first, second = (np.concatenate([cells[1][each], cells[2][each]]) for each in (0, 1))
    assert (first[drawn] != second[drawn]).mean() > 0.9
    assert found.summary()["unseen"] == dict(zip(("unlabeled", "target"), found.counted_unseen, strict=True))


def test_one_odd_row_of_a_class_of_its_own_does_not_silence_the_scan() -> None:
    problem, cells, _ = two_features(0.5, rows=(120, 240, 60))
    odd = np.zeros((1, 6), dtype=np.float32)
    found = scan(
        replace(
            problem,
            labeled=np.concatenate([problem.labeled, odd]),
            labels=np.append(problem.labels, 2),
            classes=(0, 1, 2),
        )
    )
    assert found.is_ambiguous
    assert abs(found.mix_rate.share - 0.5) < 0.1
    assert (cells[:, 0] != cells[:, 1])[found.unseen_unlabeled].mean() > 0.9


def test_few_crossed_rows_are_noticed() -> None:
    problem, cells, _ = two_features(0.02, rows=(300, 1500, 60), seed=3, spread=0.2)
    found = scan(problem)
    assert found.is_ambiguous
    assert 0.005 < found.mix_rate.share < 0.05
    assert (cells[:, 0] != cells[:, 1])[found.unseen_unlabeled].mean() > 0.5


def test_plain_labels_raise_an_alarm_in_one_set_of_twenty_at_most() -> None:
    sets = [two_features(0.0, seed=seed, rows=(120, 240, 60))[0] for seed in range(20)]
    assert sum(scan(each, seed=place).is_ambiguous for place, each in enumerate(sets)) <= 1


def shifted(kind: str) -> Problem:
    problem, _, _ = two_features(0.0, seed=5)
    random = np.random.default_rng(6)
    if kind == "noise":

        def change(x: np.ndarray) -> np.ndarray:
            return (x + 1.2 * random.standard_normal(x.shape)).astype(np.float32)
    elif kind == "light":

        def change(x: np.ndarray) -> np.ndarray:
            return (x + 1.5).astype(np.float32)
    else:

        def change(x: np.ndarray) -> np.ndarray:
            keep = (x.mean(axis=1) > 0) | (random.random(len(x)) < 0.2)
            return x[keep]

    return replace(problem, unlabeled=change(problem.unlabeled), target=change(problem.target))


@pytest.mark.parametrize("kind", ["noise", "light"])
def test_rows_that_are_new_in_another_way_make_no_labels_ambiguous(kind: str) -> None:
    found = scan(shifted(kind))
    assert found.novelty >= ALARM
    assert not found.is_ambiguous
    assert "another way" in found.sentences[-1]


def test_another_balance_of_classes_is_not_even_new() -> None:
    found = scan(shifted("balance"))
    assert found.novelty < ALARM
    assert found.mix_rate.share == found.mix_rate.low == 0
    assert found.readings == ()


def noise_levels(seed: int = 0) -> Problem:
    """Images of a bar, left or right, with a level of noise that goes with it in labeled rows alone."""
    random = np.random.default_rng(seed)
    parts, first = [], []
    for size, crossed in ((200, False), (500, True), (150, True)):
        bar = np.arange(size) % 2
        level = random.permutation(bar) if crossed else bar
        images = 0.3 * np.ones((size, 1, 8, 8))
        images[bar == 0, :, :, :4] = images[bar == 1, :, :, 4:] = 0.7
        images += np.where(level, 0.25, 0.1)[:, None, None, None] * random.standard_normal(images.shape)
        parts.append(images.astype(np.float32))
        first.append(bar)
    return Problem(parts[0], first[0].astype(np.int64), parts[1], parts[2], (0, 1))


def test_a_level_of_noise_is_seen() -> None:
    found = scan(noise_levels())
    assert found.is_ambiguous
    assert abs(found.mix_rate.share - 0.5) < 0.12
    means = found.evidence.kinds[0].mean
    assert means is not None
    assert means.shape == (1, 8, 8)
    assert len(found.evidence.differences) == len(found.readings)


def test_fine_detail_is_the_mean_square_of_what_smoothing_takes_away() -> None:
    problem = noise_levels()
    _, detail = plain_features(problem)
    image = problem.labeled[0, 0].astype(np.float64)
    padded = np.pad(image, 1, mode="symmetric")
    smooth = sum(padded[i : i + 8, j : j + 8] for i in range(3) for j in range(3)) / 9
    cells = ((image - smooth) ** 2).reshape(4, 2, 4, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(detail.labeled[0], np.log(cells + 1e-6).ravel(), rtol=1e-3)


@pytest.mark.parametrize("columns", [6, 1100])
def test_leading_columns_are_principal_components(columns: int) -> None:
    random = np.random.default_rng(3)
    x = (random.standard_normal((60, 4)) @ random.standard_normal((4, columns))).astype(np.float32) + 5
    found = leading(x, 3)
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    truth = left[:, :3] * size[:3]
    signs = np.sign((found * truth).sum(axis=0))
    np.testing.assert_allclose(found * signs, truth, atol=1e-3 * size[0])
    assert not leading(np.ones((5, 2), np.float32)).any()


def test_kinds_of_features_weigh_alike_when_joined() -> None:
    random = np.random.default_rng(4)
    large, small = 100 * random.standard_normal((50, 60)), random.standard_normal((50, 3))
    found = joined([large.astype(np.float32), small.astype(np.float32)])
    assert found.shape == (50, 43)
    assert np.mean(found[:, :40] ** 2) == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(found[:, 40:], small / np.sqrt(np.mean(small**2)), rtol=1e-4)


@pytest.fixture(scope="module")
def settled() -> tuple[Problem, Scan]:
    problem, _, _ = two_features(0.5, seed=9)
    return problem, scan(problem)


def test_clusters_count_every_row_once(settled: tuple[Problem, Scan]) -> None:
    problem, found = settled
    totals = [
        sum(getattr(each, part) for each in found.clusters) for part in ("labeled", "unlabeled", "target")
    ]
    assert totals == [len(problem.labeled), len(problem.unlabeled), len(problem.target)]
    assert [sum(each.classes) for each in found.clusters] == [each.labeled for each in found.clusters]
    n, m = len(problem.labeled), len(problem.unlabeled)
    for each in found.clusters:
        assert each.medoid is not None
        assert all(found.cluster_of[n + m + row] == each.number for row in each.typical)
    unseen = [each for each in found.clusters if each.is_unseen]
    assert unseen
    assert all(each.labeled < 0.05 * (each.unlabeled + each.target) for each in unseen)


def test_the_medoid_is_the_target_row_nearest_to_the_middle(settled: tuple[Problem, Scan]) -> None:
    problem, found = settled
    whole = plain_features(problem)[0].all
    n, m = len(problem.labeled), len(problem.unlabeled)
    for each in found.clusters:
        mine = found.cluster_of == each.number
        target = np.flatnonzero(mine[n + m :])
        # Components of all columns keep distances.
        apart = ((problem.target[target] - whole[mine].mean(axis=0)) ** 2).sum(axis=1)
        assert each.medoid == target[apart.argmin()]


def test_the_summary_is_json_and_says_the_figures(settled: tuple[Problem, Scan]) -> None:
    _, found = settled
    plain = json.loads(json.dumps(found.summary()))
    assert plain["score"] == found.score
    assert plain["mix_rate"]["share"] == found.mix_rate.share
    assert len(plain["clusters"]) == len(found.clusters)
    assert plain["readings"][0]["name"] == "I"


def test_the_map_lies_in_the_unit_square_and_knows_its_rows(settled: tuple[Problem, Scan]) -> None:
    problem, found = settled
    evidence = found.evidence
    assert ((evidence.places >= 0) & (evidence.places <= 1)).all()
    ours = evidence.place_of < len(problem.labeled)
    assert (evidence.place_kinds[ours] == problem.labels[evidence.place_of[ours]]).all()
    assert {kind.code for kind in evidence.kinds} == {0, 1, None}


def test_the_same_seed_gives_the_same_scan() -> None:
    problem, _, _ = two_features(0.3, seed=11, rows=(100, 200, 60))
    assert scan(problem, seed=4).summary() == scan(problem, seed=4).summary()


def test_features_of_ones_own_are_taken_instead() -> None:
    problem, _, _ = two_features(0.5, seed=12, rows=(100, 200, 60))
    blind = [
        FeatureRows("first", *(part[:, :3] for part in (problem.labeled, problem.unlabeled, problem.target)))
    ]
    assert not scan(problem, blind).is_ambiguous


@pytest.mark.parametrize("rows", [(2, 1, 1), (50, 0, 20), (20, 20, 20)])
def test_sets_too_small_or_too_alike_are_no_alarm(rows: tuple[int, int, int]) -> None:
    parts = [np.ones((size, 3), dtype=np.float32) for size in rows]
    found = scan(Problem(parts[0], np.arange(rows[0]) % 2, parts[1], parts[2], (0, 1)))
    assert not found.is_ambiguous
    assert found.mix_rate.share == 0


def test_neighbours_count_the_rows_that_readings_of_a_part_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, cells, _ = two_features(0.5)
    n, m = len(problem.labels), len(problem.unlabeled)
    crossed = np.concatenate([cells[:, 0] != cells[:, 1], np.zeros(len(problem.target), dtype=bool)])
    few = np.flatnonzero(crossed)[:20]
    told = Contradiction(
        p_value=1e-9,
        balance=1.0,
        labeled=np.zeros(n, dtype=bool),
        rest=np.isin(np.arange(m + len(problem.target)), few),
        said=np.stack([cells[few, 0], cells[few, 1]]),
        fits=np.ones(2),
        view="a part",
        looked_at=np.ones(m + len(problem.target), dtype=bool),
        is_whole=False,
    )
    monkeypatch.setattr(scanning, "contradiction", lambda *given, **more: told)
    assert scan(problem).mix_rate.share == pytest.approx(0.5, abs=0.08)
    monkeypatch.setattr(scanning, "contradiction", lambda *given, **more: replace(told, is_whole=True))
    assert scan(problem).mix_rate.share == pytest.approx(20 / m, abs=0.02)
    # Rows that nobody looked at are counted neither way.
    half = np.arange(m + len(problem.target)) % 2 == 0
    seen = few[half[few]]
    told = replace(
        told,
        rest=np.isin(np.arange(len(half)), seen),
        said=np.stack([cells[seen, 0], cells[seen, 1]]),
        looked_at=half,
        is_whole=True,
    )
    share = len(seen) / half[:m].sum()
    assert scan(problem).mix_rate.share == pytest.approx(share, abs=0.01)


def test_target_rows_that_stand_in_for_unlabeled_ones_are_counted_once_and_called_what_they_are() -> None:
    problem, _, _ = two_features(0.5)
    found = scan(replace(problem, unlabeled=problem.target))
    assert "of the target rows" in found.sentences[0]
    assert "unlabeled" not in found.sentences[0]
    assert found.counted_unseen[0] == 0
    assert sum(kind.rows for kind in found.evidence.kinds if kind.code is None) == found.counted_unseen[1]
    assert found.counted_unseen[1] / 200 == pytest.approx(0.5, abs=0.1)
    assert all(each.unlabeled == 0 for each in found.clusters)
