"""The CUDA path without a GPU: fakes record its calls and their order; the arithmetic runs on the CPU."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from headwater.extract import Preprocessing, cuda
from headwater.extract.cuda import CudaForward, NvJpeg, plain_jpeg_size, resize
from headwater.extract.decode import decode

CPU = torch.device("cpu")


class Recorder:
    """Stands for `torch.cuda`: streams and events that write down what they are asked to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.events = 0
        recorder = self

        class Stream:
            def __init__(self, device: torch.device) -> None:
                self.name = "copies"

            def wait_event(self, event: Any) -> None:
                recorder.calls.append(f"{self.name} waits for {event.name}")

        class Event:
            def __init__(self) -> None:
                recorder.events += 1
                self.name = f"event {recorder.events}"

            def record(self, stream: Any) -> None:
                recorder.calls.append(f"{self.name} after {stream.name}")

            def synchronize(self) -> None:
                recorder.calls.append(f"host waits for {self.name}")

        self.Stream, self.Event = Stream, Event
        self.compute = Stream(CPU)
        self.compute.name = "compute"

    def current_stream(self, device: torch.device) -> Any:
        return self.compute

    @contextmanager
    def stream(self, stream: Any) -> Any:
        self.calls.append(f"on {stream.name}")
        yield
        self.calls.append(f"off {stream.name}")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(torch, "cuda", recorder)
    zeros, empty = torch.zeros, torch.empty

    def pinned(make: Any) -> Any:
        def wrapped(*arguments: Any, pin_memory: bool = False, **settings: Any) -> torch.Tensor:
            recorder.calls.append(f"{make.__name__} pinned={pin_memory}")
            tensor: torch.Tensor = make(*arguments, **settings)
            return tensor

        return wrapped

    monkeypatch.setattr(torch, "zeros", pinned(zeros))
    monkeypatch.setattr(torch, "empty", pinned(empty))
    monkeypatch.setattr(
        torch.Tensor,
        "record_stream",
        lambda self, stream: recorder.calls.append(f"kept for {stream.name}"),
        raising=False,
    )
    return recorder


def test_a_batch_is_copied_on_its_own_stream_and_waited_for_once(fake: Recorder) -> None:
    def network(crops: torch.Tensor) -> torch.Tensor:
        fake.calls.append("network")
        return crops.float().mean((1, 2))

    forward = CudaForward(network, 2, "eager", CPU)
    assert forward.ahead == 1
    buffer = forward.allocate((2, 4, 4, 3))
    assert fake.calls == ["zeros pinned=True"]
    buffer[...] = np.arange(96, dtype=np.uint8).reshape(buffer.shape)
    fake.calls.clear()
    finish = forward.start(buffer)
    assert fake.calls == [
        "on copies",
        "event 1 after copies",
        "off copies",
        "compute waits for event 1",
        "kept for compute",
        "network",
        "empty pinned=True",
        "event 2 after compute",
    ]
    fake.calls.clear()
    np.testing.assert_allclose(finish(), buffer.astype(np.float32).mean((1, 2)))
    assert fake.calls == ["host waits for event 2"]


