"""What is drawn at random for an augmented view; making its pixels is transform.py's business."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Draw = Callable[[], float]
"""Numbers from [0, 1)."""


@dataclass(frozen=True)
class ResizedCrop:
    """A random region, resized to the whole crop, and flipped every other time.

    The region is drawn as in Szegedy et al. 2015 (8 to 100 % of the area, aspect ratio 3/4 to 4/3, ten tries,
    then the largest centre region of an allowed ratio).
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def describe(self) -> dict[str, Any]:
        """All that decides a view, as JSON, for the fingerprint of a job that has views."""
        return {
            "name": "random resized crop and flip, version 1",
            "scale": self.scale,
            "ratio": self.ratio,
            "flip": self.flip,
        }

    def region(self, draw: Draw, width: int, height: int) -> tuple[int, int, int, int]:
        """(left, top, width, height) of a region of a picture of that size."""
        (low, high), (least, most) = self.scale, self.ratio
        for _ in range(10):
            area = width * height * (low + (high - low) * draw())
            ratio = math.exp(math.log(least) + (math.log(most) - math.log(least)) * draw())
            across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < across <= width and 0 < down <= height:
                return int(draw() * (width - across + 1)), int(draw() * (height - down + 1)), across, down
        ratio = width / height
        across = width if ratio <= most else round(height * most)
        down = height if ratio >= least else round(width / least)
        return (width - across) // 2, (height - down) // 2, across, down


@dataclass(frozen=True)
class PaddedCrop:
    """A crop at a random place of the resized picture with `padding` black pixels around it, not flipped."""

    padding: int

    def describe(self) -> dict[str, Any]:
        """All that decides a view, as JSON, for the fingerprint of a job that has views."""
        return {"name": "padded crop, version 1", "padding": self.padding}

    def corner(self, draw: Draw, width: int, height: int, size: tuple[int, int]) -> tuple[int, int]:
        """(top, left) of a crop of `size` (height, width) in a resized picture; below 0 in its padding."""
        top = int(draw() * (height + 2 * self.padding - size[0] + 1))
        left = int(draw() * (width + 2 * self.padding - size[1] + 1))
        return top - self.padding, left - self.padding


Augmentation = ResizedCrop | PaddedCrop
RESIZED_CROP = ResizedCrop()
