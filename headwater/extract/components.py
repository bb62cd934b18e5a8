"""Principal components, and pixels reduced to them; which other features are reduced is not known here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headwater.errors import RequestError

Images = NDArray[np.float32]

FIT_IMAGES = 1_500  # that components are learned from
_BATCH = 256
_MANY = 2  # times as many directions as are looked for
_SPARE = 64  # directions beside those wanted
_ITERATIONS = 4


class PixelNetwork(nn.Module):
    """Images (n, channels, height, width) to the principal components of their pixels (n, dim)."""

    mean: Tensor  # (channels * height * width,)
    components: Tensor  # (channels * height * width, dim)

    def __init__(self, shape: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        self.shape, self.dim = shape, dim
        self.register_buffer("mean", torch.zeros(int(np.prod(shape))))
        self.register_buffer("components", torch.zeros(int(np.prod(shape)), dim))

    def forward(self, images: Tensor) -> Tensor:
        """Features (n, dim), those of most variance first."""
        return (images.flatten(1) - self.mean) @ self.components


def pixel_features(
    images: Images,
    *,
    fit_on: Images | None = None,
    components: int = 512,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> NDArray[np.float32]:
    """Principal components (n, dim) of the pixels of float images (n, channels, height, width).

    They are learned from `fit_on`, or from the images themselves. RequestError as `check_images` says, and
    where the two differ in shape.
    """
    network = fit_pixels(
        images if fit_on is None else fit_on, components=components, seed=seed, device=device
    )
    return run_network(network, images, device)


def fit_pixels(
    images: Images, *, components: int = 512, seed: int = 0, device: str | torch.device = "cpu"
) -> PixelNetwork:
    """Learn the principal components of float images (n, channels, height, width).

    There are at most as many as images that they are learned from. RequestError as `check_images` says.
    """
    check_images(images)
    sample = some_images(images, np.random.default_rng(seed))
    channels, height, width = (int(each) for each in images.shape[1:])
    network = PixelNetwork((channels, height, width), min(components, len(sample)))
    rows = torch.from_numpy(sample).flatten(1)
    network.mean.copy_(rows.mean(dim=0))
    network.components.copy_(principal_directions((rows - network.mean).to(device), network.dim))
    return network.requires_grad_(False).eval().to(device)


def principal_directions(centred: Tensor, dim: int) -> Tensor:
    """Orthonormal directions of most variance of centred rows (n, width), as columns (width, dim).

    Signs are fixed: each direction's largest entry is positive. Directions without variance are zero. A few
    directions of very many are found to the precision of float32, and the last of them about (`_leading`).
    """
    tall = len(centred) > centred.shape[1]
    rows = centred
    if min(centred.shape) > _MANY * (dim + _SPARE):
        values, vectors = _leading(centred.T @ centred if tall else centred @ centred.T, dim)
    else:
        rows = centred.double()
        values, vectors = torch.linalg.eigh(rows.T @ rows if tall else rows @ rows.T)
    values, vectors = values.flip(0)[:dim], vectors.flip(1)[:, :dim]
    if not tall:
        vectors = rows.T @ (vectors / values.clamp(min=torch.finfo(values.dtype).tiny).sqrt())
    vectors = vectors * (values > (1e-10 if values.dtype == torch.float64 else 1e-6) * values[0])
    directions = rows.new_zeros(rows.shape[1], dim)
    directions[:, : vectors.shape[1]] = vectors
    largest = directions.abs().argmax(dim=0)
    signs = directions[largest, torch.arange(dim, device=rows.device)].sign()
    return (directions * signs).to(centred.dtype)


def _leading(product: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues of a symmetric matrix, in ascending order, and their vectors as columns.

    By subspace iteration from a random start (Halko, Martinsson and Tropp 2011, algorithm 4.4).
    """
    start = torch.randn(len(product), dim + _SPARE, generator=torch.Generator().manual_seed(0))
    basis = start.to(product)
    for _ in range(_ITERATIONS):
        basis, _ = torch.linalg.qr(product @ basis)
    values, turn = torch.linalg.eigh((basis.T @ (product @ basis)).double())
    return values.to(product), basis @ turn.to(product)


def some_images(images: Images, random: np.random.Generator) -> Images:
    """At most FIT_IMAGES of the images, in their order."""
    return np.asarray(images[np.sort(random.permutation(len(images))[:FIT_IMAGES])], dtype=np.float32)


def check_images(images: Images) -> None:
    """RequestError unless these are images (rows, channels, height, width) without NaN and infinity."""
    if images.ndim != 4 or 0 in images.shape:
        raise RequestError(
            f"features of pixels need images (rows, channels, height, width), not shape {images.shape}"
        )
    if not np.isfinite(images).all():
        raise RequestError("some images hold NaN or infinity; leave those rows out")


class Fitted(Protocol):
    """A network that was fitted to images of one shape (channels, height, width)."""

    shape: tuple[int, int, int]
    dim: int

    def __call__(self, images: Tensor) -> Tensor:
        """Features (n, dim) of images (n, channels, height, width)."""
        ...


def run_network(network: Fitted, images: Images, device: str | torch.device) -> NDArray[np.float32]:
    """What the network makes of images, batch by batch, (n, dim).

    Images of several channels may go to a network of one, which takes the first. RequestError where they
    are of another size.
    """
    check_images(images)
    if images.shape[2:] != network.shape[1:] or images.shape[1] < network.shape[0]:
        raise RequestError(
            f"images of {images.shape[1:]} (channels, height, width) have no features where these were "
            f"learned from images of {network.shape}; give both one shape"
        )
    features = np.empty((len(images), network.dim), dtype=np.float32)
    for start, part in batches(images):
        with torch.no_grad():
            features[start : start + len(part)] = network(torch.from_numpy(part).to(device)).cpu().numpy()
    return features


def batches(images: Images) -> Iterator[tuple[int, Images]]:
    """Where each batch starts, and its images, contiguous."""
    for start in range(0, len(images), _BATCH):
        yield start, np.ascontiguousarray(images[start : start + _BATCH], dtype=np.float32)
