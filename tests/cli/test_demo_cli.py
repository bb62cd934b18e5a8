"""The demo and the report as commands: a whole run on few images, its table, its page, and asking again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headwater.demo import DemoResult, digits, run_demo
from headwater.demo.run import METHODS
from headwater.heads import evaluate

Command = Callable[..., tuple[int, str, str]]
WORDS = ("--images", "240", "--backbone", "efficientnet_lite0")


@pytest.fixture(scope="module", autouse=True)
def _digits_at_hand() -> Iterator[None]:
    """Reading them takes seconds, so it is done once."""
    found = digits.real_digits()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "real_digits", lambda: found)
        yield


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(tmp_path_factory.mktemp("demo") / "out", images=240, backbone="efficientnet_lite0")


def test_the_demo_ends_with_a_report_of_every_method(demo: DemoResult) -> None:
    assert [each.fitted.method for each in demo.results] == list(METHODS)
    assert demo.composed
    assert demo.extraction.failed == []
    assert demo.report == demo.folder / "heads/report.html"
    page = demo.report.read_text("utf-8")
    assert "real handwritten digit" in page
    assert page.count("<img ") > 4
    for each in demo.results:
        again = evaluate(each.path, demo.folder / "digits.store")
        assert again.overall == each.reports["test"].overall
        assert f"{100 * again.worst_group.accuracy:.1f}" in page


def test_a_second_demo_extracts_nothing_and_comes_to_the_same(demo: DemoResult, headwater: Command) -> None:
    shards = {file: file.stat().st_mtime_ns for file in (demo.folder / "digits.store").glob("shard-*")}
    code, out, err = headwater("demo", "--out", demo.folder, *WORDS, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["extraction"]["already_done"]
    assert {
        file: file.stat().st_mtime_ns for file in (demo.folder / "digits.store").glob("shard-*")
    } == shards
    assert [(each["method"], each["test"]) for each in found["methods"]] == [
        (each.fitted.method, each.reports["test"].to_dict()) for each in demo.results
    ]


@pytest.mark.parametrize("columns", [60, 160])
def test_the_table_fits_the_terminal(demo: DemoResult, headwater: Command, columns: int) -> None:
    code, out, err = headwater("demo", "--out", demo.folder, *WORDS, columns=columns)
    assert code == 0
    assert "done already" in " ".join(err.split())
    lines = out.splitlines()
    assert all(len(line) <= columns or str(demo.folder) in line for line in lines)
    rows = {
        line.split()[0]: line.split() for line in lines if line.split()[:1] and line.split()[0] in METHODS
    }
    for each in demo.results:
        test = each.reports["test"]
        row = rows[each.fitted.method]
        assert row[1] == f"{100 * test.worst_group.accuracy:.1f}"
        assert row[-2:] == [f"{100 * test.overall:.1f}", f"{100 * test.balanced:.1f}"]


def test_another_demo_does_not_fit_into_the_same_folder(demo: DemoResult, headwater: Command) -> None:
    code, _, err = headwater("demo", "--out", demo.folder, "--images", 300, "--backbone", "pixels")
    assert code == 2
    assert "choose another folder with --out" in err
    assert "Traceback" not in err


def test_the_report_command_writes_where_it_is_told(
    demo: DemoResult, headwater: Command, tmp_path: Path
) -> None:
    heads = demo.folder / "heads"
    code, out, _ = headwater("report", heads, "--out", tmp_path / "page.html")
    assert (code, out.strip()) == (0, str(tmp_path / "page.html"))
    headwater("report", heads)
    assert (tmp_path / "page.html").read_bytes() == (heads / "report.html").read_bytes()
    (tmp_path / "mine.html").write_text("mine")
    code, _, err = headwater("report", heads, "--out", tmp_path / "mine.html")
    assert code == 2
    assert "--replace" in err
    assert (tmp_path / "mine.html").read_text() == "mine"
    code, _, err = headwater("report", tmp_path)
    assert code == 2
    assert "holds no heads" in err
