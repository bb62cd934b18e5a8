"""From a picture's pixels to the uint8 crop a backbone takes: torchvision's resize and crop, bit for bit.

Normalisation happens on the device, inside the model; decoding is decode.py's. No torch is imported here.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headwater.extract.augmentation import RESIZED_CROP, Augmentation, PaddedCrop
from headwater.extract.decode import Decoded

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Pixels; beyond it only the part of the resized picture that the crop needs is made, exact to a grey level.
_LARGEST_RESIZED = 1 << 24


@dataclass(frozen=True)
class Preprocessing:
    """How a backbone wants its images: resize, centre crop, and the mean and deviation of its normalisation.

    `resize` is the length in pixels of the shorter side, or a (height, width) that ignores the aspect ratio,
    or None. `crop` is the side of a centre square, a (height, width), or None. One of them must fix the size
    of the result. `mean` and `std` are per channel (R, G, B) of pixels scaled to [0, 1]; `apply` leaves them
    to the model. `augmentation` is how `augment` makes views.
    """

    resize: int | tuple[int, int] | None = 256
    crop: int | tuple[int, int] | None = 224
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    augmentation: Augmentation = RESIZED_CROP

    def __post_init__(self) -> None:
        if self.crop is None and not isinstance(self.resize, tuple):
            raise ValueError(f"resize={self.resize!r} without a crop leaves the size of the result open")
        if self.interpolation not in _RESAMPLING:
            raise ValueError(f"interpolation {self.interpolation!r} is none of {', '.join(_RESAMPLING)}")
        sides = [
            side for value in (self.resize, self.crop) if value is not None for side in np.atleast_1d(value)
        ]
        if min(sides) < 1:
            raise ValueError(f"resize={self.resize!r} and crop={self.crop!r} must be at least 1 pixel")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean={self.mean} and std={self.std} need three values each, std above 0")
        if isinstance(self.augmentation, PaddedCrop):
            self._check_padded(self.augmentation.padding)

    def _check_padded(self, padding: int) -> None:
        resized = self.resize if isinstance(self.resize, tuple) else (self.resize or 0,) * 2
        if padding < 0 or any(
            side + 2 * padding < crop for side, crop in zip(resized, self.size, strict=True)
        ):
            raise ValueError(f"resize={self.resize!r} padded by {padding} does not hold {self.size} pixels")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        size = self.resize if self.crop is None else self.crop
        return size if isinstance(size, tuple) else (int(size or 0), int(size or 0))

    def describe(self) -> dict[str, Any]:
        """Everything that decides the values a network sees, as JSON, for the plan's recipe.

        How views are made is in `augmentation.describe()`, for it counts only where there are any.
        """
        return {
            "resize": list(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "crop": list(self.crop) if isinstance(self.crop, tuple) else self.crop,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def apply(self, image: Decoded | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop one picture.

        Args:
            image: a decoded picture, or its pixels, uint8 (h, w, 3). The former saves a copy each way.

        Returns:
            uint8 (height, width, 3), C-contiguous: a batch of these, permuted to (n, 3, height, width), is a
            torch tensor in channels_last layout without a copy.
        """
        picture = _as_image(image)
        width, height = self._resized_size(picture.width, picture.height)
        if self.crop is not None and width * height > _LARGEST_RESIZED:
            crop_height, crop_width = self.size
            left, top = _centre_corner(width, crop_width), _centre_corner(height, crop_height)
            return np.array(self._crop_of_resized(picture, (width, height), left, top))
        # Resizing only what the crop keeps (`box`) would be cheaper, but Pillow takes boxes in single
        # precision, and pixels would differ from torchvision's.
        if (width, height) != picture.size:
            picture = picture.resize((width, height), _RESAMPLING[self.interpolation])
        if self.crop is not None:
            picture = _centre_crop(picture, *self.size)
        return np.array(picture)

    def augment(self, image: Decoded | NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """One view, drawn as `augmentation` says; the same picture and seed give the same pixels.

        Take the seed from `view_seed`, so that the draw depends on the row and the view alone and on no
        worker, order or batch.
        """
        picture = _as_image(image)
        draw = random.Random(seed).random  # its stream is fixed by Python's documentation, NumPy's is not
        height, width = self.size
        if isinstance(self.augmentation, PaddedCrop):
            resized = self._resized_size(picture.width, picture.height)
            top, left = self.augmentation.corner(draw, resized[0], resized[1], self.size)
            return np.array(self._crop_of_resized(picture, resized, left, top))
        left, top, across, down = self.augmentation.region(draw, picture.width, picture.height)
        view = picture.crop((left, top, left + across, top + down))
        view = view.resize((width, height), _RESAMPLING[self.interpolation])
        if draw() < self.augmentation.flip:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.array(view)

    def _resized_size(self, width: int, height: int) -> tuple[int, int]:
        if self.resize is None:
            return width, height
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        # int(), not round(), and in floating point: the long side must come out as torchvision's does
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def _crop_of_resized(
        self, picture: Image.Image, resized: tuple[int, int], left: int, top: int
    ) -> Image.Image:
        """The crop with this corner of the picture resized to (width, height); black outside of it.

        Of a giant resized picture only what is kept is made; a pixel may then differ by one.
        """
        (width, height), (crop_height, crop_width) = resized, self.size
        if width * height <= _LARGEST_RESIZED:
            if resized != picture.size:
                picture = picture.resize(resized, _RESAMPLING[self.interpolation])
            return picture.crop((left, top, left + crop_width, top + crop_height))
        first, last = max(left, 0), min(left + crop_width, width)
        upper, lower = max(top, 0), min(top + crop_height, height)
        across, down = picture.width / width, picture.height / height
        box = (first * across, upper * down, last * across, lower * down)
        kept = picture.resize((last - first, lower - upper), _RESAMPLING[self.interpolation], box=box)
        return kept.crop((left - first, top - upper, left - first + crop_width, top - upper + crop_height))


def view_seed(key: str, view: int) -> int:
    """The seed of a row's augmented view (counted from 1): made of the row's key and the view alone."""
    name = f"{view}\0{key}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big")


