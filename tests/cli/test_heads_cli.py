"""The heads command: what it prints and writes, and its exit codes, as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater.heads.checkpoint import load_head
from headwater.heads.tasks.columns import coded
from headwater.store import Plan, ShardRows, StoreWriter, annotate, open_store, set_levels

Command = Callable[..., tuple[int, str, str]]


def test_one_method_to_one_file(store: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "head.safetensors"
    code, text, _ = command(
        "fit", store, "--groups", "place", "--method", "rwg", "--set", "l2=0.1", "--out", out, "--seed", 7
    )
    assert code == 0
    assert "RWG" in text
    assert "converged" in text
    assert "2 rows left out: 2 failed" in text
    _, info = load_head(out)
    assert (info.method, info.settings["l2"], info.seed) == ("RWG", 0.1, 7)
    assert info.group_columns == ("place",)
    code, text, _ = command("evaluate", out, store, "--json")
    measured = json.loads(text)
    assert measured["overall"] == info.summary["test"]["overall"]
    assert {group["name"] for group in measured["by_group"]} == {
        "land\nbird, forest",
        "land\nbird, sea",
        "water, forest",
        "water, sea",
    }


@pytest.mark.parametrize("columns", [60, 160])
def test_several_methods_to_a_folder_and_tables_that_fit(
    store: Path, tmp_path: Path, command: Command, columns: int
) -> None:
    out = tmp_path / "run"
    code, text, _ = command(
        "fit", store, "--method", "ERM,DFR-val", "--set", "C=0.1,1", "--set", "DFR-val.subsets=2",
        "--set", "l2=0.5", "--groups", "place", "--out", out, columns=columns,
    )  # fmt: skip
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == ["DFR-val.safetensors", "ERM.safetensors"]
    assert load_head(out / "ERM.safetensors")[1].settings["l2"] == 0.5
    assert load_head(out / "DFR-val.safetensors")[1].settings["C"] == [0.1, 1.0]
    assert load_head(out / "DFR-val.safetensors")[1].trained == 4
    shown = text.split("ERM: 1 head")[0]  # paths below may be longer than any terminal
    code, evaluated, _ = command("evaluate", out / "ERM.safetensors", store, columns=columns)
    code, listed, _ = command("methods", columns=columns)
    for line in (shown + evaluated + listed).splitlines():
        assert len(line) <= columns
    test = load_head(out / "ERM.safetensors")[1].summary["test"]
    assert f"{100 * test['overall']:.1f}" in evaluated
    assert f"{100 * test['worst_group']['accuracy']:.1f}" in evaluated
    assert "land\\nbird, sea" in evaluated
    for name in ("overall", "balanced", "train-weighted", "worst group"):
        assert name in evaluated
    for name in ("ERM", "RWY", "RWG", "SUBY", "SUBG", "DFR-val", "DFR-tr"):
        assert name in listed
    flat = " ".join(listed.split())
    assert "Kirichenko" in flat
    assert "l2: 1e-05 to 10, logarithmic" in flat or columns < 100  # folded there


def test_levels_given_as_numbers_are_shown_by_name(store: Path, tmp_path: Path, command: Command) -> None:
    keys = open_store(store).keys.tolist()
    kinds = {"realm": ["sea", "land"], "kind": ["fish", "seal", "bear", "newt"], "sort": list("abcdefgh")}
    columns = {
        name: [names[(row % 8) * len(names) // 8] for row in range(len(keys))]
        for name, names in kinds.items()
    }
    annotate(store, {"path": keys, **columns})
    set_levels(store, list(kinds))
    out = tmp_path / "head.safetensors"
    for groups, said in (
        ("3", "groups: realm x sort"),
        ("2,place", "groups: realm x kind x place"),
        ("1", "groups: the classes of realm"),
        ("", "groups: the classes of realm, since no --groups were given"),
    ):
        asked = ("--target", 1, "--groups", groups, "--out", out, "--replace")
        code, text, error = command("fit", store, *asked)
        assert code == 0, error
        assert " ".join(text.split()).startswith(f"Accuracy in %; {said} method split ")


def test_json_of_a_fit_is_the_whole_result(store: Path, tmp_path: Path, command: Command) -> None:
    code, text, _ = command("fit", store, "--out", tmp_path / "run", "--method", "ERM,RWY", "--json")
    found = json.loads(text)
    assert code == 0
    assert [each["method"] for each in found] == ["ERM", "RWY"]
    assert found[0]["converged"] is True
    assert found[0]["left_out"] == {"failed": 2, "without_target": 0, "without_split": 0}
    assert set(found[0]["splits"]) == {"val", "test"}
    assert found[0]["splits"]["test"]["intervals"]["worst_group"]["high"] <= 1


def test_json_of_the_methods(command: Command) -> None:
    code, text, _ = command("methods", "--json")
    found = {each["name"]: each for each in json.loads(text)}
    assert code == 0
    assert found["DFR-val"]["defaults"]["C"] == [1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01]
    assert found["DFR-val"]["needs"] == "groups on val"
    assert found["ERM"]["needs"] == "no groups"


def test_what_did_not_converge_is_not_shown_as_converged(
    store: Path, tmp_path: Path, command: Command
) -> None:
    arguments: list[Any] = ["fit", store, "--set", "l2=0", "--set", "max_iterations=1"]
    code, text, err = command(*arguments, "--out", tmp_path / "head.safetensors")
    assert code == 0
    assert "1 NOT converged" in text
    assert "warning: ERM did not converge" in err
    code, text, _ = command(*arguments, "--out", tmp_path / "other.safetensors", "--json")
    assert json.loads(text)[0]["converged"] is False


def test_steps_of_a_set_number_of_epochs_are_no_failure_and_no_convergence(
    store: Path, tmp_path: Path, command: Command
) -> None:
    arguments: list[Any] = ["fit", store, "--method", "HierSampler", "--out", tmp_path / "head.safetensors"]
    code, text, err = command(*arguments, "--set", "epochs=2")
    assert code == 0
    assert "HierSampler: 1 head, stepped 2 epochs, as asked" in text
    assert "did not converge" not in err
    code, text, _ = command(*arguments, "--set", "epochs=2", "--replace", "--json")
    found = json.loads(text)[0]
    assert (found["converged"], found["unconverged"]) == (False, 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "ERN"], "there is no method 'ERN' (did you mean 'ERM'?)"),
        (["--method", ","], "--method names no method"),
        (["--set", "l2"], "--set takes key=value, not 'l2'"),
        (["--set", "L2=1"], "ERM has no setting 'L2' (did you mean 'l2'?)"),
        (["--set", "l2=-3"], "ERM cannot take l2 = '-3'"),
        (["--set", "DFR-val.C=1"], "which is not among the methods to fit"),
        (
            ["--method", "ERM,RWY", "--set", "subsets=3", "--out", "run"],
            "none of the methods has a setting 'subsets'",
        ),
        (["--method", "ERM,RWY"], "2 methods make 2 heads; give --out a folder"),
        (["--out", "head.pth"], "a head's file is named *.safetensors"),
        (["--target", "clas"], "no column 'clas' for the target (did you mean 'class'?)"),
        (["--groups", "place,x"], "no column 'x' for the group"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(
    arguments: list[str],
    sentence: str,
    store: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = store.parent
    monkeypatch.chdir(folder)
    code, out, err = command("fit", store, "--out", "head.safetensors", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["birds.store"]


def test_a_head_is_replaced_only_when_asked_for(store: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "head.safetensors"
    assert command("fit", store, "--out", out)[0] == 0
    before = out.read_bytes()
    code, _, err = command("fit", store, "--out", out, "--method", "RWY")
    assert code == 2
    assert "exists already; choose another name, or say --replace" in err
    assert out.read_bytes() == before
    assert command("fit", store, "--out", out, "--method", "RWY", "--replace")[0] == 0
    assert load_head(out)[1].method == "RWY"


def test_one_method_s_card(command: Command) -> None:
    code, text, _ = command("methods", "dfr-VAL", columns=200)
    assert code == 0
    assert text.startswith("DFR-val: ")
    for said in ("needs: groups on val", "paper: ", "a sweep draws", "subsets", "C"):
        assert said in text
    assert "RWG" not in text.split("setting")[0]
    code, text, _ = command("methods", "ERM", "--json")
    assert [each["name"] for each in json.loads(text)] == ["ERM"]
    code, _, err = command("methods", "ERMM")
    assert (code, "there is no method 'ERMM' (did you mean 'ERM'?)" in err) == (2, True)


def test_export_of_a_head_on_other_features_is_refused(store: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "head.safetensors"
    command("fit", store, "--out", out)
    code, _, err = command("export", out, "--weights", tmp_path / "w.pth", "--out", tmp_path / "m.zip")
    assert code == 2
    assert "'pixels', and only torchvision networks" in err


def test_a_missing_store_from_a_real_shell(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "headwater", "heads", "fit", tmp_path / "no.store", "--out", "h.safetensors"],
        check=False, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("error: there is no store at")
    assert "Traceback" not in run.stderr


def test_the_room_and_its_command_load_without_torch() -> None:
    code = (
        "import sys, headwater.heads, headwater.cli.heads, headwater.heads.methods;"
        "print('torch' in sys.modules, 'sklearn' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["False", "False"]


def test_evaluating_shows_scores_and_levels(store: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "head.safetensors"
    keys = [f"{number}.jpg" for number in range(240)]
    annotate(store, {"path": keys, "kingdom": ["animal"] * 240})
    assert command("fit", store, "--groups", "place", "--out", out)[0] == 0
    code, text, _ = command("evaluate", out, store, "--levels", "kingdom", "--json")
    found = json.loads(text)
    assert (code, found["by_level"]["kingdom"]["overall"]) == (0, 1.0)
    code, shown, _ = command("evaluate", out, store, "--levels", "kingdom")
    lines = [line.split() for line in shown.splitlines()]
    assert code == 0
    for start, value in (
        (["overall", "at", "level", "kingdom"], "100.0"),
        (["AUROC,", "%"], f"{100 * found['auroc']:.1f}"),
        (["expected", "calibration", "error,", "%"], f"{100 * found['ece']:.1f}"),
        (["log-loss,", "nats"], f"{found['log_loss']:.3f}"),
        (["worst", "10", "to", "50", "%"], f"{100 * found['worst_curve']['area']:.1f}"),
    ):
        (line,) = [line for line in lines if line[: len(start)] == start]
        assert value in line
    code, _, error = command("evaluate", out, store, "--levels", "place")
    assert code == 2
    assert "'place' is no level above 'class'" in error


def test_figures_on_rows_that_a_head_has_seen_are_marked(
    store: Path, tmp_path: Path, command: Command
) -> None:
    asked = ("fit", store, "--method", "ERM,DFR-val", "--set", "DFR-val.C=1", "--set", "penalty=l2")
    asked = (*asked, "--groups", "place")
    code, text, _ = command(*asked, "--out", tmp_path / "run")
    lines = [line.split() for line in text.splitlines()]
    assert code == 0
    assert any(line[:2] == ["ERM", "val"] and line[2] != "*" for line in lines)
    assert any(line[:3] == ["DFR-val", "val", "*"] for line in lines)
    assert text.count(" * ") == 1
    assert "* in sample: DFR-val was fitted, tuned or standardised on rows of val" in " ".join(text.split())
    code, text, _ = command(*asked, "--out", tmp_path / "again", "--json")
    marks = {each["method"]: each["splits"]["val"]["in_sample"] for each in json.loads(text)}
    assert marks == {"ERM": "", "DFR-val": "fitted, tuned or standardised on rows of val"}
    head = tmp_path / "run" / "DFR-val.safetensors"
    code, text, _ = command("evaluate", head, store, "--split", "val")
    assert "IN SAMPLE" in text
    assert "In sample: the head was fitted, tuned or standardised on rows of val" in " ".join(text.split())
    code, text, _ = command("evaluate", head, store, "--split", "test")
    assert "sample" not in text.lower()
    code, text, _ = command("evaluate", head, _others(store), "--split", "val")
    assert code == 0
    assert "sample" not in text.lower()
    code, text, _ = command(
        "evaluate", tmp_path / "run" / "ERM.safetensors", store, "--split", "val", "--json"
    )
    assert json.loads(text)["in_sample"] == ""


def _others(store: Path) -> Path:
    """A store of the same recipe, columns and splits beside this one, and of other rows."""
    its = open_store(store)
    keys = [f"other/{key}" for key in its.keys]
    plan = Plan.for_keys(keys, recipe=dict(its.plan.recipe), dim=its.dim, dtype=its.plan.dtype)
    zeros = np.zeros(len(keys), dtype=np.int32)
    place = store.with_name("others.store")
    with StoreWriter(place, plan, keys) as writer:
        features = np.asarray(its.features[:])[::-1].copy()
        writer.write(0, ShardRows(features, None, zeros.astype("u1"), [""] * len(keys), zeros, zeros))
        writer.finish({})
    columns = {name: its.annotations[name].texts() for name in ("class", "place", "split")}
    annotate(place, {"path": keys, **columns})
    return place


def test_rows_of_no_known_group_are_counted(store: Path, tmp_path: Path, command: Command) -> None:
    where = ["" if row in {4, 7, 8} else "sea" for row in range(240)]  # one of val (4, 7), one of test (8)
    annotate(store, {"path": [f"{row}.jpg" for row in range(240)], "where": where})
    code, text, _ = command("fit", store, "--groups", "where", "--out", tmp_path / "head.safetensors")
    assert code == 0
    assert "known group, which count in no figure of groups: 2 of val, 1 of test" in " ".join(text.split())


def test_a_group_of_hardly_any_rows_is_named(store: Path, tmp_path: Path, command: Command) -> None:
    keys = [f"{number}.jpg" for number in range(240)]
    split = coded("split", open_store(store).annotations["split"])
    train = int(np.flatnonzero(split.codes == split.names.index("train"))[5])
    odd = ["rare" if at == train else "usual" for at in range(240)]
    annotate(store, {"path": keys, "odd": odd})
    out = tmp_path / "head.safetensors"
    code, text, _ = command("fit", store, "--groups", "odd", "--method", "SUBG", "--out", out)
    assert code == 0
    shown = " ".join(text.split())
    assert "hardly any rows in train" in shown
    assert "rare: 1 row" in shown
    code, text, _ = command("fit", store, "--groups", "place", "--out", out, "--replace")
    assert "hardly any" not in text
