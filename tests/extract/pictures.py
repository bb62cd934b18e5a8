"""Pictures with known pixels, encoded by Pillow or written byte by byte, for the decoding tests."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def smooth(height: int = 40, width: int = 56) -> NDArray[np.uint8]:
    """A colourful picture without hard edges, so that lossy codecs stay close to it."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    red = 255 * x / max(width - 1, 1)
    green = 255 * y / max(height - 1, 1)
    blue = 127.5 + 127.5 * np.sin((x + y) / 12)
    return np.rint(np.stack([red, green, blue], axis=-1)).astype(np.uint8)


def encode(pixels: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(samples: NDArray[Any], colour_type: int, bits: int, extra: bytes = b"") -> bytes:
    """A PNG written by hand from samples (h, w) or (h, w, c), without filters."""
    height, width = samples.shape[:2]
    rows = samples.astype(">u2" if bits == 16 else np.uint8).reshape(height, -1)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">LLBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def tiff(
    samples: NDArray[Any], photometric: int, order: str = "<", extra: dict[int, int] | None = None
) -> bytes:
    """An uncompressed one-strip TIFF written by hand, in byte order `<` or `>`."""
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    dtype = samples.dtype.newbyteorder(order)
    sample_format = {"u": 1, "i": 2, "f": 3}[dtype.kind]
    data = samples.astype(dtype).tobytes()
    bits = dtype.itemsize * 8
    entries: dict[int, tuple[int, int, int]] = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, channels, bits),
        259: (3, 1, 1),
        262: (3, 1, photometric),
        273: (4, 1, 0),
        277: (3, 1, channels),
        278: (4, 1, height),
        279: (4, 1, len(data)),
        339: (3, channels, sample_format),
    }
    for tag, value in (extra or {}).items():
        entries[tag] = (3, 1, value)
    size = 8 + 2 + 12 * len(entries) + 4
    pool = b""
    directory = b""
    for tag in sorted(entries):
        kind, count, value = entries[tag]
        if kind == 3 and count > 2:
            field = struct.pack(order + "L", size + len(pool))
            pool += struct.pack(order + f"{count}H", *[value] * count)
        elif kind == 3:
            field = struct.pack(order + "HH", value, value if count == 2 else 0)
        else:
            field = struct.pack(order + "L", value)
        directory += struct.pack(order + "HHL", tag, kind, count) + field
    at = size + len(pool)
    strip = struct.pack(order + "HHL", 273, 4, 1)
    directory = directory.replace(strip + struct.pack(order + "L", 0), strip + struct.pack(order + "L", at))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return (
        mark
        + struct.pack(order + "L", 8)
        + struct.pack(order + "H", len(entries))
        + directory
        + struct.pack(order + "L", 0)
        + pool
        + data
    )


def exif(orientation: int, order: str = "<") -> bytes:
    """EXIF data, as they lie in a JPEG's APP1 segment, that hold an orientation and one tag before it."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return (
        b"Exif\0\0"
        + mark
        + struct.pack(order + "LH", 8, 2)
        + struct.pack(order + "HHLHH", 0x0102, 3, 1, 8, 0)
        + struct.pack(order + "HHLHH", 0x0112, 3, 1, orientation, 0)
        + struct.pack(order + "L", 0)
    )


def without_segment(jpeg: bytes, marker: int) -> bytes:
    """The JPEG without its first segment of that marker."""
    at = 2
    while at < len(jpeg):
        assert jpeg[at] == 0xFF
        (length,) = struct.unpack_from(">H", jpeg, at + 2)
        if jpeg[at + 1] == marker:
            return jpeg[:at] + jpeg[at + 2 + length :]
        at += 2 + length
    raise AssertionError(f"no segment {marker:x}")


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with a lie about its size in its frame header."""
    at = 2
    while True:
        (length,) = struct.unpack_from(">H", jpeg, at + 2)
        if jpeg[at + 1] in (0xC0, 0xC2):
            return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]
        at += 2 + length
