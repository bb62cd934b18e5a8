"""A report made of a real sweep: its picks, its figures and its command, counted here from the table."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from headwater.heads import sweep
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
