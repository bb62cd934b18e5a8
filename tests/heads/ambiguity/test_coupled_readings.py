"""Readings by coupled heads of labels on which two features agree, where the features are known."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.errors import RequestError
from headwater.heads.ambiguity.coupled_readings import coupled_readings, relabelings, unit_components
from headwater.heads.ambiguity.problem import Reading

DIM, ROWS = 12, {"labeled": 150, "unlabeled": 300, "target": 200}


def made(mix_rate: float, classes: int = 2) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Features by split, and cells (rows, 2): the sum of a centre for each feature's code, and noise."""
    random = np.random.default_rng(0)
    centres = 3 * np.linalg.qr(random.normal(size=(DIM, 2 * classes)))[0].T
    x, cells = {}, {}
    for split, rows in ROWS.items():
        one = np.arange(rows) % classes
        crossed = random.random(rows) < (0 if split == "labeled" else mix_rate)
        other = np.where(crossed, (one + random.integers(1, classes, rows)) % classes, one)
        noise = 0.4 * random.normal(size=(rows, DIM))
        x[split] = (centres[one] + centres[classes + other] + noise).astype(np.float32)
        cells[split] = np.stack([one, other], axis=1)
    return x, cells


def joined(x: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([x[split] for split in ROWS])


def read(mix_rate: float, classes: int = 2, **more: object) -> tuple[list[Reading], dict[str, np.ndarray]]:
    x, cells = made(mix_rate, classes)
    given = {"starts": 2, "mix_rates": (0.1, 0.5), **more}
    labels = cells["labeled"][:, 0]
    return coupled_readings(joined(x), labels, ROWS["target"], classes, **given), cells  # type: ignore[arg-type]


def best(readings: list[Reading], cells: np.ndarray, feature: int) -> Reading:
    crossed = cells[:, 0] != cells[:, 1]
    return max(
        readings,
        key=lambda each: (each.target[crossed].argmax(1) == cells[crossed, feature]).mean(),
    )


def right(reading: Reading, cells: np.ndarray, feature: int) -> float:
    crossed = cells[:, 0] != cells[:, 1]
    return float((reading.target[crossed].argmax(1) == cells[crossed, feature]).mean())


@pytest.mark.parametrize(("mix_rate", "classes"), [(0.1, 2), (0.5, 2), (0.5, 3)])
def test_both_features_are_among_the_readings_and_fit_rows_kept_apart(mix_rate: float, classes: int) -> None:
    readings, cells = read(mix_rate, classes, kinds=("DivDis", "ACE"))
    for feature in (0, 1):
        found = best(readings, cells["target"], feature)
        assert right(found, cells["target"], feature) > 0.97
        assert found.unlabeled.shape == (300, classes)
        np.testing.assert_allclose(found.target.sum(1), 1, atol=1e-5)
    assert min(each.error for each in readings) == 0


def test_one_call_is_like_another_and_another_seed_is_not() -> None:
    first, _ = read(0.5, kinds=("DivDis",))
    again, _ = read(0.5, kinds=("DivDis",))
    other, _ = read(0.5, kinds=("DivDis",), seed=1)
    assert [each.origin for each in first] == [each.origin for each in again]
    assert all((one.target == two.target).all() for one, two in zip(first, again, strict=True))
    assert any((one.target != two.target).any() for one, two in zip(first, other, strict=True))


def test_answers_tell_the_first_head_what_it_is() -> None:
    _, cells = made(0.5)
    crossed = np.flatnonzero(cells["target"][:, 0] != cells["target"][:, 1])[:4]
    for feature in (0, 1):
        answers = {int(item): int(cells["target"][item, feature]) for item in crossed}
        readings, _ = read(0.5, kinds=("DivDis", "ACE"), answers=answers)
        firsts = [each for each in readings if each.origin.endswith("head 1")]
        assert len(firsts) == len(readings) / 2
        assert min(right(each, cells["target"], feature) for each in firsts) > 0.95


def test_clusters_are_classed_in_every_way() -> None:
    x, cells = made(0.5)
    rest = np.concatenate([cells["unlabeled"], cells["target"]])
    clusters = np.where(rest[:, 0] == rest[:, 1], -1, rest[:, 0])
    assert {name.removeprefix("clusters as ") for name in relabelings(clusters, 2)} == {
        "0 0", "0 1", "1 0", "1 1",
    }  # fmt: skip
    readings = coupled_readings(
        joined(x), cells["labeled"][:, 0], ROWS["target"], 2, kinds=(), clusters=clusters
    )
    assert len(readings) == 4
    by_name = {each.origin.split(",")[0]: each for each in readings}
    assert right(by_name["clusters as 0 1"], cells["target"], 0) > 0.97
    assert right(by_name["clusters as 1 0"], cells["target"], 1) > 0.97
    assert len(relabelings(np.arange(40), 3)) == 64


def test_leading_components_keep_distances_up_to_one_scale() -> None:
    x = np.random.default_rng(0).normal(size=(50, 6)) @ np.random.default_rng(1).normal(size=(6, 20)) + 7
    z = unit_components(x.astype(np.float32), most=6)
    assert z.shape == (50, 6)
    assert float((z**2).sum(1).mean()) == pytest.approx(1, rel=1e-4)
    ratio = np.linalg.norm(x[1:] - x[:-1], axis=1) / np.linalg.norm(z[1:] - z[:-1], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


def test_unknown_kinds_and_mix_rates_are_refused() -> None:
    with pytest.raises(RequestError, match="no kind of coupled heads 'BAT'; there are DivDis, ACE"):
        read(0.5, kinds=("BAT",))
    with pytest.raises(RequestError, match="a mix rate is a share of rows"):
        read(0.5, mix_rates=(0.0,))
