"""DFR against a plain implementation of the published protocol in scikit-learn, on the same subsets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.methods import plan
from headwater.heads.methods.dfr import halved
from headwater.heads.methods.recipes import FittedHead, run_recipes
from headwater.heads.specs.head import LinearHead
from headwater.heads.specs.spec import HeadSpec
from headwater.heads.tasks.task import Task

STRENGTHS = (1.0, 0.3, 0.1, 0.03)


class Recorder:
    """The real bank, keeping what was asked for in each round."""

    def __init__(self, task: Task) -> None:
        self.bank = HeadBank(task.features, task.target, len(task.classes))
        self.rounds: list[list[HeadSpec]] = []

    def train(self, specs: Sequence[HeadSpec]) -> list[LinearHead]:
        self.rounds.append(list(specs))
        return self.bank.train(specs)


def run(task: Task, name: str, **settings: object) -> tuple[FittedHead, list[list[HeadSpec]]]:
    recorder = Recorder(task)
    (fitted,) = run_recipes(
        task, [plan(task, name, {"C": STRENGTHS, "penalised_intercept": True, **settings})], bank=recorder
    )
    return fitted, recorder.rounds


def sparse(x: np.ndarray, y: np.ndarray, c: float) -> LogisticRegression:
    """The published solver, which penalises the intercept."""
    model = LogisticRegression(C=c, l1_ratio=1.0, solver="liblinear", tol=1e-8, max_iter=10_000)
    return model.fit(x, y)


def worst(model: LogisticRegression, x: np.ndarray, y: np.ndarray, g: np.ndarray) -> float:
    right = model.predict(x) == y
    return min(right[g == each].mean() for each in np.unique(g))


def balanced(task: Task, rows: np.ndarray, size: int) -> bool:
    return np.bincount(task.groups[rows]).tolist() == [size] * len(task.group_names)


@pytest.mark.parametrize("scaler_split", ["train", "val"])
def test_dfr_val_is_the_published_protocol(task: Task, scaler_split: str) -> None:
    fitted, (tuning, final) = run(task, "DFR-val", subsets=4, scaler=scaler_split)
    x, y, g = task.features.astype("f8"), task.target, task.groups
    val = task.splits["val"]

    # Tuning: one balanced subset of one half, every C, the scaler of that subset, the other half to choose
    # by.
    subset = tuning[0].rows.index
    assert [spec.rows.index.tolist() for spec in tuning] == [subset.tolist()] * len(STRENGTHS)
    assert set(subset) <= set(val)
    assert balanced(task, subset, len(subset) // 4)
    train_half, held_out = halved(val, g[val], np.random.default_rng([0, _crc("DFR-val")]).spawn(2)[0])
    assert set(subset) <= set(train_half)
    assert not set(subset) & set(held_out)
    assert abs(len(train_half) - len(held_out)) <= 1
    assert set(train_half) | set(held_out) == set(val)
    scaler = StandardScaler().fit(x[subset])
    scores = []
    for c in STRENGTHS:
        model = sparse(scaler.transform(x[subset]), y[subset], c)
        scores.append(worst(model, scaler.transform(x[held_out]), y[held_out], g[held_out]))
    chosen = STRENGTHS[int(np.argmax(scores))]
    assert fitted.choices["C"] == chosen
    assert fitted.choices["tuning_worst_group"] == pytest.approx(max(scores))

    # Final: balanced subsets of all of val, coefficients and intercepts averaged.
    assert len(final) == 4
    assert len({tuple(spec.rows.index) for spec in final}) == 4
    scaler = StandardScaler().fit(x[task.splits[scaler_split]])
    models = []
    for spec in final:
        assert set(spec.rows.index) <= set(val)
        assert balanced(task, spec.rows.index, np.bincount(g[val]).min())
        models.append(sparse(scaler.transform(x[spec.rows.index]), y[spec.rows.index], chosen))
    _same(fitted.head, scaler, models)


def test_dfr_tr_is_the_published_protocol(task: Task) -> None:
    fitted, (tuning, final) = run(task, "DFR-tr", subsets=3)
    x, y, g = task.features.astype("f8"), task.target, task.groups
    train, val = task.splits["train"], task.splits["val"]
    scaler = StandardScaler().fit(x[train])
    scores = []
    for spec, c in zip(tuning, STRENGTHS, strict=True):
        rows = spec.rows.index
        assert set(rows) <= set(train)
        assert balanced(task, rows, np.bincount(g[train]).min())
        scores.append(
            worst(sparse(scaler.transform(x[rows]), y[rows], c), scaler.transform(x[val]), y[val], g[val])
        )
    chosen = STRENGTHS[int(np.argmax(scores))]
    assert fitted.choices["C"] == chosen
    assert all(balanced(task, spec.rows.index, np.bincount(g[train]).min()) for spec in final)
    models = [sparse(scaler.transform(x[spec.rows.index]), y[spec.rows.index], chosen) for spec in final]
    assert len(models) == 3
    _same(fitted.head, scaler, models)


def _same(head: LinearHead, scaler: StandardScaler, models: list[LogisticRegression]) -> None:
    coefficients = np.mean([model.coef_[0] for model in models], axis=0)
    intercept = np.mean([model.intercept_[0] for model in models])
    found = (head.weight[1] - head.weight[0]).astype("f8")
    np.testing.assert_allclose(found * scaler.scale_, coefficients, atol=1e-4 * np.abs(coefficients).max())
    np.testing.assert_allclose(head.bias[1] - head.bias[0] + found @ scaler.mean_, intercept, atol=1e-4)


def _crc(name: str) -> int:
    import zlib

    return zlib.crc32(name.encode())


def test_one_c_is_used_without_tuning_and_on_the_same_subsets(task: Task) -> None:
    fitted, rounds = run(task, "DFR-val", C=0.1, subsets=3)
    assert len(rounds) == 1
    assert dict(fitted.choices) == {"C": 0.1}
    _, (_, final) = run(task, "DFR-val", subsets=3)
    assert [spec.rows for spec in rounds[0]] == [spec.rows for spec in final]


def test_several_halvings_are_tuned_over_together(task: Task) -> None:
    _, (tuning, _) = run(task, "DFR-val", subsets=1, halvings=3)
    assert len(tuning) == 3 * len(STRENGTHS)
    assert len({spec.rows for spec in tuning}) == 3


def test_the_penalty_is_scikit_learns_c(task: Task) -> None:
    _, (tuning, _) = run(task, "DFR-val", subsets=1)
    for spec, c in zip(tuning, STRENGTHS, strict=True):
        assert spec.penalty.l1 == pytest.approx(1 / (c * len(spec.rows)))
        assert spec.penalty.l2 == 0
        assert spec.penalty.bias
    _, (tuning, _) = run(task, "DFR-val", subsets=1, penalty="l2")
    assert tuning[0].penalty.l1 == 0
    assert tuning[0].penalty.l2 == pytest.approx(1 / len(tuning[0].rows))


@pytest.mark.parametrize("sizes", [(30, 41), (3, 2, 2, 2, 3, 2), (2, 2)])
def test_both_halves_have_every_group(sizes: tuple[int, ...]) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.random.default_rng(1).permutation(500)[: len(groups)]
    for seed in range(50):
        one, other = halved(rows, groups, np.random.default_rng(seed))
        assert sorted([*one, *other]) == sorted(rows)
        of_row = dict(zip(rows, groups, strict=True))
        assert {of_row[row] for row in one} == {of_row[row] for row in other} == set(groups)


def test_the_intercept_is_free_unless_asked_and_a_ridge_never_penalises_it(task: Task) -> None:
    def penalties(**settings: object) -> set[bool]:
        recorder = Recorder(task)
        run_recipes(task, [plan(task, "DFR-tr", {"C": STRENGTHS, **settings})], bank=recorder)
        return {spec.penalty.bias for round_ in recorder.rounds for spec in round_}

    assert penalties() == {False}
    assert penalties(penalised_intercept=True) == {True}
    assert penalties(penalised_intercept=True, penalty="l2") == {False}
