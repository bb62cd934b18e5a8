"""The submission: a head merged into the network that its features came from, and tried on real images."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headwater.checkpoints import load_state_dict
from headwater.errors import HeadwaterError, RequestError
from headwater.extract.backbone import Backbone
from headwater.extract.decode import decode
from headwater.extract.registry import find_backbone
from headwater.extract.rows import RowError
from headwater.extract.transform import Preprocessing
from headwater.extract.weights import load_backbone
from headwater.heads import export_head, load_head
from headwater.heads.export import ARCHIVED_NAME
from headwater.store import Store, open_store
from headwater.workflow.check import SUBMISSION
from headwater.workflow.config import Asked
from headwater.workflow.features import Images, images_of
from headwater.workflow.record import Record, digest_of, file_digest

if TYPE_CHECKING:
    from headwater.heads.export import Exported

TOLERANCE = {"float32": 5e-3, "bfloat16": 5e-2}
"""How far logits on images may lie from those on kept features, as a share of the largest."""


@dataclass(frozen=True)
class Submitted:
    """What was written, and the largest gap of its logits on `images` to the head's on kept features."""

    path: Path
    done: bool
    exported: Exported | None
    images: int = 0
    gap: float = 0.0
    untried: str = ""


def check_backbone(backbone: Backbone) -> None:
    """RequestError unless a head can be merged into this network."""
    from torchvision import models  # noqa: PLC0415

    if backbone.name not in models.list_models(module=models) or backbone.layer != "fc":
        raise RequestError(
            f"a head on features of {backbone.name!r} cannot be merged into it: only torchvision networks "
            "with a final layer `fc`, such as resnet50, can take one in; leave `export` out"
        )


def submit(asked: Asked, head: Path, store: Path, record: Record, images: Images) -> Submitted:
    """Write the network with the head in it, unless it is there already, and try it on images.

    HeadwaterError where its logits are not the head's.
    """
    section = asked.config.export
    assert section is not None
    out = section.out or record.folder / SUBMISSION
    opened = open_store(store)
    weights = section.weights or _own_weights(asked, opened)
    request = digest_of(file_digest(head), opened.fingerprint, weights, section.images)
    if record.is_done("export", request, out):
        return Submitted(out, False, None)
    with asked.at("export", "weights" if section.weights else "export"):
        exported = _export(head, weights, str(opened.plan.recipe.get("backbone", "resnet50")), out, record)
    if asked.config.extract is None:
        images = images_of(asked, opened)
    tried, gap, untried = _try_on_images(exported, head, opened, images, section.images)
    if tried:
        bound = TOLERANCE.get(str(opened.plan.recipe.get("compute")), max(TOLERANCE.values()))
        if not gap <= bound:
            out.unlink()
            raise HeadwaterError(
                f"on {tried} images the merged network's logits differ from the head's on the kept features "
                f"by {gap:.1e} of the largest, more than {bound:.0e}, so {str(out)!r} was not kept; have the "
                "images changed since they were extracted?"
            )
    record.remember("export", request, out)
    return Submitted(out, True, exported, tried, gap, untried)


def _own_weights(asked: Asked, store: Store) -> str | None:
    """The weights that the store's features came from, as its maker named them."""
    if asked.config.extract is not None:
        return asked.config.extract.weights
    said = store.plan.details.get("weights")
    if not said:
        raise asked.error(
            ("export",),
            f"{store.path} does not say which weights its features came from; name them as `weights`",
        )
    return str(said)


def _export(head: Path, weights: str | None, backbone: str, out: Path, record: Record) -> Exported:
    record.expect("export", out)
    if weights is not None and Path(weights).is_file():
        return export_head(head, weights, out, replace=True)
    import torch  # noqa: PLC0415

    network = load_backbone(find_backbone(backbone), weights).network
    with tempfile.TemporaryDirectory(dir=record.folder, prefix=".weights") as folder:
        file = Path(folder) / "weights.pth"
        torch.save(network.state_dict(), file)
        return export_head(head, file, out, replace=True)


def _try_on_images(
    exported: Exported, head: Path, store: Store, images: Images, count: int
) -> tuple[int, float, str]:
    """How many images were tried, the largest gap of logits as a share of the largest one, and why none were.

    The images are taken evenly from the store's rows, read from its source as they were for extraction.
    """
    if not count:
        return 0, 0.0, ""
    try:
        source = images.source
    except HeadwaterError as error:
        return 0, 0.0, f"not tried on images, since {error}"
    place = {key: row for row, key in enumerate(source.keys)}
    good = np.flatnonzero(store.ok)
    chosen = good[np.unique(np.linspace(0, len(good) - 1, min(count, len(good))).astype(int))]
    chosen = np.array([row for row in chosen.tolist() if store.keys[row] in place], dtype=np.int64)
    if not len(chosen):
        return 0, 0.0, f"not tried on images, since {images.place} holds none of the store's"
    preparing = _preprocessing(store)
    try:
        pixels = np.stack([preparing.apply(decode(source.load(place[store.keys[row]]))) for row in chosen])
    except RowError as error:
        return 0, 0.0, f"not tried on images, since one of them cannot be read: {error.reason}"
    trained, _ = load_head(head)
    expected = trained.logits(np.asarray(store.features[chosen], dtype=np.float32))
    found = _logits(exported, pixels, preparing)
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return len(chosen), float(np.abs(found - expected).max() / scale), ""


def _preprocessing(store: Store) -> Preprocessing:
    """What the store's recipe says was done to its images."""
    said: dict[str, Any] = dict(store.plan.recipe["preprocessing"])
    known = {each.name for each in fields(Preprocessing)}
    plain: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in said.items() if key in known
    }
    return Preprocessing(**plain)


def _logits(exported: Exported, pixels: NDArray[np.uint8], preparing: Preprocessing) -> NDArray[np.float32]:
    """What plain torchvision says of pixels (n, h, w, 3), with the submission loaded strictly."""
    import torch  # noqa: PLC0415
    from torchvision import models  # noqa: PLC0415

    network = models.get_model(exported.architecture, weights=None, num_classes=len(exported.classes))
    network.load_state_dict(read_submission(exported.path), strict=True)
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (preparing.mean, preparing.std))
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.no_grad():
        found: NDArray[np.float32] = network.eval()(images).numpy()
    return found


def read_submission(path: Path) -> dict[str, Any]:
    """The state dict in a submission of any ending."""
    import torch  # noqa: PLC0415

    if path.suffix != ".zip":
        return load_state_dict(path)
    with zipfile.ZipFile(path) as archive, archive.open(ARCHIVED_NAME) as file:
        found: dict[str, Any] = torch.load(file, weights_only=True)
    return found
