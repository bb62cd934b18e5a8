"""Extraction against the loop everyone writes and against OpenVINO: the forward pass alone, and from JPEG.

The loop everyone writes: torchvision's network, eager, float32, images in torch's own layout, a DataLoader
whose data set opens each file with Pillow. `IMAGES` in the environment names a folder of JPEGs; without it
some that are like photos are made.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.common import Claim, Result, Table, alternate, median
from headwater.devices import choose_device
from headwater.extract import extract_features, find_backbone
from headwater.extract.compiling import COMPILED, Decision
from headwater.extract.decode import decode
from headwater.extract.device import choose_precision, instruction_sets, usable_cores
from headwater.extract.engine import Engine
from headwater.extract.weights import load_backbone
from headwater.store import open_store


def run(quick: bool) -> Result:
    name, batches, repeats = ("squeezenet1_1", 1, 1) if quick else ("resnet50", 2, 5)
    batch = 2 if quick else None
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    with tempfile.TemporaryDirectory() as folder:
        images = image_files(Path(folder), 6 if quick else 200, 1 if quick else 3)
        plain = ProcessOfItsOwn(name)
        forward_table, forward_claims = forward_only(
            name=name,
            plain=plain,
            device=device,
            precision=precision,
            batch_size=batch,
            batches=batches,
            repeats=repeats,
            compiled=not quick,
        )
        jpeg_table, jpeg_claims, agreement = from_jpeg(
            name, plain, images, Path(folder), batch_size=batch, compile_mode="off" if quick else "on"
        )
    notes = [
        f"{name}, random weights, {device}, {precision}, {usable_cores()} cores with {instruction_sets()}.",
        "Compiling is paid once for each job and is not in these rates; the job's record has its seconds.",
    ]
    if device.type == "cpu" and precision == "float32":
        notes.append(
            "This CPU has no bfloat16 instructions (AMX or AVX-512 BF16), on which 8 times and 5 times rest."
        )
    return Result([forward_table, jpeg_table], [*forward_claims, *jpeg_claims, agreement], notes)


def forward_only(
    *,
    name: str,
    plain: ProcessOfItsOwn,
    device: torch.device,
    precision: str,
    batch_size: int | None,
    batches: int,
    repeats: int,
    compiled: bool,
) -> tuple[Table, list[Claim]]:
    """Synthetic batches through all contestants, in turns."""
    loaded = load_backbone(find_backbone(name), "random")
    engine = Engine(
        load_backbone(find_backbone(name), "random"),
        device,
        precision,
        batch_size,
        "on" if compiled else "off",
    )
    decision = Decision(COMPILED if compiled else "eager", "the benchmark", {})
    ours, _ = engine.forward(decision)
    batch = ours.batch
    height, width = loaded.preprocessing.size
    crops = ours.allocate((batch, height, width, 3))
    crops[...] = np.random.default_rng(0).integers(0, 256, crops.shape, dtype=np.uint8)

    def run_ours() -> None:
        for _ in range(batches):
            ours.start(crops)()

    def run_plain() -> None:
        plain.do(loop_over_synthetic, batch, height, width, batches)

    contestants: dict[str, Callable[[], object]] = {"headwater": run_ours, "the usual loop": run_plain}
    openvino = openvino_pass(loaded.network, batch, height, width)
    if openvino is not None:
        images = np.random.default_rng(0).random((batch, 3, height, width), dtype=np.float32)
        contestants["OpenVINO"] = lambda: [openvino[0](images) for _ in range(batches)]
    for warm_up in contestants.values():
        warm_up()
    times = {who: median(seconds) for who, seconds in alternate(contestants, repeats).items()}
    rates = {who: batch * batches / seconds for who, seconds in times.items()}
    rows = [
        ("headwater", f"{ours.engine}, {precision}", rates["headwater"]),
        ("the usual loop", "eager, float32", rates["the usual loop"]),
    ]
    claims = [
        Claim.at_least("forward only, times the usual loop", rates["headwater"] / rates["the usual loop"], 8)
    ]
    if openvino is not None:
        rows.append(("OpenVINO", openvino[1], rates["OpenVINO"]))
        claims.append(
            Claim.at_least("forward only, share of OpenVINO", rates["headwater"] / rates["OpenVINO"], 0.9)
        )
    return Table("forward only, synthetic batches", ("who", "how", "images/s"), rows), claims


def from_jpeg(
    name: str,
    plain: ProcessOfItsOwn,
    images: Path,
    work: Path,
    *,
    batch_size: int | None,
    compile_mode: str,
) -> tuple[Table, list[Claim], Claim]:
    """Files to features, ours against the loop, and against the bound that decoding and forward allow in
    turns; ends the loop's process.
    """
    files = sorted(images.rglob("*.jpg"))
    wanted, seconds_of_usual = plain.do(loop_over_files, files)
    usual = len(files) / seconds_of_usual
    plain.end()

    store_path = work / "bench.store"
    report = extract_features(
        images,
        store_path,
        backbone=name,
        weights="random",
        dtype="float32",
        compile=compile_mode,
        batch_size=batch_size,
        rows_per_shard=max(64, len(files)),
    )
    store = open_store(store_path)
    run_record = store.runs[-1]
    # Compiling happens before the first image; what counts here is the time in which images were moved.
    moving = run_record["moving_seconds"]
    ours = report.rows / moving
    decode_rate = decoding_alone(files, load_backbone(find_backbone(name), "random").preprocessing)
    forward_rate = run_record["rates"]["backbone"]
    bound = 1 / (1 / decode_rate + 1 / forward_rate)
    rows = [
        ("headwater", f"{report.engine}, {run_record['precision']}", ours),
        ("the usual loop", "eager, float32", usual),
        ("decoding alone", f"{usable_cores()} threads", decode_rate),
        ("forward in the job", report.engine, forward_rate),
        ("bound of the two in turns", "", bound),
    ]
    features = np.asarray(store.features)
    cosine = (features * wanted).sum(1) / np.linalg.norm(features, axis=1) / np.linalg.norm(wanted, axis=1)
    claims = [
        Claim.at_least("from JPEG, times the usual loop", ours / usual, 5),
        Claim.at_least("from JPEG, share of the bound", ours / bound, 0.9),
    ]
    return (
        Table(f"from JPEG, {len(files)} files", ("who", "how", "images/s"), rows),
        claims,
        Claim.at_least("lowest cosine with the usual loop's features", float(cosine.min()), 0.999),
    )


class PlainLoop:
    """What everyone writes: the network in eager float32, fed by torchvision's own transforms' arithmetic."""

    def __init__(self, name: str) -> None:
        loaded = load_backbone(find_backbone(name), "random")
        self.preprocessing = loaded.preprocessing
        self.network: nn.Module = loaded.network

    def features(self, images: torch.Tensor) -> np.ndarray:
        """Features of a batch, (n, dim)."""
        with torch.no_grad():
            made: np.ndarray = self.network(images).flatten(1).numpy()
        return made


class ProcessOfItsOwn:
    """Runs the loop everyone writes where none of our settings for this process reach it."""

    def __init__(self, name: str) -> None:
        self._pool = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_make_loop, initargs=(name,)
        )

    def do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call `work(loop, *arguments)` there and wait for its result."""
        return self._pool.submit(_with_loop, work, arguments).result()

    def end(self) -> None:
        """Free the process's memory."""
        self._pool.shutdown()


