"""Backbones that are fitted to the images of the source itself: patches, and principal components of pixels.

What they compute is in `patches.py` and `components.py`. Here they become backbones like any other, at the
images' own size: what was learned stands for the weights, so that it is hashed into the store's fingerprint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from headwater.errors import RequestError
from headwater.extract.backbone import Backbone, PretrainedWeights
from headwater.extract.components import PixelNetwork, fit_pixels
from headwater.extract.decode import decode
from headwater.extract.patches import PatchNetwork, PatchSettings, fit_patches
from headwater.extract.rows import RowError
from headwater.extract.transform import Preprocessing

if TYPE_CHECKING:
    from headwater.extract.sources import Source

_SAMPLE = 2_000  # images that are read to fit a backbone
_LONGEST_SHORT_SIDE = 64  # pixels; larger images are made smaller, since patches are a few pixels wide
_SEED = 0

Network = PatchNetwork | PixelNetwork


def patches() -> Backbone:
    """A dictionary of patches, pooled region by region."""
    return _unfitted("patches", partial(fit_patches, settings=PatchSettings()))


def patches_free() -> Backbone:
    """The same in no order: an image's tiles (squares, such as its halves) may change places."""
    return _unfitted("patches-free", partial(fit_patches, settings=PatchSettings(free=True)))


def pixels_pca() -> Backbone:
    """Principal components of the pixels."""
    return _unfitted("pixels-pca", fit_pixels)


def _unfitted(name: str, fit: Callable[..., Network]) -> Backbone:
    def build() -> nn.Module:
        raise RequestError(f"the backbone {name!r} is fitted to the images of a source; extract from one")

    plain = Preprocessing(resize=1, crop=1, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    backbone = Backbone(name=name, build=build, preprocessing=plain, dim=0, layer=None)
    return replace(backbone, fit=partial(_fitted, backbone, fit))


def _fitted(backbone: Backbone, fit: Callable[..., Network], source: Source) -> Backbone:
    """The backbone fitted to a fixed draw of the source's images.

    RequestError where none of them can be read, or they hold nothing to learn from.
    """
    random = np.random.default_rng(_SEED)
    chosen = np.sort(random.permutation(len(source.keys))[:_SAMPLE])
    pictures = [picture for row in chosen if (picture := _picture(source, int(row))) is not None]
    if not pictures:
        raise RequestError(
            f"{backbone.name!r} is fitted to the images, and none of {len(chosen):,} that were drawn from "
            f"{source.name} could be read; check the source"
        )
    preprocessing = replace(backbone.preprocessing, resize=_common_size(pictures), crop=None)
    images = np.stack([preprocessing.apply(picture) for picture in pictures]).transpose(0, 3, 1, 2)
    network = fit(images.astype(np.float32) / np.float32(255), seed=_SEED)
    weights = PretrainedWeights(network.state_dict, preprocessing)
    return replace(
        backbone,
        build=partial(_empty, network),
        preprocessing=preprocessing,
        dim=network.dim,
        weights={"FITTED": weights},
        default_weights="FITTED",
        fit=None,
    )


def _empty(network: Network) -> nn.Module:
    if isinstance(network, PatchNetwork):
        return PatchNetwork(network.shape, network.settings, network.dim)
    return PixelNetwork(network.shape, network.dim)


def _picture(source: Source, row: int) -> NDArray[np.uint8] | None:
    """The pixels of a row, uint8 (h, w, 3), or None: that it fails is for the job to find and to note."""
    try:
        picture = decode(source.load(row))
    except RowError:
        return None
    shrink = min(1.0, _LONGEST_SHORT_SIDE / min(picture.height, picture.width))
    size = max(1, round(picture.height * shrink)), max(1, round(picture.width * shrink))
    return Preprocessing(resize=size, crop=None).apply(picture)


def _common_size(pictures: list[NDArray[np.uint8]]) -> tuple[int, int]:
    """(height, width) of most pictures."""
    (height, width, _), _ = Counter(each.shape for each in pictures).most_common(1)[0]
    return height, width


MAKERS: Mapping[str, Callable[[], Backbone]] = {
    "patches": patches,
    "patches-free": patches_free,
    "pixels-pca": pixels_pca,
}
