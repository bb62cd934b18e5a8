"""Whole runs: from folders of images to a submission that plain torchvision loads, and what runs again do."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms

from headwater.cli import main as entry
from headwater.errors import HeadwaterError, RequestError
from headwater.heads import load_head
from headwater.store import Plan, ShardRows, StoreWriter, annotate, open_store
from headwater.workflow import RunResult, run_config

TAXA = {  # in the contest's layout; two genera are called Rosa, and two Parus
    "Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris": (200, 90, 90),
    "Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_rubellus": (220, 110, 80),
    "Animalia_Chordata_Aves_Passeriformes_Paridae_Parus_major": (40, 60, 220),
    "Animalia_Chordata_Aves_Passeriformes_Corvidae_Pica_pica": (10, 10, 160),
    "Plantae_Tracheophyta_Magnoliopsida_Rosales_Rosaceae_Rosa_major": (30, 200, 40),
    "Plantae_Tracheophyta_Magnoliopsida_Rosales_Rosaceae_Rosa_canina_canina": (60, 230, 90),
    "Plantae_Bryophyta_Bryopsida_Hypnales_Hypnaceae_Rosa_alba": (150, 250, 10),
    "Fungi_Ascomycota_Lecanoromycetes_Lecanorales_Parmeliaceae_Parus_niger": (230, 230, 240),
}
PHYLA = [
    "Animalia_Annelida",
    "Animalia_Chordata",
    "Fungi_Ascomycota",
    "Plantae_Bryophyta",
    "Plantae_Tracheophyta",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw_images(root: Path, each: int) -> None:
    random = np.random.default_rng(0)
    for number, (taxon, colour) in enumerate(TAXA.items()):
        folder = root / f"{number:05}_{taxon}"
        folder.mkdir(parents=True)
        for image in range(each):
            pixels = np.array(colour) + random.normal(0, 25, (40, 56, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype("u1")).save(folder / f"{image}.png")


def ran(text: str) -> RunResult:
    Path("cfg.yaml").write_text(text)
    return run_config("cfg.yaml")


def steps(result: RunResult) -> dict[str, bool]:
    return {said.step: said.done for said in result.steps}


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """When every file was last written, and which file it is."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def test_from_folders_to_a_submission_in_plain_torchvision(here: Path) -> None:
    draw_images(here / "images", 2)
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None, num_classes=13)
    torch.save(network.state_dict(), "resnet50.pth")
    config = (
        "out: run\nextract: {source: images, weights: resnet50.pth, preprocess: inat-contest, compile: off}\n"
        "split: {train: 0.5, test: 0.5, stratify: species}\ntarget: phylum\ngroups: species\n"
        "fit: {methods: {RWG: {l2: 0.01}}}\nexport: {images: 2}\n"
    )
    result = ran(config)
    assert list(result.classes) == [name.partition("_")[2] for name in PHYLA]  # in the order of their paths
    assert steps(result) == dict.fromkeys(["extract", "split", "fit", "report", "export"], True)
    assert (
        "fc for 5 classes (the checkpoint's own was for 13); its logits on 2 images equal"
        in result.steps[-1].text
    )
    with zipfile.ZipFile("run/submission.zip") as archive:
        assert archive.namelist() == ["resnet.pth"]
        state = torch.load(archive.open("resnet.pth"), weights_only=True)
    submitted = torchvision.models.resnet50(weights=None)
    submitted.fc = torch.nn.Linear(2048, len(PHYLA))
    submitted.load_state_dict(state, strict=True)
    prepare = transforms.Compose(
        [
            transforms.Resize(224),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.4556, 0.4714, 0.3700), (0.2370, 0.2318, 0.2431)),
        ]
    )
    store = open_store("run/features.store")
    rows = np.arange(0, len(store), 5)
    pictures = torch.stack([prepare(Image.open(here / "images" / store.keys[row])) for row in rows])
    with torch.no_grad():
        on_images = submitted.eval()(pictures).numpy()
    head, info = load_head("run/heads/RWG.safetensors")
    on_features = head.logits(np.asarray(store.features[rows], dtype=np.float32))
    assert info.classes == result.classes
    assert np.abs(on_images - on_features).max() < 5e-3 * np.abs(on_features).max()
    assert (on_images.argmax(1) == on_features.argmax(1)).all()
    before = written(here / "run")
    again = ran(config)
    assert not again.done
    assert written(here / "run") == before
    assert again.figures == result.figures


