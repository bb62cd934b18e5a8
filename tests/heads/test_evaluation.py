"""Evaluating heads on stores and tasks: the same figures in blocks as at once; levels read off columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headwater.errors import RequestError
from headwater.heads.evaluation import evaluate, report_on
from headwater.heads.fitting import fit
from headwater.heads.specs.head import Convergence, LinearHead
from headwater.heads.tasks.task import Task
from headwater.store import annotate, open_store

Store = Callable[..., Path]


def _heads(count: int, dim: int = 12, classes: int = 2) -> list[LinearHead]:
    random = np.random.default_rng(0)
    return [
        LinearHead(
            random.normal(size=(classes, dim)).astype("f4"),
            random.normal(size=classes).astype("f4"),
            Convergence(True, 1, 0.0, 0.0),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("at_once", [100, 300, 1_000])  # less than a head's scores, one head, several
def test_reports_do_not_depend_on_how_many_scores_are_held(
    task: Task, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    heads = _heads(5)
    expected = [report.to_dict() for report in report_on(task, heads, "test")]
    monkeypatch.setattr("headwater.heads.evaluation.SCORES_AT_ONCE", at_once)
    found = [report.to_dict() for report in report_on(task, heads, "test")]
    assert len(task.splits["test"]) * 2 == 240
    for mine, its in zip(found, expected, strict=True):
        assert mine["overall"] == its["overall"]
        assert mine["by_group"] == its["by_group"]
        for name in ("log_loss", "ece", "auroc"):
            assert mine[name] == pytest.approx(its[name], rel=1e-5)


def test_a_saved_head_is_measured_with_its_scores_and_levels(store_at: Store, tmp_path: Path) -> None:
    path, out = store_at(), tmp_path / "head.safetensors"
    fitted = fit(path, groups=["place"], out=out)
    store = open_store(path)
    kinds = {"landbird": "terrestrial", "waterbird": "aquatic"}
    annotate(
        path,
        {
            "path": store.keys.tolist(),
            "realm": [kinds[each] for each in store.annotations["class"].texts()],
            "life": ["bird"] * len(store.keys),
        },
    )
    report = evaluate(out, path, levels=["realm", "life"])
    found, expected = report.to_dict(), fitted.reports["test"].to_dict()
    assert {**found, "by_level": {}} == expected
    assert report.by_level["realm"].overall == report.overall
    assert [each.name for each in report.by_level["realm"].by_class] == ["aquatic", "terrestrial"]
    assert report.by_level["life"].overall == 1.0
    assert 0 < report.log_loss < 1  # type: ignore[operator]
    assert 0.5 < report.auroc <= 1  # type: ignore[operator]


def test_a_column_that_is_no_level_is_refused_in_one_sentence(store_at: Store, tmp_path: Path) -> None:
    path, out = store_at(), tmp_path / "head.safetensors"
    fit(path, out=out)
    store = open_store(path)
    names = store.annotations["class"].texts()
    half = ["aquatic" if each == "waterbird" else None for each in names]
    annotate(path, {"path": store.keys.tolist(), "half": half})
    for name, sentence in (
        ("genus", "no column 'genus' for a level"),
        ("place", "'place' is no level above 'class': 'landbird' has 'land', 'water'"),
        ("half", "'half' is empty for all rows of 'landbird'"),
        ("temperature", "fractional numbers"),
    ):
        with pytest.raises(RequestError, match=sentence) as error:
            evaluate(out, path, levels=[name])
        assert "\n" not in str(error.value)
