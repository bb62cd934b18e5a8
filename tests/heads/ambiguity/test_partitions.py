"""Self-consistent linear readings on worlds whose readings are known, and their algebra by brute force."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from headwater.heads.ambiguity import partitions
from headwater.heads.ambiguity.partitions import Partition, RidgeHead, linear_readings, self_consistent

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]


def world(
    *, classes: int = 2, mix_rate: float = 0.5, seed: int = 0, dim: int = 20, n: int = 150, rest: int = 500
) -> tuple[Floats, Codes, Codes]:
    """Rows of two features in a random basis, with noise: rows, labels, and the cells of the rows."""
    random = np.random.default_rng(seed)
    first = random.integers(0, classes, n + rest)
    moved = (first + random.integers(1, classes, n + rest)) % classes
    crossed = (np.arange(n + rest) >= n) & (random.random(n + rest) < mix_rate)
    cells = np.stack([first, np.where(crossed, moved, first)], axis=1)
    corners = np.linalg.qr(random.normal(size=(dim, 2 * classes)))[0].T.reshape(2, classes, dim)
    rows = (
        corners[0, cells[:, 0]] + 1.3 * corners[1, cells[:, 1]] + 0.12 * random.normal(size=(n + rest, dim))
    )
    return rows.astype(np.float32), cells[:n, 0], cells


def test_every_row_is_foretold_by_a_head_of_all_others() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(30, 4)).astype(np.float32)
    targets = random.random((30, 3, 2)).astype(np.float32)
    ours = RidgeHead(rows).foretell(targets)
    centred = (rows - rows.mean(axis=0)).astype(np.float64)
    design = np.column_stack([centred, np.full(30, np.sqrt((centred**2).mean()))])
    penalty = 0.01 * np.trace(design.T @ design) / 5
    for row in range(30):
        left = np.delete(np.arange(30), row)
        solved = np.linalg.solve(
            design[left].T @ design[left] + penalty * np.eye(5), design[left].T @ targets[left].reshape(29, 6)
        )
        np.testing.assert_allclose(ours[row].ravel(), design[row] @ solved, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mix_rate", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_both_features_are_among_the_readings(classes: int, mix_rate: float) -> None:
    rows, labels, cells = world(classes=classes, mix_rate=mix_rate)
    readings = linear_readings({"rows": rows}, labels, 200)
    for feature in range(2):
        right = [(each.target.argmax(axis=1) == cells[-200:, feature]).mean() for each in readings]
        assert max(right) > 0.98
    assert all(each.error < 0.02 for each in readings)
    assert all(each.unlabeled.shape == (300, classes) for each in readings)
    assert {each.origin for each in readings} == {"linear head on rows"}


def test_without_a_second_feature_there_is_one_reading() -> None:
    rows, labels, cells = world(mix_rate=0.0)
    (only,) = linear_readings({"rows": rows}, labels, 200)
    assert (only.target.argmax(axis=1) == cells[-200:, 0]).all()


def test_partitions_are_those_that_heads_of_the_other_rows_foretell() -> None:
    rows, labels, _ = world(seed=3)
    found = self_consistent(rows, (np.arange(150), labels))
    assert sum(each.found for each in found) == 128
    assert [each.squared_error for each in found] == sorted(each.squared_error for each in found)
    for each in found[:2]:
        assert (each.codes[:150] == labels).all()
        assert (each.scores.argmax(axis=1) == each.codes).mean() > 0.99
        wanted = np.eye(2)[each.codes]
        assert each.squared_error == pytest.approx(((each.scores - wanted) ** 2).mean(), rel=1e-4)
        assert each.error == pytest.approx((each.scores[:150].argmax(axis=1) != labels).mean())


def test_no_two_readings_are_alike_whatever_features_they_are_from() -> None:
    rows, labels, _ = world()
    once = linear_readings({"rows": rows}, labels, 200)
    twice = linear_readings({"rows": rows, "again": 2 * rows}, labels, 200)
    assert len(once) == len(twice)
    said = [np.concatenate([each.unlabeled, each.target]).argmax(axis=1) for each in twice]
    for k, each in enumerate(said):
        assert all((each == other).mean() <= 0.97 for other in said[:k])


def test_answers_leave_only_readings_that_agree_with_them() -> None:
    rows, labels, cells = world()
    crossed = np.flatnonzero(cells[-200:, 0] != cells[-200:, 1])
    answers = {int(item): int(cells[-200 + item, 1]) for item in crossed[:40]}
    readings = linear_readings({"rows": rows}, labels, 200, answers=answers)
    best = min(readings, key=lambda each: each.error)
    assert (best.target.argmax(axis=1) == cells[-200:, 1]).mean() > 0.98


def test_readings_are_the_same_with_the_same_seed() -> None:
    rows, labels, _ = world()
    first, second = (linear_readings({"rows": rows}, labels, 200, seed=4) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.target, other.target)


def test_probabilities_are_those_of_normal_scatter_around_the_corners() -> None:
    scores = np.array([[0.9, 0.1], [0.4, 0.6]], dtype=np.float32)
    partition = Partition(np.array([0, 1]), scores, squared_error=0.2, error=0.0, found=1)
    corners = np.eye(2)
    density = np.exp(-((scores[:, None] - corners) ** 2).sum(axis=2) / (2 * 0.2))
    normal = density / density.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(partition.probabilities, 0.98 * normal + 0.01, rtol=1e-5)


def test_rows_between_classes_are_torn() -> None:
    leads = np.linspace(-1, 1, 201)
    scores = np.column_stack([(1 + leads) / 2, (1 - leads) / 2]).astype(np.float32)
    partition = Partition(scores.argmax(axis=1), scores, squared_error=0.2, error=0.0, found=1)
    assert partition.torn_among(np.arange(201)) == pytest.approx((np.abs(leads) < 0.3).mean(), abs=0.011)
    assert partition.torn_among(np.array([0, 1, 200])) == 0
    assert partition.squared_error_among(np.array([0, 50])) == pytest.approx((0 + 0.25**2) / 2, abs=1e-6)


def test_the_true_readings_cut_between_rows() -> None:
    rows, labels, cells = world()
    true = [
        each
        for each in linear_readings({"rows": rows}, labels, 200)
        if ((each.target.argmax(axis=1)[:, None] == cells[-200:]).mean(axis=0) > 0.97).any()
    ]
    assert len(true) == 2
    assert all(each.torn < 0.02 and each.squared_error < 0.1 for each in true)


def test_wide_features_are_used_beyond_the_leading_ones() -> None:
    rows, labels, cells = world(dim=120, n=300, rest=900)
    found = linear_readings({"rows": rows}, labels, 200)
    assert max((each.target.argmax(axis=1) == cells[-200:, 0]).mean() for each in found) > 0.97


def test_fewer_rows_than_clusters() -> None:
    rows, labels, _ = world(n=12, rest=8)
    readings = linear_readings({"rows": rows}, labels, 3, starts=16)
    assert readings
    assert readings[0].target.shape == (3, 2)


def test_without_faiss_there_are_the_same_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels, cells = world()
    monkeypatch.setitem(sys.modules, "faiss", None)
    found = [each.target.argmax(axis=1) for each in linear_readings({"rows": rows}, labels, 200)]
    for feature in range(2):
        assert max((said == cells[-200:, feature]).mean() for said in found) > 0.97


def test_of_many_rows_a_sample_is_trained_on_and_foretells_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, labels, cells = world(rest=2000)
    usual = linear_readings({"rows": rows}, labels, 200, seed=1)
    seen: list[int] = []
    known: list[Floats] = []

    def counted(features: Floats, fixed: tuple[Codes, Codes], **more: int) -> list[Partition]:
        seen.append(len(features))
        known.append(features[fixed[0]])
        return self_consistent(features, fixed, starts=more["starts"], seed=more["seed"])

    monkeypatch.setattr(partitions, "self_consistent", counted)
    monkeypatch.setattr(partitions, "_MOST_ROWS", 2150)
    same = linear_readings({"rows": rows}, labels, 200, seed=1)
    for one, other in zip(usual, same, strict=True):
        np.testing.assert_array_equal(one.target, other.target)
    monkeypatch.setattr(partitions, "_MOST_ROWS", 400)
    some = linear_readings({"rows": rows}, labels, 200, answers={7: int(cells[-193, 0])}, seed=1)
    assert seen == [2150, 400]
    np.testing.assert_array_equal(known[1], rows[[*range(150), 1957]])
    for feature in range(2):
        right = [(each.target.argmax(axis=1) == cells[-200:, feature]).mean() for each in some]
        assert max(right) > 0.98
    assert some[0].unlabeled.shape == (1800, 2)
    monkeypatch.setattr(partitions, "_MOST_ROWS", 200)
    labels[149] = 2  # of the only row of its class
    assert linear_readings({"rows": rows}, labels, 200)[0].target.shape == (200, 3)
    assert seen[-1] == 200