_loops: list[PlainLoop] = []


def _make_loop(name: str) -> None:
    _loops.append(PlainLoop(name))


def _with_loop(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return work(_loops[0], *arguments)


def loop_over_synthetic(plain: PlainLoop, batch: int, height: int, width: int, batches: int) -> None:
    """`batches` batches of random images."""
    for _ in range(batches):
        for images in DataLoader(Synthetic(batch, height, width), batch_size=batch):
            plain.features(images)


def loop_over_files(plain: PlainLoop, files: list[Path]) -> tuple[np.ndarray, float]:
    """Features of all files, and the seconds that took."""
    start = time.perf_counter()
    loader = DataLoader(Files(files, plain.preprocessing), batch_size=16)
    features = np.concatenate([plain.features(images) for images in loader])
    return features, time.perf_counter() - start


class Synthetic(Dataset[torch.Tensor]):
    """Ready float images, so that only the forward pass counts."""

    def __init__(self, count: int, height: int, width: int) -> None:
        self.count, self.image = count, torch.rand(3, height, width)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.image


class Files(Dataset[torch.Tensor]):
    """Files through Pillow and torchvision's transforms."""

    def __init__(self, files: list[Path], preprocessing: Any) -> None:
        self.files = files
        self.transform = transforms.Compose(
            [
                transforms.Resize(
                    preprocessing.resize,
                    interpolation=transforms.InterpolationMode(preprocessing.interpolation),
                ),
                transforms.CenterCrop(preprocessing.crop),
                transforms.ToTensor(),
                transforms.Normalize(preprocessing.mean, preprocessing.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        tensor: torch.Tensor = self.transform(Image.open(self.files[index]).convert("RGB"))
        return tensor


def decoding_alone(files: list[Path], preprocessing: Any) -> float:
    """Images per second from bytes to crops, with a thread for each core and nothing else at work."""

    def one(file: Path) -> None:
        preprocessing.apply(decode(file.read_bytes()))

    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(one, files[:16]))
        start = time.perf_counter()
        list(pool.map(one, files))
        return len(files) / (time.perf_counter() - start)


def openvino_pass(network: nn.Module, batch: int, height: int, width: int) -> tuple[Any, str] | None:
    """OpenVINO's pass in its best precision on this machine, and that precision; None where it is not
    installed.
    """
    try:
        import openvino  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return None
    example = torch.rand(batch, 3, height, width)
    model = openvino.convert_model(network, example_input=example)
    model.reshape([batch, 3, height, width])
    compiled = openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return (lambda images: request.infer({0: images})), precision


def image_files(folder: Path, count: int, copies: int) -> Path:
    """A folder of JPEGs: those named by `IMAGES`, each `copies` times, or smooth noise with edges in ordinary
    sizes.
    """
    made = folder / "images"
    made.mkdir()
    given = os.environ.get("IMAGES")
    if given:
        found = sorted(file for file in Path(given).rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))[
            :count
        ]
        for copy in range(copies):
            for number, file in enumerate(found):
                (made / f"{copy}-{number:05d}.jpg").write_bytes(file.read_bytes())
        return made
    draw = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        grain = draw.normal(0, 6, (375, 500, 3))
        pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        picture = Image.fromarray(pixels)
        for copy in range(copies):
            picture.save(made / f"{copy}-{number:05d}.jpg", quality=90)
    return made
