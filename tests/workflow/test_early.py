"""What is wrong with a run is said before any image is extracted; heads that failed are not passed over."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headwater.errors import RequestError
from headwater.heads import load_head
from headwater.heads.methods import recipes
from headwater.workflow import run_config

from .runs import BIRDS, METHODS, draw_images, ran

Command = Callable[..., tuple[int, str, str]]

TREE = """\
out: run
extract: {source: images, backbone: pixels, compile: off, workers: 1}
split: {train: 0.5, test: 0.5, stratify: species}
target: phylum
groups: species
report: false
sweep:
  methods: [ERM, HierRW]
  draws: 1
  seeds: 1
"""
SWEEP = TREE[TREE.index("sweep:") :]
KINGDOMS = "kingdom, phylum, class, order, family, genus, species"


@pytest.fixture
def images(here: Path) -> Path:
    """Sixteen images in the layout of taxa, and a table of some of their genera."""
    draw_images(here / "images", 2)
    Path("sp.csv").write_text("species,genus,red\nParus major,Parus,0\nParus niger,Parus,1\n")
    return here / "images"


def complaint(text: str) -> str:
    with pytest.raises(RequestError) as raised:
        ran(text)
    assert not Path("run").exists()
    return str(raised.value)


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("stratify: species", "stratify: speces", 3, "no column 'speces' for it (did you mean 'species'?)"),
        ("split:", "annotate:\n  table: sp.csv\n  by: speces\nsplit:", 5, "no column 'speces' to join by"),
        ("split:", "annotate:\n- table: sp.csv\n  key: name\n  by: species\nsplit:", 5, "no column 'name'"),
        (
            "split:",
            "annotate: {table: sp.csv, by: species}\nsplit:",
            3,
            "the table leaves out 6 of the values",
        ),
        (
            "split:",
            "annotate: {table: sp.csv, by: genus, key: species, allow_missing: true}\nsplit:",
            3,
            "no value in column 'genus' of images is a key of the table",
        ),
        (
            "split:",
            "annotate: {table: sp.csv, by: genus, replace: true, allow_missing: true}\nsplit:",
            3,
            "the table has the key 'Parus' more than once",
        ),
        (
            "split:",
            "annotate: {table: sp.csv, by: species, allow_missing: true}\nsplit:",
            3,
            "the images bring 'genus' already, with other values; say `replace: true`, or rename the table's",
        ),
        ("split:", "annotate: {table: sp.csv, by: species, edges: true}\nsplit:", 3, "has no column 'child'"),
        (
            "split:",
            "annotate: {table: sp.csv, edges: true}\nsplit:",
            3,
            "edges want a table with the columns",
        ),
        ("split:", "annotate: {table: sp.csv}\nsplit:", 3, "'sp.csv' has no column 'path' to join by"),
        ("split:", "annotate:\n  levels: genus, spec\nsplit:", 4, "no column 'spec' for a level"),
        ("split:", "annotate:\n  levels: genus, genus\nsplit:", 4, "a level is named twice"),
        ("split:", "annotate: {drop: genus}\nsplit:", 3, "a run drops no columns; leave `drop` out"),
        (
            SWEEP,
            "fit: {methods: {HierRW: {level: 9}}}\n",
            7,
            "level = 9: level 9 is out of range; the levels",
        ),
        (SWEEP, "fit:\n  methods:\n    HierRW:\n      level: kingdm\n", 10, f"its levels are {KINGDOMS}"),
        (
            "  draws: 1",
            "  set: {HierRW.level: kingdm}",
            9,
            "HierRW cannot take level = 'kingdm': the taxonomy",
        ),
        ("  draws: 1", "  grid:\n    temper: [0]\n    level: [every, 2, kingdm]", 11, "no level 'kingdm'"),
        ("groups: species\n", "", 0, ""),
        ("draws: 1", "set: {HierSampler.rate: 1}", 9, "'HierSampler.rate' is for HierSampler, which is not"),
        ("[ERM, HierRW]", "[ERM, all]", 8, "give either `all` or names of methods"),
        ("[ERM, HierRW]", "[ERM, DFR-val]", 8, "DFR-val needs rows in split 'val', and there will be only"),
        ("seeds: 1", "seeds: [1, 1]", 10, "seeds must be at least one, different and not negative"),
        (
            SWEEP,
            "fit:\n  methods: HierSampler\n  set: {start: none.pth}\n",
            9,
            "HierSampler cannot take start = 'none.pth': there is no checkpoint at 'none.pth'; leave `start`",
        ),
        (
            "HierRW]\n",
            "HierSampler]\n  set:\n    HierSampler.start: c.pth\n",
            10,
            "'c.pth' has an fc for 3 classes, and the images have 5 classes",
        ),
        ("report: false", "report: {images: nowhere}", 6, "there are no images at 'nowhere'; leave it out"),
    ],
)
def test_it_is_said_before_anything_is_extracted(old: str, new: str, line: int, sentence: str) -> None:
    torch.save({"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)}, "c.pth")
    assert old in TREE
    text = TREE.replace(old, new)
    if not sentence:  # groups that are left out end the tree at the target
        text, line = text.replace("draws: 1", "set: {HierRW.level: 3}"), 8
        sentence = "level 3 is out of range; the levels are 1 to 2: kingdom, phylum"
    said = complaint(text)
    assert said.startswith(f"cfg.yaml:{line}: "), said
    assert sentence in said


@pytest.mark.usefixtures("images")
def test_what_can_be_had_is_not_refused() -> None:
    result = ran(
        TREE.replace("draws: 1", "grid: {level: [every, target, class, '3']}")
        .replace("split:", "annotate: {levels: 'kingdom, phylum, class, species'}\nsplit:")
        .replace("test: 0.5", "val: 0.5")
    )
    assert not result.failed
    assert {each.method for each in result.figures} == {"ERM", "HierRW"}


def test_edges_make_levels_once_and_their_number_is_known(images: Path) -> None:
    phyla = {each.name.split("_", 3)[2] for each in images.iterdir()}
    sides = {each: "dry" if each < "B" or each > "T" else "wet" for each in phyla}
    lines = [f"{phylum},{side}" for phylum, side in sides.items()]
    Path("edges.csv").write_text("\n".join(["child,parent", "dry,", "wet,", *lines]) + "\n")
    text = (
        TREE.replace("split:", "annotate: {table: edges.csv, by: phylum, edges: true}\nsplit:")
        .replace("target: phylum", "target: 1")
        .replace("groups: species", "groups: 2")
        .replace(SWEEP, "fit: {methods: ERM}\n")
    )
    assert "level 3 is out of range; the levels are 1 to 2: level 1, level 2" in complaint(
        text.replace("groups: 2", "groups: 3")
    )
    first = ran(text)
    assert first.classes == ("dry", "wet")
    assert "added level 1, level 2 of edges.csv; levels level 1, level 2" in first.steps[1].text
    assert load_head("run/heads/ERM.safetensors")[1].group_columns == ("level 2",)
    assert not ran(text).changed
    turned = [line.replace("dry", "x").replace("wet", "dry").replace("x", "wet") for line in lines]
    Path("edges.csv").write_text("\n".join(["child,parent", "dry,", "wet,", *turned]) + "\n")
    again = ran(text)  # the run's own columns are made anew
    assert again.changed
    with pytest.raises(RequestError, match=r"cfg\.yaml:3: the edges make 2 levels .* and 1 are named"):
        ran(text.replace("edges: true", "edges: true, levels: side"))


@pytest.mark.usefixtures("images")
def test_the_contests_checkpoint_is_for_the_classes_of_the_folders() -> None:
    state = {"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)}
    torch.save(state, "c.pth")
    six = "logs_dir: run\nnum_epochs: 1\ncheckpoint_path: c.pth\n"
    assert (
        "c.pth' has an fc for 3 classes, at which training would start, and the images have 5"
        in complaint(f"{six}data_path: images\n")
    )
    said = complaint(six)
    assert said.startswith("cfg.yaml:1: there are no images at 'train'")
    assert "name another folder by --source or as `data_path`" in said


@pytest.mark.usefixtures("store")
def test_a_store_says_at_once_that_its_network_takes_no_head() -> None:
    text = BIRDS.replace(METHODS, "fit: {methods: ERM}\nexport:\n")
    assert complaint(text).startswith("cfg.yaml:8: a head on features of 'pixels' cannot be merged into it")


@pytest.mark.usefixtures("store")
def test_what_the_store_alone_tells_is_said_with_its_line_before_training() -> None:
    torch.save({"fc.weight": torch.zeros(2, 4), "fc.bias": torch.zeros(2)}, "c.pth")
    text = BIRDS.replace(
        METHODS, "sweep:\n  methods: [ERM, HierSampler]\n  draws: 1\n  set: {start: c.pth}\n"
    )
    with pytest.raises(RequestError, match=r"cfg\.yaml:10: HierSampler cannot take start = .* \(2, 4\)"):
        ran(text)
    assert not list(Path("run").glob("sweep*"))


@pytest.mark.usefixtures("here")
def test_a_fetched_source_leaves_what_the_file_and_the_tables_tell() -> None:
    Path("sp.csv").write_text("species,red\nParus major,0\n")
    text = TREE.replace("source: images", "source: hf://datasets/a/b/c.tar")
    assert "cfg.yaml:3: 'sp.csv' has no column 'path'" in complaint(
        text.replace("split:", "annotate: {table: sp.csv}\nsplit:")
    )
    assert "cfg.yaml:8: DFR-val needs rows in split 'val'" in complaint(text.replace("HierRW]", "DFR-val]"))
    assert "there is no checkpoint at 'none.pth'" in complaint(
        text.replace("HierRW]", "HierSampler]\n  set: {start: none.pth}")
    )


@pytest.mark.usefixtures("store")
def test_keys_that_exclude_each_other_are_told_where_the_second_stands() -> None:
    text = BIRDS + "sweep: {methods: ERM}\n"
    assert complaint(text).startswith("cfg.yaml:9: give either `fit` or `sweep`")


def test_heads_that_failed_are_told_every_time_and_tried_again(
    store: Path, headwater: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    headwater = functools.partial(headwater, "run", "--config", "cfg.yaml", columns=60)
    Path("cfg.yaml").write_text(
        BIRDS.partition("fit:")[0] + "sweep: {methods: [ERM, RWG], draws: 1, seeds: 1, select: overall}\n"
    )
    real = recipes._train

    def fail(bank: Any, asking: Any, **named: Any) -> Any:
        for place, heads in real(bank, asking, **named):
            broken = dict(asking)[place].planned.method == "RWG"
            yield place, ValueError("no luck today") if broken else heads

    monkeypatch.setattr(recipes, "_train", fail)
    for _ in range(2):
        code, out, err = headwater()
        assert code == 1
        assert "error: 1 head of the sweep failed, such as RWG.00.s0: ValueError: no luck today" in err
        assert "Nothing to do" not in out
        assert "ERM" in out
    code, out, _ = headwater("--json")
    found = json.loads(out)
    assert (code, found["failed"]) == (1, [{"id": "RWG.00.s0", "reason": "ValueError: no luck today"}])
    monkeypatch.setattr(recipes, "_train", real)
    again = run_config("cfg.yaml")
    assert again.changed
    assert not again.failed
    assert {each.method for each in again.figures} == {"ERM", "RWG"}
    code, out, _ = headwater("--json")
    assert (code, json.loads(out)["changed"]) == (0, False)
    assert np.isfinite([each["overall"] for each in json.loads(out)["figures"]]).all()
