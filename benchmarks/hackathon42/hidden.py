"""The hidden second features of sets 12 and 13, by family: what could go with a digit unnoticed.

The published feature is unknown, so there are several, in three placements: `own` changes the digits
themselves (both halves then show a digit of the class), `whole` lies behind two such digits, and `beside`
has one digit in the left half and something else in the right one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from benchmarks.hackathon42.composition import Composition, beside
from benchmarks.hackathon42.digits import Images
from benchmarks.hackathon42.generated import Codes

Random = np.random.Generator
HALF = (28, 28)
WHOLE = (28, 56)


def thickness(random: Random, images: Images, codes: Codes) -> Images:
    """Strokes 2 or 5 pixels wide, about: the outline moved until the mean half-width fits."""
    wanted = np.array([2.0, 5.0])[codes] * random.uniform(0.9, 1.1, len(codes))  # half-widths, twice enlarged
    drawn = np.empty_like(images)
    for row, image in enumerate(ndimage.zoom(images, (1, 2, 2), order=1)):
        ink = image > 0.5
        inside = ndimage.distance_transform_edt(ink)
        outside = ndimage.distance_transform_edt(~ink)
        half_width = 2 * inside[ink].mean() if ink.any() else 0.0  # the mean over a strip is half of its own
        large = np.clip(inside - outside + wanted[row] - half_width + 0.5, 0, 1)
        drawn[row] = large.reshape(28, 2, 28, 2).mean(axis=(1, 3))
    return drawn


def slant(random: Random, images: Images, codes: Codes) -> Images:
    """Digits lean to the left or to the right by 0.4 columns a row, whatever their own lean was."""
    down, across = np.mgrid[: images.shape[1], : images.shape[2]] - 13.5
    mass = np.maximum(images.sum(axis=(1, 2)), 1e-6)
    x = across - ((images * across).sum(axis=(1, 2)) / mass)[:, None, None]
    y = down - ((images * down).sum(axis=(1, 2)) / mass)[:, None, None]
    lean = (images * x * y).sum(axis=(1, 2)) / np.maximum((images * y**2).sum(axis=(1, 2)), 1e-6)
    wanted = np.array([-0.4, 0.4])[codes] + 0.05 * random.standard_normal(len(codes))
    maps = np.zeros((len(images), 2, 3))
    maps[:, 0, 0] = maps[:, 1, 1] = 1
    maps[:, 0, 1] = lean - wanted
    return _mapped(images, maps)


def position(random: Random, images: Images, codes: Codes) -> Images:
    """Digits 3 or 4 rows above the middle, or below it."""
    rows = np.array([-1, 1])[codes] * random.integers(3, 5, len(codes))
    maps = np.zeros((len(images), 2, 3))
    maps[:, 0, 0] = maps[:, 1, 1] = 1
    maps[:, 1, 2] = -rows * 2 / 28
    return _mapped(images, maps)


def size(random: Random, images: Images, codes: Codes) -> Images:
    """Digits at 0.6 or 1.1 of their size."""
    scale = np.array([0.6, 1.1])[codes] + 0.03 * random.standard_normal(len(codes))
    maps = np.zeros((len(images), 2, 3))
    maps[:, 0, 0] = maps[:, 1, 1] = 1 / scale
    return _mapped(images, maps)


def contrast(random: Random, images: Images, codes: Codes) -> Images:
    """Ink of half the strength, or of the full one."""
    strength = np.array([0.5, 1.0])[codes] + random.uniform(-0.05, 0.05, len(codes))
    return np.asarray(images * strength[:, None, None], dtype=np.float32)


def texture(random: Random, codes: Codes) -> Images:
    """Two-valued backgrounds, 0 and 0.4 in equal parts: single pixels, or blobs."""
    field = random.standard_normal((len(codes), *WHOLE))
    blobs = ndimage.gaussian_filter(field, (0, 1.5, 1.5), mode="wrap")
    chosen = np.where((codes == 1)[:, None, None], blobs, field)
    return np.where(chosen > 0, np.float32(0.4), np.float32(0))


def mark(random: Random, codes: Codes) -> Images:
    """A bright mark of 3 x 3 pixels in the first corner or in the last."""
    drawn = np.zeros((len(codes), *WHOLE), dtype=np.float32)
    for row, (code, down, across) in enumerate(
        zip(codes, random.integers(0, 2, len(codes)), random.integers(0, 2, len(codes)), strict=True)
    ):
        top, left = (24 - down, 52 - across) if code else (down, across)
        drawn[row, top : top + 3, left : left + 3] = 0.8
    return drawn


def gradient(random: Random, codes: Codes) -> Images:
    """A background that grows brighter, up to 0.4, to the right or to the left."""
    ramp = np.linspace(0, 1, WHOLE[1])
    rising = np.where((codes == 1)[:, None], ramp[::-1], ramp) * random.uniform(0.3, 0.5, len(codes))[:, None]
    return np.broadcast_to(rising[:, None, :], (len(codes), *WHOLE)).astype(np.float32)


def border(random: Random, codes: Codes) -> Images:
    """No frame, or one that is a pixel wide."""
    frame = np.zeros(WHOLE)
    frame[[0, -1]] = frame[:, [0, -1]] = 1
    strength = codes * random.uniform(0.4, 0.8, len(codes))
    return np.asarray(frame * strength[:, None, None], dtype=np.float32)


def frequency(making: Composition, split: str, codes: Codes) -> Images:
    """A grating of any direction and phase, of 8 or 4 pixels a period."""
    del split
    random, rows = making.random, len(codes)
    down, across = np.mgrid[: HALF[0], : HALF[1]]
    turn = random.uniform(0, np.pi, rows)[:, None, None]
    phase = random.uniform(0, 2 * np.pi, rows)[:, None, None]
    period = (np.array([8.0, 4.0])[codes] * random.uniform(0.9, 1.1, rows))[:, None, None]
    wave = np.sin(2 * np.pi * (np.cos(turn) * across + np.sin(turn) * down) / period + phase)
    return (0.4 + 0.4 * wave).astype(np.float32)


def shape(making: Composition, split: str, codes: Codes) -> Images:
    """A disc or a square of the same area, somewhere, of any size."""
    del split
    random, rows = making.random, len(codes)
    radius = random.uniform(5, 9, rows)[:, None, None]
    centre = 13.5 + random.uniform(-4, 4, (2, rows))[:, :, None, None]
    down, across = np.abs(np.mgrid[: HALF[0], : HALF[1]][:, None] - centre)
    disc = radius - np.hypot(down, across)
    square = radius * np.sqrt(np.pi) / 2 - np.maximum(down, across)
    inside = np.where((codes == 1)[:, None, None], square, disc)
    return np.clip(inside + 0.5, 0, 1).astype(np.float32)


def neighbour(making: Composition, split: str, codes: Codes) -> Images:
    """A digit of another sort, whichever, that leans to the left or to the right."""
    others = [digit for digit in range(10) if digit not in making.classes]
    images = making.deck.take(split, making.random.choice(others, len(codes)))
    return slant(making.random, images, codes)


OWN: dict[str, Callable[[Random, Images, Codes], Images]] = {
    "thickness": thickness,
    "slant": slant,
    "position": position,
    "size": size,
    "contrast": contrast,
}
BEHIND: dict[str, Callable[[Random, Codes], Images]] = {
    "texture": texture,
    "mark": mark,
    "gradient": gradient,
    "border": border,
}
BESIDE: dict[str, Callable[[Composition, str, Codes], Images]] = {
    "frequency": frequency,
    "shape": shape,
    "neighbour": neighbour,
}
FAMILIES = (*OWN, *BEHIND, *BESIDE)


def hidden(family: str, making: Composition, split: str, cells: Codes) -> Images:
    """Items of a family, (rows, 28, 56), without noise; `cells` are (digit, hidden feature)."""
    digit, feature = cells.T
    left = making.digits(split, digit)
    if family in BESIDE:
        return beside(left, BESIDE[family](making, split, feature))
    right = making.digits(split, digit)
    if family in OWN:
        change = OWN[family]
        return beside(change(making.random, left, feature), change(making.random, right, feature))
    ink = beside(left, right)
    return np.asarray(ink + (1 - ink) * BEHIND[family](making.random, feature))


def _mapped(images: Images, maps: NDArray[np.float64]) -> Images:
    """The images (rows, 28, 28) resampled by affine maps (rows, 2, 3) from new places to old ones."""
    grid = functional.affine_grid(
        torch.from_numpy(maps).float(), [len(images), 1, *HALF], align_corners=False
    )
    return functional.grid_sample(torch.from_numpy(images)[:, None], grid, align_corners=False)[:, 0].numpy()
