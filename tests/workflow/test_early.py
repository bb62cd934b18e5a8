"""What is wrong with a run is said before any image is extracted; heads that failed are not passed over."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from headwater.errors import RequestError
from headwater.heads.methods import recipes

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
    Path("sp.csv").write_text("species,genus,red\nParus major,Parus,0\n")
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
def test_keys_that_exclude_each_other_are_told_where_the_second_stands() -> None:
    text = BIRDS + "sweep: {methods: ERM}\n"
    assert complaint(text).startswith("cfg.yaml:9: give either `fit` or `sweep`")


def test_heads_that_failed_are_told_every_time(
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
