"""From a row's raw bytes or array to right RGB pixels, whatever the format; modes.py maps odd modes to RGB.

Reading bytes is the sources' business, resizing transform.py's. The content decides the format, never a
file's name.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from headwater.extract.modes import to_rgb
from headwater.extract.rows import MAX_PIXELS, DecodeError, Raw

FORMATS = ("JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Decoded:
    """One upright RGB picture. `oriented` says that its EXIF orientation turned or mirrored it."""

    image: Image.Image
    oriented: bool = False

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The pixels, uint8 (height, width, 3), RGB."""
        return np.asarray(self.image)

    @property
    def width(self) -> int:
        """Width in pixels of the upright picture."""
        return self.image.width

    @property
    def height(self) -> int:
        """Height in pixels of the upright picture."""
        return self.image.height


def decode(raw: Raw) -> Decoded:
    """Decode one picture. Safe to call from many threads, which run side by side while the codecs work.

    What comes out: grey is spread over three channels; 16-bit samples keep their high byte; CMYK is converted
    without a colour profile, inverted first where Adobe's marker says so; transparency is laid over white, as
    a page shows it; embedded colour profiles are left alone; EXIF orientation is applied; of an animation the
    first frame counts. The rules for other sample types are in modes.py.

    Raises:
        DecodeError: the content is empty, of no known format, damaged, cut short, or larger than MAX_PIXELS.
    """
    if isinstance(raw, np.ndarray):
        return Decoded(_from_array(raw))
    if not raw:
        raise DecodeError("empty file")
    opener = _opener(raw)
    try:
        return opener(raw)
    except DecodeError:
        raise
    except MemoryError as error:
        raise DecodeError("not enough memory to decode it") from error
    # Pillow's plugins answer damaged bytes with whatever their parsers stumble over: OSError, SyntaxError,
    # ValueError, struct.error, KeyError and more. All of them mean the same here, and the reason keeps the
    # words.
    except Exception as error:
        raise DecodeError(_reason(error)) from error


class _Jpeg(JpegImagePlugin.JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Skip what costs time on every photo and warns of damaged EXIF; nobody asks for the resolution."""


def _decode_jpeg(raw: bytes) -> Decoded:
    picture = _Jpeg(io.BytesIO(raw))
    # Every 8 x 8 block takes a bit at least, also where three of four are left out as chroma's are: a header
    # that claims more is a lie, told before memory is asked for.
    if picture.width * picture.height > 64 * 4 * 8 * len(raw):
        raise DecodeError(
            f"cut short: {len(raw)} bytes cannot hold {picture.width} x {picture.height} pixels"
        )
    picture.decodermaxblock = len(raw)  # all at once: Pillow's default hands the codec 64 KiB at a time
    _load(picture)
    if picture.getpixel((picture.width - 1, picture.height - 1)) in _JPEG_NOTHING and not _is_whole(
        raw, picture
    ):
        raise DecodeError("cut short: its data end before its last row")
    inverted = picture.mode == "CMYK" and "adobe" not in picture.info
    return _upright(to_rgb(picture, inverted=inverted), exif_orientation(picture.info.get("exif", b"")))


# What libjpeg leaves, in silence, where an end marker comes before the last block: all coefficients zero.
_JPEG_NOTHING = (128, (128, 128, 128))
# More blocks of nothing, with restart marks.
_MORE_JPEG = b"".join(bytes(256) + bytes([0xFF, 0xD0 + number]) for number in range(8)) * 2
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _is_whole(raw: bytes, picture: Image.Image) -> bool:
    """Whether a JPEG's data reach to its last block: if so, more of them change nothing."""
    at = 2
    while raw[at : at + 2] != b"\xff\xda":
        at = raw.index(b"\xff", at + 2 + int.from_bytes(raw[at + 2 : at + 4], "big"))
        while raw[at + 1] == 0xFF:  # fill bytes may stand before a marker
            at += 1
    end = _SCAN_END.search(raw, at + 2)
    if end is None:
        return True
    longer = _Jpeg(io.BytesIO(raw[: end.start()] + _MORE_JPEG + raw[end.start() :]))
    longer.load()
    return longer.tobytes() == picture.tobytes()


def _decode_png(raw: bytes) -> Decoded:
    picture = PngImagePlugin.PngImageFile(io.BytesIO(raw))
    if raw[24] == 16 and picture.mode == "RGB":
        # Pillow keeps the high bytes only, in which a transparent colour of 16 bits cannot be told any more
        picture.info.pop("transparency", None)
    return _decode_plain(picture)


def _decode_webp(raw: bytes) -> Decoded:
    return _decode_plain(WebPImagePlugin.WebPImageFile(io.BytesIO(raw)))


def _decode_bmp(raw: bytes) -> Decoded:
    return _decode_plain(BmpImagePlugin.BmpImageFile(io.BytesIO(raw)))


def _decode_gif(raw: bytes) -> Decoded:
    return _decode_plain(GifImagePlugin.GifImageFile(io.BytesIO(raw)))


def _decode_plain(picture: Any) -> Decoded:
    _load(picture)
    return _upright(to_rgb(picture), exif_orientation(picture.info.get("exif", b"")))


# Pillow warns about odd TIFF tags through `warnings`, whose filters belong to the whole process. A lock
# keeps two threads from undoing each other's filters; it is held while tags are read, not while pixels are.
_tiff_lock = threading.Lock()


class _Tiff(TiffImagePlugin.TiffImageFile):
    def load_end(self) -> None:
        """Skip what reads all tags again, with warnings, to turn the picture; `_upright` does that."""


def _decode_tiff(raw: bytes) -> Decoded:
    with _tiff_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = _Tiff(io.BytesIO(raw))
        orientation = picture.tag_v2.get(_ORIENTATION, 1)
        bits = picture.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,))[0]
        white_is_zero = picture.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        unsigned = picture.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0] == 1
    _load(picture)
    wide = picture.mode.startswith(("I", "F"))
    rgb = to_rgb(picture, inverted=wide and white_is_zero, bits=bits, unsigned=unsigned)
    return _upright(rgb, orientation)


