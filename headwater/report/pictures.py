"""Thumbnails of a store's rows from the images it was made from, where those are still at hand."""

from __future__ import annotations

import base64
import io
import os
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from headwater.errors import RequestError
from headwater.members import is_archive_name
from headwater.pixels import channels_last, choose_images, image_bytes, value_range
from headwater.report.archives import is_slow, members
from headwater.store import read_arrays, show_key

SIDE = 168  # shown at 112 pixels, sharp enough for a phone's screen
_QUALITY = 72
_MANIFESTS = (".csv", ".tsv", ".parquet")
_MOST_PIXELS = 60_000_000  # a larger picture is not worth its time for a thumbnail


_Made = TypeVar("_Made")


class Pictures:
    """Finds a row's picture by its key. `note` says why there are none, empty when there may be.

    Only those of the keys in `wanted` are found in an archive, which is read through once for all of them.
    """

    def __init__(self, source: str | os.PathLike[str], wanted: Sequence[str] = ()) -> None:
        place = Path(source)
        self._place, self._wanted = place, frozenset(wanted)
        self._folder: Path | None = None
        self._arrays: _ArrayImages | None = None
        self.note = ""
        if place.is_dir():
            self._folder = place
        elif place.is_file() and place.suffix.lower() in _MANIFESTS:
            self._folder = place.parent
        elif place.is_file() and place.suffix.lower() in (".npy", ".npz"):
            try:
                self._arrays = _ArrayImages(place)
            except RequestError as error:
                self.note = f"The images are not shown: {error}."
        elif not (place.is_file() and is_archive_name(place.name)):
            self.note = (
                "The images are not at hand, so none is shown: there is no folder, manifest, array file or "
                "archive at the place that the store names. Give it with --images."
            )
        elif is_slow(place):
            self.note = (
                "The images are not shown, since all of a large compressed tar would be unpacked for a few. "
                "Unpack it and give the folder with --images."
            )

    def thumbnail(self, key: str) -> str | None:
        """A square `data:` URI of the row's picture, None when it cannot be read."""
        return self._read(key, _encoded)

    def picture(self, key: str) -> Image.Image | None:
        """The row's picture, upright and at most twice a thumbnail's size, None when it cannot be read."""
        return self._read(key, _within)

    def _read(self, key: str, made: Callable[[Image.Image], _Made]) -> _Made | None:
        if self.note:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                return made(self._open(key))
        # What Pillow raises on a file that is no picture, is torn, or lies about its size.
        except (OSError, ValueError, SyntaxError, IndexError, Image.DecompressionBombError):
            return None

    def without(self, keys: Sequence[str]) -> str:
        """Why the pictures of these rows, which have no thumbnail, are left out."""
        absent = sum(not self._is_there(key) for key in keys)
        counts = {"could not be found": absent, "could not be read": len(keys) - absent}
        said = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
        return f"Of the pictures, {said}; they are left out."

    def _open(self, key: str) -> Image.Image:
        if self._arrays is not None:
            return self._arrays.picture(int(key))
        picture = Image.open(self._content(key) if self._folder is None else self._folder / key)
        if picture.width * picture.height > _MOST_PIXELS:
            raise ValueError("the picture is too large for a thumbnail")
        picture.draft("RGB", (2 * SIDE, 2 * SIDE))
        return ImageOps.exif_transpose(picture)

    def _content(self, key: str) -> io.BytesIO:
        content = self._members.get(key)
        if content is None:
            raise FileNotFoundError(key)
        return io.BytesIO(content)

    def _is_there(self, key: str) -> bool:
        if self._arrays is not None:
            return True
        return key in self._members if self._folder is None else os.path.lexists(self._folder / key)

    @cached_property
    def _members(self) -> dict[str, bytes | None]:
        return {} if self.note else members(self._place, self._wanted)


def _within(picture: Image.Image) -> Image.Image:
    small = picture.convert("RGB")
    small.thumbnail((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC)
    return small


def _encoded(picture: Image.Image) -> str:
    square = ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    square.save(file, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


class _ArrayImages:
    """The images of an array file, as extraction reads them."""

    def __init__(self, path: Path) -> None:
        found, shown = read_arrays(path), show_key(str(path))
        if not isinstance(found, np.ndarray):
            found = found[choose_images(found, shown)]
        self._images = channels_last(found, shown)
        self._range = value_range(self._images, shown)

    def picture(self, row: int) -> Image.Image:
        return Image.fromarray(image_bytes(self._images[row], self._range))
