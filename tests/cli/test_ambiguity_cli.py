"""The ambiguity command: what it prints and writes, and its exit codes, as a user meets them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater.ambiguity import scanning, solving
from headwater.cli.ambiguity_shown import going_on
from headwater.errors import HeadwaterError, HeadwaterWarning
from headwater.heads.ambiguity.oracles.browser import BrowserOracle
from headwater.heads.ambiguity.oracles.terminal import TerminalOracle
from headwater.store import open_store, read_table
from tests.ambiguity.stand_in import stand_in
from tests.heads.ambiguity.oracles.reveal_server import Faults, Reveals, application, serving

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands keep things, instead of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "headwater"


@pytest.fixture
def command(headwater: Command) -> Command:
    """Runs `headwater ambiguity …`, on a terminal of 100 columns unless told."""
    return lambda *words, columns=100: headwater("ambiguity", *words, columns=columns)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Images whose halves are bright or dark, alike where there are labels, which are the left half's."""
    random = np.random.default_rng(0)
    left, right = random.integers(0, 2, (2, 3, 80))
    right[0] = left[0]
    bright = np.stack([left, right], axis=2).astype("f4")[:, :, None, None, :]
    images = 0.8 * np.repeat(np.repeat(bright, 6, axis=3), 6, axis=4)
    images += random.normal(size=images.shape).astype("f4") * 0.05
    folder = tmp_path / "halves"
    folder.mkdir()
    for name, array in zip(("X_labeled", "X_unlabeled", "X_val"), images, strict=True):
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "y_labeled.npy", np.where(left[0] == 1, 8, 3))
    np.save(tmp_path / "truth.npy", np.where(left[2] == 1, 8, 3))
    return folder