def test_a_submission_that_disagrees_with_the_kept_features_is_not_kept(here: Path) -> None:
    draw_images(here / "images", 2)
    config = (
        "out: run\nextract: {source: images, backbone: resnet18, weights: random, compile: off}\n"
        "split: {train: 0.5, test: 0.5, stratify: species}\ntarget: kingdom\nreport: false\n"
        "fit: {methods: ERM}\n"
    )
    result = ran(config + "export: {out: merged.pth, images: 3}\n")
    assert result.submission == Path("merged.pth")
    assert "its logits on 3 images equal" in result.steps[-1].text
    assert not list(Path("run").glob(".weights*"))
    with pytest.raises(RequestError, match=r"cfg\.yaml:2: .*views: 0 → 1"):
        ran(config.replace("compile: off", "out: run/features.store, views: 1"))
    for image in (here / "images").rglob("*.png"):
        Image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 40).save(image)
    Path("merged.pth").unlink()
    with pytest.raises(HeadwaterError, match=r"times what rounding explains, so 'merged\.pth' was not written"):
        ran(config + "export: {out: merged.pth, images: 3}\n")
    assert not Path("merged.pth").exists()
    shutil.rmtree("images")
    Path("run.yaml").write_text(
        "out: other\nstore: run/features.store\nsplit: split\ntarget: kingdom\nfit: {methods: ERM}\nexport:\n"
        "report: false\n"
    )
    away = run_config("run.yaml")
    assert away.submission == Path("other/submission.zip")
    assert any("not tried on images, since there is no" in note for note in away.notes)


@pytest.fixture
def store(here: Path) -> Path:
    """A store with classes, places and no split, whose features tell both."""
    random = np.random.default_rng(0)
    label, place = random.integers(0, 2, 200), random.integers(0, 2, 200)
    features = random.normal(size=(200, 5)).astype("f4")
    features[:, 0] += 3 * label
    features[:, 1] += 3 * place
    keys = [f"{number}.jpg" for number in range(200)]
    plan = Plan.for_keys(keys, recipe={"backbone": "pixels"}, dim=5, dtype="float32")
    with StoreWriter(here / "birds.store", plan, keys) as writer:
        zeros = np.zeros(200, dtype=np.int32)
        writer.write(0, ShardRows(features, None, zeros.astype("u1"), [""] * 200, zeros, zeros))
        writer.finish({})
    annotate("birds.store", {"path": keys, "class": np.array(["land", "water"])[label].tolist()})
    lines = [f"{key},{'ns'[where]}" for key, where in zip(keys, place.tolist(), strict=True)]
    Path("places.csv").write_text("path,place\n" + "\n".join(lines) + "\n")
    return here / "birds.store"


METHODS = "fit:\n  methods: {ERM: , RWG: {l2: 0.1}}"
BIRDS = """\
out: run
store: birds.store
annotate: {table: places.csv}
split: {train: 0.5, val: 0.25, test: 0.25}
groups: place
report: false
fit:
  methods: {ERM: , RWG: {l2: 0.1}}
"""


@pytest.mark.usefixtures("store")
def test_only_what_a_change_touches_is_done_again(here: Path) -> None:
    assert steps(ran(BIRDS)) == {"extract": False, "annotate": True, "split": True, "fit": True}
    assert not ran(BIRDS).done
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
    with pytest.raises(RequestError, match=r"cfg\.yaml:5: there is no level 4|cfg\.yaml:6: .*4"):
        ran(text.replace("groups: 3", "groups: 4"))
    result = ran(text)
    assert result.classes == ("P", "Q")
    assert load_head("run/heads/RWG.safetensors")[1].group_names == tuple(species)
    assert open_store(store).annotations.levels == ("phylum", "genus", "name")
    assert not ran(text).done


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
    with pytest.raises(RequestError, match=r"cfg\.yaml:6: 'page\.html' exists already"):
        ran(BIRDS.replace("report: false", "report: page.html"))
    assert Path("page.html").read_text() == "mine"


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


