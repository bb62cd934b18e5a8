"""What a sweep refuses before any training, and which methods it leaves out of all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headwater.errors import RequestError
from headwater.heads import Task, sweep
from headwater.heads.sweeps.candidates import Wanted
from headwater.heads.sweeps.design import Design, make_design
from tests.heads.sweeps.conftest import Bank


def test_what_the_task_lacks_skips_a_method_among_all_and_refuses_it_by_name(
    world: Callable[..., dict[str, Any]],
) -> None:
    made = world(counts={"train": (30, 0, 8, 30), "val": (20, 15, 11, 24), "test": (9, 9, 9, 9)})
    task = Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])
    skipped = {each.method: each.reason for each in _design_of(task).skipped}
    assert "needs at least 1 row of every group in split 'train'" in skipped["RWG"]
    assert "ERM" not in skipped
    with pytest.raises(RequestError, match=r"RWG needs at least 1 row of every group in split 'train'"):
        sweep(task, methods=["ERM", "RWG"])


def test_without_group_columns_what_compares_domains_is_skipped(world: Callable[..., dict[str, Any]]) -> None:
    made = world()
    task = Task.from_arrays(made["features"], made["class"], None, made["split"])
    design = _design_of(task)
    assert {each.method for each in design.skipped} == {"LISA", "IRM", "CORAL", "MMD"}


def _design_of(task: Task) -> Design:
    return make_design(task, Wanted(draws=1), 1, None)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"methods": ["ERN"]}, "there is no method 'ERN' .did you mean 'ERM'"),
        ({"methods": []}, "no method is named"),
        ({"methods": ["all", "ERM"]}, "give either `all` or names"),
        ({"draws": 0}, "at least one draw is needed"),
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": [1, 1]}, "must be different and not negative"),
        ({"select": "worst"}, "there is no selection rule 'worst'"),
        ({"folds": 1}, "at least 2 folds"),
        ({"methods": ["ERM"], "grid": {"L2": [1]}}, "none of the methods has a setting 'L2'"),
        ({"methods": ["ERM"], "grid": {"RWG.l2": [1]}}, "RWG, which is not among the methods"),
        ({"methods": ["ERM"], "grid": {"ERM.L2": [1]}}, "ERM has no setting 'L2' .did you mean 'l2'"),
        ({"methods": ["ERM"], "grid": {"l2": [-1]}}, "ERM cannot take l2 = -1"),
    ],
)
def test_a_wrong_request_is_refused_before_any_training(
    wanted: dict[str, Any], sentence: str, task: Task, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(RequestError, match=sentence) as error:
        sweep(task, bank=Bank(task, most=0), out=out, **wanted)
    assert "\n" not in str(error.value)
    assert not out.exists()
