"""The demo and the report as commands: a whole run on few images, its table, its page, and asking again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.demo.run import METHODS
from headwater.heads import evaluate


def headwater(*words: object, columns: int = 80) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headwater", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "COLUMNS": str(columns), "PYTHONWARNINGS": "default"},
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    folder = tmp_path_factory.mktemp("demo") / "out"
    done = headwater("demo", "--out", folder, "--images", 240, "--backbone", "efficientnet_lite0", "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_the_demo_ends_with_a_report_of_every_method(demo: tuple[Path, dict[str, object]]) -> None:
    folder, result = demo
    assert [each["method"] for each in result["methods"]] == list(METHODS)
    assert result["extraction"]["failed"] == 0
    page = (folder / "heads/report.html").read_text("utf-8")
    assert result["report"] == str(folder / "heads/report.html")
    assert "real handwritten digit" in page
    assert page.count("<img ") > 4
    for each in result["methods"]:
        again = evaluate(folder / "heads" / f"{each['method']}.safetensors", folder / "digits.store")
        assert again.overall == each["test"]["overall"]
        assert f"{100 * again.worst_group.accuracy:.1f}" in page


@pytest.mark.parametrize("columns", [60, 160])
def test_a_second_demo_extracts_nothing_and_comes_to_the_same(
    demo: tuple[Path, dict[str, object]], columns: int
) -> None:
    folder, first = demo
    shards = {file: file.stat().st_mtime_ns for file in (folder / "digits.store").glob("shard-*")}
    done = headwater(
        "demo", "--out", folder, "--images", 240, "--backbone", "efficientnet_lite0", columns=columns
    )
    assert done.returncode == 0, done.stderr
    assert "done already" in " ".join(done.stderr.split())
    assert {file: file.stat().st_mtime_ns for file in (folder / "digits.store").glob("shard-*")} == shards
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    rows = {
        line.split()[0]: line.split() for line in lines if line.split()[:1] and line.split()[0] in METHODS
    }
    for each in first["methods"]:
        test = each["test"]
        row = rows[each["method"]]
        assert row[1] == f"{100 * test['worst_group']['accuracy']:.1f}"
        assert row[-2:] == [f"{100 * test['overall']:.1f}", f"{100 * test['balanced']:.1f}"]


def test_another_demo_does_not_fit_into_the_same_folder(demo: tuple[Path, dict[str, object]]) -> None:
    folder, _ = demo
    done = headwater("demo", "--out", folder, "--images", 300, "--backbone", "efficientnet_lite0")
    assert done.returncode == 2
    assert "choose another folder with --out" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_report_command_writes_where_it_is_told(
    demo: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    folder, _ = demo
    done = headwater("report", folder / "heads", "--out", tmp_path / "page.html")
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").read_bytes() == (folder / "heads/report.html").read_bytes()
    (tmp_path / "mine.html").write_text("mine")
    refused = headwater("report", folder / "heads", "--out", tmp_path / "mine.html")
    assert refused.returncode == 2
    assert "--replace" in refused.stderr
    assert (tmp_path / "mine.html").read_text() == "mine"
    empty = headwater("report", tmp_path)
    assert empty.returncode == 2
    assert "holds no heads" in empty.stderr
