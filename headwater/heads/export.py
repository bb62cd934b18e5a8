"""A head merged into the network whose features it was trained on, as weights anyone can load.

The result fits `torchvision.models.resnet50(num_classes=…)` with `strict=True`. Which features a network
gives is not this file's business; that merged logits equal the head's is checked before anything is written.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.checkpoints import check_last_layer, load_state_dict, state_dict_digest
from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.heads.checkpoint import SUFFIX, HeadInfo, check_place, load_head
from headwater.heads.specs.head import LinearHead
from headwater.printable import listed
from headwater.store.files import make_folder_of, write_whole

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

ARCHIVED_NAME = "resnet.pth"
TOLERANCE = 1e-4
_COUNTER = "num_batches_tracked"
_CHECKED_IMAGES = 4


@dataclass(frozen=True)
class Exported:
    """What was written.

    `difference`: the largest gap between the merged network's logits and the head's, as a share of the
    largest logit, on synthetic images. `same_weights` None: the head does not say which weights it needs.
    `replaced`: for how many classes the checkpoint's own `fc` was, whose place the head took; None: it had
    none. `preprocessing`: how images must be prepared for the network, as the store's recipe says it, with
    `resize`, `crop`, `interpolation`, `mean` and `std`; None where it does not.
    """

    path: Path
    architecture: str
    classes: tuple[str, ...]
    difference: float
    same_weights: bool | None
    replaced: int | None = None
    preprocessing: Mapping[str, Any] | None = None

    @property
    def described_preprocessing(self) -> str:
        """`preprocessing` in words, one line."""
        said = self.preprocessing
        if said is None:
            return "as for the features, which their store does not describe"
        parts = []
        if said.get("resize") is not None:
            resize = said["resize"]
            what = f"shorter side {resize}" if isinstance(resize, int) else _by(resize)
            parts.append(f"resize to {what} pixels ({said.get('interpolation', 'bilinear')})")
        if said.get("crop") is not None:
            parts.append(f"crop the middle {_by(said['crop'])}")
        if "mean" in said and "std" in said:
            mean, std = (", ".join(f"{each:g}" for each in said[name]) for name in ("mean", "std"))
            parts.append(f"scale RGB to 0 to 1, subtract mean ({mean}), divide by std ({std})")
        return ", ".join(parts)


def export_head(
    head: str | os.PathLike[str],
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    replace: bool = False,
) -> Exported:
    """Merge a head file into a ResNet's `fc` and write the state dict.

    `weights`: the checkpoint the features were extracted with, an `fc` of any width in it or none. `out` ends
    in `.pth` or `.pt` (torch.save), `.safetensors`, or `.zip` (which holds `resnet.pth`). Raises RequestError
    when the weights are not those that the head was trained on, or the head does not fit the network.
    """
    import torch  # noqa: PLC0415

    out = Path(out)
    content_of = _content_of(out)
    check_place(out, replace=replace)
    trained, info = load_head(head)
    architecture = str(info.store_recipe.get("backbone", "resnet50"))
    network = _network(architecture, len(info.classes), trained.weight.shape[1], os.fspath(head))
    state = load_state_dict(weights)
    _load_backbone(network, state, os.fspath(weights), architecture)
    same = _compare_weights(network, info, os.fspath(weights), os.fspath(head))
    with torch.no_grad():
        network.fc.weight.copy_(torch.from_numpy(trained.weight))
        network.fc.bias.copy_(torch.from_numpy(trained.bias))
    merged = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    difference = _difference(network, trained)
    if not difference <= TOLERANCE:
        raise HeadwaterError(
            f"the merged network's logits differ from the head's by {difference:.1e} of the largest logit, "
            f"more than {TOLERANCE:.0e}, so nothing was written; are the weights in {os.fspath(weights)!r} "
            "finite?"
        )
    make_folder_of(out)
    # Made in memory: what torch and safetensors raise when the disk refuses does not say why.
    write_whole(out, content_of(merged))
    log.info("merged %s into %s, largest logit gap %.1e", head, out, difference)
    own = state.get("fc.weight")
    replaced = None if own is None else len(own)
    preprocessing = info.store_recipe.get("preprocessing")
    return Exported(out, architecture, info.classes, difference, same, replaced, preprocessing)


def _by(size: int | Sequence[int]) -> str:
    """A side, or height and width, as `224 x 224`; Pillow and torchvision say height first."""
    height, width = (size, size) if isinstance(size, int) else size
    return f"{height} x {width}"


def _network(architecture: str, classes: int, dim: int, head: str) -> Any:
    """An untrained torchvision network with a final layer `fc` for these classes, in evaluation mode."""
    from torch import nn  # noqa: PLC0415
    from torchvision import models  # noqa: PLC0415

    network: Any = None
    if architecture in models.list_models(module=models):
        network = models.get_model(architecture, weights=None, num_classes=classes)
    if not isinstance(getattr(network, "fc", None), nn.Linear):
        raise RequestError(
            f"the head {head!r} was trained on features of {architecture!r}, and only torchvision networks "
            "with a final layer `fc`, such as resnet50, can take it in"
        )
    if network.fc.in_features != dim:
        raise RequestError(
            f"the head {head!r} takes {dim} features and the fc of {architecture} takes "
            f"{network.fc.in_features}; give a head that was trained on that network's features"
        )
    return network.eval()


def _load_backbone(network: Any, state: Mapping[str, Tensor], weights: str, architecture: str) -> None:
    """Put everything but `fc` from `state` into the network."""
    given = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc.")}
    missing = sorted(name for name in wanted if name not in given and not name.endswith(_COUNTER))
    surplus = sorted(name for name in given if name not in wanted)
    reshaped = sorted(
        name for name, tensor in given.items() if name in wanted and tensor.shape != wanted[name].shape
    )
    for problem, names in (
        ("lacks", missing),
        ("has the unknown", surplus),
        ("has other shapes for", reshaped),
    ):
        if names:
            raise RequestError(
                f"{weights!r} is no checkpoint of {architecture}: it {problem} {listed(names, 3)}; "
                "give the weights that the features were extracted with"
            )
    check_last_layer(state, "fc", weights, width=network.fc.in_features)
    network.load_state_dict(given, strict=False)


def _compare_weights(network: Any, info: HeadInfo, weights: str, head: str) -> bool | None:
    """Whether these are the weights that the head's features came from; None where the head does not say."""
    expected = info.store_recipe.get("weights_sha256")
    if expected is None:
        warnings.warn(
            f"the head {head!r} does not say which weights its features came from, "
            f"so {weights!r} is taken on trust",
            HeadwaterWarning,
            stacklevel=3,
        )
        return None
    kept = {name: t for name, t in network.state_dict().items() if not name.endswith(_COUNTER)}
    if state_dict_digest(kept, leave_out=("fc.",)) != expected:
        raise RequestError(
            f"{weights!r} holds other weights than those whose features the head {head!r} was trained on "
            f"(sha256 {str(expected)[:12]}…); give the file that the features were extracted with"
        )
    return True


