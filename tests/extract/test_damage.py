"""Pictures that are cut short, damaged, too large or lying: each fails alone, by a DecodeError."""

from __future__ import annotations

import struct
import time
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile

from headwater.extract.decode import decode
from headwater.extract.rows import DecodeError

from .pictures import chunk, encode, exif, smooth, tiff, with_size

PICTURE = smooth()
RED = PICTURE[..., 0]

WHOLE = {
    "jpeg": encode(PICTURE, "JPEG"),
    "progressive jpeg": encode(PICTURE, "JPEG", progressive=True),
    "png": encode(PICTURE, "PNG"),
    "webp": encode(PICTURE, "WEBP"),
    "lossless webp": encode(PICTURE, "WEBP", lossless=True),
    "bmp": encode(PICTURE, "BMP"),
    "gif": encode(PICTURE, "GIF"),
    "tiff": encode(PICTURE, "TIFF"),
    "tiff lzw": encode(PICTURE, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_picture_cut_short_fails_or_is_whole(name: str) -> None:
    whole = WHOLE[name]
    expected = decode(whole).pixels
    failed = 0
    for cut in [*range(0, len(whole), max(1, len(whole) // 150)), *range(len(whole) - 30, len(whole))]:
        try:
            pixels = decode(whole[:cut]).pixels
        except DecodeError:
            failed += 1
            continue
        np.testing.assert_array_equal(pixels, expected, err_msg=f"cut at {cut} of {len(whole)}")
    assert failed > 140


@pytest.mark.parametrize("name", ["jpeg", "progressive jpeg", "png", "bmp", "tiff"])
def test_a_picture_whose_tail_was_never_written_fails(name: str) -> None:
    whole = WHOLE[name] if name not in ("bmp", "tiff") else WHOLE["png"]
    with pytest.raises(DecodeError):
        decode(whole[: len(whole) // 2] + b"\0" * (len(whole) - len(whole) // 2))


@pytest.mark.parametrize("name", WHOLE)
def test_damaged_bytes_never_raise_anything_but_a_decode_error(name: str) -> None:
    random = np.random.default_rng(7)
    for _ in range(120):
        damaged = np.frombuffer(WHOLE[name], np.uint8).copy()
        where = random.integers(0, min(len(damaged), 400), 3)
        damaged[where] = random.integers(0, 256, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                pixels = decode(damaged.tobytes()).pixels
            except DecodeError:
                continue
            assert pixels.ndim == 3
            assert pixels.shape[2] == 3


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">LLBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", b"\x78\x9c" + b"\0" * 100)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")
    began = time.process_time()
    with pytest.raises(DecodeError, match="60000 x 60000 pixels are more than 178,956,970"):
        decode(bomb)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_bombs_of_other_formats(kind: str) -> None:
    tiny = encode(Image.new("L", (1, 1)), kind)
    where, form = {
        "GIF": (6, "<HH"),
        "BMP": (18, "<ll"),
        "TIFF": (None, ""),
    }[kind]
    if where is None:
        raw = tiff(np.zeros((1, 1), np.uint8), 1, extra={256: 50_000, 257: 50_000})
    else:
        raw = tiny[:where] + struct.pack(form, 60_000, 60_000) + tiny[where + struct.calcsize(form) :]
    with pytest.raises(DecodeError, match=r"more than|exceeds"):
        decode(raw)


@pytest.mark.parametrize("size", [(2000, 2000), (56, 80), (65_000, 2700), (700, 500)])
@pytest.mark.parametrize("name", ["jpeg", "progressive jpeg", "grey jpeg"])
def test_a_header_that_lies_about_the_size_fails(name: str, size: tuple[int, int]) -> None:
    raw = encode(np.ascontiguousarray(RED), "JPEG") if name == "grey jpeg" else WHOLE[name]
    with pytest.raises(DecodeError):
        decode(with_size(raw, *size))


@pytest.mark.parametrize(
    "options", [{}, {"restart_marker_blocks": 3}, {"restart_marker_rows": 1}, {"subsampling": 0}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_cut_short_and_ended_properly_fails(options: dict[str, int], mode: str) -> None:
    whole = encode(Image.fromarray(smooth(200, 300)).convert(mode), "JPEG", **options)
    for share in np.arange(0.66, 0.98, 0.02):
        with pytest.raises(DecodeError, match=r"cut short|truncated"):
            decode(whole[: int(len(whole) * share)].rstrip(b"\xff") + b"\xff\xd9")


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"exif": exif(1)}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_whole_jpeg_that_is_grey_in_its_last_corner_passes(options: dict[str, int], mode: str) -> None:
    pixels = smooth(64, 64)
    pixels[20:] = 128
    raw = encode(Image.fromarray(pixels).convert(mode), "JPEG", **options)
    assert decode(raw).pixels[-1, -1].tolist() == [128, 128, 128]
    assert decode(raw + b"\xff\xd9 and what cameras append").pixels[-1, -1].tolist() == [128, 128, 128]


def test_a_large_picture_within_the_limit_gives_no_warning() -> None:
    raw = encode(Image.new("1", (10_000, 9_500)), "PNG")  # above the size at which Pillow warns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = decode(raw)
    assert (decoded.width, decoded.height) == (10_000, 9_500)


def test_pillow_is_left_as_it_was() -> None:
    before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    for raw in WHOLE.values():
        decode(raw)
        with pytest.raises(DecodeError):
            decode(raw[: len(raw) // 2])
    assert (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
