"""What a sweep says of heads that fail, and that it trains them, and nothing else, when it is given again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from headwater.errors import RequestError
from headwater.heads import Task, load_head, sweep
from headwater.heads.methods import registry
from headwater.heads.methods.erm import TrainSettings
from headwater.heads.methods.recipes import Outcome, Recipe
from headwater.heads.specs.spec import HeadSpec, Penalty
from headwater.heads.sweeps.sweeping import SweepProgress, design_sweep
from tests.heads.sweeps.conftest import Bank, by_id, split_of


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            {"settings": {"HierRW.level": "kingdm"}},
            "HierRW cannot take level = 'kingdm': the taxonomy has no",
        ),
        ({"settings": {"level": 0}}, "HierRW cannot take level = 0: level 0 is out of range"),
        ({"grid": {"level": ["every", "target", "1", 9]}}, "HierRW cannot take level = 9: level 9 is out of"),
        ({"settings": {"start": "gone.pth"}}, "HierSampler cannot take start = 'gone.pth': no checkpoint at"),
        ({"settings": {"start": "text.pth"}}, "HierSampler cannot take start = 'text.pth': "),
        ({"settings": {"start": "wide.safetensors"}}, "HierSampler cannot take start = .* has the shape"),
        ({"grid": {"start": ["", "gone.pth"]}}, "HierSampler cannot take start = 'gone.pth': no checkpoint"),
        ({"settings": {"level": "kingdm"}, "methods": "all"}, "HierRW cannot take level = 'kingdm'"),
        ({"grid": {"level": "every"}}, "the grid 'level' takes a list of values to try, not 'every'"),
        ({"grid": {"l2": []}}, "the grid 'l2' takes a list of values to try, not .."),
        ({"grid": {"l2": 1.0}}, "the grid 'l2' takes a list of values to try, not 1.0"),
    ],
)
def test_values_that_mean_nothing_for_the_task_are_refused_before_any_training(
    wanted: dict[str, Any], sentence: str, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pth").write_bytes(b"no checkpoint")
    wide = {"fc.weight": np.zeros((2, 5), dtype="f4"), "fc.bias": np.zeros(2, dtype="f4")}
    save_file(wide, "wide.safetensors")
    request = {"methods": ["HierRW", "HierSampler"], "draws": 1, "seeds": 1, **wanted}
    with pytest.raises(RequestError, match=sentence) as error:
        design_sweep(task, **request)
    assert "\n" not in str(error.value)
    with pytest.raises(RequestError, match=sentence):
        sweep(task, bank=Bank(task, most=0), out=tmp_path / "run", **request)
    assert not (tmp_path / "run").exists()


def test_what_failed_is_trained_when_the_sweep_is_given_again_and_nothing_else(
    task: Task, register: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mended = tmp_path / "mended"

    @register("Flaky", settings=TrainSettings, needs=registry.Needs(splits=("val",)), paper="none")
    def flaky(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
        """Needs a file."""
        (head,) = yield [HeadSpec(task.rows("val"), Penalty(l2=0.7))]
        if not mended.exists():
            raise RequestError(f"there is no {mended.name}\x1b; make it")
        return Outcome(head)

    out = tmp_path / "run"
    request: dict[str, Any] = {"methods": ["ERM", "Flaky"], "draws": 1, "seeds": 2, "out": out}
    told: list[SweepProgress] = []
    first = sweep(task, progress=told.append, **request)
    assert {at.kept for at in told} == {0}
    assert caplog.text.count("there is no mended\\x1b; make it") == 1
    assert "Traceback" not in caplog.text
    (failures,) = first.failures
    assert (failures.method, failures.failed, failures.rows) == ("Flaky", 2, 2)
    assert failures.what == "2 of 2 heads of Flaky, such as Flaky.00.s0"
    assert failures.reason == "there is no mended\x1b; make it"
    assert first.trained == 2

    again = sweep(task, **request)
    assert again.failures == first.failures
    assert not again.already_done

    mended.write_text("")
    bank = Bank(task)
    told.clear()
    whole = sweep(task, bank=bank, progress=told.append, **request)
    assert {spec.penalty.l2 for call in bank.calls for spec in call} == {0.7}
    assert {at.kept for at in told} == {2}
    assert (whole.failed, whole.failures, whole.trained, whole.already_done) == ((), (), 4, False)
    rows = by_id(whole.table)
    assert rows["ERM.00.s0"]["test.log_loss"] == pytest.approx(
        by_id(first.table)["ERM.00.s0"]["test.log_loss"]
    )
    assert rows["Flaky.00.s1"]["error"] is None
    assert rows["Flaky.00.s1"]["judged.overall"] > 0.5
    assert load_head(out / "heads" / "Flaky.safetensors")[1].method == "Flaky"
    assert sweep(task, bank=Bank(task, most=0), **request).already_done


def test_what_another_revision_trained_is_left_as_it_is(task: Task, register: Any, tmp_path: Path) -> None:
    @register("Broken", settings=TrainSettings, needs=registry.Needs(), paper="none")
    def broken(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
        """Raises at once."""
        raise RequestError("no")
        yield []

    out = tmp_path / "run"
    request: dict[str, Any] = {"methods": ["ERM", "Broken"], "draws": 1, "seeds": 1, "out": out}
    assert sweep(task, **request).failed == (("Broken.00.s0", "no"),)
    said = json.loads((out / "sweep.json").read_text())
    chosen = json.loads((out / "selection.json").read_text())
    older = json.dumps({**said, "training": said["training"] - 1}, indent=1) + "\n"
    (out / "sweep.json").write_text(older)
    from headwater.heads.sweeps.results import _digest

    (out / "selection.json").write_text(json.dumps({**chosen, "of": _digest(out)}))
    again = sweep(task, bank=Bank(task, most=0), **request)
    assert again.already_done
    assert again.failed == (("Broken.00.s0", "no"),)
    assert (out / "sweep.json").read_text() == older
    other = sweep(task, bank=Bank(task, most=0), select="overall", **request)
    assert (other.rule, other.already_done) == ("overall", True)


def test_a_grid_in_another_order_shows_every_candidate_with_its_own_settings(
    task: Task, tmp_path: Path
) -> None:
    request: dict[str, Any] = {"methods": ["ERM"], "seeds": 1, "out": tmp_path / "run"}
    first = sweep(task, grid={"l2": [0.01, 50]}, **request)
    turned = sweep(task, grid={"l2": [50, 0.01]}, bank=Bank(task, most=0), **request)
    for result in (first, turned):
        losses = {
            result.settings_of(row["candidate"])["l2"]: (row["settings"], row["test.log_loss"])
            for row in result.table.to_pylist()
        }
        assert [json.loads(losses[l2][0])["l2"] for l2 in (0.01, 50)] == [0.01, 50]
        assert losses[50][1] > losses[0.01][1]
    again = sweep(task, grid={"l2": [50, 0.01]}, bank=Bank(task, most=0), select="overall", **request)
    assert again.pick is not None
    info = load_head(tmp_path / "run" / "picked.safetensors")[1]
    assert info.settings["l2"] == again.settings_of(again.pick.id)["l2"]


def test_a_head_that_could_not_be_judged_is_judged_when_given_again(
    task: Task, register: Any, tmp_path: Path
) -> None:
    whole = [True]

    @register("Twin", settings=TrainSettings, needs=registry.Needs(splits=("val",)), paper="none")
    def twin(task: Task, settings: TrainSettings, random: np.random.Generator) -> Recipe:
        """Fails on parts of val."""
        if whole[0] and len(task.splits["val"]) < 70:
            raise RequestError("too few rows")
        (head,) = yield [HeadSpec(task.rows("val"), Penalty(l2=0.7))]
        return Outcome(head)

    assert split_of(task).count("val") == 70
    request: dict[str, Any] = {"methods": ["Twin"], "draws": 1, "seeds": 1, "out": tmp_path / "run"}
    first = sweep(task, **request)
    assert dict(first.failed) == {"Twin.00.s0": "could not be judged on held-out rows: too few rows"}
    assert (first.trained, first.picks) == (1, ())
    whole[0] = False
    mended = sweep(task, **request)
    assert mended.failed == ()
    assert mended.pick is not None
