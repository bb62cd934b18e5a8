"""The classifiers against scikit-learn's own checks, its logistic regression, and the methods below them."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from headwater.errors import RequestError
from headwater.heads import Task, find_method, fit
from headwater.heads.bank.head_bank import HeadBank
from headwater.heads.estimators import (
    AFR,
    DFR,
    ERM,
    JTT,
    RWG,
    RWY,
    SUBG,
    SUBY,
    GroupDRO,
    InvalidDataError,
    RobustClassifier,
    worst_group_score,
)

World = Callable[..., dict[str, Any]]
NAMED = (ERM, RWG, RWY, SUBG, SUBY, DFR, AFR, GroupDRO, JTT)

# Every class passes the whole suite. It is run here for the base, one that draws and one that chooses by rows
# held out; the others share all code with the base but their names and settings, which these checks look at.
SETTINGS_CHECKS = (
    "check_no_attributes_set_in_init",
    "check_estimators_overwrite_params",
    "check_get_params_invariance",
    "check_set_params",
    "check_estimators_pickle",
    "check_classifiers_train",
)


@pytest.mark.filterwarnings("ignore:.* was given none:UserWarning")
@parametrize_with_checks(
    [RobustClassifier(), DFR(C=(1.0, 0.1), subsets=2), AFR(gamma=(4.0, 8.0), strength=0.1)]
)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.filterwarnings("ignore:.* was given none:UserWarning")
@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pytest.param(estimator, check, id=f"{kind.__name__}-{check.func.__name__}")
        for kind in (ERM, RWG, RWY, SUBG, SUBY, GroupDRO, JTT)
        for estimator, check in estimator_checks_generator(kind())
        if check.func.__name__ in SETTINGS_CHECKS
    ],
)
def test_scikit_learns_checks_of_settings(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("kind", NAMED)
def test_the_parameters_are_the_methods_settings(kind: type) -> None:
    given = {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if name not in ("validation_fraction", "random_state", "device")
    }
    assert given == find_method(kind._method).defaults()  # type: ignore[attr-defined]


@pytest.mark.parametrize("classes", [2, 3])
def test_erm_is_logistic_regression(classes: int) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 6)) * np.linspace(0.3, 3, 6) + 1
    y = np.array(["x", "b", "q"])[
        (X @ random.normal(size=(6, classes)) + 2 * random.normal(size=(300, classes))).argmax(1)
    ]
    for l2 in (1e-3, 0.1):
        expected = LogisticRegression(C=1 / (l2 * len(y)), tol=1e-10, max_iter=10_000).fit(X, y)
        found = ERM(l2=l2, standardise=False).fit(X, y)
        assert found.classes_.tolist() == expected.classes_.tolist()
        assert found.coef_.shape == expected.coef_.shape
        np.testing.assert_allclose(found.coef_, expected.coef_, atol=2e-3)
        np.testing.assert_allclose(found.intercept_, expected.intercept_, atol=4e-3)
        np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-3)
        assert found.decision_function(X).shape == expected.decision_function(X).shape
        scaled = StandardScaler().fit(X)
        expected.fit(scaled.transform(X), y)
        on_raw = expected.coef_ / scaled.scale_
        np.testing.assert_allclose(ERM(l2=l2).fit(X, y).coef_, on_raw, atol=2e-3 * np.abs(on_raw).max())


def _parts(made: dict[str, Any], split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = made["split"] == split
    return made["features"][rows], made["class"][rows], made["place"][rows]


@pytest.mark.parametrize("kind", NAMED)
def test_the_head_is_the_methods(world: World, kind: Any) -> None:
    made = world()
    keep = made["split"] != "test"
    order = np.argsort(made["split"][keep], kind="stable")  # train rows, then val rows
    columns = {name: made[name][keep][order] for name in ("features", "class", "place", "split")}
    task = Task.from_arrays(
        columns["features"], columns["class"], {"place": columns["place"]}, columns["split"]
    )
    small = {"DFR": {"subsets": 3}, "AFR": {"gamma": (4.0, 8.0)}}.get(kind.__name__, {})
    expected = fit(task, method=kind._method, settings=small, seed=7).fitted
    X, y, groups = _parts(made, "train")
    found = kind(**small, random_state=7).fit(X, y, groups, val=_parts(made, "val"))
    np.testing.assert_allclose(found.head_.weight, expected.head.weight, atol=1e-6)
    np.testing.assert_allclose(found.coef_[0], expected.head.weight[1] - expected.head.weight[0], atol=1e-6)
    assert found.choices_ == expected.choices
    assert found.groups_.tolist() == list(task.group_names)
    assert found.convergence_.converged
    test, label, _ = _parts(made, "test")
    assert (found.predict(test) == np.array(task.classes)[expected.head.predict(test)]).all()
    assert found.score(test, label) == (found.predict(test) == label).mean()
    by_name = RobustClassifier(kind._method.lower(), settings=small, random_state=7)
    by_name.fit(X, y, groups, val=_parts(made, "val"))
    np.testing.assert_array_equal(by_name.coef_, found.coef_)


def test_a_method_that_learns_from_validation_rows_learns_from_those_given(world: World) -> None:
    X, y, groups = _parts(world(), "val")
    with pytest.warns(UserWarning, match="learns from validation data and was given none"):
        alone = DFR(subsets=3, random_state=0).fit(X, y, groups)
    twice = DFR(subsets=3, random_state=0).fit(X, y, groups, val=(X, y, groups))
    np.testing.assert_allclose(alone.coef_, twice.coef_, atol=1e-6)
    # groups are only needed where the method looks at them
    half = DFR(subsets=3, random_state=0).fit(X, y, val=(X, y, groups))
    np.testing.assert_allclose(half.coef_, alone.coef_, atol=1e-6)


def test_rows_are_held_out_by_group_to_choose_with(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, groups = _parts(world(), "train")
    seen: list[Task] = []
    monkeypatch.setattr(
        "headwater.heads.estimators.base.run_recipes", lambda task, *_, **__: (seen.append(task), 1 / 0)
    )
    for seed in (0, 0, 1):
        with pytest.raises(ZeroDivisionError):
            AFR(validation_fraction=0.25, random_state=seed).fit(X, y, groups)
    for task in seen:
        whole = np.bincount(task.groups)
        np.testing.assert_array_equal(task.group_counts("val"), np.round(0.25 * whole))
        np.testing.assert_array_equal(task.group_counts("val") + task.group_counts("train"), whole)
    assert seen[0].splits["val"].tolist() == seen[1].splits["val"].tolist() != seen[2].splits["val"].tolist()


def _by_hand(made: tuple[np.ndarray, ...], l2: float, folds: Any) -> float:
    X, y, groups = made
    scores = []
    for train, test in folds.split(X, y):
        head = RWG(l2=l2).fit(X[train], y[train], groups[train])
        right = head.predict(X[test]) == y[test]
        pairs = np.char.add(y[test], groups[test])
        scores.append(min(right[pairs == each].mean() for each in np.unique(pairs)))
    return float(np.mean(scores))


def test_a_grid_search_with_routed_groups_picks_what_brute_force_picks(world: World) -> None:
    made = _parts(world(counts={"train": (60, 20, 25, 70)}, signal=0.6), "train")
    folds, strengths = StratifiedKFold(3), [1e-4, 1e-2, 1.0, 30.0]
    expected = [_by_hand(made, l2, folds) for l2 in strengths]
    with config_context(enable_metadata_routing=True):
        scorer = make_scorer(worst_group_score).set_score_request(groups=True)
        search = GridSearchCV(
            RWG().set_fit_request(groups=True), {"l2": strengths}, scoring=scorer, cv=folds
        ).fit(made[0], made[1], groups=made[2])
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)
    assert len(set(expected)) > 1
    assert search.best_params_["l2"] == strengths[int(np.argmax(expected))]


def test_a_pipeline_under_cross_validation_gets_the_groups(world: World) -> None:
    X, y, groups = _parts(world(), "train")
    with config_context(enable_metadata_routing=True):
        line = make_pipeline(StandardScaler(), RWG(standardise=False).set_fit_request(groups=True))
        found = cross_validate(
            line, X, y, cv=StratifiedKFold(3), params={"groups": groups}, return_estimator=True
        )
    for (train, test), fitted, score in zip(
        StratifiedKFold(3).split(X, y), found["estimator"], found["test_score"], strict=True
    ):
        alone = RWG().fit(X[train], y[train], groups[train])
        assert (fitted.predict(X[test]) == alone.predict(X[test])).all()
        assert score == (alone.predict(X[test]) == y[test]).mean()


def test_tensors_and_frames_are_read_as_arrays_are(world: World) -> None:
    X, y, groups = _parts(world(), "train")
    codes, places = np.unique(y, return_inverse=True)[1], np.unique(groups, return_inverse=True)[1]
    expected = RWG().fit(X, codes, places)
    tensors = RWG().fit(torch.tensor(X), torch.tensor(codes), torch.tensor(places))
    np.testing.assert_array_equal(tensors.coef_, expected.coef_)
    scores = tensors.decision_function(torch.tensor(X, requires_grad=True))
    np.testing.assert_array_equal(scores, expected.decision_function(X))
    half = RWG().fit(torch.tensor(X).bfloat16(), codes, places)
    np.testing.assert_allclose(half.coef_, expected.coef_, atol=0.2)
    frame = pd.DataFrame(X, columns=[f"f{number}" for number in range(X.shape[1])])
    named = RWG().fit(frame, pd.Series(y), pd.DataFrame({"place": groups}))
    np.testing.assert_array_equal(named.coef_, expected.coef_)
    assert named.feature_names_in_.tolist() == list(frame.columns)
    assert named.groups_.tolist() == [
        "landbird, land",
        "landbird, water",
        "waterbird, land",
        "waterbird, water",
    ]
    # the class is part of the group already: crossing changes nothing
    np.testing.assert_array_equal(RWG().fit(X, codes, 2 * codes + places).coef_, expected.coef_)
    two = RWG().fit(X, codes, np.stack([places, codes], axis=1))
    np.testing.assert_array_equal(two.coef_, expected.coef_)


@pytest.mark.parametrize("labels", [[-1, 1], [3, 100], ["no", "yes"], [False, True], [0.0, 2.0]])
def test_labels_come_back_as_they_were_given(world: World, labels: list[Any]) -> None:
    X, y, _ = _parts(world(), "train")
    given = np.array(labels)[(y == "waterbird").astype(int)]
    found = ERM().fit(X, given)
    assert found.classes_.tolist() == labels
    assert found.predict(X).dtype == given.dtype
    assert found.score(X, given) == ERM().fit(X, y).score(X, y) > 0.8


def test_a_head_that_did_not_converge_warns_and_pickles(world: World) -> None:
    X, y, _ = _parts(world(), "train")
    with pytest.warns(ConvergenceWarning, match=r"ERM did not converge .* max_iterations, now 1"):
        found = ERM(l2=0, max_iterations=1).fit(X, y)
    assert not found.convergence_.converged
    assert found.n_iter_ == 1
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.predict_proba(X), found.predict_proba(X))
    assert clone(found).get_params() == {
        "l2": 0,
        "max_iterations": 1,
        "standardise": True,
        "random_state": None,
        "device": "auto",
    }


def test_the_seed_is_the_random_state(world: World) -> None:
    X, y, groups = _parts(world(), "train")
    by_number = SUBG(random_state=3).fit(X, y, groups)
    np.testing.assert_array_equal(SUBG(random_state=3).fit(X, y, groups).coef_, by_number.coef_)
    assert (SUBG(random_state=4).fit(X, y, groups).coef_ != by_number.coef_).any()
    state = np.random.RandomState(0)
    first, second = (SUBG(random_state=state).fit(X, y, groups).coef_ for _ in range(2))
    assert (first != second).any()


@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        (ERM(), {"y": np.array(["a"] * 40)}, "y has one class only, 'a'"),
        (ERM(), {"X": np.full((40, 3), np.nan)}, "contains NaN"),
        (ERM(), {"X": np.full((40, 3), np.inf)}, "contains infinity"),
        (ERM(), {"X": np.zeros((40, 3, 2))}, "Found array with dim 3"),
        (ERM(), {"y": np.linspace(0, 1, 40)}, "Unknown label type"),
        (ERM(), {"y": np.array([0] * 39 + [np.nan])}, "contains NaN"),
        (ERM(), {"y": np.zeros(39)}, "inconsistent numbers of samples"),
        (ERM(l2=-1), {}, "ERM cannot take l2 = -1"),
        (DFR(penalty="l3"), {}, "DFR-val cannot take penalty = 'l3'"),
        (RobustClassifier("DRF-val"), {}, "there is no method 'DRF-val' (did you mean 'DFR-val'?)"),
        (RobustClassifier(settings={"L2": 1}), {}, "ERM has no setting 'L2' (did you mean 'l2'?)"),
        (RWG(), {"groups": np.zeros(39)}, "for each of the 40 rows of X, and their shape is (39,)"),
        (RWG(), {"groups": np.linspace(0, 1, 40)}, "'groups' holds fractional numbers such as"),
        (RWG(), {"groups": [-1] * 5 + [0] * 35}, "the group of every row in split 'train', and 5 of 40"),
        (RWG(), {"groups": np.array([-1, 1] * 20)}, "code the groups as 0 and 1"),
        (RWG(), {"groups": np.arange(40)}, "column 'groups' has 40 values and makes 40 groups of 40 rows"),
        (AFR(), {"groups": np.array([0] + [1] * 39)}, "'0, 0' has not enough of them (at least 2)"),
        (AFR(validation_fraction=2), {}, "validation_fraction must lie between 0 and 1, not 2"),
        (ERM(random_state=-1), {}, "a seed must not be negative"),
        (DFR(), {"val": 3}, "val must be (X, y) or (X, y, groups)"),
        (DFR(), {"val": (np.zeros((4, 3)), [0, 1, 2, 0])}, "val has rows of 2, a class that y does not have"),
        (DFR(), {"val": (np.zeros((4, 2)), [0, 1, 1, 0])}, "X has 2 features, but DFR is expecting 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_one_sentence_before_any_training(
    kind: Any, given: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeadBank, "train", lambda *_: pytest.fail("trained"))
    good = {"X": np.random.default_rng(0).normal(size=(40, 3)), "y": np.array([0, 1] * 20)}
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the sentence is looked at below)
        kind.fit(**{**good, **given})
    assert sentence in str(error.value)
    if isinstance(error.value, RequestError):
        assert isinstance(error.value, InvalidDataError)
        assert "\n" not in str(error.value)


def test_the_worst_group_score_is_the_naive_one() -> None:
    random = np.random.default_rng(0)
    y, predicted = random.choice(["a", "b"], 60), random.choice(["a", "b", "c"], 60)
    groups = random.integers(0, 3, 60)
    expected = min(
        (predicted == y)[(y == label) & (groups == group)].mean() for label in "ab" for group in range(3)
    )
    assert worst_group_score(y, predicted, groups=groups) == pytest.approx(expected)
    by_class = min((predicted == y)[y == label].mean() for label in "ab")
    assert worst_group_score(y, predicted) == pytest.approx(by_class)


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (ERM(), {}, []),
        (RWY(), {}, []),
        (RWG(), {}, ["RWG is a method for groups and was given none, so its groups are the classes"]),
        (RWG(), {"groups": True}, []),
        (DFR(C=1.0, subsets=2, penalty="l2"), {"groups": True}, ["DFR-val learns from validation data"]),
        (
            DFR(C=1.0, subsets=2, penalty="l2"),
            {},
            ["DFR-val is a method for groups", "so it learns from the rows of X"],
        ),
        (DFR(C=1.0, subsets=2, penalty="l2"), {"val": True}, []),
    ],
)
def test_what_a_method_has_to_do_without_is_said(
    kind: Any, given: dict[str, bool], said: list[str], world: World, recwarn: pytest.WarningsRecorder
) -> None:
    X, y, groups = _parts(world(), "train")
    more: dict[str, Any] = {"groups": groups} if "groups" in given else {}
    if "val" in given:
        more["val"] = _parts(world(), "val")
    kind.fit(X, y, **more)
    ours = [each for each in recwarn if each.category is UserWarning]
    assert len(ours) == len(said)
    for warning, sentence in zip(ours, said, strict=True):
        assert sentence in str(warning.message)
        assert warning.filename == __file__
