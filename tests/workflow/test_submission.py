"""Whole runs from folders of images to a submission that plain torchvision loads."""

from __future__ import annotations

import inspect
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch.nn import functional
from torchvision import transforms
from torchvision.models._api import BUILTIN_MODELS

from headwater.errors import HeadwaterError, RequestError
from headwater.extract.backbones_torchvision import torchvision_backbone
from headwater.heads import load_head
from headwater.store import annotate, open_store, set_levels
from headwater.workflow import run_config, submission

from .runs import PHYLA, draw_images, ran, steps, written

PREPARE = transforms.Compose(
    [
        transforms.Resize(224),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize((0.4556, 0.4714, 0.3700), (0.2370, 0.2318, 0.2431)),
    ]
)


class Tiny(torch.nn.Module):
    """A network with the names of a ResNet's first and last layers and nothing between."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 24, 32, stride=32)
        self.fc = torch.nn.Linear(24, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv1(images).relu().mean(dim=(2, 3)))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes torchvision's ResNets tiny."""
    for name in ("resnet18", "resnet50"):

        def build(num_classes: int = 1000, **_: Any) -> Tiny:
            return Tiny(num_classes)

        real = getattr(torchvision.models, name)
        build.__signature__ = inspect.signature(real)  # type: ignore[attr-defined]
        build.__module__ = real.__module__
        monkeypatch.setitem(BUILTIN_MODELS, name, build)
        monkeypatch.setattr(torchvision.models, name, build)
    torchvision_backbone.cache_clear()
    yield
    torchvision_backbone.cache_clear()


def checkpoint(network: str, classes: int, file: str) -> dict[str, Any]:
    torch.manual_seed(0)
    state = torchvision.models.get_model(network, weights=None, num_classes=classes).state_dict()
    torch.save(state, file)
    return state


def logits_on(pictures: list[Path], network: str, state: dict[str, Any], classes: int) -> Any:
    """What a plain torchvision network says, with the submission loaded as the contest loads it."""
    with torch.device("meta"):
        plain = torchvision.models.get_model(network, weights=None)
        plain.fc = torch.nn.Linear(plain.fc.in_features, classes)
    plain.load_state_dict(state, strict=True, assign=True)
    with torch.no_grad():
        return plain.eval()(torch.stack([PREPARE(Image.open(each)) for each in pictures])).numpy()


def test_from_folders_to_a_submission_in_plain_torchvision(here: Path) -> None:
    draw_images(here / "images", 2)
    checkpoint("resnet18", 13, "resnet18.pth")
    config = (
        "out: run\nextract: {source: images, backbone: resnet18, weights: resnet18.pth, "
        "compile: off, workers: 1, preprocess: inat-contest}\n"
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
    assert "prepare its images so: resize to shorter side 224" in result.steps[-1].text
    assert "(0.4556, 0.4714, 0.37)" in result.steps[-1].text
    assert result.preprocessing is not None
    assert (result.picked_method, result.preprocessing["crop"]) == ("RWG", 224)
    with zipfile.ZipFile("run/submission.zip") as archive:
        assert archive.namelist() == ["resnet.pth"]
        state = torch.load(archive.open("resnet.pth"), weights_only=True)
    store = open_store("run/features.store")
    rows = np.arange(0, len(store), 5)
    pictures = [here / "images" / store.keys[row] for row in rows]
    on_images = logits_on(pictures, "resnet18", state, len(PHYLA))
    head, info = load_head("run/heads/RWG.safetensors")
    on_features = head.logits(np.asarray(store.features[rows], dtype=np.float32))
    assert info.classes == result.classes
    assert np.abs(on_images - on_features).max() < 5e-3 * np.abs(on_features).max()
    assert (on_images.argmax(1) == on_features.argmax(1)).all()
    before = written(here / "run")
    again = ran(config)
    assert not again.changed
    assert written(here / "run") == before
    assert again.figures == result.figures
    assert again.preprocessing == result.preprocessing


@pytest.mark.usefixtures("tiny")
def test_the_contests_six_keys_train_to_its_file(here: Path) -> None:
    """Two species of one image each in three phyla: every epoch sees all six, in one batch."""
    phyla = ("Animalia_Annelida", "Animalia_Chordata", "Plantae_Tracheophyta")
    draw_images(here / "train", 1, *phyla)
    given = checkpoint("resnet50", 3, "c.pth")
    Path("cfg.yaml").write_text(
        "num_epochs: 3\nlr: 1e-2\nbatch_size: 8\nlogs_dir: logs\nnum_workers: 1\ncheckpoint_path: c.pth\n"
    )
    result = run_config("cfg.yaml")
    assert result.submission == Path("logs/resnet.pth")
    assert [(each.method, each.split) for each in result.figures] == [("HierSampler", "train")]
    assert any("drew a new crop" in note for note in result.notes)
    head, info = load_head("logs/heads/HierSampler.safetensors")
    assert (info.target, info.group_columns) == ("phylum", ("species",))
    assert (info.settings["epochs"], info.settings["batch"], info.settings["rate"]) == (3, 8, 1e-2)
    assert info.choices["rows_per_epoch"] == 6
    store = open_store(result.store)
    features = torch.from_numpy(np.asarray(store.features[:], dtype="f4")).double()
    target = torch.tensor([next(i for i, each in enumerate(phyla) if each in key) for key in store.keys])
    weight = given["fc.weight"].double().requires_grad_()
    bias = given["fc.bias"].double().requires_grad_()
    steps_of = torch.optim.SGD([weight, bias], lr=1e-2)
    for _ in range(3):
        steps_of.zero_grad()
        functional.cross_entropy(features @ weight.T + bias, target).backward()
        steps_of.step()
    moved = float((weight.detach() - given["fc.weight"]).abs().max())
    assert moved > 0
    np.testing.assert_allclose(head.weight, weight.detach().numpy(), rtol=0, atol=1e-3 * moved)
    state = torch.load("logs/resnet.pth", weights_only=True)
    on_images = logits_on([here / "train" / key for key in store.keys[:2]], "resnet50", state, 3)
    expected = head.logits(features[:2].float().numpy())
    assert np.abs(on_images - expected).max() < 5e-3 * np.abs(expected).max()
    given["fc.weight"], given["fc.bias"] = torch.zeros(13, 24), torch.zeros(13)
    torch.save(given, "c.pth")
    with pytest.raises(RequestError, match=r"cfg\.yaml:6: 'c\.pth' has an fc for 13 classes"):
        run_config("cfg.yaml")
    torch.save({**given, "fc.bias": torch.zeros(3)}, "c.pth")
    with pytest.raises(
        RequestError, match=r"cfg\.yaml:6: .*'c\.pth' hold fc\.weight of shape \(13, 24\) and"
    ):
        run_config("cfg.yaml")
    del given["fc.weight"]
    torch.save({**given, "fc.bias": torch.zeros(())}, "c.pth")
    message = r"'c\.pth' hold fc\.bias of shape \(\), which is no number for each class; "
    # and does not say to leave it out, as it starts there
    with pytest.raises(
        RequestError, match=rf"cfg\.yaml:6: .*{message}give a checkpoint of these classes, or"
    ):
        run_config("cfg.yaml")


@pytest.mark.usefixtures("tiny")
def test_a_submission_that_disagrees_with_the_kept_features_replaces_nothing(here: Path) -> None:
    draw_images(here / "images", 2)
    config = (
        "out: run\nextract: {source: images, backbone: resnet18, weights: random, compile: off, workers: 1}\n"
        "split: {train: 0.5, test: 0.5, stratify: species}\ntarget: kingdom\nreport: false\n"
        "fit: {methods: ERM}\n"
    )
    result = ran(config + "export: {out: merged.pth, images: 3}\n")
    assert result.submission == Path("merged.pth")
    assert "its logits on 3 images equal" in result.steps[-1].text
    with pytest.raises(RequestError, match=r"cfg\.yaml:2: .*views: 0 → 1"):
        ran(config.replace("compile: off", "out: run/features.store, views: 1"))
    for image in (here / "images").rglob("*.png"):
        Image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 40).save(image)
    Path("merged.pth").write_bytes(b"mine")
    message = r"times what rounding explains, so 'merged\.pth' was not written"
    with pytest.raises(HeadwaterError, match=message):
        ran(config + "export: {out: merged.pth, images: 3, replace: true}\n")
    assert Path("merged.pth").read_bytes() == b"mine"
    assert not list(here.glob(".export*"))
    shutil.rmtree("images")
    Path("run.yaml").write_text(
        "out: other\nstore: run/features.store\nsplit: split\ntarget: kingdom\nfit: {methods: ERM}\nexport:\n"
        "report: false\n"
    )
    away = run_config("run.yaml")
    assert away.submission == Path("other/submission.zip")
    assert any("not tried on images, since there is no" in note for note in away.notes)


