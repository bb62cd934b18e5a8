"""Methods against scikit-learn, against counting, and in the cases where two of them must coincide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from headwater.errors import RequestError
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.methods import find_method, methods, parse_settings, plan
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.methods.reweighting import inverse_counts
from headwater.heads.methods.subsampling import balanced_subset
from headwater.heads.specs.head import LinearHead
from headwater.heads.tasks.task import Task


def fit_one(task: Task, name: str, seed: int = 0, **settings: Any) -> LinearHead:
    (fitted,) = run_recipes(task, [plan(task, name, settings, seed=seed)])
    assert fitted.convergence.converged
    return fitted.head


def reference(task: Task, rows: np.ndarray, weights: np.ndarray | None, l2: float) -> np.ndarray:
    """Class probabilities of scikit-learn's optimum on all rows, by another solver than ours."""
    scaler = StandardScaler().fit(task.features[task.splits["train"]].astype("f8"))
    x = scaler.transform(task.features.astype("f8"))
    weights = np.ones(len(rows)) if weights is None else weights / weights.mean()
    model = LogisticRegression(C=1 / (l2 * len(rows)), solver="newton-cg", tol=1e-10, max_iter=2000)
    model.fit(x[rows], task.target[rows], sample_weight=weights)
    return model.predict_proba(x)


def probabilities(task: Task, head: LinearHead) -> np.ndarray:
    logits = head.logits(task.features).astype("f8")
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponent / exponent.sum(axis=1, keepdims=True)


def naive_weights(codes: np.ndarray) -> np.ndarray:
    return np.array([1 / sum(other == code for other in codes) for code in codes])


@pytest.mark.parametrize("l2", [1e-3, 0.1])
def test_erm_is_scikit_learns_logistic_regression(task: Task, l2: float) -> None:
    found = probabilities(task, fit_one(task, "ERM", l2=l2))
    np.testing.assert_allclose(found, reference(task, task.splits["train"], None, l2), atol=3e-3)


@pytest.mark.parametrize(("name", "by"), [("RWY", "target"), ("RWG", "groups")])
def test_reweighting_is_scikit_learns_sample_weight(task: Task, name: str, by: str) -> None:
    train = task.splits["train"]
    weights = naive_weights(getattr(task, by)[train])
    found = probabilities(task, fit_one(task, name, l2=0.01))
    np.testing.assert_allclose(found, reference(task, train, weights, 0.01), atol=3e-3)
    assert np.abs(found - reference(task, train, None, 0.01)).max() > 0.02  # the weights did something


@pytest.mark.parametrize("by", ["class", "group"])
@pytest.mark.parametrize(
    ("name", "settings", "weight_of"),
    [
        ("SqrtReWeight", {}, lambda n: n**-0.5),
        ("CBLoss", {"beta": 0.9}, lambda n: (1 - 0.9) / (1 - 0.9**n)),
    ],
)
def test_counts_become_weights_as_published(
    task: Task, by: str, name: str, settings: dict[str, Any], weight_of: Callable[[int], float]
) -> None:
    (spec,) = next(plan(task, name, {"by": by, **settings}).recipe)
    of_train = (task.target if by == "class" else task.groups)[task.splits["train"]].tolist()
    expected = np.array([weight_of(of_train.count(code)) for code in of_train])
    found = spec.weights.values
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum())
    assert len(set(expected)) == len(set(of_train)) > 1


def test_the_effective_number_runs_from_erm_to_reweighting(task: Task) -> None:
    for beta, peer in ((0.0, "ERM"), (1 - 1e-12, "RWY")):
        found, expected = fit_one(task, "CBLoss", l2=0.01, beta=beta), fit_one(task, peer, l2=0.01)
        np.testing.assert_allclose(found.weight, expected.weight, atol=2e-3)
        np.testing.assert_allclose(found.bias, expected.bias, atol=2e-3)
    by_group = fit_one(task, "CBLoss", l2=0.01, beta=1 - 1e-12, by="group")
    np.testing.assert_allclose(by_group.weight, fit_one(task, "RWG", l2=0.01).weight, atol=2e-3)


def test_retraining_with_weights_is_asked_for_as_rwy_is(task: Task) -> None:
    assert next(plan(task, "ReWeightCRT").recipe) == next(plan(task, "RWY").recipe)


