import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from headwater.heads.ambiguity.committee import components, pair_readings
from headwater.heads.ambiguity.pairs import adapted, assigned, cell_shares, estimated_rate
from headwater.heads.ambiguity.problem import Problem, Reading

Codes = NDArray[np.int64]


def crossed(
    n: int, mix_rate: float, classes: int = 2, seed: int = 0, dim: int = 6
) -> tuple[Problem, Codes, Codes]:
    """Vectors of two halves that each say a feature, and the cells of unlabeled and target rows."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((2, classes, dim)) * 2.5

    def rows(count: int, rate: float) -> tuple[NDArray[np.float32], Codes]:
        a = random.integers(0, classes, count)
        b = np.where(random.random(count) < rate, (a + random.integers(1, classes, count)) % classes, a)
        x = np.concatenate([centres[0, a], centres[1, b]], axis=1)
        return (x + random.standard_normal(x.shape)).astype(np.float32), np.stack([a, b], axis=1)

    (labeled, cells), (unlabeled, ours), (target, theirs) = (
        rows(n, 0),
        rows(3 * n, mix_rate),
        rows(n, mix_rate),
    )
    problem = Problem(labeled, cells[:, 0], unlabeled, target, tuple(range(classes)))
    return problem, ours, theirs


def test_cell_shares_are_those_of_a_mix_rate() -> None:
    shares = cell_shares(torch.tensor([0.3, 1.0]), 3).view(3, 3, 2)
    torch.testing.assert_close(shares.sum((0, 1)), torch.ones(2))
    torch.testing.assert_close(shares[..., 0].diagonal().sum(), torch.tensor(0.7))
    torch.testing.assert_close(shares[0, 1, 0], torch.tensor(0.05))
    assert shares[..., 1].diagonal().sum() == 0


def test_assigned_rows_fill_every_cell_to_its_share() -> None:
    torch.manual_seed(0)
    scores = torch.randn(40, 4, 2)
    shares = cell_shares(torch.tensor([0.2, 0.7]), 2)
    q = assigned(scores, shares, rounds=200)
    torch.testing.assert_close(q.sum(1), torch.ones(40, 2))
    torch.testing.assert_close(q.mean(0), shares, atol=1e-4, rtol=1e-3)
    # Scaling rows and columns leaves the ratios of ratios as they were.
    odds = [table - table[:1] - table[:, :1] + table[:1, :1] for table in (scores, q.log())]
    torch.testing.assert_close(odds[0], odds[1], atol=1e-3, rtol=1e-3)


def test_the_mix_rate_is_what_mistakes_leave() -> None:
    # Of rows like labeled ones a share e is mistaken, of crossed rows, a share m of all, none is missed.
    m, e = torch.tensor([0.1, 0.5, 1.0]), torch.tensor([0.4, 0.0, 0.3])
    torch.testing.assert_close(estimated_rate(e, m + (1 - m) * e), m)
    assert estimated_rate(torch.tensor(0.3), torch.tensor(0.2)) == 0


def test_rates_fall_only_where_disagreement_is_mistaken() -> None:
    rates = torch.tensor([0.8, 0.8, 0.8])
    after = adapted(rates, torch.tensor([0.0, 0.2, 0.1]), torch.tensor([0.3, 0.2, 0.2]))
    assert after[0] == pytest.approx(0.8)
    assert after[1] == pytest.approx(0.4)
    assert after[1] < after[2] < after[0]


def square(n: int, mix_rate: float, seed: int = 0) -> tuple[Problem, Codes, Codes]:
    """Points of the square [-1, 1]², a feature the sign of each coordinate; cells as above."""
    random = np.random.default_rng(seed)

    def rows(count: int, rate: float) -> tuple[NDArray[np.float32], Codes]:
        a = random.integers(0, 2, count)
        cells = np.stack([a, np.where(random.random(count) < rate, 1 - a, a)], axis=1)
        return (random.random((count, 2)) * (2 * cells - 1)).astype(np.float32), cells

    (labeled, cells), (unlabeled, ours), (target, theirs) = rows(n, 0), rows(n, mix_rate), rows(n, mix_rate)
    return Problem(labeled, cells[:, 0], unlabeled, target, (0, 1)), ours, theirs


@pytest.mark.parametrize("classes", [2, 3])
def test_both_features_are_among_the_readings(classes: int) -> None:
    make = square(300, 0.5) if classes == 2 else crossed(300, 0.5, 3)
    problem, unlabeled, target = make
    readings = pair_readings(problem, mix_rates=(0.6,), seed=1, device="cpu")
    for cells, name in ((unlabeled, "unlabeled"), (target, "target")):
        said = [getattr(reading, name).argmax(axis=1) for reading in readings]
        for feature in range(2):
            assert max((codes == cells[:, feature]).mean() for codes in said) > 0.95
    for reading in readings:
        np.testing.assert_allclose(reading.target.sum(axis=1), 1, atol=1e-5)
        assert reading.error < 0.1


def test_the_same_seed_gives_the_same_readings() -> None:
    problem, _, _ = square(100, 0.5)
    first, again, other = (
        pair_readings(problem, mix_rates=(0.5,), seed=seed, device="cpu") for seed in (3, 3, 4)
    )
    assert np.array_equal(first[0].target, again[0].target)
    assert not np.array_equal(first[0].target, other[0].target)


def test_components_are_those_of_an_independent_library() -> None:
    random = np.random.default_rng(0)
    x = (random.standard_normal((50, 6)) * [5, 4, 3, 2, 1, 0]).astype(np.float32)
    found = components(x, 4, torch.device("cpu")).numpy()
    expected = PCA(4, whiten=True).fit_transform(x)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-3)
    assert components(x, 6, torch.device("cpu")).shape == (50, 5)


def test_every_view_is_read() -> None:
    problem, _, target = square(200, 0.5)
    every = np.concatenate([problem.labeled, problem.unlabeled, problem.target])
    random = np.random.default_rng(1)
    views = {"noise": random.standard_normal(every.shape).astype(np.float32), "rows": every}
    readings = pair_readings(problem, views=views, mix_rates=(0.5,), seed=0, device="cpu")
    right = {
        name: max(
            (r.target.argmax(axis=1) == target[:, 0]).mean() for r in readings if r.origin.startswith(name)
        )
        for name in views
    }
    assert right["rows"] > 0.95 > right["noise"]


def test_answers_and_a_refuted_reading_leave_the_other_feature() -> None:
    problem, unlabeled, target = crossed(200, 0.5)
    sure = np.eye(2, dtype=np.float32)
    wrong = Reading(sure[unlabeled[:, 0]], sure[target[:, 0]], 0.0, "first feature")
    items = np.flatnonzero(target[:, 0] != target[:, 1])[:3]
    readings = pair_readings(
        problem,
        answers={int(i): int(target[i, 1]) for i in items},
        wrong=wrong,
        mix_rates=(0.5,),
        seed=0,
        device="cpu",
    )
    for reading in readings[::2]:
        assert (reading.target.argmax(axis=1) == target[:, 1]).mean() > 0.9
