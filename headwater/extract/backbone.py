"""What a backbone is; `registry.py` finds one by name, and loading its weights is `weights.py`'s business."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headwater.extract.sources import Source
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
    `rename` brings old checkpoints' names up to date. `fit` makes the backbone from the images of a source,
    where there is no network to speak of before it has seen them.
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
    fit: Callable[[Source], Backbone] | None = None
