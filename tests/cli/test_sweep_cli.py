"""The sweep command: what it prints and writes, how it goes on, and its refusals, as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from headwater.cli.console import settings_text
from headwater.errors import RequestError
from headwater.heads import HeadBank, load_head, load_sweep
from headwater.store import annotate

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(store: Path, command: Command) -> Command:
    """Runs `headwater heads sweep STORE …` in this process; exit code, standard output, standard error."""
    return partial(command, "sweep", store)


@pytest.mark.parametrize("columns", [60, 160])
def test_tables_that_fit_and_a_second_time_nothing_to_do(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    asked = (
        "--groups", "place", "--methods", "erm,RWG,SUBG", "--draws", 3, "--seeds", "0,4",
        "--set", "RWG.l2=0.5", "--out", tmp_path / "run",
    )  # fmt: skip
    code, text, err = command(*asked, columns=columns)
    assert code == 0
    assert "error" not in err
    shown, _, where = text.rpartition("heads in ")
    for line in shown.splitlines():
        assert len(line) <= columns or " picks " in line or line.startswith("skipped")
    done = load_sweep(tmp_path / "run")
    assert where.strip().replace("\n", "") == str(tmp_path / "run")
    assert [len(done.table), done.rule] == [(3 + 1 + 3) * 2, "cv_worst_group"]
    assert done.pick is not None
    for pick in done.picks:
        assert pick.rule in text  # whole, at any width
        assert f"{100 * pick.test['worst_group']:.1f}" in text
    assert f"* cv_worst_group, which decides here, picks {done.pick.id}: " in text
    assert settings_text({"l2": 0.5, "start": "", "C": (), "views": False}) == "l2 = 0.5, views = False"
    assert "sees test" in " ".join(text.split())
    low, high = done.intervals[done.pick.id]
    assert (f"{100 * low:.1f}-{100 * high:.1f}" in text) == (columns == 160)
    assert "cv_worst_group: likelihood of the worst group on val" in " ".join(text.split())
    assert f" {done.pick.figure:.3f} " in text
    assert "2 rows left out: 2 failed" in text
    assert "groups: the classes" not in text
    assert "fewer than 3 different settings to draw: RWG 1" in text
    assert "14 recipes planned: 3 methods, 7 settings, 2 seeds, so 14 heads; each trains" in err
    assert "round 1: training 14 heads; 0 of 14 recipes done after 0 s" in err
    assert "measuring; 14 of 14 recipes done" in err
    monkeypatch.setattr(HeadBank, "train", lambda *_: pytest.fail("trained"))
    code, again, _ = command(*asked, columns=columns)
    assert code == 0
    assert "done already, nothing was trained" in again
    code, _, err = command(*asked[:4], "--out", tmp_path / "run")
    assert code == 2
    assert "holds another sweep, which differs in" in err
    assert "draws, settings, seeds" in " ".join(err.split())


def test_json_is_the_whole_selection(tmp_path: Path, command: Command) -> None:
    out = tmp_path / "run"
    code, text, _ = command(
        "--methods", "RWY,SUBY", "--grid", "RWY.l2=0.1,1", "--seeds", 2, "--out", out, "--json",
        "--select", "overall",
    )  # fmt: skip
    found = json.loads(text)
    assert code == 0
    assert (found["rule"], found["heads"], found["failed"], found["skipped"]) == ("overall", 6, [], [])
    picks = {pick["rule"]: pick for pick in found["picks"]}
    assert picks["oracle"]["honest"] is False
    assert picks["overall"]["settings"] == found["methods"][picks["overall"]["method"]]["settings"]
    assert picks["overall"]["test"]["overall"] <= 1
    assert [each["settings"]["l2"] for each in load_sweep(out).request["candidates"]] == [0.1, 1.0, 1e-3]
    assert load_head(out / "picked.safetensors")[1].method == picks["overall"]["method"]


def test_all_skips_what_the_columns_do_not_allow(
    tmp_path: Path, store: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headwater.heads.methods import registry

    kept = {name: registry._METHODS[name] for name in ("ERM", "RWG")}
    monkeypatch.setattr(registry, "_METHODS", kept)
    place = np.where(np.arange(240) % 3 == 0, "", "sea").tolist()  # unknown on train
    annotate(store, {"path": [f"{n}.jpg" for n in range(240)], "where": place})
    code, text, _ = command("--groups", "where", "--draws", 1, "--seeds", "1,", "--out", tmp_path / "run")
    assert code == 0
    assert "skipped RWG: RWG needs the group of every row in split 'train'" in text
    assert load_sweep(tmp_path / "run").request["seeds"] == [1]
    code, _, err = command("--groups", "where", "--methods", "RWG", "--out", tmp_path / "other")
    assert (code, err.count("\n")) == (2, 1)
    assert "RWG needs the group of every row" in err


def test_a_failed_recipe_is_shown_and_ends_with_exit_1(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headwater.heads.methods import reweighting

    def fail(*_: object) -> None:
        raise FloatingPointError("overflow")

    monkeypatch.setattr(reweighting, "inverse_counts", fail)
    code, text, err = command("--methods", "ERM,RWY", "--draws", 1, "--seeds", 1, "--out", tmp_path / "run")
    assert code == 1
    assert "failed RWY.00.s0: FloatingPointError: overflow" in text
    assert "RWY: no candidate ended with every seed" in text
    assert "error: 1 of 2 heads failed, RWY.00.s0: FloatingPointError" in err
    assert [path.name for path in (tmp_path / "run" / "heads").iterdir()] == ["ERM.safetensors"]
    assert text.rstrip().replace("\n", "").endswith(f"1 head in {tmp_path / 'run'}")
    assert "overflow; the others are in " in err
    assert "'; given again, the command trains what failed and nothing else" in err
    monkeypatch.undo()
    code, text, err = command("--methods", "ERM,RWY", "--draws", 1, "--seeds", 1, "--out", tmp_path / "run")
    assert (code, "failed RWY" in text, "done already" in text) == (0, False, False)
    assert "2 recipes planned, 1 of them kept from before:" in err


def test_where_all_heads_failed_nothing_is_said_of_others_or_of_kept_ones(
    tmp_path: Path,
    command: Command,
    headwater: Command,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from headwater.heads.methods import reweighting

    def refuse(*_: object) -> None:
        raise RequestError("no weights\x1b; make some")

    monkeypatch.setattr(reweighting, "inverse_counts", refuse)
    asked = ("--methods", "RWY", "--draws", 1, "--out", tmp_path / "run")
    code, text, err = command(*asked, "--seeds", 1)
    assert code == 1
    assert "error: the only head failed, RWY.00.s0: no weights\\x1b; make some; given again, the" in err
    assert "1 recipe planned: 1 method" in err
    assert "others" not in err
    assert "picks" not in text
    assert "0 heads in " in text
    code, text, err = command(*asked, "--seeds", 2)
    assert "failed 2 of 2 heads of RWY, such as RWY.00.s0: no weights\\x1b; make some\n" in text
    assert "error: all 2 heads failed, such as RWY.00.s0: no weights" in err
    assert [record.getMessage() for record in caplog.records] == [
        "RWY with seed 0 failed: no weights\\x1b; make some"
    ] * 2
    code, _, err = headwater("report", tmp_path / "run")
    assert code == 2
    assert "chose no head, since 2 of 2 heads of RWY, such as RWY.00.s0 failed: no weights\\x1b" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "ERN"], "there is no method 'ERN' (did you mean 'ERM'?)"),
        (["--select", "worst"], "there is no selection rule 'worst'"),
        (["--grid", "l2"], "--grid takes key=v1,v2, not 'l2'"),
        (["--grid", "l2="], "--grid takes key=v1,v2, not 'l2='"),
        (["--grid", "l2=1", "--grid", "l2=2"], "--grid names 'l2' twice"),
        (["--grid", "l2=1", "--draws", "3"], "give either --draws or --grid"),
        (["--grid", "ERM.l2=a,b"], "ERM cannot take l2 = 'a'"),
        (["--set", "l2"], "--set takes key=value, not 'l2'"),
        (["--methods", "HierRW", "--set", "HierRW.level=kingdm"], "HierRW cannot take level = 'kingdm'"),
        (["--methods", "HierRW", "--grid", "level=every,target,9", "--dry-run"], "take level = '9': level 9"),
        (["--methods", "HierSampler", "--set", "start=gone.pth", "--dry-run"], "take start = 'gone.pth': no"),
        (["--seeds", "one"], "--seeds takes a number, or numbers with commas"),
        (["--seeds", "0"], "at least one seed"),
        (["--draws", "0"], "at least one draw"),
        (["--target", "clas"], "no column 'clas' for the target (did you mean 'class'?)"),
        (["--out", "birds.store"], "holds something that is no sweep"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(
    arguments: list[str], sentence: str, store: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.parent)
    monkeypatch.setattr(HeadBank, "train", lambda *_: pytest.fail("trained"))
    code, out, err = command("--out", "run", "--methods", "ERM", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert [path.name for path in store.parent.iterdir()] == ["birds.store"]


def test_a_dry_run_says_what_is_left_and_writes_nothing(
    tmp_path: Path, store: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    asked = ("--groups", "place", "--draws", 1, "--seeds", 2, "--out", out, "--set", "max_iterations=50")
    assert command("--methods", "ERM", *asked)[0] == 0
    there = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    monkeypatch.setattr(HeadBank, "train", lambda *_: pytest.fail("trained"))
    code, text, _ = command("--methods", "ERM,LLR-group", *asked, "--dry-run")
    rows = [line.split() for line in text.splitlines()]
    folds = load_sweep(out).request["folds"] * load_sweep(out).request["repeats"]
    assert code == 0
    assert ["ERM", "1", "2", "0", "2", "2"] in rows
    assert ["LLR-group", "1", "2", str(folds), str(2 + folds), "0"] in rows
    assert ["all", "2", "4", str(folds), str(4 + folds), "2"] in rows
    code, text, _ = command(
        "--method", "ERM,LLR-group", *asked, "--dry-run", "--json"
    )  # either option's name
    assert json.loads(text)["methods"]["LLR-group"]["held_out"] == folds
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == there
    code, _, err = command("--methods", "RWG", *asked, "--dry-run")
    assert code == 2
    assert "ask for all that it holds and more, choose another folder, or say --replace" in err
    code, text, _ = command("--methods", "RWG", *asked, "--dry-run", "--replace")
    assert code == 0
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == there


def test_choosing_by_test_is_said_aloud(tmp_path: Path, command: Command) -> None:
    asked = ("--methods", "ERM", "--draws", 1, "--seeds", 1, "--out", tmp_path / "run")
    code, text, err = command(*asked, "--select", "oracle")
    assert code == 0
    assert "warning: rule 'oracle' chose by looking at test" in err
    assert "groups: the classes of class, since no --groups were given" in text
    code, text, err = command(*asked, "--select", "oracle", "--json")
    assert "looking at test" in json.loads(text)["warning"]
    code, text, err = command(*asked)
    assert "warning" not in err
    assert load_sweep(tmp_path / "run").rule == "cv_worst_group"
