"""Weights from names, files and the hub; what does not fit or is not safe is refused in one sentence."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headwater.errors import HeadwaterError, RequestError
from headwater.extract import Backbone, Preprocessing, PretrainedWeights, find_backbone
from headwater.extract.weights import load_backbone


def build(classes: int = 10) -> nn.Module:
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(3, 4, 3, bias=False))
    network.add_module("bn", nn.BatchNorm2d(4))
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flat", nn.Flatten())
    network.add_module("fc", nn.Linear(4, classes))
    return network


TINY = Backbone("tiny", build, Preprocessing(resize=8, crop=8), dim=4, layer="fc", unused=("aux.",))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return build().state_dict()


def features(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    network = build(len(state["fc.bias"])).eval()
    network.load_state_dict(state)
    with torch.no_grad():
        return network[:4](images)


WRAPS: dict[str, Any] = {
    "plain": lambda state: state,
    "data parallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "model_state_dict": lambda state: {
        "epoch": 3,
        "model_state_dict": state,
        "optimizer_state_dict": {"lr": 0.1},
    },
    "state_dict": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "model": lambda state: {"model": state},
    "half precision": lambda state: {name: value.half() for name, value in state.items()},
    "no counters": lambda state: {n: v for n, v in state.items() if "num_batches" not in n},
    "side classifier": lambda state: {**state, "aux.fc.weight": torch.rand(3, 3)},
    "no classifier": lambda state: {n: v for n, v in state.items() if not n.startswith("fc.")},
}


@pytest.mark.parametrize("wrap", sorted(WRAPS))
def test_checkpoints_in_all_their_wrappings(
    wrap: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(WRAPS[wrap](state), tmp_path / "w.pth")
    loaded = load_backbone(TINY, tmp_path / "w.pth")
    images = torch.rand(3, 3, 8, 8)
    if wrap == "half precision":
        state = {name: value.half().to(value.dtype) for name, value in state.items()}
    torch.testing.assert_close(loaded.network(images), features(state, images))


def test_the_hash_is_over_what_features_depend_on(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    def digest(tensors: dict[str, torch.Tensor], name: str) -> str:
        file = tmp_path / name
        save_file(tensors, file) if name.endswith("safetensors") else torch.save(tensors, file)
        return load_backbone(TINY, file).weights_sha256

    plain = digest(state, "a.pth")
    backwards = dict(reversed(state.items()))
    assert digest(backwards, "b.pth") == plain
    assert digest(state, "c.safetensors") == plain
    assert digest({**state, "fc.weight": torch.rand(7, 4), "fc.bias": torch.rand(7)}, "d.pth") == plain
    assert digest({**state, "bn.num_batches_tracked": torch.tensor(77)}, "e.pth") == plain
    changed = {**state, "conv.weight": state["conv.weight"].clone()}
    changed["conv.weight"][0, 0, 0, 0] += 1e-6
    assert digest(changed, "f.pth") != plain


@pytest.mark.parametrize("classes", [2, 13, 1000])
def test_a_classifier_of_any_width_is_described_and_left_out(classes: int, tmp_path: Path) -> None:
    torch.save(build(classes).state_dict(), tmp_path / "w.pth")
    loaded = load_backbone(TINY, tmp_path / "w.pth")
    assert loaded.classifier == {"layer": "fc", "shapes": {"bias": [classes], "weight": [classes, 4]}}
    assert loaded.network(torch.rand(2, 3, 8, 8)).shape == (2, 4)
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())


class Evil:
    def __reduce__(self) -> Any:
        return os.system, (f"touch {os.environ['EVIL']}",)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not(
    form: str, state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = tmp_path / "it-ran"
    monkeypatch.setenv("EVIL", str(touched))
    file = tmp_path / "w.pth"
    if form == "torch":
        torch.save({**state, "extra": Evil()}, file)
    else:
        file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(RequestError, match=r"could run code|damaged") as caught:
        load_backbone(TINY, file)
    assert "\n" not in str(caught.value)
    assert not touched.exists()
    # The file is a real attack: read the careless way, in a process of its own, it runs.
    subprocess.run(
        [sys.executable, "-c", "import torch,sys; torch.load(sys.argv[1], weights_only=False)", str(file)],
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert touched.exists() or form == "pickle"


def test_what_does_not_fit_is_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    wrong = {name: value for name, value in state.items() if name != "conv.weight"}
    wrong |= {"layer9.weight": torch.rand(2), "bn.bias": torch.rand(6)}
    torch.save(wrong, tmp_path / "w.pth")
    with pytest.raises(RequestError) as caught:
        load_backbone(TINY, tmp_path / "w.pth")
    text = str(caught.value)
    assert "conv.weight is missing" in text
    assert "layer9.weight does not belong there" in text
    assert "bn.bias (6,) for (4,)" in text
    assert "\n" not in text


def test_weights_of_another_network_are_refused_shortly(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(RequestError) as caught:
        load_backbone(find_backbone("resnet18"), tmp_path / "w.pth")
    assert "more)" in str(caught.value)
    assert len(str(caught.value)) < 700


def test_weights_that_are_not_finite_are_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    state["conv.weight"][0] = float("nan")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(RequestError, match=r"not finite.*conv\.weight"):
        load_backbone(TINY, tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("weight", "bias", "said"),
    [
        ((13, 5), (13,), "fc.weight of shape (13, 5), which does not take 4 features"),
        ((13,), (13,), "fc.weight of shape (13,), which does not take 4 features"),
        ((13, 4), (10,), "fc.weight of shape (13, 4) and fc.bias of shape (10,), which are for"),
        ((13, 4), (), "fc.bias of shape ()"),
    ],
)
def test_a_classifier_that_cannot_be_one_is_refused(
    weight: tuple[int, ...], bias: tuple[int, ...], said: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save({**state, "fc.weight": torch.rand(weight), "fc.bias": torch.rand(bias)}, tmp_path / "w.pth")
    with pytest.raises(RequestError) as caught:
        load_backbone(TINY, tmp_path / "w.pth")
    assert said in str(caught.value)
    assert "w.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_a_classifier_is_left_out_as_a_whole_one_is(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    for name in ("fc.weight", "fc.bias"):
        torch.save({key: value for key, value in state.items() if key != name}, tmp_path / "w.pth")
        assert load_backbone(TINY, tmp_path / "w.pth").network(torch.rand(1, 3, 8, 8)).shape == (1, 4)


def test_random_weights_are_asked_for_by_name_and_come_from_a_fixed_seed() -> None:
    before = torch.random.get_rng_state()
    first, second = load_backbone(TINY, "random"), load_backbone(TINY, "random")
    assert first.weights_sha256 == second.weights_sha256
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(RequestError, match="no weights of its own"):
        load_backbone(TINY)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("IMAGENET1K_V3", "'IMAGENET1K_V2'"),
        ("imagenet", "IMAGENET1K_V1"),
        ("no/such/file.pth", "no checkpoint at 'no/such/file.pth'"),
        ("hf://owner", "hf://owner/repository/file"),
    ],
)
def test_a_wrong_weights_argument_is_answered_with_the_way_out(weights: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        load_backbone(find_backbone("resnet18" if "file" in weights else "resnet50"), weights)
    assert said in str(caught.value)


@pytest.mark.parametrize("error", [URLError("Name or service not known"), RuntimeError("invalid hash value")])
def test_a_failed_download_says_what_else_there_is(error: Exception) -> None:
    def load() -> Any:
        raise error

    offline = Backbone(
        "far", build, TINY.preprocessing, 4, "fc", {"V1": PretrainedWeights(load, TINY.preprocessing)}, "V1"
    )
    with pytest.raises(HeadwaterError) as caught:
        load_backbone(offline)
    assert caught.value.exit_code == 1
    assert "efficientnet_lite0" in str(caught.value)
    assert "--weights" in str(caught.value)


def test_named_weights_bring_their_preprocessing_and_names_ignore_case(
    state: dict[str, torch.Tensor],
) -> None:
    own = Preprocessing(resize=10, crop=9)
    named = Backbone(
        "n", build, TINY.preprocessing, 4, "fc", {"V1": PretrainedWeights(lambda: state, own)}, "V1"
    )
    for text in (None, "V1", "v1", "default"):
        loaded = load_backbone(named, text)
        assert loaded.preprocessing == own
        assert loaded.weights == "V1"
    assert load_backbone(named, "random").preprocessing == TINY.preprocessing
    assert load_backbone(named, preprocessing=TINY.preprocessing).preprocessing == TINY.preprocessing
