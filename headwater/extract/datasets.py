"""A map-style data set object, as PyTorch has them, as a source: something with a length that can be indexed.

No torch is imported here: tensors are known by what they can do.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headwater.errors import RequestError
from headwater.extract.modes import to_rgb
from headwater.extract.rows import ReadError
from headwater.pixels import CHANNELS, scale_to_bytes


class DatasetSource:
    """The items of a data set object, keyed by their decimal index.

    An item is an image or a tuple (image, label, …). An image is a PIL picture (taken as it is: what EXIF
    says is the data set's business), an array (h, w), (h, w, channels) or (channels, h, w), or a tensor;
    uint8, or floats in [0, 1]. Items are asked for from many threads at once.
    """

    skipped = 0

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.name = f"{type(dataset).__module__}.{type(dataset).__qualname__} of {len(dataset)} items"
        if isinstance(dataset, Mapping):
            raise RequestError("a mapping is no data set of images: it must be indexed by 0, 1, 2, …")
        if len(dataset) == 0:
            raise RequestError(f"{self.name} holds no images")
        self.keys: Sequence[str] = [str(row) for row in range(len(dataset))]
        self._labels: dict[int, Any] = {}
        self._lock = threading.Lock()

    def load(self, row: int) -> NDArray[np.uint8]:
        """One item's image, uint8 (h, w) or (h, w, channels); ReadError with what the data set raised."""
        image, label = self._item(row)
        self._labels[row] = label
        return _pixels(image)

    @cached_property
    def annotations(self) -> Mapping[str, Sequence[Any]]:
        """`class` where the data set has `classes` to name its labels or the labels are text, else `target`.

        Labels come from the data set's `targets` or `labels`, else from its items: those that `load` has met
        are known already, every other one is loaded now. An item that fails has None.
        """
        labels = _known_labels(self._dataset)
        if labels is None:
            for row in range(len(self.keys)):
                if row not in self._labels:
                    self._labels[row] = self._label_or_none(row)
            labels = [self._labels[row] for row in range(len(self.keys))]
        labels = [_plain(label) for label in labels]
        kinds = {type(label) for label in labels} - {type(None)}
        if not kinds or not kinds <= {int, float, str}:
            return {}  # no labels, or labels of several parts such as boxes, which are no column
        if str in kinds:
            labels = [None if label is None else str(label) for label in labels]
        classes = _classes(self._dataset)
        if kinds == {int} and classes and all(label is None or 0 <= label < len(classes) for label in labels):
            return {"class": [None if label is None else classes[label] for label in labels]}
        return {"class" if str in kinds else "target": labels}

    def _item(self, row: int) -> tuple[Any, Any]:
        try:
            item = self._dataset[row]
        # A data set is the user's own code and may raise anything; the row's reason keeps what it said.
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise ReadError(f"the data set raised {type(error).__name__}: {said}") from error
        if isinstance(item, tuple | list):
            return (item[0], item[1] if len(item) > 1 else None) if item else (None, None)
        return item, None

    def _label_or_none(self, row: int) -> Any:
        try:
            return self._item(row)[1]
        except ReadError:
            return None


def _pixels(image: Any) -> NDArray[np.uint8]:
    if isinstance(image, Image.Image):
        return np.asarray(to_rgb(image))
    is_tensor = hasattr(image, "detach") and hasattr(image, "numpy")
    if not is_tensor and not isinstance(image, np.ndarray):
        raise ReadError(f"the item is a {type(image).__name__}, not an image or a tuple that starts with one")
    array: NDArray[Any] = image.detach().cpu().numpy() if is_tensor else image
    if array.ndim == 3:
        first, last = array.shape[0] in CHANNELS, array.shape[2] in CHANNELS
        if first and (is_tensor or not last):
            array = array.transpose(1, 2, 0)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise ReadError(f"the image holds {array.dtype}; give uint8, or floats in [0, 1]")
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not -_ROUNDING <= low <= high <= 1 + _ROUNDING:  # NaN lands here too
        raise ReadError(
            f"the image's floats run from {low:g} to {high:g}, not within [0, 1]; leave normalisation out"
        )
    return scale_to_bytes(array, 0.0, 1.0)


_ROUNDING = 1e-3  # resizing a float tensor may overshoot white by as much


def _known_labels(dataset: Any) -> list[Any] | None:
    """Labels that can be had without loading an image, or None."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):  # torch.utils.data.Subset
        whole = _known_labels(dataset.dataset)
        return None if whole is None else [whole[index] for index in dataset.indices]
    if getattr(dataset, "target_transform", None) is not None:
        return None
    for attribute in ("targets", "labels"):
        labels = getattr(dataset, attribute, None)
        if labels is not None and hasattr(labels, "__len__") and len(labels) == len(dataset):
            return list(labels)
    return None


def _classes(dataset: Any) -> Sequence[str] | None:
    classes = getattr(getattr(dataset, "dataset", dataset), "classes", None)
    if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
        return classes
    return None


def _plain(label: Any) -> Any:
    """A label as int, float, str or None; anything else as it is."""
    if getattr(label, "ndim", None) == 0 and hasattr(label, "item"):
        label = label.item()
    return int(label) if isinstance(label, bool) else label
