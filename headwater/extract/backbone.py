"""What a backbone is, and the registry that finds one by name.

Loading its weights is `weights.py`'s business.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headwater.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headwater.extract.transform import Preprocessing


@dataclass(frozen=True)
class PretrainedWeights:
    """One named set of weights: how to get it, and the preprocessing that it was trained with.

    `load` returns a state dict of the whole network (it may download). `build` replaces the backbone's own
    where these weights need another architecture, such as a larger position embedding.
    """

    load: Callable[[], Mapping[str, Tensor]]
    preprocessing: Preprocessing
    build: Callable[[], nn.Module] | None = None


@dataclass(frozen=True)
class Backbone:
    """A frozen network that turns a normalised image batch (n, 3, h, w) into features (n, dim).

    `build` makes the whole network, classifier included, with random weights. `layer` is the dotted name of
    its final linear layer, whose input is the feature; None where the network's output is the feature.
    `preprocessing` counts for weights that bring none of their own (a local file, `random`).
    `unused` are name prefixes of tensors that features never pass through, dropped from checkpoints;
    `rename` brings old checkpoints' names up to date.
    """

    name: str
    build: Callable[[], nn.Module]
    preprocessing: Preprocessing
    dim: int
    layer: str | None
    weights: Mapping[str, PretrainedWeights] = field(default_factory=dict)
    default_weights: str | None = None
    unused: tuple[str, ...] = ()
    rename: Callable[[str], str] | None = None


_registered: dict[str, Callable[[], Backbone]] = {}


def register_backbone(backbone: Backbone | Callable[[], Backbone], *, name: str | None = None) -> None:
    """Make one's own backbone available by name, in Python and wherever the same process runs the command.

    >>> def build() -> nn.Module:
    ...     pooled = nn.AdaptiveAvgPool2d(1)
    ...     return nn.Sequential(nn.Conv2d(3, 8, 7, 4), pooled, nn.Flatten(), nn.Linear(8, 10))
    >>> register_backbone(Backbone("tiny", build, Preprocessing(...), dim=8, layer="3"))
    >>> extract_features("images/", "tiny.store", backbone="tiny", weights="tiny.pth")

    A function that returns the backbone is called only when the name is asked for (give `name` then), so
    registering costs nothing. A name that is taken is a RequestError: two networks under one name could never
    be told apart later.
    """
    if isinstance(backbone, Backbone):
        maker: Callable[[], Backbone] = _Constant(backbone)
        chosen = name or backbone.name
    else:
        if name is None:
            raise RequestError(
                "a backbone registered as a function needs its name: register_backbone(make, name=…)"
            )
        chosen, maker = name, backbone
    if chosen in backbone_names():
        raise RequestError(f"there is a backbone named {chosen!r} already; choose another name")
    _registered[chosen] = maker


def unregister_backbone(name: str) -> None:
    """Forget a backbone of one's own; RequestError when the name was never registered."""
    if _registered.pop(name, None) is None:
        raise RequestError(f"no backbone of your own is named {name!r}")


def backbone_names() -> list[str]:
    """Every name that `find_backbone` takes, sorted; `timm:NAME` comes on top where timm is installed."""
    from headwater.extract import backbones_builtin, backbones_torchvision  # noqa: PLC0415

    return sorted({*_registered, *backbones_builtin.MAKERS, *backbones_torchvision.names()})


def find_backbone(name: str) -> Backbone:
    """The backbone of that name; RequestError with the nearest names when there is none."""
    from headwater.extract import backbones_builtin, backbones_torchvision  # noqa: PLC0415

    if name in _registered:
        return _registered[name]()
    if name in backbones_builtin.MAKERS:
        return backbones_builtin.MAKERS[name]()
    if name.startswith("timm:"):
        return backbones_builtin.timm_backbone(name.removeprefix("timm:"))
    if name in backbones_torchvision.names():
        return backbones_torchvision.torchvision_backbone(name)
    raise RequestError(f"no backbone is named {name!r}; {nearest(name, backbone_names())}")


def nearest(name: str, names: list[str]) -> str:
    """The end of a message about an unknown name: the names it may have meant."""
    key = name.lower().replace("-", "_")
    near = difflib.get_close_matches(key, names, n=4, cutoff=0.6)
    inside = [other for other in names if len(key) > 2 and key in other.lower()]
    found = list(dict.fromkeys([*near, *inside]))[:5] or names[:5]
    return "did you mean " + " or ".join(repr(other) for other in found) + "?"


@dataclass(frozen=True)
class _Constant:
    backbone: Backbone

    def __call__(self) -> Backbone:
        return self.backbone
