"""Which decoder this is, told by the pixels that it makes, for a job's fingerprint.

Version numbers would refuse to resume a job after any update and say nothing about builds of one version that
differ. What counts is whether the pixels change: two small lossy pictures are decoded, one is resized, and
the hash of the outcome is the identity. Nothing here decodes a user's picture.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache

import numpy as np
from PIL import __version__ as pillow_version
from PIL import features

from headwater.extract.decode import decode
from headwater.extract.transform import Preprocessing

RULES = 1
"""Raised whenever decode.py, modes.py or transform.py make other pixels than before from the same bytes."""

# 27 x 22 pixels of colourful noise; JPEG with halved chroma and lossy WebP, where decoders differ if they do
_JPEG = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxO"
    "UlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT0//wAARCAAWABsDASIAAhEBAxEB/8QAGQAAAwEBAQAAAAAAAAAAAAAAAAQFAwEG/8QAJRAAAQQCAQMEAwAAAAAAAAAA"
    "AQACESEDBBIiMfBBUWFxgcHR/8QAGAEBAAMBAAAAAAAAAAAAAAAABgMEBQf/xAAdEQACAwACAwAAAAAAAAAAAAABBAACEQMFEiEi"
    "/9oADAMBAAIRAxEAPwDy2vpBpEwRZFxNdj57Klj0Q0YyWTdgjt2/KpYdMGZZImYPp5adwaMvHKOJEOBv58KUHmFBKabvsSZi1jIp"
    "3CY4moKYGnmjpaHAUDAEqvi1eTuPFsjsSPoQf6tm6uOOuS71Jv8ASyG+08D8xYs5lZ3FriHNqokFNs1gAXVJahCgcvYA4ZzJK9tE"
    "cxYWuBJaOrqgfK3bhDWgUI9hSEIU5y33di5YnMn/2Q=="
)
_WEBP = (
    "UklGRtoAAABXRUJQVlA4IM4AAABwBQCdASobABYAPxF4sVIsJySisBgIAYAiCWwAnTKEcDeu8aSC53stic6s8xQisBH7cZQAAP7k"
    "KFFOvXOpx1vIh0A8F+q0QgeTFakpCpNfdZeQACUN7A7un3FgnnR5PD0ZgZT4DwP1SOBA2LK/lufjFOvLfwt81iekN/I+B1h5fUhj"
    "uNaLnSjxpQHPiyMAnK251L6trc6l9W1uhdivKHyWbX2oaoTs5VhwzCp9o/kdvr4ESOLUOYnu585eSBwbxHimG7fXoYALMzNWIS6A"
    "AA=="
)


@cache
def decoder_identity() -> str:
    """A name like `pillow, rules 1, pixels 0123456789abcdef`: equal wherever pictures become equal pixels."""
    made = hashlib.sha256()
    for picture in (_JPEG, _WEBP):
        made.update(decode(base64.b64decode(picture)).pixels.tobytes())
    rows, columns = np.mgrid[0:150, 0:211]
    pattern = np.stack([rows * columns, rows * 7 + columns * 3, rows**2 + columns], axis=-1).astype(np.uint8)
    for interpolation in ("bilinear", "bicubic"):
        made.update(Preprocessing(96, 80, interpolation).apply(pattern).tobytes())
    return f"pillow, rules {RULES}, pixels {made.hexdigest()[:16]}"


def decoder_versions() -> dict[str, str]:
    """Versions of the libraries behind the decoder, for the record of a run; no part of its identity."""
    names = {
        "libjpeg_turbo": "libjpeg-turbo",
        "jpg": "jpeg",
        "webp": "webp",
        "libtiff": "libtiff",
        "zlib": "zlib",
    }
    found = {shown: features.version(name) for name, shown in names.items()}
    return {"pillow": pillow_version, **{name: version for name, version in found.items() if version}}