def preprocessing_of(weights: Any) -> Preprocessing:
    """The preprocessing of torchvision classification weights.

    Args:
        weights: a member of a torchvision weights enum, or what its `transforms()` returns.

    Raises:
        ValueError: the preset is not one for classification.
    """
    preset = weights.transforms() if hasattr(weights, "transforms") else weights
    if type(preset).__name__ != "ImageClassification":
        raise ValueError(f"{type(preset).__name__} is no torchvision preset for image classification")
    return Preprocessing(
        resize=_one_or_two(preset.resize_size),
        crop=_one_or_two(preset.crop_size),
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def _one_or_two(size: list[int]) -> int | tuple[int, int]:
    return size[0] if len(size) == 1 else (size[0], size[1])


def _as_image(image: Decoded | NDArray[np.uint8]) -> Image.Image:
    return image.image if isinstance(image, Decoded) else Image.fromarray(image)


def _centre(size: int, crop: int) -> int:
    return round((size - crop) / 2.0)  # halves go to the even number, as in torchvision


def _centre_corner(size: int, crop: int) -> int:
    """Where a centre crop begins; below 0 where it is padded."""
    return _centre(size, crop) if size >= crop else -((crop - size) // 2)


def _centre_crop(picture: Image.Image, height: int, width: int) -> Image.Image:
    """Crop the centre; a smaller picture is first padded with black, the odd pixel right and below."""
    missing_across, missing_down = max(width - picture.width, 0), max(height - picture.height, 0)
    if missing_across or missing_down:
        padded = Image.new("RGB", (picture.width + missing_across, picture.height + missing_down))
        padded.paste(picture, (missing_across // 2, missing_down // 2))
        picture = padded
    left, top = _centre(picture.width, width), _centre(picture.height, height)
    if (width, height) == picture.size:
        return picture
    return picture.crop((left, top, left + width, top + height))
