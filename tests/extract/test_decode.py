"""Every format and sample type comes out as the right RGB pixels, told by pixels known beforehand."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, TiffImagePlugin

from headwater.extract.decode import decode, exif_orientation
from headwater.extract.identity import decoder_identity, decoder_versions
from headwater.extract.rows import DecodeError

from .pictures import chunk, encode, exif, png, smooth, tiff, without_segment

PICTURE = smooth()
RED = PICTURE[..., 0]


def grey(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.repeat(values[..., None], 3, axis=-1)


def check(raw: bytes, expected: NDArray[np.generic], tolerance: int = 0) -> None:
    pixels = decode(raw).pixels
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - np.rint(expected).astype(int)).max() <= tolerance


LOSSLESS = {
    "png": lambda: encode(PICTURE, "PNG"),
    "interlaced by hand": lambda: png(PICTURE, 2, 8),
    "webp": lambda: encode(PICTURE, "WEBP", lossless=True),
    "bmp": lambda: encode(PICTURE, "BMP"),
    "tiff": lambda: tiff(PICTURE, 2),
    "tiff big-endian": lambda: tiff(PICTURE, 2, ">"),
    "tiff lzw": lambda: encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda: encode(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_keep_every_pixel(name: str) -> None:
    check(LOSSLESS[name](), PICTURE)


@pytest.mark.parametrize(
    ("raw", "tolerance"),
    [
        (encode(PICTURE, "JPEG", quality=100, subsampling=0), 4),
        (encode(PICTURE, "JPEG", quality=95), 12),
        (encode(PICTURE, "JPEG", quality=95, progressive=True), 12),
        (encode(PICTURE, "WEBP", quality=95), 16),
        (encode(PICTURE, "TIFF", compression="jpeg", quality=100), 6),
    ],
)
def test_lossy_formats_stay_close(raw: bytes, tolerance: int) -> None:
    check(raw, PICTURE, tolerance)


def test_a_jpeg_is_what_pillow_makes_of_it() -> None:
    raw = encode(PICTURE, "JPEG", quality=70)
    check(raw, np.asarray(Image.open(io.BytesIO(raw))))


def test_a_gif_shows_its_palette_exactly() -> None:
    palette = Image.fromarray(PICTURE).quantize(200)
    check(encode(palette, "GIF"), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    first, second = (Image.new("RGB", (20, 10), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    options = {"lossless": True} if kind == "WEBP" else {}
    raw = encode(first, kind, save_all=True, append_images=[second], duration=50, **options)
    check(raw, np.asarray(first))


WIDE = (np.arange(40 * 56).reshape(40, 56) * 29).astype(np.uint16)  # up to 64,931
WIDE_RGB = np.stack([WIDE, WIDE[::-1], WIDE[:, ::-1]], axis=-1)
OPAQUE = np.full((40, 56, 1), 65535, np.uint16)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (png(WIDE, 0, 16), grey(WIDE >> 8)),
        (png(WIDE_RGB, 2, 16), WIDE_RGB >> 8),
        (png(np.concatenate([WIDE[..., None], OPAQUE], axis=-1), 4, 16), grey(WIDE >> 8)),
        (png(np.concatenate([WIDE_RGB, OPAQUE], axis=-1), 6, 16), WIDE_RGB >> 8),
        (tiff(WIDE, 1), grey(WIDE >> 8)),
        (tiff(WIDE, 1, ">"), grey(WIDE >> 8)),
        (tiff(WIDE_RGB, 2), WIDE_RGB >> 8),
        (tiff(WIDE_RGB, 2, ">"), WIDE_RGB >> 8),
        (tiff(WIDE, 0), 255 - grey(WIDE >> 8).astype(int)),
    ],
)
def test_16_bit_samples_keep_their_high_byte(raw: bytes, expected: NDArray[np.generic]) -> None:
    check(raw, expected)


@pytest.mark.parametrize("widened", [RED.astype(np.uint16) * 257, RED.astype(np.uint16) << 8])
def test_8_bit_pictures_widened_to_16_come_back_exactly(widened: NDArray[np.uint16]) -> None:
    check(png(widened, 0, 16), grey(RED))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("values", "black", "white"),
    [
        (RED.astype(np.float32) / 255, 0, 1),
        (RED.astype(np.float32), 0, 255),
        (RED.astype(np.float32) * 10 - 500, -500, 2050),
        (RED.astype(np.int32) * 100, 0, 25500),
        (RED.astype(np.int16) * 100 - 9000, -9000, 16500),
    ],
)
def test_samples_without_a_fixed_white_follow_the_range_rule(
    values: NDArray[np.generic], black: float, white: float, order: str
) -> None:
    check(tiff(values, 1, order), grey(np.rint((values.astype(float) - black) / (white - black) * 255)))


def test_unsigned_32_bit_samples_are_not_taken_for_negative() -> None:
    values = RED.astype(np.uint32) * 16_843_009  # up to 2**32 - 1
    check(tiff(values, 1), grey(RED))


def test_a_float_picture_with_nan_fails() -> None:
    values = RED.astype(np.float32)
    values[3, 4] = np.nan
    with pytest.raises(DecodeError, match="not finite"):
        decode(tiff(values, 1))


@pytest.mark.parametrize("invert", [False, True])
def test_grey_tiff_of_either_polarity(invert: bool) -> None:
    check(tiff(np.ascontiguousarray(RED), 0 if invert else 1), grey(255 - RED if invert else RED))


CMYK = np.dstack([PICTURE, RED // 4])


def printed(cmyk: NDArray[np.generic]) -> NDArray[np.float64]:
    """What ink of these amounts leaves of white light."""
    ink = cmyk.astype(float) / 255
    return 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])


def test_cmyk_jpeg_as_photoshop_writes_it() -> None:
    raw = encode(Image.fromarray(CMYK, "CMYK"), "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in raw
    check(raw, printed(CMYK), tolerance=4)


def test_cmyk_jpeg_without_adobes_marker_is_not_inverted() -> None:
    raw = encode(Image.fromarray(CMYK, "CMYK"), "JPEG", quality=100, subsampling=0)
    stored = 255 - CMYK.astype(int)  # what Pillow wrote, to be read as plain ink amounts now
    check(without_segment(raw, 0xEE), printed(stored), tolerance=4)


def test_cmyk_tiff() -> None:
    check(encode(Image.fromarray(CMYK, "CMYK"), "TIFF"), printed(CMYK), tolerance=1)


ALPHA = np.tile(np.linspace(0, 255, 56).round(), (40, 1)).astype(np.uint8)


def over_white(colour: NDArray[np.generic], alpha: NDArray[np.generic]) -> NDArray[np.float64]:
    share = alpha.astype(float)[..., None] / 255
    return np.rint(colour.astype(float) * share + 255 * (1 - share))


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})]
)
def test_alpha_is_laid_over_white(kind: str, options: dict[str, bool]) -> None:
    check(encode(np.dstack([PICTURE, ALPHA]), kind, **options), over_white(PICTURE, ALPHA))


def test_grey_with_alpha_is_laid_over_white() -> None:
    check(encode(Image.fromarray(np.dstack([RED, ALPHA]), "LA"), "PNG"), over_white(grey(RED), ALPHA))


PALETTE = Image.fromarray(PICTURE).quantize(16)
INDEX = np.asarray(PALETTE)
PALETTE_RGB = np.asarray(PALETTE.convert("RGB"))


def test_palette() -> None:
    check(encode(PALETTE, "PNG"), PALETTE_RGB)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(kind: str) -> None:
    check(encode(PALETTE, kind, transparency=3), np.where((INDEX == 3)[..., None], 255, PALETTE_RGB))


def test_palette_entries_of_any_opacity() -> None:
    opacity = np.full(16, 255)
    opacity[:2] = 0, 128
    raw = encode(PALETTE, "PNG", transparency=bytes(opacity.tolist()))
    check(raw, over_white(PALETTE_RGB, opacity[INDEX]))


@pytest.mark.parametrize(
    ("samples", "colour_type", "bits", "key"),
    [(PICTURE, 2, 8, PICTURE[5, 7]), (RED, 0, 8, RED[5, 7:8]), (WIDE, 0, 16, WIDE[5, 7:8])],
)
def test_a_transparent_colour_is_white(
    samples: NDArray[np.generic], colour_type: int, bits: int, key: NDArray[np.generic]
) -> None:
    raw = png(samples, colour_type, bits, chunk(b"tRNS", struct.pack(f">{len(key)}H", *key.tolist())))
    shown = samples if samples.ndim == 3 else grey(samples)
    hit = (shown == key).all(axis=-1)
    check(raw, np.where(hit[..., None], 255, shown >> (bits - 8)))


def test_a_transparent_colour_of_16_bits_is_not_mistaken_for_one_of_8() -> None:
    samples = np.full((3, 4, 3), 0x0707, np.uint16)
    check(png(samples, 2, 16, chunk(b"tRNS", struct.pack(">HHH", 7, 7, 7))), samples >> 8)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_orientation_of_a_compressed_tiff(compression: str) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = 6
    check(encode(PICTURE, "TIFF", compression=compression, tiffinfo=tags), np.rot90(PICTURE, -1))


def test_one_bit() -> None:
    bits = (RED > 100).astype(np.uint8) * 255
    check(encode(Image.fromarray(bits).convert("1", dither=Image.Dither.NONE), "PNG"), grey(bits))


def test_a_colour_profile_is_left_alone() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    check(encode(PICTURE, "PNG", icc_profile=profile), PICTURE)


# Where the stored picture's pixels go, for each EXIF orientation, by the table of the EXIF standard.
UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    if kind == "TIFF":
        raw = tiff(PICTURE, 2, extra={274: orientation})
    else:
        options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
        options |= {"lossless": True} if kind == "WEBP" else {}
        raw = encode(PICTURE, kind, exif=exif(orientation, ">" if orientation % 2 else "<"), **options)
    expected = UPRIGHT[orientation](PICTURE)
    check(raw, expected, tolerance=4 if kind == "JPEG" else 0)
    check(raw, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))))
    decoded = decode(raw)
    assert decoded.oriented == (orientation != 1)
    assert (decoded.height, decoded.width) == expected.shape[:2]


@pytest.mark.parametrize(
    "damage", [exif(0), exif(9), exif(6)[:20], exif(6)[:-12], b"Exif\0\0", b"", b"II*\0\xff" * 9]
)
def test_damaged_exif_leaves_the_picture_as_it_is(damage: bytes) -> None:
    assert exif_orientation(damage) == 1
    with warnings.catch_warnings():
        if hasattr(JpegImagePlugin.JpegImageFile, "_read_dpi_from_exif"):  # older Pillow warns, and goes on
            warnings.simplefilter("error")
        if damage:
            check(encode(PICTURE, "JPEG", quality=100, subsampling=0, exif=damage), PICTURE, tolerance=4)


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_arrays(channels: int | None) -> None:
    array = {None: RED, 1: RED[..., None], 3: PICTURE, 4: np.dstack([PICTURE, ALPHA])}[channels]
    expected = {None: grey(RED), 1: grey(RED), 3: PICTURE, 4: over_white(PICTURE, ALPHA)}[channels]
    np.testing.assert_array_equal(decode(np.asfortranarray(array)).pixels, expected)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(9, np.uint8),
    ],
)
def test_arrays_that_are_no_picture(array: NDArray[np.generic]) -> None:
    with pytest.raises(DecodeError, match="array of"):
        decode(array)  # type: ignore[arg-type]


def test_the_content_decides_the_format() -> None:
    raw = encode(PICTURE, "PNG")
    assert not raw.startswith(b"\xff\xd8")
    check(raw, PICTURE)  # no name was ever given


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is a note\n", "text that starts 'hello"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\0" * 5000, "zero bytes"),
        (b"%PDF-1.7\n\xff\xfe\xfd", "starts with the bytes 25 50 44 46"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 50, "'heic'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (b"\xff\xd8\xff", "cannot be decoded"),
        (b"BM", "cannot be decoded"),
        (b"GIF89a", "cannot be decoded"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "cannot be decoded"),
        (b"II*\0", "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
    ],
)
def test_what_is_no_image_says_what_it_is(raw: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(raw)


def test_threads_get_their_own_pictures() -> None:
    colours = [(20 * k, 255 - 20 * k, 7 * k) for k in range(8)]
    raws = [
        encode(np.full((30, 30 + k, 3), colours[k], np.uint8), kind)
        for k in range(8)
        for kind in ("PNG", "TIFF")
    ]
    wrong: list[int] = []

    def work(first: int) -> None:
        for step in range(60):
            k = (first + step) % 16
            pixels = decode(raws[k]).pixels
            if pixels.shape != (30, 30 + k // 2, 3) or (pixels != colours[k // 2]).any():
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_identity_stands_for_pixels_not_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decoder_identity().startswith("pillow, rules ")
    assert decoder_versions()["pillow"] == Image.__version__
    assert Image.__version__ not in decoder_identity()
    original = decode

    def nearly(raw: bytes) -> object:
        decoded = original(raw)
        image = decoded.image.copy()
        image.putpixel((0, 0), tuple((value + 1) % 256 for value in image.getpixel((0, 0))))
        return type(decoded)(image)

    monkeypatch.setattr("headwater.extract.identity.decode", nearly)
    assert decoder_identity.__wrapped__() != decoder_identity()
