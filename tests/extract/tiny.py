"""A network of a few numbers, its features computed by hand, and a job that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import functional as peer

from headwater.extract import Backbone, Preprocessing, extract_features

SIZE = 24


def build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


TINY = Backbone("tiny", build, Preprocessing(resize=SIZE, crop=SIZE), dim=32, layer="5")


BROKEN = {"dog/02.png", "cat/03.png", "cat/07.png"}


def by_hand(file: Path) -> np.ndarray:
    """The features of one picture by plain torch and torchvision, no code of ours but the network's
    definition.
    """
    torch.manual_seed(0)
    network = build().eval()
    image = peer.center_crop(peer.resize(Image.open(file).convert("RGB"), SIZE), [SIZE, SIZE])
    tensor = peer.normalize(peer.to_tensor(image), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        features: np.ndarray = network[:5](tensor[None])[0].numpy()
    return features


def run(images: Path, out: Path, **settings: Any) -> Any:
    return extract_features(
        images, out, **{"backbone": TINY, "weights": "random", "batch_size": 4, "compile": "off", **settings}
    )


def stop(_: object) -> None:
    """For `progress`: the user's interrupt, at the first report."""
    raise KeyboardInterrupt
