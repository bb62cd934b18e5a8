"""The submission: a head merged into the network that its features came from, and tried on real images."""

from __future__ import annotations

import math
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headwater.checkpoints import load_state_dict
from headwater.errors import HeadwaterError, RequestError
from headwater.extract.decode import decode
from headwater.extract.registry import find_backbone
from headwater.extract.rows import RowError
from headwater.extract.transform import Preprocessing
from headwater.extract.weights import load_backbone
from headwater.heads import export_head, load_head
from headwater.heads.checkpoint import check_place
from headwater.heads.export import ARCHIVED_NAME
from headwater.printable import counted
from headwater.store import Store, open_store
from headwater.store.files import explained, make_folder_of
from headwater.workflow.check import SUBMISSION
from headwater.workflow.config import Asked
from headwater.workflow.features import Images, images_of, local
from headwater.workflow.record import Record, content_of, digest_of, file_digest

if TYPE_CHECKING:
    from headwater.heads.export import Exported

KEPT = {"float16": 2.0**-11, "float32": 2.0**-24}
"""How far a kept feature may lie from the computed one, as a share of it, by what it is kept as."""

COMPUTED = {"float32": 1e-4, "bfloat16": 2.0**-5}
"""How far features computed twice may lie apart, as a share of them, by what computed them."""

_LEAST = 2.0**-25  # half of the smallest step of float16


@dataclass(frozen=True)
class Trial:
    """The submission's logits on so many `images` beside the head's on their kept features.

    `gap`: the largest difference, as a share of the largest logit; `excess`: as a multiple of what the
    rounding of features explains. `untried`: why there were no images, for people.
    """

    images: int = 0
    gap: float = 0.0
    excess: float = 0.0
    untried: str = ""


@dataclass(frozen=True)
class Submitted:
    """What was written, and how it did on images; `exported` is None where it was there already.

    `preprocessing`: how its images must be prepared, as the store's recipe says it; None where it does not.
    """

    path: Path
    exported: Exported | None = None
    trial: Trial = Trial()
    preprocessing: Mapping[str, Any] | None = None


def check_backbone(backbone: str) -> None:
    """RequestError unless a head can be merged into the network of this name."""
    from torchvision import models  # noqa: PLC0415

    if backbone not in models.list_models(module=models) or find_backbone(backbone).layer != "fc":
        raise RequestError(
            f"a head on features of {backbone!r} cannot be merged into it: only torchvision networks "
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
    weights = section.weights or own_weights(asked, opened)
    content = None if weights is None else content_of(weights)
    prepared = opened.plan.recipe.get("preprocessing")
    made_of = (file_digest(head), opened.fingerprint, opened.content, weights, content)
    request = digest_of(*made_of, section.images)
    if record.is_done("export", request, out):
        return Submitted(out, preprocessing=prepared)
    if asked.config.extract is None:
        images = images_of(asked, opened)
    with asked.at("export"):
        check_place(out, replace=True)
    make_folder_of(out)
    # Tried before it takes the place of what is there, which may be its user's.
    backbone = str(opened.plan.recipe.get("backbone", "resnet50"))
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export") as folder:
        with asked.at("export", "weights" if section.weights else "export"):
            exported = _export(head, weights, backbone, Path(folder) / out.name)
        trial = _try_on_images(exported, head, opened, images, section.images)
        if not trial.excess <= 1:
            raise HeadwaterError(_disagreement(trial, out))
        record.expect("export", out)
        with explained(out):
            exported.path.replace(out)
    record.remember("export", request, out)
    return Submitted(out, replace(exported, path=out), trial, prepared)


def _disagreement(trial: Trial, out: Path) -> str:
    tried = f"on {counted(trial.images, 'image')} the merged network's logits"
    if not math.isfinite(trial.gap):
        return f"{tried} are not all finite, so {str(out)!r} was not written; are its weights sound?"
    return (
        f"{tried} differ from the head's on the kept features by {trial.gap:.1e} of the largest, "
        f"{trial.excess:.1f} times what rounding explains, so {str(out)!r} was not written; have the images "
        "changed since they were extracted?"
    )


def own_weights(asked: Asked, store: Store) -> str | None:
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


def _export(head: Path, weights: str | None, backbone: str, made: Path) -> Exported:
    if weights is not None and Path(file := local(weights)).is_file():
        return export_head(head, file, made)
    import torch  # noqa: PLC0415

    whole = made.with_name(f"weights of {made.name}.pth")
    torch.save(load_backbone(find_backbone(backbone), weights).network.state_dict(), whole)
    return export_head(head, whole, made)


def _try_on_images(exported: Exported, head: Path, store: Store, images: Images, count: int) -> Trial:
    """The images are taken evenly from the store's rows, read from its source as they were for extraction."""
    if not count:
        return Trial()
    try:
        source = images.source
    except HeadwaterError as error:
        return Trial(untried=f"not tried on images, since {error}")
    place = {key: row for row, key in enumerate(source.keys)}
    good = np.flatnonzero(store.ok)
    spread = good[np.unique(np.linspace(0, len(good) - 1, min(count, len(good))).astype(int))]
    chosen = np.array([row for row in spread.tolist() if store.keys[row] in place], dtype=np.int64)
    if not len(chosen):
        return Trial(untried=f"not tried on images, since {images.place} holds none of the store's")
    preparing = _preprocessing(store)
    try:
        pixels = np.stack([preparing.apply(decode(source.load(place[store.keys[row]]))) for row in chosen])
    except RowError as error:
        return Trial(untried=f"not tried on images, since one of them cannot be read: {error.reason}")
    trained, _ = load_head(head)
    features = np.asarray(store.features[chosen], dtype=np.float32)
    expected = trained.logits(features)
    gaps = np.abs(_logits(exported, pixels, preparing) - expected)
    computed = COMPUTED.get(str(store.plan.recipe.get("compute")), max(COMPUTED.values()))
    rounding = (KEPT[store.plan.dtype] + computed) * np.abs(features) + _LEAST
    allowed = rounding @ np.abs(trained.weight).T + 1e-5 * np.abs(expected)
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return Trial(len(chosen), float(gaps.max()) / scale, float((gaps / allowed).max()))


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

    with torch.device("meta"):  # no weights are drawn that would be thrown away at once
        network = models.get_model(exported.architecture, weights=None, num_classes=len(exported.classes))
    network.load_state_dict(read_submission(exported.path), strict=True, assign=True)
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
