"""Every torchvision classification model as a backbone: features are the input of its final linear layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.models import get_model, get_model_weights, list_models

from headwater.errors import HeadwaterError
from headwater.extract.backbone import Backbone, PretrainedWeights
from headwater.extract.transform import preprocessing_of

# These two train with extra classifiers on the side, which features never pass through; with weights,
# torchvision always sets transform_input, so a checkpoint of theirs means it.
_SIDE_CLASSIFIERS = {
    "googlenet": (("aux1.", "aux2."), {"init_weights": True}),
    "inception_v3": (("AuxLogits.",), {"init_weights": True}),
}
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


@cache
def names() -> frozenset[str]:
    """Names of torchvision's classification models."""
    return frozenset(list_models(module=torchvision.models))


@cache
def torchvision_backbone(name: str) -> Backbone:
    """The backbone around torchvision's model `name`; no weights are loaded or downloaded here."""
    unused, options = _SIDE_CLASSIFIERS.get(name, ((), {}))
    if unused:
        options = {**options, "aux_logits": False, "transform_input": True}
    with _NoMemory():
        layer, dim = final_layer(get_model(name, weights=None, **options))
    enum = get_model_weights(name)
    weights = {
        entry.name: PretrainedWeights(
            load=partial(_download, name, entry),
            preprocessing=preprocessing_of(entry),
            build=partial(get_model, name, weights=None, **options, **_shape_of(name, entry)),
        )
        for entry in enum
    }
    default = enum.DEFAULT.name
    return Backbone(
        name=name,
        build=partial(get_model, name, weights=None, **options),
        preprocessing=weights[default].preprocessing,
        dim=dim,
        layer=layer,
        weights=weights,
        default_weights=default,
        unused=unused,
        rename=_modern_densenet_name if name.startswith("densenet") else None,
    )


def final_layer(network: nn.Module) -> tuple[str, int]:
    """Name and input width of the layer that makes the logits.

    That is the last linear layer; SqueezeNet has none and ends in a 1 by 1 convolution, whose input averaged
    over positions is then the feature. HeadwaterError where there is neither.
    """
    modules = list(network.named_modules())
    for name, module in reversed(modules):
        if isinstance(module, nn.Linear):
            return name, module.in_features
    for name, module in reversed(modules):
        if isinstance(module, nn.Conv2d):
            return name, module.in_channels
    raise HeadwaterError(
        f"{type(network).__name__} has no linear layer to take features from; name its layer"
    )


def _download(name: str, entry: Any) -> Mapping[str, Tensor]:
    # Through the model, since torchvision repairs some checkpoints only while it loads them.
    state: Mapping[str, Tensor] = get_model(name, weights=entry, progress=False).state_dict()
    return state


def _shape_of(name: str, entry: Any) -> dict[str, int]:
    """Vision transformers have one position embedding per patch, so the network depends on the image size."""
    return {"image_size": entry.meta["min_size"][0]} if name.startswith("vit_") else {}


def _modern_densenet_name(name: str) -> str:
    return _OLD_DENSENET.sub(r"\1\2", name)


class _NoMemory(TorchFunctionMode):
    """Parameters made inside take no memory, so that asking for a large network's width costs milliseconds.

    `torch.device("meta")` would do so too, but RegNet computes its widths with tensors that need values.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
