"""A report made of a real sweep: its picks, its figures and its command, counted here from the table."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headwater.cli.sweep import _counts
from headwater.errors import HeadwaterWarning, RequestError
from headwater.heads import sweep
from headwater.heads.methods import reweighting
from headwater.report import build_report
from headwater.report.gather import gather
from headwater.report.run import open_run
from tests.report.conftest import HandMade


@pytest.fixture
def swept(made: HandMade, tmp_path: Path) -> Path:
    out = tmp_path / "swept"
    sweep(
        made.store,
        target="class",
        groups=["place"],
        methods=["ERM", "RWY", "SUBY"],
        draws=3,
        seeds=2,
        select="overall",
        out=out,
    )
    return out


def test_every_pick_and_dot_is_a_row_of_the_table(swept: Path) -> None:
    run = open_run(swept)
    assert run.sweep is not None
    rows = run.sweep.table.to_pylist()
    data = gather(run)
    assert data.sweep is not None
    assert data.sweep.rule == "overall"
    assert data.sweep.heads == len(rows) == 3 * 3 * 2
    for method in data.sweep.methods:
        mine = [row for row in rows if row["method"] == method.name]
        assert [(t.overall, t.worst) for t in method.tried] == [
            (row["test.overall"], row["test.worst_group"]) for row in mine
        ]
        by_candidate = {
            name: np.mean([row["val.overall"] for row in mine if row["candidate"] == name])
            for name in {row["candidate"] for row in mine}
        }
        ringed = {row["candidate"] for row, t in zip(mine, method.tried, strict=True) if t.chosen}
        assert len(ringed) == 1
        assert by_candidate[ringed.pop()] == pytest.approx(max(by_candidate.values()))
    means = {
        name: np.mean([row["test.worst_group"] for row in rows if row["candidate"] == name])
        for name in {row["candidate"] for row in rows}
    }
    oracle = next(rule for rule in data.sweep.rules if not rule.honest)
    assert oracle.worst == pytest.approx(max(means.values()))
    for rule in data.sweep.rules:
        assert rule.cost == pytest.approx(oracle.worst - rule.worst)


def test_the_head_set_beside_the_baseline_is_the_pick_not_the_best_on_test(swept: Path) -> None:
    run = open_run(swept)
    assert run.sweep is not None
    assert run.sweep.pick is not None
    assert gather(run).best == run.sweep.pick.method


def test_the_page_of_a_sweep_stands_in_its_folder_and_says_how_to_make_it_again(swept: Path) -> None:
    page = build_report(swept)
    assert page == swept / "report.html"
    text = page.read_text("utf-8")
    (line,) = re.findall(r"headwater heads sweep .*", text)
    assert "--methods ERM,RWY,SUBY --draws 3 --seeds 2 --select overall" in line
    assert text.count('class="ring"') == 3


def test_the_time_of_a_sweep_counts_its_cross_fitting(made: HandMade, tmp_path: Path) -> None:
    sweep(made.store, groups=["place"], methods=["LLR-class"], draws=1, seeds=1, out=tmp_path / "cv")
    run = open_run(tmp_path / "cv")
    assert run.sweep is not None
    (row,) = run.sweep.table.to_pylist()
    data = gather(run).sweep
    assert data is not None
    assert row["cv.seconds"] > 0
    assert data.seconds == pytest.approx(row["seconds"] + row["cv.seconds"])


def test_a_report_on_val_marks_what_has_seen_it_and_counts_rows_of_no_group(made: HandMade) -> None:
    from headwater.heads import fit
    from headwater.store import annotate

    rows = zip(made.keys, made.split, made.place, strict=True)
    known = {key: ("", "train", "val")[split] for key, split, _ in rows}  # no test
    place = ["" if row in {20, 21} else ("forest", "sea")[p] for row, p in enumerate(made.place)]
    annotate(made.store, {"path": made.keys, "cut": [known[key] for key in made.keys], "spot": place})
    for name in ("ERM", "LLR-class"):
        fit(
            made.store,
            groups=["spot"],
            split="cut",
            method=name,
            out=made.run / "val" / f"{name}.safetensors",
        )
    data = gather(open_run(made.run / "val"))
    assert data.split == "val"
    assert {each.name: each.in_sample for each in data.methods} == {
        "ERM": "",
        "LLR-class": "fitted, tuned or standardised on rows of val",
    }
    run = open_run(made.run / "val")
    seen = {"train": base64.b64encode(bytes(8)).decode()}  # a row of another store
    others = [replace(each, info=replace(each.info, seen=seen)) for each in run.heads]
    elsewhere = gather(replace(run, heads=tuple(others)))
    assert [each.in_sample for each in elsewhere.methods] == ["", ""]
    unknown = [known[made.keys[row]] for row in (20, 21) if made.ok[row] and known[made.keys[row]]]
    for split in set(unknown):
        assert f"{unknown.count(split)} of {split}" in data.left_out.split("Without a known group")[1]
    assert unknown


def test_an_oracles_choice_is_marked_on_the_page(made: HandMade, tmp_path: Path) -> None:
    out = tmp_path / "oracle"
    with pytest.warns(HeadwaterWarning, match="looking at test"):
        sweep(made.store, groups=["place"], methods=["ERM"], draws=1, seeds=1, select="oracle", out=out)
    text = build_report(out).read_text("utf-8")
    assert "Chosen by looking at test." in text
    assert "ERM was chosen among a sweep&#39;s heads by rule &#39;oracle&#39;, which looks at test" in text


def test_heads_that_were_stepped_as_asked_are_counted_apart(made: HandMade, tmp_path: Path) -> None:
    found = sweep(
        made.store,
        target="class",
        groups=["place"],
        methods=["ERM", "HierSampler"],
        draws=1,
        seeds=2,
        settings={"HierSampler.epochs": 2},
        out=tmp_path / "swept",
    )
    data = gather(open_run(tmp_path / "swept"))
    assert data.sweep is not None
    assert (data.sweep.stepped, data.sweep.unconverged) == (2, 0)
    (stepped,) = (each for each in data.methods if each.method == "HierSampler")
    assert (stepped.stepped, stepped.converged, stepped.iterations) == (True, False, 2)
    assert _counts(found, "HierSampler")[:2] == ("2", "stepped")
    assert _counts(found, "ERM")[1] == ""
    rows = [row for row in found.table.to_pylist() if row["method"] == "HierSampler"]
    assert all(row["obstacle"].startswith("stepped 2 epochs, as asked; gap") for row in rows)
    assert [row["converged"] for row in rows] == [False, False]


def test_the_page_says_what_failed_and_why(
    made: HandMade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RequestError(f"no <i>weights</i>\u202e {'x' * 400}")

    monkeypatch.setattr(reweighting, "inverse_counts", refuse)
    out = tmp_path / "swept"
    asked = {"target": "class", "groups": ["place"], "methods": ["ERM", "RWY"], "draws": 1, "seeds": 2}
    sweep(made.store, **asked, out=out)
    data = gather(open_run(out)).sweep
    assert data is not None
    ((what, why),) = data.failed
    assert what == "2 of 2 heads of RWY, such as RWY.00.s0"
    assert why.startswith("no <i>weights</i>\\u202e xxx")
    assert len(why) == 300
    text = build_report(out).read_text("utf-8")
    assert f"{what}: no &lt;i&gt;weights&lt;/i&gt;\\u202e xxx" in text
