"""The forward pass: a frozen network at one batch size on one device, from uint8 crops to float32 features.

Whether compiling it repays is `compiling.py`'s business; what only CUDA needs is in `cuda.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headwater.extract.device import PRECISIONS

if TYPE_CHECKING:
    from headwater.extract.transform import Preprocessing

log = logging.getLogger(__name__)


class Forward(Protocol):
    """Runs batches. Their shape never changes, so a row's features do not depend on how full its batch is.

    `ahead`: how many batches may be started before the oldest is finished; 0 where starting is doing.
    """

    batch: int
    engine: str
    ahead: int

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A zeroed buffer for crops, in memory that the device reads fastest."""

    def start(self, crops: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        """Begin features (batch, dim) of crops (batch, height, width, 3); the call returned waits for them.

        `crops` must not change until then.
        """


class Normalised(nn.Module):
    """The network with normalisation in front: uint8 (n, h, w, 3) in, float32 features (n, dim) out."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        """Scale, normalise in float32 as torchvision does, then run the network in its own type."""
        # (n, h, w, 3) bytes permuted are channels_last already; no copy is made for the layout.
        images = (crops.permute(0, 3, 1, 2).float().div(255) - self.mean) / self.deviation
        features = self.network(images.to(self.dtype, memory_format=torch.channels_last))
        values: Tensor = features.flatten(1).float()
        return values


def prepare(
    network: nn.Module, preprocessing: Preprocessing, precision: str, device: torch.device
) -> Normalised:
    """Fold batch norms, choose type and layout, and move to the device; `network` is used up."""
    dtype = PRECISIONS[precision]
    folded = fold_batch_norms(network).to(dtype=dtype)
    module = Normalised(folded, preprocessing, dtype).eval().requires_grad_(False)
    return module.to(device).to(memory_format=torch.channels_last)


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """`network` with every convolution + batch norm made one convolution, in full precision.

    A network whose Python cannot be traced is returned as it is: folding saves time and changes no feature.
    """
    from torch.fx.experimental.optimization import fuse  # noqa: PLC0415
    from torch.fx.proxy import TraceError  # noqa: PLC0415

    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    try:
        return fuse(network, inplace=False)
    except (
        TraceError,
        TypeError,
        ValueError,
        AttributeError,
        NotImplementedError,
        RuntimeError,
        AssertionError,
    ) as error:
        log.info("batch norms are not folded, since the network cannot be traced: %s", error)
        return network


class CpuForward:
    """Runs a prepared module on the CPU, eager or compiled."""

    ahead = 0

    def __init__(self, module: Callable[[Tensor], Tensor], batch: int, engine: str) -> None:
        self.module = module
        self.batch = batch
        self.engine = engine

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A zeroed buffer for crops."""
        return np.zeros(shape, dtype=np.uint8)

    def start(self, crops: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        """Compute features (batch, dim) of crops (batch, height, width, 3)."""
        with torch.no_grad():
            features: NDArray[np.float32] = self.module(torch.from_numpy(crops)).numpy()
        return lambda: features


def measured_rate(forward: Forward, shape: tuple[int, int], *, seconds: float, most: int = 8) -> float:
    """Images per second of `forward` on crops of `shape` (height, width): the median of a few batches.

    Stops after `seconds` or `most` batches, whichever comes first; at least one batch is timed.
    """
    crops = forward.allocate((forward.batch, *shape, 3))
    crops[...] = np.random.default_rng(0).integers(0, 256, crops.shape, dtype=np.uint8)
    forward.start(crops)()  # the first run prepares what later ones reuse
    times: list[float] = []
    while not times or (sum(times) < seconds and len(times) < most):
        start = time.perf_counter()
        forward.start(crops)()
        times.append(time.perf_counter() - start)
    return float(forward.batch / np.median(times))
