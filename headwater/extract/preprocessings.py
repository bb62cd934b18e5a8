"""Preprocessings that have a name, for weights that bring none of their own, such as a local checkpoint's."""

from __future__ import annotations

from collections.abc import Mapping

from headwater.errors import RequestError
from headwater.extract.augmentation import PaddedCrop
from headwater.extract.transform import Preprocessing
from headwater.printable import nearest

PREPROCESSINGS: Mapping[str, Preprocessing] = {
    # torchvision's first recipe for ImageNet
    "imagenet": Preprocessing(resize=256, crop=224),
    # what the contest's own checkpoint was trained with: Resize(224), RandomCrop(224, padding=4) for views
    "inat-contest": Preprocessing(
        resize=224,
        crop=224,
        mean=(0.4556, 0.4714, 0.3700),
        std=(0.2370, 0.2318, 0.2431),
        augmentation=PaddedCrop(padding=4),
    ),
}
"""Each by its name. What counts for a store is the content, which its fingerprint covers."""


def find_preprocessing(name: str) -> Preprocessing:
    """The preprocessing of that name; RequestError where there is none."""
    if name.lower() not in PREPROCESSINGS:
        raise RequestError(f"there is no preprocessing {name!r}{nearest(name, PREPROCESSINGS, 5)}")
    return PREPROCESSINGS[name.lower()]
