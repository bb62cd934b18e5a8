"""Draws one demo image: a real handwritten digit painted over a procedural texture."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 224
_WANDER = 24  # how far a digit strays from the middle, in pixels

Plane = NDArray[np.float32]  # (SIDE, SIDE), values about 0 to 1


def _smooth_noise(rng: np.random.Generator, cells: int) -> Plane:
    """Noise of zero mean whose blobs are about SIDE / `cells` pixels wide."""
    grid = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    image = Image.fromarray(grid)
    image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(1, 1, cells + 2, cells + 2))
    return np.asarray(image, dtype=np.float32)


def _stripes(rng: np.random.Generator) -> Plane:
    """Wavy stripes of random direction, width, softness and duty."""
    angle = rng.uniform(0, np.pi)
    across = np.arange(SIDE, dtype=np.float32)
    position = np.cos(angle) * across[None, :] + np.sin(angle) * across[:, None]
    position = position + rng.uniform(0, 9) * _smooth_noise(rng, int(rng.integers(2, 5)))
    period = np.exp(rng.uniform(np.log(9), np.log(34)))
    wave = np.sin(2 * np.pi * (position / period + rng.uniform()))
    steepness = rng.uniform(1, 5)
    return np.asarray(0.5 + 0.5 * np.tanh(steepness * (wave + rng.uniform(-0.4, 0.4))), dtype=np.float32)


def _clouds(rng: np.random.Generator) -> Plane:
    """Blotches of random size and softness with finer detail on top."""
    cells = float(np.exp(rng.uniform(np.log(4), np.log(14))))
    rough = rng.uniform(0.15, 0.6)
    field = _smooth_noise(rng, round(cells)) + rough * _smooth_noise(rng, round(2.7 * cells))
    steepness = rng.uniform(0.7, 4)
    return np.asarray(0.5 + 0.5 * np.tanh(steepness * (field + rng.uniform(-0.4, 0.4))), dtype=np.float32)


TEXTURES: Mapping[str, Callable[[np.random.Generator], Plane]] = {"clouds": _clouds, "stripes": _stripes}


def _colour(hue: float, saturation: float, value: float) -> NDArray[np.float32]:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), dtype=np.float32)


def _mix(plane: Plane, low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float32]:
    return low + plane[..., None] * (high - low)


def compose(digit: NDArray[np.uint8], texture: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint `digit` (28, 28, ink 255) over a fresh texture; returns RGB of shape (224, 224, 3).

    Colours, contrast, scale and direction of the texture, and the digit's size, place, tilt and ink, are all
    drawn at random and in the same way for every class, so that only the family of the texture can be a
    shortcut.
    """
    hue = rng.uniform()
    dark_ground = rng.uniform() < 0.5
    base, step = (
        (rng.uniform(0.28, 0.42), rng.uniform(0.08, 0.2))
        if dark_ground
        else (rng.uniform(0.66, 0.78), rng.uniform(0.08, 0.2))
    )
    ground = _mix(
        TEXTURES[texture](rng),
        _colour(hue, rng.uniform(0.25, 0.6), base),
        _colour(hue + rng.uniform(-0.12, 0.12), rng.uniform(0.2, 0.55), base + step),
    )
    ink_hue = hue + rng.uniform(0.3, 0.7)
    ink = _colour(ink_hue, rng.uniform(0.05, 0.35), 0.97) if dark_ground else _colour(ink_hue, 0.6, 0.16)

    size = int(rng.integers(150, 196))
    stroke = Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)
    stroke = stroke.rotate(rng.uniform(-12, 12), resample=Image.Resampling.BICUBIC)
    mask = Image.new("L", (SIDE, SIDE))
    room = SIDE - size  # the digit fills 20/28 of its box
    shift = rng.uniform(-_WANDER, _WANDER, size=2)
    mask.paste(stroke, (round(room / 2 + shift[0]), round(room / 2 + shift[1])))
    alpha = np.clip((np.asarray(mask, dtype=np.float32) - 70) / 80, 0, 1)[..., None] * rng.uniform(0.85, 1)
    painted = ground * (1 - alpha) + ink * alpha
    return np.asarray(np.clip(painted * 255, 0, 255), dtype=np.uint8)