@pytest.mark.usefixtures("store")
def test_a_sweep_grows_selects_anew_and_stands_aside(here: Path) -> None:
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
    back = ran(plain + "sweep: {methods: [ERM, RWG, RWY], draws: 1, seeds: 1, select: balanced}\n")
    assert (back.heads, back.steps[-1].done) == (Path("run/sweep"), False)
    Path("other/sweep").mkdir(parents=True)
    Path("other/sweep/mine.txt").write_text("mine")
    beside = ran(plain.replace("out: run", "out: other") + "sweep: {methods: RWG, draws: 1, seeds: 1}\n")
    assert beside.heads == Path("other/sweep-2")


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("store: birds.store", "store: bird.store", 2, "there is no store at bird.store"),
        ("places.csv", "place.csv", 3, "there is no table at 'place.csv'"),
        ("groups: place", "groups: plaice", 5, "no column 'plaice' for it (did you mean 'place'?)"),
        ("groups: place", "target: clas", 5, "(did you mean 'class'?)"),
        ("split: {train: 0.5, val: 0.25, test: 0.25}", "split: part", 4, "no split column 'part'"),
        ("ERM: ,", "ERN: ,", 8, "there is no method 'ERN' (did you mean 'ERM'?)"),
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


def test_the_contests_form_trains_with_its_sampler(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the network left out: its features are drawn, so that what is tested is what becomes of them."""
    from headwater.workflow import run

    draw_images(here / "train", 3)
    torch.save({"fc.weight": torch.zeros(5, 6), "fc.bias": torch.arange(5.0)}, "c.pth")
    monkeypatch.setattr(run, "extract_store", _drawn_features)
    Path("cfg.yaml").write_text(
        "num_epochs: 3\nlr: 1e-9\nbatch_size: 4\nlogs_dir: logs\nnum_workers: 1\ncheckpoint_path: c.pth\n"
    )
    monkeypatch.setattr(run, "_submit", lambda *_: (Path("logs/resnet.pth"), True, "", ""))
    result = run_config("cfg.yaml")
    assert [(each.method, each.split) for each in result.figures] == [("HierSampler", "train")]
    assert any("drew a new crop" in note for note in result.notes)
    head, info = load_head("logs/heads/HierSampler.safetensors")
    assert (info.target, info.group_columns) == ("phylum", ("species",))
    assert (info.settings["epochs"], info.settings["batch"], info.settings["rate"]) == (3, 4, 1e-9)
    # Of 3 images of each species: the third phylum has one, so that the two before it get a fourth turn.
    assert info.choices["rows_per_epoch"] == 3 * 5 + 2
    # At so small a rate it ends where it starts: at the checkpoint's own fc.
    np.testing.assert_allclose(head.bias, np.arange(5), atol=1e-6)
    torch.save({"fc.weight": torch.zeros(13, 6), "fc.bias": torch.zeros(13)}, "c.pth")
    with pytest.raises(RequestError, match=r"cfg\.yaml:6: 'c\.pth' has an fc for 13 classes"):
        run_config("cfg.yaml")


def _drawn_features(asked: Any, record: Any, images: Any, progress: Any) -> Any:
    from headwater.workflow.features import Extracted

    place = record.folder / "features.store"
    if place.exists():
        return Extracted(place, False, "")
    source = images.source
    keys = list(source.keys)
    features = np.random.default_rng(0).normal(size=(len(keys), 6)).astype("f4")
    plan = Plan.for_keys(keys, recipe={"backbone": "resnet50"}, dim=6, dtype="float32", source=source.name)
    zeros = np.zeros(len(keys), dtype=np.int32)
    with StoreWriter(place, plan, keys) as writer:
        writer.write(0, ShardRows(features, None, zeros.astype("u1"), [""] * len(keys), zeros, zeros))
        writer.finish({})
    annotate(place, {"path": keys, **source.annotations})
    return Extracted(place, True, "")


@pytest.mark.usefixtures("store")
def test_the_command(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def headwater(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["headwater", "run", *words])
        monkeypatch.setenv("COLUMNS", "60")
        code = 0
        try:
            entry.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    Path("cfg.yaml").write_text(BIRDS)
    code, out, err = headwater("--config", "cfg.yaml")
    assert code == 0
    assert [line.split()[0] for line in err.splitlines()][:2] == ["extract", "annotate"]
    assert "fitted ERM, RWG; 2 heads in run/heads" in err
    assert "Accuracy on test in %, 50 rows" in out
    assert all(len(line) <= 60 for line in out.splitlines())
    code, out, err = headwater("--config", "cfg.yaml")
    assert "Nothing to do: all that cfg.yaml asks for is in run." in out
    code, out, _ = headwater("--config", "cfg.yaml", "--json", "--out", "other")
    found = json.loads(out)
    assert (found["out"], found["heads"], found["done"]) == ("other", "other/heads", True)
    assert len(found["figures"]) == 6
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
