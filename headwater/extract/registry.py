"""Finds a backbone by name: built in, torchvision's, timm's, or one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headwater.errors import RequestError
from headwater.extract import backbones_builtin, backbones_fitted, backbones_torchvision
from headwater.extract.backbone import Backbone
from headwater.printable import nearest

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
    return sorted(
        {*_registered, *backbones_builtin.MAKERS, *backbones_fitted.MAKERS, *backbones_torchvision.names()}
    )


def find_backbone(name: str) -> Backbone:
    """The backbone of that name; RequestError with the nearest names when there is none."""
    if name in _registered:
        return _registered[name]()
    if name in backbones_builtin.MAKERS:
        return backbones_builtin.MAKERS[name]()
    if name in backbones_fitted.MAKERS:
        return backbones_fitted.MAKERS[name]()
    if name.startswith("timm:"):
        return backbones_builtin.timm_backbone(name.removeprefix("timm:"))
    if name in backbones_torchvision.names():
        return backbones_torchvision.torchvision_backbone(name)
    raise RequestError(f"no backbone is named {name!r}{nearest(name, backbone_names(), 5)}")


@dataclass(frozen=True)
class _Constant:
    backbone: Backbone

    def __call__(self) -> Backbone:
        return self.backbone
