"""Fitting on a store and evaluating the saved head: the same numbers as by hand, refusals before any work."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headwater as hw
from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.heads import HeadBank, HeadInfo, Task, evaluate, fit, fit_many, load_head, sweep
from headwater.heads.evaluation import measured
from headwater.store import annotate, open_store, set_levels

Store = Callable[..., Path]


def test_a_saved_head_measures_as_it_did_when_fitted(store_at: Store, tmp_path: Path) -> None:
    path, out = store_at(), tmp_path / "head.safetensors"
    result = hw.heads.fit(
        path, target="class", groups=["place"], method="RWG", settings={"l2": 0.01}, out=out
    )
    report = hw.heads.evaluate(out, path, "test")
    assert report.to_dict() == result.reports["test"].to_dict() == result.info.summary["test"]
    store, (head, info) = open_store(path), load_head(out)
    rows = Task.from_store(store, "class", ("place",)).splits["test"]
    named = [info.classes[code] for code in head.predict(store.features[rows])]
    right = np.array(named) == np.array(store.annotations["class"].texts())[rows]
    place = np.array(store.annotations["place"].texts())[rows]
    label = np.array(store.annotations["class"].texts())[rows]
    assert report.overall == pytest.approx(right.mean())
    for group in report.by_group:
        mine = np.array([f"{c}, {p}" for c, p in zip(label, place, strict=True)]) == group.name
        assert (group.count, group.correct) == (mine.sum(), right[mine].sum())
    train = Task.from_store(store, "class", ("place",)).group_counts("train")
    expected = sum(n * g.correct / g.count for n, g in zip(train, report.by_group, strict=True)) / train.sum()
    assert report.train_weighted == pytest.approx(expected)
    assert (info.store_fingerprint, info.store_path) == (store.fingerprint, str(path))


def test_several_methods_are_what_each_is_alone(store_at: Store) -> None:
    path = store_at()
    methods = [("ERM", {}), ("SUBG", {"l2": 0.1}), ("DFR-val", {"C": [1, 0.1], "subsets": 3})]
    together = fit_many(path, methods=methods, groups=["place"], seed=5)
    for (name, settings), found in zip(methods, together, strict=True):
        alone = fit(path, groups="place", method=name, settings=settings, seed=5)
        np.testing.assert_allclose(found.head.weight, alone.head.weight, atol=2e-3)
        assert found.fitted.choices == alone.fitted.choices
        assert found.fitted.seed == 5


def test_groups_are_a_level_by_number_or_name_or_several_columns(store_at: Store) -> None:
    path = store_at()
    store = open_store(path)
    spots = zip(*(store.annotations[name].texts() for name in ("class", "place")), strict=True)
    annotate(path, {"path": store.keys.tolist(), "spot": [" on ".join(spot) for spot in spots]})
    set_levels(path, ("class", "spot"))
    named = fit(path, groups="spot")
    assert named.info.group_columns == ("spot",)
    for groups in (2, np.int64(2), [2], ("spot",), "2"):
        assert fit(path, target=1, groups=groups).reports["test"].to_dict() == named.reports["test"].to_dict()
    (swept,) = sweep(path, target=1, groups=2, methods="ERM", draws=1, seeds=1).table.to_pylist()
    assert swept["test.worst_group"] == pytest.approx(named.reports["test"].worst_group.accuracy)
    for wrong, what in ((None, "None"), (2.0, "a float"), (["place", None], "None"), (True, "a bool")):
        sentence = f"groups are names of columns or numbers of levels, not {what}; leave them out"
        for ask in (fit, sweep):
            with pytest.raises(RequestError, match=sentence):
                ask(path, groups=wrong)  # type: ignore[operator]
    with pytest.raises(RequestError, match="level 7 is out of range; the levels are 1 to 2: class, spot"):
        fit(path, groups=7)


def test_the_split_without_rows_is_not_reported(store_at: Store) -> None:
    path = store_at(counts={"train": (9, 5, 5, 9), "test": (5, 5, 5, 5)})
    assert list(fit(path).reports) == ["test"]


def test_a_split_without_group_labels_is_reported_without_groups(store_at: Store) -> None:
    path = store_at()
    store = open_store(path)
    keys, place = store.keys.tolist(), store.annotations["place"].texts()
    test = [text == "test" for text in store.annotations["split"].texts()]
    hidden = [None if is_test else text for text, is_test in zip(place, test, strict=True)]
    annotate(path, {"path": keys, "place": hidden}, replace=True)
    result = fit(path, groups=["place"], method="RWG")
    summary = result.info.summary
    assert summary["val"]["worst_group"]["accuracy"] <= summary["val"]["balanced"]
    assert summary["test"]["overall"] == result.reports["test"].overall > 0.5
    assert summary["test"]["worst_group"] is summary["test"]["balanced"] is None


def test_what_more_iterations_would_not_help_is_said_instead(store_at: Store) -> None:
    path = store_at(signal=20.0)
    with pytest.warns(HeadwaterWarning, match=r"\(1 of 1 heads\): the rows can be separated") as caught:
        fit(path, method="ERM", settings={"l2": 0})
    assert not any("max_iterations" in str(each.message) for each in caught)


def test_a_head_that_did_not_converge_says_so(store_at: Store, tmp_path: Path) -> None:
    out = tmp_path / "head.safetensors"
    with pytest.warns(
        HeadwaterWarning, match=r"ERM did not converge \(1 of 1 heads\); raise its setting max_iter"
    ):
        result = fit(store_at(), settings={"l2": 0, "max_iterations": 1}, out=out)
    assert not result.fitted.convergence.converged
    head, info = load_head(out)
    assert not head.convergence.converged
    assert (info.trained, info.unconverged) == (1, 1)


def _evaluate_elsewhere(store_at: Store, tmp_path: Path, name: str, **other: Any) -> None:
    out = tmp_path / "head.safetensors"
    fit(store_at(), groups=["place"], out=out)
    evaluate(out, store_at("again.store"))  # the same recipe: another store will do
    evaluate(out, store_at(name, **other))


def test_a_store_of_other_features_is_refused(store_at: Store, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"takes 12 features and the store .* has 13") as error:
        _evaluate_elsewhere(store_at, tmp_path, "wide.store", dim=13)
    assert "\n" not in str(error.value)


def test_a_store_of_another_recipe_is_refused(store_at: Store, tmp_path: Path) -> None:
    other = {"backbone": "resnet50", "weights_sha256": "1" * 64}
    with pytest.raises(RequestError, match=r"trained on other features .* \(they differ in weights_sha256\)"):
        _evaluate_elsewhere(store_at, tmp_path, "other.store", recipe=other)


def test_an_annotation_that_is_gone_is_named(store_at: Store, tmp_path: Path) -> None:
    path, out = store_at(), tmp_path / "head.safetensors"
    fit(path, groups=["place"], out=out)
    with pytest.raises(RequestError, match="no rows are in split 'dev'"):
        evaluate(out, path, "dev")
    keys = open_store(path).keys.tolist()
    annotate(path, {"path": keys, "split": ["test"] * len(keys)}, replace=True)
    with pytest.warns(HeadwaterWarning, match="was fitted, tuned or standardised on rows of test"):
        assert evaluate(out, path).rows == len(keys) - 1  # one row failed
    from headwater.store import drop_annotations

    drop_annotations(path, ["place"])
    with pytest.raises(RequestError, match="no column 'place' for the group"):
        evaluate(out, path)


def test_a_wrong_request_is_refused_before_any_work(
    store_at: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store_at()
    monkeypatch.setattr(HeadBank, "train", lambda *_: pytest.fail("trained"))
    there = tmp_path / "there.safetensors"
    there.write_text("mine")
    for wanted, sentence in (
        ({"out": there}, "exists already"),
        ({"out": there / "x.safetensors"}, "is a file, so"),
        ({"out": tmp_path / "head.pth"}, r"named \*.safetensors"),
        ({"method": "DRF-val"}, "did you mean 'DFR-val'"),
        ({"settings": {"L2": 1}}, "did you mean 'l2'"),
        ({"target": "clas"}, "did you mean 'class'"),
        ({"seed": -1}, "must not be negative"),
    ):
        with pytest.raises(RequestError, match=sentence):
            fit(path, **wanted)  # type: ignore[arg-type]
    assert there.read_text() == "mine"
    (path / "shard-00000.h5").unlink()
    with pytest.raises(HeadwaterError, match="not finished"):
        fit(path)


def test_a_head_knows_on_which_splits_it_was_fitted_or_tuned(store_at: Store, tmp_path: Path) -> None:
    expected = {
        ("ERM", ()): ("train",),
        ("RWG", ()): ("train",),
        ("DFR-val", (("scaler", "train"),)): ("train", "val"),
        ("DFR-val", (("scaler", "val"),)): ("val",),
        ("DFR-tr", (("C", (1.0, 0.1)),)): ("train", "val"),
        ("DFR-tr", (("C", (1.0,)),)): ("train",),
        ("LLR-group", ()): ("train", "val"),
    }
    path = store_at()
    for place, ((name, settings), splits) in enumerate(expected.items()):
        out = tmp_path / f"{place}.safetensors"
        given = {**dict(settings), **({"subsets": 2, "penalty": "l2"} if name.startswith("DFR") else {})}
        fit(path, groups=["place"], method=name, settings=given, out=out)
        _, info = load_head(out)
        assert info.fitted_on == splits, name
        assert [bool(info.in_sample(split)) for split in ("train", "val", "test")] == [
            split in splits for split in ("train", "val", "test")
        ]
        if "val" in splits:
            with pytest.warns(HeadwaterWarning, match="figures on val are in sample"):
                evaluate(out, path, "val")
        else:
            evaluate(out, path, "val")  # a warning is an error here
        evaluate(out, path, "test")


def test_only_the_store_that_a_head_was_trained_on_is_in_sample(store_at: Store, tmp_path: Path) -> None:
    mine, other, out = store_at(), store_at("other.store", seed=1), tmp_path / "head.safetensors"
    assert open_store(mine).fingerprint == open_store(other).fingerprint
    settings = {"subsets": 2, "penalty": "l2"}
    info = fit(mine, groups=["place"], method="DFR-val", settings=settings, out=out).info
    shutil.copytree(mine, tmp_path / "copy.store")
    for same in (mine, tmp_path / "copy.store"):
        with pytest.warns(HeadwaterWarning, match="figures on val are in sample"):
            evaluate(out, same, "val")
        assert measured(out, same, "train")[1] == "fitted, tuned or standardised on rows of train"
    evaluate(out, other, "val")  # a warning is an error here
    report, why = measured(out, other, "train")
    assert not why
    assert report.rows == open_store(other).annotations["split"].texts()[1:].count("train")  # one row failed
    older = dataclasses.replace(info, seen={})
    assert older.in_sample("val", _task(other))  # which cannot be told apart
    chosen = dataclasses.replace(info, fitted_on=(), chosen_by="oracle", chosen_on="val")
    assert chosen.in_sample("val", _task(mine)).endswith("by rule 'oracle', which looks at val")
    assert not chosen.in_sample("val", _task(other))


def _task(store: Path) -> Task:
    return Task.from_store(open_store(store), groups=["place"])


def test_a_head_file_that_does_not_say_is_not_called_in_sample(tmp_path: Path) -> None:
    info = HeadInfo((), "class", (), (), (), "split", "", "", {}, "DFR-val", {}, 0)
    assert info.fitted_on is None
    assert not info.in_sample("val")
    chosen = dataclasses.replace(info, chosen_by="oracle", chosen_on="test")
    assert "'oracle', which looks at test" in chosen.in_sample("test")
