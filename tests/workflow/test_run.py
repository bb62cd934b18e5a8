"""Runs over a store: what is done again, what is found again, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater.errors import HeadwaterError, RequestError
from headwater.heads import Task, load_head
from headwater.heads.sweeps.run_folder import differences
from headwater.heads.tasks.task import Origin
from headwater.store import annotate, open_store
from headwater.workflow.figures import measure
from headwater.workflow.record import Record
from headwater.workflow.run import figures_of
from headwater.workflow.training import Trained

from .runs import BIRDS, METHODS, ran, steps, write_store

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def headwater(headwater: Command) -> Command:
    """`headwater run` with these words, in a narrow terminal; its exit status and what it printed."""
    return functools.partial(headwater, "run", columns=60)


@pytest.mark.usefixtures("store")
def test_only_what_a_change_touches_is_done_again(here: Path) -> None:
    assert steps(ran(BIRDS)) == {"extract": False, "annotate": True, "split": True, "fit": True}
    assert not ran(BIRDS).changed
    erm = Path("run/heads/ERM.safetensors").stat().st_mtime_ns
    changed = ran(BIRDS.replace("l2: 0.1", "l2: 0.2"))
    assert steps(changed) == {"extract": False, "annotate": False, "split": False, "fit": True}
    assert load_head("run/heads/RWG.safetensors")[1].settings["l2"] == 0.2
    assert Path("run/heads/ERM.safetensors").stat().st_mtime_ns == erm
    fewer = ran(BIRDS.replace("ERM: , ", ""))
    assert "deleted ERM" in fewer.steps[-1].text
    assert sorted(path.name for path in Path("run/heads").iterdir()) == ["RWG.safetensors"]
    # Another split is another task: its heads stand beside those of the first, which are found again.
    other = ran(BIRDS.replace("test: 0.25", "test: 0.25, seed: 1"))
    assert steps(other) == {"extract": False, "annotate": False, "split": True, "fit": True}
    assert other.heads == Path("run/heads-2")
    assert ran(BIRDS).heads == Path("run/heads")
    assert "fitted" not in ran(BIRDS).steps[-1].text


@pytest.mark.usefixtures("store")
def test_a_changed_table_changes_its_columns_alone(here: Path) -> None:
    ran(BIRDS)
    text = Path("places.csv").read_text()
    Path("places.csv").write_text(
        text.replace("path,place", "path,place,more").replace(",n", ",n,1").replace(",s", ",s,2")
    )
    again = ran(BIRDS)
    assert steps(again) == {"extract": False, "annotate": True, "split": False, "fit": False}
    assert again.steps[1].text == "added more of places.csv"
    Path("places.csv").write_text(text.replace(",s", ",t"))
    assert steps(ran(BIRDS)) == {"extract": False, "annotate": True, "split": False, "fit": True}
    assert set(open_store("birds.store").annotations["place"].texts()) == {"n", "t"}


def test_a_table_of_species_brings_the_levels(store: Path) -> None:
    species = ["Aa bb", "Aa cc", "Dd ee", "Ff gg"]
    random = np.random.default_rng(1)
    annotate(store, {"path": open_store(store).keys.tolist(), "name": random.choice(species, 200).tolist()})
    Path("taxa.csv").write_text(
        "name,phylum,genus\nAa bb,P,Aa\nAa cc,P,Aa\nDd ee,Q,Dd\nFf gg,Q,Ff\nHh ii,R,Hh\n"
    )
    text = BIRDS.replace("{table: places.csv}", "{table: taxa.csv, by: name, levels: 'phylum,genus,name'}")
    text = text.replace("groups: place", "target: 1\ngroups: 3")
    with pytest.raises(RequestError, match=r"cfg\.yaml:6: level 4 is out of range; the levels are 1 to 3"):
        ran(text.replace("groups: 3", "groups: 4"))
    result = ran(text)
    assert result.classes == ("P", "Q")
    assert load_head("run/heads/RWG.safetensors")[1].group_names == tuple(species)
    assert open_store(store).annotations.levels == ("phylum", "genus", "name")
    assert not ran(text).changed


def test_what_the_user_made_is_never_replaced(store: Path) -> None:
    keys = open_store(store).keys.tolist()
    annotate(store, {"path": keys, "split": ["train", "test"] * 100, "place": ["mine"] * 200})
    wants = {
        BIRDS: (3, "has the column 'place' already, with values that this run did not give it"),
        BIRDS.replace("annotate: {table: places.csv}\n", ""): (3, "has the column 'split' already"),
    }
    for text, (line, sentence) in wants.items():
        with pytest.raises(RequestError) as raised:
            ran(text)
        assert str(raised.value).startswith(f"cfg.yaml:{line}: ")
        assert sentence in str(raised.value)
    assert open_store(store).annotations["place"].texts() == ["mine"] * 200
    used = ran(
        BIRDS.replace("split: {train: 0.5, val: 0.25, test: 0.25}\n", "").replace("csv", "csv, replace: true")
    )
    assert {each.split for each in used.figures} == {"train", "test"}
    Path("run/heads/ERM.safetensors").write_bytes(b"mine")
    changed = BIRDS.replace("csv", "csv, replace: true").replace("ERM: ,", "ERM: {l2: 0.5},")
    with pytest.raises(RequestError, match="was not made by this run"):
        ran(changed.replace("split: {train: 0.5, val: 0.25, test: 0.25}\n", ""))
    assert Path("run/heads/ERM.safetensors").read_bytes() == b"mine"
    Path("page.html").write_text("mine")
    message = r"cfg\.yaml:6: 'page\.html' exists already.*`report: {replace: true}`$"
    with pytest.raises(RequestError, match=message):
        ran(BIRDS.replace("report: false", "report: page.html"))
    assert Path("page.html").read_text() == "mine"


def test_a_file_that_the_run_made_stays_its_own_when_another_is_asked_for(tmp_path: Path) -> None:
    record, page, other = Record(tmp_path), tmp_path / "report.html", tmp_path / "other.html"
    for path in (page, other):
        record.expect("report", path)
        path.write_text(path.name)
        record.remember("report", "request", path)
    again = Record.of(tmp_path)
    assert again.is_ours("report", page)
    assert again.is_done("report", "request", page)
    assert again.is_ours("report", other)
    assert not again.is_ours("export", page)
    again.expect("report", page)  # and there and back
    page.write_text("anew")
    again.remember("report", "other request", page)
    assert not again.is_done("report", "request", page)
    assert again.is_done("report", "request", other)
    other.write_text("mine")
    assert not Record.of(tmp_path).is_ours("report", other)


@pytest.mark.usefixtures("store")
def test_a_run_that_was_cut_short_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.workflow import training

    real = training.fit_many

    def cut(*given: Any, **named: Any) -> Any:
        real(*given, **named)
        raise HeadwaterError("the disk is full")

    monkeypatch.setattr(training, "fit_many", cut)
    with pytest.raises(HeadwaterError, match="full"):
        ran(BIRDS)
    assert Path("run/heads/ERM.safetensors").exists()
    monkeypatch.setattr(training, "fit_many", real)
    assert "fitted ERM, RWG" in ran(BIRDS).steps[-1].text


def test_other_features_under_the_same_labels_are_another_task(store: Path) -> None:
    """A store made anew in its place, where the rows of test alone differ: not even the heads do."""
    plain = BIRDS.partition("fit:")[0]
    swept = plain + "sweep: {methods: [ERM, RWG], draws: 1, seeds: 1}\n"
    first, first_swept = ran(BIRDS), ran(swept)
    ran(BIRDS)
    there = open_store(store)
    features = np.array(there.features[:])
    test = np.array(there.annotations["split"].texts()) == "test"
    features[test] *= -1
    keys = there.keys.tolist()
    annotations = (store / "annotations.h5").read_bytes()
    shutil.rmtree(store)
    write_store(store, keys, features)
    (store / "annotations.h5").write_bytes(annotations)
    again = ran(BIRDS)
    assert steps(again) == {"extract": False, "annotate": False, "split": False, "fit": True}
    assert (first.heads, again.heads) == (Path("run/heads"), Path("run/heads-2"))
    for split in ("train", "val", "test"):
        one, other = ([each for each in result.figures if each.split == split] for result in (first, again))
        assert (one == other) == (split != "test")
    fresh = ran(
        BIRDS.replace("out: run", "out: fresh").partition("annotate:")[0]
        + "split: split\n"
        + METHODS
        + "\ngroups: place\nreport: false\n"
    )
    assert again.figures == fresh.figures
    assert (first_swept.heads, ran(swept).heads) == (Path("run/sweep"), Path("run/sweep-2"))


def test_figures_of_the_same_heads_on_other_rows_are_measured_anew(store: Path) -> None:
    result = ran(BIRDS)
    assert result.heads is not None
    heads = {path.stem: path for path in sorted(result.heads.iterdir())}
    trained = Trained(result.heads, heads, None, [], "")
    task = Task.from_store(open_store(store), "class", ["place"])
    mirrored = dataclasses.replace(task, features=-np.array(task.features[:]), origin=Origin())
    anew, _ = figures_of(mirrored, trained, Record.of(result.folder))
    assert anew == measure(mirrored, heads) != list(result.figures)
    assert Record.of(result.folder).is_ours("results", Path("run/results.csv"))


@pytest.mark.usefixtures("store")
def test_a_sweep_grows_selects_anew_and_stands_aside(here: Path, headwater: Command) -> None:
    plain = BIRDS.partition("fit:")[0]
    first = ran(plain + "sweep: {methods: [ERM, RWG], draws: 1, seeds: 1, select: overall}\n")
    assert first.picked == Path("run/sweep/picked.safetensors")
    assert load_head(first.picked)[1].chosen_by == "overall"
    assert {each.method for each in first.figures} == {"ERM", "RWG"}
    more = ran(plain + "sweep: {methods: [ERM, RWG, RWY], draws: 1, seeds: 1, select: balanced}\n")
    assert more.heads == Path("run/sweep")
    assert load_head(Path("run/sweep/picked.safetensors"))[1].chosen_by == "balanced"
    fewer = ran(plain + "sweep: {methods: RWG, draws: 1, seeds: 1}\n")
    assert fewer.heads == Path("run/sweep-2")
    said = (
        "began run/sweep-2, since run/sweep holds a sweep of more or of others and stays; 1 of 1 recipes were"
    )
    assert said in fewer.steps[-1].text
    assert fewer.picked_method == "RWG"
    assert len(list(Path("run/sweep-2/trained").iterdir())) == 1
    name = "RWG.safetensors"  # the very head that was there
    old, new = (load_head(Path("run") / each / "heads" / name)[0] for each in ("sweep", "sweep-2"))
    assert old == new
    back = ran(plain + "sweep: {methods: [ERM, RWG, RWY], draws: 1, seeds: 1, select: balanced}\n")
    assert (back.heads, back.steps[-1].changed) == (Path("run/sweep"), False)
    code, out, _ = headwater("--config", "cfg.yaml")
    assert code == 0
    rows = [line for line in out.splitlines() if "<- picked" in line]
    assert [line.split()[0] for line in rows] == [back.picked_method]
    assert "<- the head that was picked: run/sweep/picked" in out
    interval = next(
        each for each in back.figures if (each.method, each.split) == (back.picked_method, "test")
    )
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low <= interval.worst_area <= interval.high
    assert f"{100 * interval.low:.1f}-{100 * interval.high:.1f}" in rows[0]
    assert "the mean accuracy of the worst K % of the groups, averaged" in " ".join(out.split())
    Path("other/sweep").mkdir(parents=True)
    Path("other/sweep/mine.txt").write_text("mine")
    beside = ran(plain.replace("out: run", "out: other") + "sweep: {methods: RWG, draws: 1, seeds: 1}\n")
    assert beside.heads == Path("other/sweep-2")
    request = json.loads(Path("run/sweep/sweep.json").read_text())
    assert differences(Path("run/sweep"), {**request, "candidates": []}) == []
    assert differences(Path("run/sweep"), {**request, "folds": 4, "split": "part"}) == ["split", "folds"]


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("store: birds.store", "store: bird.store", 2, "there is no store at bird.store"),
        ("places.csv", "place.csv", 3, "there is no table at 'place.csv'"),
        ("groups: place", "groups: plaice", 5, "no column 'plaice' for it (did you mean 'place'?)"),
        ("groups: place", "target: clas", 5, "(did you mean 'class'?)"),
        ("split: {train: 0.5, val: 0.25, test: 0.25}", "split: part", 4, "no split column 'part'"),
        ("ERM: ,", "ERN: ,", 8, "there is no method 'ERN' (did you mean 'ERM'?)"),
        ("report: false", "report: maybe", 6, "report cannot be 'maybe': say true or false, or name a page"),
        ("l2: 0.1", "l3: 0.1", 8, "RWG has no setting 'l3' (there is 'max_iterations', 'l2', 'standardise')"),
        ("l2: 0.1", "l2: -1", 8, "RWG cannot take l2 = -1"),
        ("fit:", "fit:\n  set: {l3: 1}", 8, "none of the methods has the setting 'l3'"),
        (METHODS, "sweep:\n  methods: RWG\n  grid: {l3: 1}", 9, "none of the methods has the setting 'l3'"),
        (METHODS, "sweep:\n  methods: [ERM, RWG]\n  set:\n    RWG.l2: -1", 10, "RWG cannot take l2 = -1"),
        (METHODS, "sweep:\n  select: worst", 8, "there is no selection rule 'worst'"),
        ("ERM: ,", "ERM: , erm: ,", 8, "the method ERM stands here twice"),
        ("fit:", "fit:\n  views: true", 8, "the store has no augmented views"),
        ("fit:", "export: {out: a.bin, method: ERM}\nfit:", 7, "'a.bin' must end in .pth"),
        ("fit:", "export:\nfit:", 7, "2 methods are fitted and one head can be exported"),
        ("fit:", "export:\n  method: RWY\nfit:", 8, "RWY is not among the methods: ERM, RWG"),
        (
            "fit:",
            "export:\n  weights: a/b.pth\n  method: RWG\nfit:",
            8,
            "there is no checkpoint at 'a/b.pth'",
        ),
    ],
)
@pytest.mark.usefixtures("store")
def test_wrong_names_are_told_with_their_line_before_any_work(
    here: Path, old: str, new: str, line: int, sentence: str
) -> None:
    with pytest.raises(RequestError) as raised:
        ran(BIRDS.replace(old, new))
    said = str(raised.value)
    assert said.startswith(f"cfg.yaml:{line}: "), said
    assert sentence in said
    assert not Path("run").exists()
    assert open_store("birds.store").annotations.names == ("class",)


@pytest.mark.usefixtures("store")
def test_the_command(here: Path, headwater: Command) -> None:
    places = Path("places.csv").read_text().splitlines()
    rare = [line.replace(",n", ",x").replace(",s", ",x") for line in places[1:9]]
    Path("places.csv").write_text("\n".join([places[0], *rare, *places[9:]]) + "\n")
    Path("cfg.yaml").write_text(BIRDS)
    code, out, err = headwater("--config", "cfg.yaml")
    assert code == 0
    assert [line.split()[0] for line in err.splitlines()][:2] == ["extract", "annotate"]
    assert "fitted ERM, RWG; 2 heads in run/heads" in err
    assert "Accuracy on test in %, 50 rows" in out
    assert all(len(line) <= 60 for line in out.splitlines())
    assert "hardly any rows in train (" in out
    code, out, err = headwater("--config", "cfg.yaml")
    assert "Nothing to do: all that cfg.yaml asks for is in run." in out
    code, out, _ = headwater("--config", "cfg.yaml", "--json", "--out", "other")
    found = json.loads(out)
    assert (found["out"], found["heads"], found["changed"]) == ("other", "other/heads", True)
    assert len(found["figures"]) == 6
    assert all("x" in name and rows < 5 for name, rows in found["small_groups"].items())
    assert found["small_groups"]
    code, _, err = headwater("--config", "none.yaml")
    assert (code, err.startswith("error: 'none.yaml' does not exist")) == (2, True)
    code, _, err = headwater()
    assert (code, "--config FILE" in err) == (2, True)
    code, out, _ = headwater("--example")
    assert code == 0
    assert out.startswith("# headwater run --config THIS_FILE")
    Path("cfg.yaml").write_text("out: o\nextract: {source: pictures}\n")
    assert headwater("--config", "cfg.yaml")[2] == "error: cfg.yaml:2: there are no images at 'pictures'\n"
    code, _, err = headwater("--config", "cfg.yaml", "--source", "images")
    assert (code, err) == (2, "error: there are no images at 'images', which --source names\n")
    Path("cfg.yaml").write_text(BIRDS)
    code, _, err = headwater("--config", "cfg.yaml", "--source", "images")
    assert code == 2
    assert "a source is for the key `extract`" in err
