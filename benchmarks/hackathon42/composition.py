"""What composing the items of a split needs: digits, randomness, noise, halves side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.hackathon42.digits import Deck, Images
from benchmarks.hackathon42.generated import Codes

NOISE = 0.1  # standard deviation, of a range of 1


@dataclass(frozen=True)
class Composition:
    """What composing the items of a split needs: the digits, the randomness of this split, the classes."""

    deck: Deck
    random: np.random.Generator
    classes: tuple[int, ...]

    def digits(self, split: str, codes: Codes) -> Images:
        """An image of the digit of each class code, (rows, 28, 28)."""
        return self.deck.take(split, np.asarray(self.classes)[codes])

    def constants(self, codes: Codes) -> Images:
        """The one fixed image of each class code, (rows, 28, 28)."""
        return np.stack([self.deck.constant(digit) for digit in self.classes])[codes]

    def noisy(self, images: Images, level: float | NDArray[np.float64] = NOISE) -> Images:
        """The images with a channel axis, and Gaussian noise; nothing is clipped."""
        noise = self.random.standard_normal(images.shape, dtype=np.float32)
        scale = np.asarray(level, dtype=np.float32).reshape(-1, *(1,) * (images.ndim - 1))
        return np.asarray(images + noise * scale)[:, None]


def beside(left: Images, right: Images) -> Images:
    """Two images side by side, (rows, 28, 56)."""
    return np.concatenate([left, right], axis=2)
