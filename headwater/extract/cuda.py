"""What only a CUDA device needs: asynchronous batches through pinned memory, and JPEG decoding by nvJPEG.

GPU.md says how far this has been tried. The network, the compile decision and the pipeline are the CPU's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.io import ImageReadMode, decode_jpeg

from headwater.extract.decode import exif_orientation
from headwater.extract.rows import MAX_PIXELS, Raw
from headwater.extract.transform import Preprocessing

log = logging.getLogger(__name__)

_MODES = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic"}


class CudaForward:
    """Runs a module on CUDA: copies on a stream of their own, overlapping the batch before.

    The pipeline's buffers are pinned host memory, so copies need no staging in between. A batch's crops must
    stay as they are until its call has returned, which the pipeline sees to.
    """

    ahead = 1

    def __init__(
        self, module: Callable[[Tensor], Tensor], batch: int, engine: str, device: torch.device
    ) -> None:
        self.module, self.batch, self.engine, self.device = module, batch, engine, device
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A zeroed buffer for crops in pinned memory; the array keeps the tensor alive."""
        buffer: NDArray[np.uint8] = torch.zeros(shape, dtype=torch.uint8, pin_memory=True).numpy()
        return buffer

    def start(self, crops: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        """Queue copy in, network and copy out; the call returned waits for the features (batch, dim)."""
        compute = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._copies):
            on_device = torch.from_numpy(crops).to(self.device, non_blocking=True)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self._copies)
        compute.wait_event(arrived)
        # Made on one stream and read on another: without this its memory could be given away too early.
        on_device.record_stream(compute)
        with torch.no_grad():
            features = self.module(on_device)
        host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
        host.copy_(features, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(compute)

        def finish() -> NDArray[np.float32]:
            done.synchronize()
            values: NDArray[np.float32] = host.numpy()
            return values

        return finish


class NvJpeg:
    """Decodes batches of plain JPEGs on the device and makes their crops there.

    Plain means: baseline or progressive, grey or YCbCr, upright, no larger than MAX_PIXELS. Everything else,
    and whatever the decoder refuses, goes to the CPU's decoder. Chroma is upsampled by nvJPEG and the resize
    runs on the device, so pixels differ slightly from the CPU's; the decoder's name is in the fingerprint.
    """

    def __init__(self, device: torch.device, preprocessing: Preprocessing) -> None:
        self.device, self.preprocessing = device, preprocessing
        self._usable = preprocessing.interpolation in _MODES

    def takes(self, raw: Raw) -> tuple[int, int] | None:
        """(width, height) of a picture to decode on the device, None where the CPU must do it."""
        if not self._usable or not isinstance(raw, bytes):
            return None
        return plain_jpeg_size(raw)

    def decode(self, raws: Sequence[bytes]) -> list[NDArray[np.uint8] | None]:
        """One crop (h, w, 3) for each JPEG; None where the device could not decode it."""
        return [None if picture is None else self._crop(picture) for picture in self._pictures(raws)]

    def _pictures(self, raws: Sequence[bytes]) -> list[Tensor | None]:
        data = [torch.frombuffer(bytearray(raw), dtype=torch.uint8) for raw in raws]
        try:
            return list(decode_jpeg(data, mode=ImageReadMode.RGB, device=self.device))
        except RuntimeError as error:
            # One damaged picture fails its whole batch: find it by decoding one at a time.
            log.info("nvJPEG refused a batch, its pictures are decoded one by one: %s", error)
        return [self._alone(datum) for datum in data]

    def _alone(self, datum: Tensor) -> Tensor | None:
        try:
            picture: Tensor = decode_jpeg([datum], mode=ImageReadMode.RGB, device=self.device)[0]
        except RuntimeError:
            return None
        return picture

    def _crop(self, picture: Tensor) -> NDArray[np.uint8]:
        resized = resize(picture, self.preprocessing)
        height, width = self.preprocessing.size
        missing_down, missing_across = max(height - resized.shape[1], 0), max(width - resized.shape[2], 0)
        top_pad, left_pad = missing_down // 2, missing_across // 2
        padded = functional.pad(
            resized, (left_pad, missing_across - left_pad, top_pad, missing_down - top_pad)
        )
        top, left = round((padded.shape[1] - height) / 2.0), round((padded.shape[2] - width) / 2.0)
        crop = padded[:, top : top + height, left : left + width]
        values: NDArray[np.uint8] = crop.permute(1, 2, 0).contiguous().cpu().numpy()
        return values


def resize(picture: Tensor, preprocessing: Preprocessing) -> Tensor:
    """A uint8 picture (3, h, w) resized as the preprocessing says, with antialiasing, on its own device."""
    height, width = picture.shape[1:]
    wanted = preprocessing.resize
    if wanted is None:
        return picture
    if isinstance(wanted, tuple):
        size = wanted
    elif width <= height:
        size = (int(wanted * height / width), wanted)
    else:
        size = (wanted, int(wanted * width / height))
    mode = _MODES[preprocessing.interpolation]
    values = functional.interpolate(picture[None].float(), size=size, mode=mode, antialias=mode != "nearest")
    return values.round().clamp(0, 255).to(torch.uint8)[0]


_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive; the others are not plain
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})


def plain_jpeg_size(raw: bytes) -> tuple[int, int] | None:
    """(width, height) from the header of a plain, upright JPEG; None for any other content."""
    # A file that is cut short must fail as it does on the CPU; the device would fill in the rest with grey.
    if not raw.startswith(b"\xff\xd8\xff") or b"\xff\xd9" not in raw[-64:]:
        return None
    at = 2
    while at + 9 < len(raw) and raw[at] == 0xFF:
        marker = raw[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _STANDALONE:
            at += 2
            continue
        length = int.from_bytes(raw[at + 2 : at + 4], "big")
        if marker == 0xE1 and exif_orientation(raw[at + 4 : at + 2 + length]) != 1:
            return None
        if marker == 0xEE and raw[at + 4 : at + 9] == b"Adobe" and raw[at + 15] != 1:  # not YCbCr
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (
                int.from_bytes(raw[at + 5 : at + 7], "big"),
                int.from_bytes(raw[at + 7 : at + 9], "big"),
            )
            plain = marker in _FRAMES and raw[at + 4] == 8 and raw[at + 9] in (1, 3)
            return (width, height) if plain and 0 < width * height <= MAX_PIXELS else None
        at += 2 + length
    return None