def _load(picture: Any) -> None:
    """Decode the pixels, after checking the size that the header claims: no memory is asked for before."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise DecodeError(
            f"{width} x {height} pixels are more than {MAX_PIXELS:,}, as a decompression bomb would have"
        )
    picture.load()


def _upright(image: Image.Image, orientation: int) -> Decoded:
    if orientation not in _UPRIGHT:
        return Decoded(image)
    return Decoded(image.transpose(_UPRIGHT[orientation]), oriented=True)


def exif_orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, that EXIF data ask for; 1 where they say nothing or are damaged."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "L", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _ = struct.unpack_from(order + "HHL", tiff, entry)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + ("L" if kind == 4 else "H"), tiff, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


_OPENERS: dict[bytes, Callable[[bytes], Decoded]] = {
    b"\xff\xd8\xff": _decode_jpeg,
    b"\x89PNG\r\n\x1a\n": _decode_png,
    b"BM": _decode_bmp,
    b"GIF87a": _decode_gif,
    b"GIF89a": _decode_gif,
    b"II*\0": _decode_tiff,
    b"MM\0*": _decode_tiff,
    b"II+\0": _decode_tiff,
    b"MM\0+": _decode_tiff,
}


def _opener(raw: bytes) -> Callable[[bytes], Decoded]:
    for start, opener in _OPENERS.items():
        if raw.startswith(start):
            return opener
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return _decode_webp
    raise DecodeError(f"not an image of a known format ({', '.join(FORMATS)}): {_describe(raw)}")


def _describe(raw: bytes) -> str:
    head = raw[:256]
    if head[4:8] == b"ftyp":
        brand = head[8:12].decode("latin-1")
        return f"it is an ISO media file ({brand.strip()!r}, such as HEIC, AVIF or video)"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page"
    try:
        head.decode("utf-8").encode("ascii")
    except UnicodeError:
        return f"it starts with the bytes {raw[:8].hex(' ')}"
    if head.strip(b"\0"):
        return f"it is text that starts {head[:16].decode()!r}"
    return "it is nothing but zero bytes" if not raw.strip(b"\0") else "it starts with zero bytes"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"cannot be decoded: {text[:200]}"


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (1, 3, 4))
    ):
        raise DecodeError(
            f"an array of {array.dtype} and shape {array.shape} is no picture of uint8 (h, w[, 1|3|4])"
        )
    if array.size == 0:
        raise DecodeError(f"an array of shape {array.shape} has no pixels")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return to_rgb(Image.fromarray(np.ascontiguousarray(array)))
