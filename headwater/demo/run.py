"""The demo from digits to report: the calls that a user makes on images of their own, one after the other."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.demo.backbone import Choice, choose_backbone
from headwater.demo.digits import IMAGES, MANIFEST, make_dataset
from headwater.errors import HeadwaterWarning, RequestError
from headwater.store.files import write_whole

if TYPE_CHECKING:
    from headwater.extract import ExtractReport, Progress
    from headwater.heads import FitResult

ABOUT = """\
This is headwater's demo. Every image was made for it: a real handwritten digit from MNIST, painted over a
texture that was drawn by formula. The class is the kind of digit, curved (0, 2, 3, 5, 6, 8, 9) or straight
(1, 4, 7); the texture is stripes or clouds and has nothing to do with it. In train the two go together in
the proportions of the Waterbirds data set: 95 in 100 curved digits stand on stripes, and 95 in 100 straight
ones on clouds. In val and test each kind of digit stands on both textures equally often. Colours, sizes and
directions are random everywhere.
"""
STORE = "digits.store"
HEADS = "heads"
METHODS = ("ERM", "RWG", "RWY", "SUBG", "SUBY", "DFR-val", "DFR-tr")
TARGET, GROUPS = "class", ("texture",)
_ANNOTATIONS = ("texture", "split", "digit")


@dataclass(frozen=True)
class DemoResult:
    """What the demo came to; `seconds` by step."""

    folder: Path
    backbone: Choice
    images: int
    composed: bool
    extraction: ExtractReport
    results: tuple[FitResult, ...]
    report: Path
    notes: tuple[str, ...]
    seconds: dict[str, float]


@dataclass
class Steps:
    """Where the demo tells what it is doing; each is called as a step begins, goes on, or ends."""

    began: Callable[[str, str], None] = lambda step, text: None
    ended: Callable[[str, str], None] = lambda step, text: None
    drawing: Callable[[int, int], None] | None = None
    extracting: Callable[[Progress], None] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[Callable[[str], None]]:
        """Times a step; the block calls what it is given with the words that end the step."""
        self.began(name, text)
        start = time.perf_counter()

        def end(words: str) -> None:
            self.seconds[name] = time.perf_counter() - start
            self.ended(name, words)

        yield end


def run_demo(
    folder: Path,
    *,
    images: int | None = None,
    backbone: str | None = None,
    seed: int = 0,
    steps: Steps | None = None,
) -> DemoResult:
    """Compose, extract, annotate, fit and report in `folder`; what is there already is used again.

    `images`: how many, None for what suits the backbone. `backbone`: a name, None for the best at hand.
    RequestError when the folder holds another demo; whatever the steps raise.
    """
    steps = steps or Steps()
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{str(folder)!r} is a file; choose a folder with --out")
    with steps.step("backbone", "looking for pretrained weights") as end:
        choice = Choice(backbone, 3000, backbone) if backbone else choose_backbone()
        end(choice.why)
    with steps.step("compose", "real digits on drawn textures") as end:
        items, there = make_dataset(folder, images or choice.images, seed, progress=steps.drawing)
        end(f"{len(items):,} images " + ("are there already" if there else f"in {folder / IMAGES}"))
    store = folder / STORE
    with steps.step("extract", "features, once") as end:
        from headwater.extract import extract_features  # noqa: PLC0415

        # So few images never repay compiling the network.
        extraction = extract_features(
            folder / IMAGES, store, backbone=choice.backbone, compile="off", progress=steps.extracting
        )
        end(_extracted(extraction))
    with steps.step("annotate", "texture, split and digit") as end:
        end(_annotate(store, folder / MANIFEST))
    with steps.step("fit", f"{len(METHODS)} methods at once") as end:
        results, notes = _fit(store, folder / HEADS)
        write_whole(folder / HEADS / "about.txt", ABOUT.encode())
        end(f"{len(results)} methods, {sum(each.fitted.trained for each in results)} heads")
    with steps.step("report", "one page") as end:
        from headwater.report import build_report  # noqa: PLC0415

        report = build_report(folder / HEADS)
        end(str(report))
    return DemoResult(
        folder=folder,
        backbone=choice,
        images=len(items),
        composed=not there,
        extraction=extraction,
        results=tuple(results),
        report=report,
        notes=notes,
        seconds=dict(steps.seconds),
    )


def _extracted(report: ExtractReport) -> str:
    if report.already_done:
        return f"{report.rows:,} rows are done already, nothing to extract"
    rate = report.rows / report.seconds
    return f"{report.rows:,} images, {rate:,.0f} per second, slowest stage: {report.slowest}"


def _annotate(store: Path, manifest: Path) -> str:
    from headwater.store import annotate, open_store, read_table  # noqa: PLC0415

    # The class is known from the folders already; the manifest's other columns join by path.
    known = open_store(store).annotations
    if all(name in known for name in _ANNOTATIONS):
        return "the columns are there already"
    table: dict[str, Any] = dict(read_table(manifest))
    annotate(store, {name: table[name] for name in ("path", *_ANNOTATIONS)}, replace=True)
    return ", ".join(("class", *_ANNOTATIONS))


def _fit(store: Path, folder: Path) -> tuple[list[FitResult], tuple[str, ...]]:
    from headwater.heads import fit_many  # noqa: PLC0415

    folder.mkdir(exist_ok=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HeadwaterWarning)
        results = fit_many(
            store,
            target=TARGET,
            groups=GROUPS,
            methods=[(name, {}) for name in METHODS],
            out=[folder / f"{name}.safetensors" for name in METHODS],
            replace=True,
        )
    notes = [str(each.message) for each in caught if issubclass(each.category, HeadwaterWarning)]
    return results, tuple(notes)
