"""`headwater extract` as a user meets it: progress, summary, JSON, exit codes, one-sentence errors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from headwater.cli import extract as command
from headwater.cli.console import duration
from headwater.errors import HeadwaterError, RequestError
from headwater.extract import Progress

app = Typer()
command.register(app)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(folder / f"{number}.png")
    (folder / "torn\nname.png").write_bytes(b"")
    return folder


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_summary_counts_and_explains_failed_rows(images: Path, tmp_path: Path) -> None:
    done = run(images, "--out", tmp_path / "s", "--backbone", "pixels")
    assert done.exit_code == 0, done.output
    assert "6 rows" in done.stdout
    assert "1 of 6 rows have no features" in done.stdout
    assert "1 row: " in done.stdout
    assert "empty file, such as 'torn\\nname.png'" in done.stdout
    assert "(slowest)" in done.stdout
    assert "6 of 6" in done.stderr
    assert "slowest stage" in done.stderr
    again = run(images, "--out", tmp_path / "s", "--backbone", "pixels")
    assert "done already: 6 rows, nothing was extracted" in " ".join(again.stdout.split())


def test_json_is_one_document_on_standard_output(images: Path, tmp_path: Path) -> None:
    done = run(images, "--out", tmp_path / "s", "--backbone", "pixels", "--json")
    document = json.loads(done.stdout)
    assert document["rows"] == 6
    assert [row["key"] for row in document["failed"]] == ["torn\nname.png"]
    assert document["already_done"] is False
    assert set(document["rates"]) == {"source", "decode", "backbone", "writer"}
    assert done.stderr == ""


def test_strict_fails_with_exit_code_1_and_a_wrong_name_with_2(images: Path, tmp_path: Path) -> None:
    strict = run(images, "--out", tmp_path / "s", "--backbone", "pixels", "--strict")
    assert isinstance(strict.exception, HeadwaterError)
    assert strict.exception.exit_code == 1
    assert "torn\\nname.png" in str(strict.exception)
    wrong = run(images, "--out", tmp_path / "t", "--backbone", "pixles")
    assert isinstance(wrong.exception, RequestError)
    assert "'pixels'" in str(wrong.exception)
    assert not (tmp_path / "t").exists()


def test_every_option_reaches_the_job(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.extract import job

    seen: dict[str, Any] = {}

    def take(source: object, out: object, **settings: Any) -> Any:
        seen.update(settings, source=source, out=out)
        raise HeadwaterError("seen")

    monkeypatch.setattr(job, "extract_features", take)
    options = {
        "--backbone": "resnet18",
        "--weights": "w.pth",
        "--preprocess": "inat-contest",
        "--views": 2,
        "--device": "cpu",
        "--precision": "float32",
        "--dtype": "float32",
        "--compile": "off",
        "--batch-size": 3,
        "--workers": 5,
        "--path-column": "file",
        "--rows-per-shard": 7,
    }
    run(
        "pictures.csv",
        "--out",
        tmp_path / "s",
        "--strict",
        *[part for pair in options.items() for part in pair],
    )
    assert seen.pop("progress") is not None
    seen["preprocess"] = seen.pop("preprocessing")
    assert seen == {
        **{name.strip("-").replace("-", "_"): value for name, value in options.items()},
        "strict": True,
        "source": "pictures.csv",
        "out": tmp_path / "s",
    }


@pytest.mark.parametrize("width", [60, 160])
def test_live_progress_fits_the_terminal(width: int) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=width)
    with command._Live(screen) as progress:
        progress(Progress(123_456, 9_999_999, {"decode": 812.0, "backbone": 143.2}, "backbone", 68_000.0))
        bar = progress._bar  # type: ignore[attr-defined]
        plain = Console(file=io.StringIO(), width=width)
        plain.print(bar.get_renderable())
    lines = plain.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len([line for line in lines if line.strip()]) == 1
    assert "143/s" in lines[0]
    assert "18 h 53 min left" in lines[0]
    assert lines[0].rstrip().endswith("backbone")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_notes_are_shown_and_are_in_the_json(images: Path, tmp_path: Path) -> None:
    manifest = images / "list.csv"
    for label in "ab":
        manifest.write_text(f"path,label\n0.png,{label}\n")
        done = run(manifest, "--out", tmp_path / "s", "--backbone", "pixels")
    assert "note: the source's column label differs" in " ".join(done.stdout.split())
    again = run(manifest, "--out", tmp_path / "s", "--backbone", "pixels", "--json")
    assert [note.split(" differs")[0] for note in json.loads(again.stdout)["notes"]] == [
        "the source's column label"
    ]