def _difference(network: Any, head: LinearHead) -> float:
    """The largest gap between the merged network's logits and the head's on its features, relative."""
    import torch  # noqa: PLC0415

    images = torch.randn(_CHECKED_IMAGES, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    hook = network.fc.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        logits = network(images).numpy()
    hook.remove()
    expected = head.logits(seen[0].numpy())
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(logits - expected).max() / scale)


def _content_of(out: Path) -> Callable[[Mapping[str, Tensor]], bytes | memoryview]:
    """How a state dict becomes a file of this ending; RequestError for an ending nobody knows."""
    if out.suffix == ".zip":
        return _zipped
    if out.suffix in (".pth", ".pt"):
        return _pickled
    if out.suffix == SUFFIX:
        return _as_safetensors
    raise RequestError(f"{str(out)!r} must end in .pth, .pt, .safetensors or .zip")


def _pickled(state: Mapping[str, Tensor]) -> memoryview:
    import torch  # noqa: PLC0415

    content = io.BytesIO()
    torch.save(dict(state), content)
    return content.getbuffer()


def _as_safetensors(state: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save  # noqa: PLC0415

    return save(dict(state))


def _zipped(state: Mapping[str, Tensor]) -> memoryview:
    content = io.BytesIO()
    # Stored, since weights do not compress; a fixed date, so that the same head gives the same file.
    entry = zipfile.ZipInfo(ARCHIVED_NAME, date_time=(1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(entry, _pickled(state))
    return content.getbuffer()