@pytest.mark.parametrize("columns", [60, 160])
def test_solve_writes_the_labels_and_says_what_to_think_of_them(
    dataset: Path, command: Command, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    stand_in(monkeypatch)
    truth, out, page = (dataset.parent / name for name in ("truth.npy", "sub.csv", "page.html"))
    code, text, told = command(
        "solve", dataset, "--oracle", truth, "--out", out, "--report", page, columns=columns
    )
    assert code == 0
    labels = np.array(out.read_text(encoding="ascii").split(), dtype=int)
    right, before = (labels == np.load(truth)).mean(), (np.load(truth) == 3).mean()
    flat = " ".join(text.split())
    for said in (
        "5 answers are known.",
        "asked 5 of at most 5",
        "settled yes",
        "expected accuracy 70.0 % (60.0-80.0)",
        f"true accuracy {100 * right:.1f} % (a head trained on the labeled rows alone: {100 * before:.1f} %)",
        "advice do not hand it in: 70 % expected is below the 80 %",
        f"{out.name}: 80 labels",
        f"{page.name}: the report",
    ):
        assert said in flat
    assert "80 labeled, 80 unlabeled and 80 target rows, images of 1 x 6 x 12, classes 3, 8" in told
    assert "ambiguity score" in told
    assert f"question 1: target row 10 is {labels[10]}" in told
    for line in text.replace(str(dataset.parent), "").splitlines():
        assert len(line) <= columns


def test_the_real_solver_settles_a_plain_set(
    dataset: Path, tmp_path: Path, command: Command, cache: Path
) -> None:
    truth, out = tmp_path / "truth.npy", tmp_path / "sub.csv"
    code, text, _ = command("solve", dataset, "--oracle", truth, "--out", out, "--json")
    assert code == 0
    found = json.loads(text)
    labels = np.array(out.read_text(encoding="ascii").split(), dtype=int)
    assert found["accuracy"] == (labels == np.load(truth)).mean() > 0.9
    assert 1 <= len(found["asked"]) <= 5
    (kept,) = (cache / "views").iterdir()
    assert len(open_store(kept)) == 240


def test_an_interrupted_solve_given_again_pays_for_nothing_twice(
    dataset: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    truth, out = np.load(tmp_path / "truth.npy"), tmp_path / "sub.csv"

    def run(answers: bytes) -> tuple[int, str, str]:
        """The command with these lines typed, and then the end of input."""
        reading, writing = os.pipe()
        os.write(writing, answers)
        os.close(writing)
        with os.fdopen(reading) as typed:
            monkeypatch.setattr(sys, "stdin", typed)
            return command("solve", dataset, "--oracle", "terminal", "--out", out, "--json")

    code, _, error = run(b"3\n")
    assert code == 1
    assert "the same command again goes on from there" in " ".join(error.split())
    assert not out.exists()
    first = _answered(tmp_path)
    assert list(first.values()) == [0]
    code, text, error = run(b"8\n" * 4)
    assert code == 0, error
    found = json.loads(text)
    asked = [each["item"] for each in found["asked"]]
    assert asked[:1] == list(first) == [10]
    assert asked == [10, 11, 12, 13, 14]
    assert found["answered_earlier"] == 1
    assert len(out.read_text(encoding="ascii").split()) == len(truth)


@pytest.mark.parametrize("oracle", ["terminal", "browser"])
def test_who_stops_it_is_told_so_however_they_were_asked(
    dataset: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, oracle: str
) -> None:
    stand_in(monkeypatch)

    def interrupted(*given: object) -> str:
        """Just when an answer is waited for, as Ctrl-C raises it."""
        raise KeyboardInterrupt

    monkeypatch.setattr(TerminalOracle, "_answer", interrupted)
    monkeypatch.setattr(threading.Condition, "wait_for", interrupted)
    monkeypatch.setattr(BrowserOracle, "_serve", lambda self: None)
    code, text, error = command("solve", dataset, "--oracle", oracle, "--out", tmp_path / "s.csv")
    assert (code, text) == (1, "")
    assert error.splitlines()[-1].startswith(
        "error: stopped by the user; what was answered is kept, and the same command again goes on from there"
    )
    journal = [json.loads(line)["what"] for line in (tmp_path / "halves.journal").open("rb")][1:]
    assert journal == ["ask", "drop"]
    assert [each.name for each in tmp_path.iterdir() if each.name[0] == "."] == [".halves.journal.lock"]


def test_who_stops_it_while_the_page_is_written_needs_another_name_for_the_labels(
    dataset: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    out, page = tmp_path / "sub.csv", tmp_path / "page.html"
    asked = ["solve", dataset, "--oracle", tmp_path / "truth.npy", "--report", page]

    def interrupted(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(solving, "write_solved", interrupted)
        code, _, error = command(*asked, "--out", out)
    assert code == 1
    assert "stopped by the user" in error
    assert "with another --out" in error
    labels = out.read_bytes()
    assert (command(*asked, "--out", out)[0], page.exists()) == (2, False)
    code, text, _ = command(*asked, "--out", tmp_path / "again.csv", "--json")
    assert (code, json.loads(text)["answered_earlier"]) == (0, 5)
    assert page.exists()
    assert (tmp_path / "again.csv").read_bytes() == labels


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ((), "what was answered is kept, and the same command again goes on from there"),
        (("out",), "labels are in '{}' already, .* with another --out makes all anew"),
        (("out", "table"), "labels are in '{}' already, .* with another --out and another --table makes"),
    ],
)
def test_the_way_on_is_told_by_what_was_written(tmp_path: Path, there: tuple[str, ...], says: str) -> None:
    files = {name: tmp_path / f"{name}.csv" for name in ("out", "table")}
    for name in there:
        files[name].touch()
    with pytest.raises(HeadwaterError) as stopped, going_on(**files, head=None):
        raise KeyboardInterrupt
    assert re.search(says.format(re.escape(str(files["out"]))), str(stopped.value))
    assert ("another" in str(stopped.value)) is bool(there)


def test_labels_are_bought_from_a_service_and_none_of_them_twice(
    dataset: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    truth = np.load(tmp_path / "truth.npy").tolist()
    reveals, faults = Reveals({3: truth}, {"team": "secret"}), Faults()
    monkeypatch.setenv("HEADWATER_REVEAL_PASSWORD", "hunter-9")
    with serving(application(reveals, faults)) as address:
        asked = ["solve", dataset, "--oracle", address, "--exercise", 3, "--username", "team"]
        asked += ["--out", tmp_path / "sub.csv"]
        code, _, error = command(*asked)
        assert code == 1
        assert "password" in error
        assert "hunter" not in error
        assert not (tmp_path / "sub.csv").exists()
        monkeypatch.setenv("HEADWATER_REVEAL_PASSWORD", "secret")
        faults.coming.append("html")
        code, _, error = command(*asked, "--budget", 1)
        assert code == 0, error
        tries = [line for line in error.splitlines() if line.startswith(address)]
        assert len(tries) == 1
        assert "gave no answer for row 10: it answered 500" in tries[0]
        (tmp_path / "sub.csv").unlink()
        code, text, error = command(*asked, "--json")
    assert code == 0, error
    bought = reveals.revealed["team", 3]
    found = json.loads(text)
    assert [each["item"] for each in found["asked"]] == bought
    assert [each["label"] for each in found["asked"]] == [truth[row] for row in bought]
    assert len(bought) == len(set(bought)) <= 5
    assert found["accuracy"] is None  # a service does not say


def test_rows_of_a_store_go_by_their_keys(
    store: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    asked = ["solve", store, "--oracle", "column", "--unlabeled-rows", "val"]
    asked += ["--out", tmp_path / "s.csv", "--table", tmp_path / "t.csv", "--report", tmp_path / "p.html"]
    code, text, error = command(*asked, "--json")
    assert code == 0, error
    keys = [f"{3 * row + 2}.jpg" for row in range(80)]  # every third row is a target row
    found = json.loads(text)
    assert [each["key"] for each in found["asked"]] == keys[10:15]
    table = read_table(tmp_path / "t.csv")
    assert table["path"] == keys
    assert found["table"] == str(tmp_path / "t.csv")
    (tmp_path / "s.csv").unlink()
    (tmp_path / "t.csv").unlink()
    assert "question 1: target row 10 ('32.jpg') is " in command(*asked)[2]
    assert "Its key is &#39;32.jpg&#39;." in (tmp_path / "p.html").read_text(encoding="utf-8")


def _answered(folder: Path) -> dict[int, int]:
    lines = [json.loads(line) for line in (folder / "halves.journal").read_text("ascii").splitlines()]
    return {line["item"]: line["code"] for line in lines if line["what"] == "answer"}


def test_no_questions_are_no_failure_but_said(
    dataset: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    code, text, _ = command(
        "solve", dataset, "--oracle", tmp_path / "truth.npy", "--out", tmp_path / "s.csv", "--budget", 0
    )
    assert code == 0
    flat = " ".join(text.split())
    assert "asked 0 of at most 0" in flat
    assert "settled NO" in flat
    assert "advice do not hand it in" in flat
    assert (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "-1"], "a budget of -1 questions cannot be"),
        (["--out", "sub.txt"], "has to end in .csv"),
        (["--out", "truth.csv"], "exists already"),
        (["--oracle", "nobody"], "'nobody' is no oracle"),
        (["--timeout", "0"], "leaves no time to answer"),
        (["--head", "head.safetensors"], "a head on patches"),
        (["--out", "halves.csv"], "is a folder; give --out the name of a file in it"),
        (["--report", "halves.csv"], "the name of a file that ends in .html"),
        (["--report", "halves.html"], "the name of a file that ends in .html"),
        (["--head", "old.safetensors"], "exists already; choose another name with --head, or move it away"),
        (["--journal", "halves.csv"], "is a folder; name a file in it with --journal"),
        (["--journal", "truth.csv"], "is no journal of questions"),
        (["--journal", "truth.csv/journal"], "is a file, so"),
        (["--journal", "sub.csv"], "--journal and --out are both 'sub.csv'"),
        (["--oracle", "bad.csv"], "has not one label in line 1"),
        (["--oracle", "other.npy"], "row 7 is 4, which is none of the classes 3, 8"),
        (["--oracle", "column"], "does not say its target rows' labels"),
        (["--target-rows", "val"], "--target-rows is for stores, and 'halves' is a folder of arrays"),
        (["--seed", "-1"], "a seed must not be negative"),
        (["--seed", "4294967296"], "a seed must be less than 4294967296, and this one is 4294967296; give"),
        (["--oracle", "http://127.0.0.1:9"], "with --exercise"),
        (["--oracle", "http://127.0.0.1:9", "--exercise", "3"], "give it with --username"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(
    dataset: Path, command: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    tmp_path = dataset.parent
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADWATER_REVEAL_USERNAME", raising=False)
    (tmp_path / "truth.csv").write_text("3\n", encoding="ascii")
    (tmp_path / "bad.csv").write_text("0,3\n" * 80, encoding="ascii")
    (tmp_path / "old.safetensors").touch()
    for name in ("halves.csv", "halves.html"):
        (tmp_path / name).mkdir()
    truth = np.load(tmp_path / "truth.npy")
    truth[7] = 4
    np.save(tmp_path / "other.npy", truth)
    before = sorted(tmp_path.rglob("*"))
    usual = ["--oracle", tmp_path / "truth.npy", "--out", "sub.csv"]
    code, text, error = command("solve", dataset.name, *usual, *words)
    assert (code, text) == (2, "")
    (line,) = (line for line in error.splitlines() if "labeled, " not in line)
    assert line.startswith("error: ")
    assert said in line
    assert sorted(tmp_path.rglob("*")) == before


def test_scan_says_what_it_found_and_writes_a_page(
    dataset: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    page = tmp_path / "page.html"
    code, text, _ = command("scan", dataset, "--report", page, columns=60)
    assert code == 0
    assert text.startswith("ambiguity score ")
    said = " ".join(text.split())
    assert "of the unlabeled rows" in said
    for line in text.replace(str(page), page.name).splitlines():
        assert len(line) <= 60
    assert "halves" in page.read_text(encoding="utf-8")
    code, text, _ = command("scan", dataset, "--json")
    found = json.loads(text)
    assert 0 <= found["score"] <= 1
    assert 0.2 < found["mix_rate"]["share"] < 0.9
    assert sum(each["labeled"] for each in found["clusters"]) <= 80
    assert found["classes"] == [3, 8]
    halves = {each["goes_by"]: each["name"] for each in found["readings"]}
    for half in ("left", "right"):
        assert f"Reading {halves[f'the {half} half of the images']} goes by the {half} half" in said


def test_what_is_warned_of_is_in_the_json(
    dataset: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    np.save(dataset / "X_labeled.npy", np.load(dataset / "X_labeled.npy").reshape(80, -1))
    np.save(dataset / "X_unlabeled.npy", np.load(dataset / "X_unlabeled.npy").reshape(80, -1))
    np.save(dataset / "X_val.npy", np.load(dataset / "X_val.npy").reshape(80, -1))
    asked = ["solve", dataset, "--oracle", tmp_path / "truth.npy", "--out", tmp_path / "s.csv"]
    code, text, error = command(*asked, "--head", tmp_path / "head.safetensors", "--budget", 0, "--json")
    assert (code, error) == (0, "")
    found = json.loads(text)
    assert found["head"] is None
    assert [note for note in found["notes"] if note.startswith("there is no head, as nothing was answered")]


def test_a_warning_of_a_scan_is_in_its_json(
    dataset: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)

    def features(*given: Any, **rest: Any) -> dict[str, Any]:
        warnings.warn("it is lukewarm", HeadwaterWarning, stacklevel=2)
        warnings.warn("a library's own", UserWarning, stacklevel=2)
        return {}

    monkeypatch.setattr(scanning, "features_of", features)
    code, text, _ = command("scan", dataset, "--json")
    assert code == 0
    assert json.loads(text)["notes"][-1] == "it is lukewarm"


def test_a_pointer_of_git_lfs_is_said(dataset: Path, tmp_path: Path, command: Command) -> None:
    (dataset / "X_val.npy").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="ascii")
    code, _, error = command("solve", dataset, "--oracle", "terminal", "--out", tmp_path / "s.csv")
    assert code == 2
    assert error.splitlines()[-1].startswith("error: X_val.npy is a pointer of Git LFS")


def test_score_adds_up_what_was_handed_in(tmp_path: Path, command: Command) -> None:
    np.save(tmp_path / "truth.npy", np.array([3, 0, 3, 3]))
    (tmp_path / "sub.csv").write_text("3\n0\n0\n3\n", encoding="ascii")
    given = ["888=0.9", f"3={tmp_path / 'sub.csv'},{tmp_path / 'truth.npy'}"]
    code, text, _ = command("score", *given, columns=60)
    assert code == 0
    assert max(map(len, text.splitlines())) <= 60
    total = float(text.split(" of ", maxsplit=1)[0])
    code, text, _ = command("score", *given, "--json")
    found: dict[str, Any] = json.loads(text)
    by_id = {each["id"]: each for each in found["sets"]}
    assert (by_id[888]["score"], by_id[3]["accuracy"], by_id[0]["accuracy"]) == (7.2, 0.75, None)
    assert found["total"] == pytest.approx(sum(each["score"] for each in found["sets"]))
    assert total == pytest.approx(found["total"], abs=0.005)
    for wrong in ("3", "x=1", "3=good", "11=0.9", "3=1.5", "3=a.csv,b.csv"):
        code, _, error = command("score", wrong)
        assert code == 2, error
    for wrong, said in ((["3=0.9", "03=0.8"], "set 3 is given twice"), (["\u00b2=0.9"], "is no result")):
        code, _, error = command("score", *wrong)
        assert code == 2
        assert said in error


def test_what_is_a_backbone_s_is_not_taken_without_one(dataset: Path, command: Command) -> None:
    for words in (["--weights", "x"], ["--features", "x.store"]):
        code, _, error = command("scan", dataset, *words)
        assert code == 2
        assert f"{words[0]} is for features of a backbone" in error


def test_help_loads_no_torch() -> None:
    program = (
        "import sys; from headwater.cli.main import app\n"
        "for words in (['ambiguity', '--help'], ['ambiguity', 'solve', '--help'], ['ambiguity', 'score']):\n"
        "    try: app(words)\n"
        "    except SystemExit: pass\n"
        "assert not {'torch', 'sklearn', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