def jpeg(pixels: np.ndarray, mode: str = "RGB", **settings: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=95, **settings)
    return file.getvalue()


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [rows * 200 // height, columns * 200 // width, (rows + columns) * 200 // (height + width)]
    return np.stack(channels, -1).astype(np.uint8)


def oriented(value: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = value
    return {"exif": exif.tobytes()}


def test_only_plain_upright_whole_jpegs_go_to_the_device() -> None:
    pixels = smooth(40, 60)
    assert plain_jpeg_size(jpeg(pixels)) == (60, 40)
    assert plain_jpeg_size(jpeg(pixels, progressive=True)) == (60, 40)
    assert plain_jpeg_size(jpeg(pixels, "L")) == (60, 40)
    assert plain_jpeg_size(jpeg(pixels, **oriented(1))) == (60, 40)
    for value in range(2, 9):
        assert plain_jpeg_size(jpeg(pixels, **oriented(value))) is None
    assert plain_jpeg_size(jpeg(pixels, "CMYK")) is None
    whole = jpeg(pixels)
    for cut in (0, 1, 3, 20, len(whole) // 2, len(whole) - 2):
        assert plain_jpeg_size(whole[:cut]) is None
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    assert plain_jpeg_size(png.getvalue()) is None
    assert plain_jpeg_size(b"\xff\xd8" + b"\xff" * 200 + b"\xff\xd9") is None


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (20, 30), (64, 64)])
def test_crops_made_on_the_device_are_those_of_the_cpu_but_for_rounding(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessing = Preprocessing(resize=32 if shape == (64, 64) else 64, crop=48)
    decoder = NvJpeg(CPU, preprocessing)
    monkeypatch.setattr(cuda, "decode_jpeg", as_if_on_the_device)
    raw = jpeg(smooth(*shape))
    assert decoder.takes(raw) == (shape[1], shape[0])
    (crop,) = decoder.decode([raw])
    assert crop is not None
    wanted = preprocessing.apply(decode(raw))
    assert crop.shape == wanted.shape
    assert crop.flags.c_contiguous
    assert np.abs(crop.astype(int) - wanted.astype(int)).max() <= 2


def as_if_on_the_device(data: list[torch.Tensor], mode: Any, device: torch.device) -> list[torch.Tensor]:
    """What nvJPEG answers, decoded by Pillow; a damaged picture fails the whole batch as it does there."""
    pictures = []
    for datum in data:
        raw = datum.numpy().tobytes()
        if b"damaged" in raw:
            raise RuntimeError("nvjpegDecode failed")
        pictures.append(torch.from_numpy(decode(raw).pixels.copy()).permute(2, 0, 1))
    return pictures


def test_one_damaged_picture_does_not_take_its_batch_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "decode_jpeg", as_if_on_the_device)
    good = jpeg(smooth(40, 40))
    crops = NvJpeg(CPU, Preprocessing(resize=16, crop=16)).decode([good, b"damaged", good])
    assert [crop is None for crop in crops] == [False, True, False]


def test_what_the_device_cannot_resize_stays_with_the_cpu() -> None:
    lanczos = Preprocessing(resize=16, crop=16, interpolation="lanczos")
    assert NvJpeg(CPU, lanczos).takes(jpeg(smooth(40, 40))) is None
    assert NvJpeg(CPU, Preprocessing(resize=16, crop=16)).takes(smooth(40, 40)) is None


@pytest.mark.parametrize("wanted", [None, (20, 30)])
def test_other_resizes(wanted: Any) -> None:
    picture = torch.from_numpy(smooth(40, 60)).permute(2, 0, 1)
    shape = resize(picture, Preprocessing(resize=wanted, crop=16)).shape
    assert shape == (3, *(wanted or (40, 60)))


def test_the_pipeline_hands_plain_jpegs_to_the_device_and_the_rest_to_the_cpu(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole job with the CPU standing for the device: same keys, same features within rounding."""
    from headwater.extract import extract_features, job
    from headwater.extract.identity import decoder_identity
    from headwater.store import open_store

    images = tmp_path / "images"
    images.mkdir()
    for number in range(9):
        pixels = smooth(50 + number, 70 - number)
        if number % 3 == 2:
            Image.fromarray(pixels).save(images / f"{number}.png")
        else:
            (images / f"{number}.jpg").write_bytes(jpeg(pixels))
    (images / "4.jpg").write_bytes((images / "4.jpg").read_bytes()[:-9] + b"damaged\xff\xd9")
    extract_features(images, tmp_path / "cpu", backbone="pixels", batch_size=4, dtype="float32")
    taken: list[int] = []

    def counting(data: list[torch.Tensor], mode: Any, device: torch.device) -> list[torch.Tensor]:
        made = as_if_on_the_device(data, mode, device)
        taken.append(len(made))
        return made

    monkeypatch.setattr(cuda, "decode_jpeg", counting)
    monkeypatch.setattr(job, "decoder_name", lambda device, views: f"nvjpeg, else {decoder_identity()}")
    extract_features(images, tmp_path / "gpu", backbone="pixels", batch_size=4, dtype="float32")
    cpu, gpu = open_store(tmp_path / "cpu"), open_store(tmp_path / "gpu")
    assert sum(taken) == 5  # six JPEGs, one damaged and decoded by the CPU instead
    assert cpu.fingerprint != gpu.fingerprint
    assert cpu.keys.tolist() == gpu.keys.tolist()
    assert cpu.errors == gpu.errors
    assert cpu.sizes[cpu.ok].tolist() == gpu.sizes[gpu.ok].tolist()
    np.testing.assert_allclose(np.asarray(gpu.features), np.asarray(cpu.features), atol=2.1 / 255)