def test_retraining_on_samples_nears_reweighting_with_the_epochs(task: Task) -> None:
    (once,) = next(plan(task, "CRT", {"epochs": 1}, seed=4).recipe)
    counts, train = once.weights.values, task.splits["train"]
    assert counts.sum() == len(train)
    assert (counts == counts.round()).all()
    assert next(plan(task, "CRT", {"epochs": 1}, seed=4).recipe) == [once]
    assert next(plan(task, "CRT", {"epochs": 1}, seed=5).recipe) != [once]
    drawn = np.mean([next(plan(task, "CRT", {}, seed=s).recipe)[0].weights.values for s in range(50)], axis=0)
    expected = naive_weights(task.target[train])
    of_class = [drawn[task.target[train] == code].sum() / drawn.sum() for code in (0, 1)]
    assert of_class == pytest.approx([0.5, 0.5], abs=0.008)  # 75,500 draws; without balance 0.46 and 0.54
    # 500 epochs' draws of a row: their deviation is the root of their mean
    np.testing.assert_allclose(drawn / 10, expected * len(train) / 2, atol=6 * (1 / 500) ** 0.5)
    many, rwy = fit_one(task, "CRT", epochs=100_000, l2=0.1), fit_one(task, "RWY", l2=0.1)
    few = fit_one(task, "CRT", epochs=1, l2=0.1)
    assert np.abs(many.weight - rwy.weight).max() < 0.01
    assert np.abs(few.weight - rwy.weight).max() > 0.03


def test_three_classes_are_one_softmax(world: Callable[..., dict[str, Any]]) -> None:
    made = world()
    label = np.where(made["place"] == "land", made["class"], "seabird")
    task = Task.from_arrays(made["features"], label, split=made["split"])
    found = probabilities(task, fit_one(task, "RWY", l2=0.01))
    train = task.splits["train"]
    expected = reference(task, train, naive_weights(task.target[train]), 0.01)
    np.testing.assert_allclose(found, expected, atol=3e-3)


def test_inverse_counts_give_every_code_the_same_total() -> None:
    codes = np.array([4, 0, 0, 4, 4, 2])
    weights = inverse_counts(codes).values
    assert [weights[codes == code].sum() for code in (0, 2, 4)] == pytest.approx([1, 1, 1])


def test_a_balanced_subset_has_as_many_of_each_as_the_rarest() -> None:
    random = np.random.default_rng(0)
    rows = random.permutation(1000)[:120]
    codes = np.repeat([3, 0, 7, 5], [70, 8, 12, 30])
    seen = set()
    for _ in range(300):
        subset = balanced_subset(rows, codes, random).index
        assert len(set(subset)) == len(subset) == 32
        assert set(subset) <= set(rows)
        of_row = dict(zip(rows, codes, strict=True))
        assert np.unique([of_row[row] for row in subset], return_counts=True)[1].tolist() == [8, 8, 8, 8]
        seen |= set(subset)
    assert seen == set(rows)  # every row has its chance


@pytest.mark.parametrize(("name", "by"), [("SUBY", "target"), ("SUBG", "groups")])
def test_subsampling_trains_on_a_balanced_subset_of_train(task: Task, name: str, by: str) -> None:
    (spec,) = next(plan(task, name).recipe)
    codes = getattr(task, by)[spec.rows.index]
    counts = np.bincount(getattr(task, by)[task.splits["train"]])
    assert np.bincount(codes).tolist() == [counts.min()] * len(counts)
    assert set(spec.rows.index) <= set(task.splits["train"])
    assert spec.weights is None


def test_the_methods_coincide_where_all_groups_are_equal(world: Callable[..., dict[str, Any]]) -> None:
    made = world({"train": (20, 20, 20, 20), "val": (5, 5, 5, 5)})
    task = Task.from_arrays(made["features"], made["class"], made["place"], made["split"])
    expected = fit_one(task, "ERM", l2=0.01)
    for name in ("RWG", "RWY", "SUBG", "SUBY"):
        found = fit_one(task, name, l2=0.01)
        np.testing.assert_allclose(found.weight, expected.weight, atol=2e-3)
        np.testing.assert_allclose(found.bias, expected.bias, atol=2e-3)


def test_group_methods_help_the_worst_group(world: Callable[..., dict[str, Any]]) -> None:
    made = world(
        {"train": (400, 20, 20, 400), "val": (60, 60, 60, 60), "test": (300, 300, 300, 300)}, signal=0.5
    )
    task = Task.from_arrays(made["features"], made["class"], made["place"], made["split"])
    names = ("ERM", "RWG", "DFR-val")
    fitted = run_recipes(task, [plan(task, name) for name in names])
    rows = task.splits["test"]
    right = task.predict([each.head for each in fitted], rows) == task.target[rows]
    worst = {
        name: min(mine[task.groups[rows] == g].mean() for g in range(4))
        for name, mine in zip(names, right, strict=True)
    }
    assert worst["ERM"] + 0.1 < worst["RWG"]
    assert worst["ERM"] + 0.1 < worst["DFR-val"]