@pytest.mark.usefixtures("tiny")
def test_other_weights_of_the_same_name_are_looked_at(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_images(here / "images", 1)
    state = checkpoint("resnet18", 5, "w.pth")
    shutil.copy("w.pth", "copy.pth")
    config = (
        "out: run\nextract: {source: images, backbone: resnet18, weights: w.pth, compile: off, workers: 1}\n"
        "split: {train: 1}\ntarget: kingdom\nreport: false\nfit: {methods: ERM}\n"
        "export:\n  weights: copy.pth\n  images: 1\n"
    )
    assert ran(config).changed
    assert not ran(config).changed
    state["fc.weight"], state["fc.bias"] = torch.zeros(9, 24), torch.zeros(9)
    torch.save(state, "copy.pth")
    assert steps(ran(config))["export"]
    before = Path("run/submission.zip").read_bytes()
    torch.save({**state, "conv1.weight": state["conv1.weight"] + 1}, "copy.pth")
    with pytest.raises(RequestError, match=r"cfg\.yaml:8: .*copy\.pth"):
        ran(config)
    torch.save(state, "copy.pth")
    monkeypatch.setattr(submission, "_logits", lambda *_: np.full((1, 3), np.nan, "f4"))
    with pytest.raises(HeadwaterError, match=r"are not all finite, so 'run/submission\.zip' was not written"):
        ran(config.replace("images: 1", "images: 2"))
    assert Path("run/submission.zip").read_bytes() == before


def test_columns_that_were_added_to_the_runs_own_store_are_known(here: Path) -> None:
    draw_images(here / "images", 2)
    config = "out: run\nextract: {source: images, backbone: pixels, compile: off, workers: 1}\n"
    place = ran(config).store
    wanted = config + "target: habitat\ngroups: 2\nsplit: part\nreport: false\nfit: {methods: ERM}\n"
    with pytest.raises(RequestError, match=r"cfg\.yaml:3: there will be no column 'habitat'"):
        ran(wanted)
    keys = open_store(place).keys.tolist()
    sites = [f"site {number // 4}" for number in range(len(keys))]
    annotate(
        place,
        {
            "path": keys,
            "habitat": ["land" if number < 8 else "sea" for number in range(len(keys))],
            "site": sites,
            "part": ["train"] * len(keys),
        },
    )
    set_levels(place, ["habitat", "site"])
    result = ran(wanted)
    assert result.classes == ("land", "sea")
    assert load_head("run/heads/ERM.safetensors")[1].group_names == ("site 0", "site 1", "site 2", "site 3")