def test_standardisation_can_be_left_out(task: Task) -> None:
    (spec,) = next(plan(task, "ERM", {"standardise": "false"}).recipe)
    assert spec.scaler_rows is None
    (spec,) = next(plan(task, "ERM").recipe)
    assert spec.scaler_rows == task.rows("train")


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("DFR-vall", {}, "no method 'DFR-vall' (did you mean 'DFR-val'?)"),
        ("ERM", {"L_2": 1}, "ERM has no setting 'L_2' (did you mean 'l2'?)"),
        ("ERM", {"l2": "-1"}, "ERM cannot take l2 = '-1': input should be greater than or equal to 0"),
        ("ERM", {"l2": "nan"}, "ERM cannot take l2 = 'nan'"),
        ("ERM", {"max_iterations": 0}, "ERM cannot take max_iterations = 0"),
        ("DFR-val", {"C": "1,0"}, "DFR-val cannot take C = '1,0'"),
        ("DFR-val", {"C": ""}, "DFR-val cannot take C = ''"),
        ("DFR-val", {"penalty": "l3"}, "DFR-val cannot take penalty = 'l3': input should be 'l1' or 'l2'"),
        ("DFR-tr", {"scaler": "val"}, "DFR-tr has no setting 'scaler'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    task: Task, name: str, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RequestError) as error:
        plan(task, name, settings)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_come_as_text_or_as_values() -> None:
    method = find_method("dfr-val")
    assert parse_settings(method, {"C": "1, .3"}) == parse_settings(method, {"C": [1, 0.3]})
    assert parse_settings(method, {"C": 0.3}).model_dump()["C"] == (0.3,)
    assert parse_settings(method, {}).model_dump()["C"] == (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)


def _without_groups(task: Task, split: str) -> Task:
    groups = [
        "land" if name.endswith("land") else "water" for name in np.array(task.group_names)[task.groups]
    ]
    for row in task.splits[split][:3]:
        groups[row] = ""
    names = [""] * len(task.target)
    for name, rows in task.splits.items():
        for row in rows:
            names[row] = name
    return Task.from_arrays(task.features, task.target, {"place": groups}, names)


@pytest.mark.parametrize(
    ("name", "split"), [("RWG", "train"), ("SUBG", "train"), ("DFR-val", "val"), ("DFR-tr", "val")]
)
def test_a_method_that_lacks_group_labels_says_so(task: Task, name: str, split: str) -> None:
    partly = _without_groups(task, split)
    with pytest.raises(
        RequestError, match=f"{name} needs the group of every row in split '{split}', and 3 of"
    ):
        plan(partly, name)
    plan(partly, "ERM")
    plan(partly, "RWY")


def test_a_missing_split_class_or_group_is_said_before_any_work(world: Callable[..., dict[str, Any]]) -> None:
    made = world({"train": (10, 10, 10, 10), "test": (3, 3, 3, 3)})
    task = Task.from_arrays(made["features"], made["class"], made["place"], made["split"])
    with pytest.raises(RequestError, match="DFR-val needs rows in split 'val', and column 'split' has only"):
        plan(task, "DFR-val")
    with pytest.raises(RequestError, match="DFR-tr needs rows in split 'val'"):
        plan(task, "DFR-tr")
    plan(task, "DFR-tr", {"C": 0.1})  # nothing to tune, so val is not needed
    made = world({"train": (10, 0, 10, 10), "val": (3, 3, 3, 1)})
    task = Task.from_arrays(made["features"], made["class"], made["place"], made["split"])
    with pytest.raises(RequestError, match=r"SUBG needs at least 1 row.* 'landbird, water' has fewer"):
        plan(task, "SUBG")
    with pytest.raises(RequestError, match=r"DFR-val needs at least 2 row.* 'waterbird, water' has fewer"):
        plan(task, "DFR-val")
    plan(task, "DFR-val", {"C": 0.1})
    made = world({"train": (10, 10, 0, 0), "val": (3, 3, 3, 3)})
    task = Task.from_arrays(made["features"], made["class"], made["place"], made["split"])
    with pytest.raises(
        RequestError,
        match="ERM needs at least 1 row of every class in split 'train', and 'waterbird' has fewer",
    ):
        plan(task, "ERM")


def test_nothing_is_drawn_or_trained_by_planning(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeadBank, "train", lambda *_: pytest.fail("trained"))
    for name in methods():
        plan(task, name)
