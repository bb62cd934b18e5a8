"""Features without pretraining: a dictionary of whitened patches of the images themselves, pooled.

Arrays in memory go through here; images of a source go through the pipeline, as those of any backbone do, by
`patch_backbone.py`. Nothing is cached here.

The recipe is that of Coates and Ng ("Learning feature representations with k-means", 2012): patches are
normalised by contrast and whitened, a dictionary is learned by spherical k-means, both signs of a patch's
product with each atom are soft-thresholded, and averaged over regions. Dark, bright and noisy regions, which
that normalisation hides, come back as pooled pixels and pooled energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from headwater.errors import RequestError
from headwater.extract.components import (
    Images,
    batches,
    check_images,
    principal_directions,
    run_network,
    some_images,
)

_PATCHES = 50_000  # that a dictionary is learned from
_ACTIVE = 0.2  # share of a patch's signed products that pass the threshold
_CONTRAST_FLOOR = 0.3  # of the mean variance of a patch: fainter ones are not blown up to full contrast
_WHITENING_FLOOR = 0.1  # of the mean variance of a direction, likewise
_PIXEL_CELLS = 7  # pooled pixels per side of a tile
_ENERGY_CELLS = 2
_LEARNED = ("filters", "offset", "threshold", "contrast", "noise")  # with a dictionary
_CHUNK = 1_500_000  # products, which stay in a core's cache

Blocks = tuple[Tensor, Tensor, Tensor]
"""Products, pixels and energies, each (n, tiles, numbers)."""


class NoPatchesError(RequestError):
    """The images hold no patches to learn from: they are too small, or too even."""


@dataclass(frozen=True)
class PatchSettings:
    """What a dictionary is made of.

    `size` is a patch's side in pixels, patches lie `stride` apart, `atoms` is the number of filters, `cells`
    that of regions per side of a tile; tiles are the squares that an image splits into, such as the halves of
    one that is twice as wide as high. With `free`, features are sums and maxima over tiles, so that images
    that show the same tiles in another order have the same features; else tiles stand side by side. With
    `mirrored`, a tile and its mirror image have the same features. `components` principal components are
    kept at most.
    """

    size: int = 6
    atoms: int = 128
    cells: int = 3
    free: bool = False
    stride: int = 1
    mirrored: bool = False
    components: int = 512


class PatchNetwork(nn.Module):
    """Images (n, channels, height, width) to features (n, dim); what was learned is in its buffers.

    Made by `fit_patches`; as constructed, it has the right shapes and empty buffers.
    """

    filters: Tensor  # (channels * size * size, atoms), whitening and the patch's own mean folded in
    offset: Tensor  # (atoms,)
    threshold: Tensor  # ()
    contrast: Tensor  # (): what is added to a patch's variance
    noise: Tensor  # (): what is added to energies, so that their logarithm is finite
    mean: Tensor  # (pooled,)
    components: Tensor  # (pooled, dim), scales folded in

    def __init__(self, shape: tuple[int, int, int], settings: PatchSettings, dim: int) -> None:
        super().__init__()
        self.shape, self.settings, self.dim = shape, settings, dim
        channels, height, width = shape
        side = min(height, width)
        self.tiles = max(1, round(height / side)), max(1, round(width / side))
        inputs = channels * settings.size**2
        self.register_buffer("filters", torch.zeros(inputs, settings.atoms))
        self.register_buffer("offset", torch.zeros(settings.atoms))
        for name in ("threshold", "contrast", "noise"):
            self.register_buffer(name, torch.ones(()))
        self.register_buffer("mean", torch.zeros(sum(self.block_widths)))
        self.register_buffer("components", torch.zeros(sum(self.block_widths), dim))

    @property
    def block_widths(self) -> tuple[int, ...]:
        """How many pooled numbers there are of each sort: products, pixels, energies."""
        channels, tiles = self.shape[0], self.tiles[0] * self.tiles[1]
        copies = (2 if tiles > 1 else 1) if self.settings.free else tiles
        per_tile = (
            2 * self.settings.atoms * self.settings.cells**2,
            channels * _PIXEL_CELLS**2,
            channels * _ENERGY_CELLS**2,
        )
        return tuple(copies * width for width in per_tile)

    def forward(self, images: Tensor) -> Tensor:
        """Features (n, dim); equal parts of the variance come from products, pixels and energies."""
        return self.projected(self.pooled(images))

    def projected(self, pooled: Tensor) -> Tensor:
        """Features (n, dim) of pooled numbers."""
        return (pooled - self.mean) @ self.components

    def pooled(self, images: Tensor) -> Tensor:
        """The numbers that features are principal components of, (n, sum of `block_widths`)."""
        return self.gathered(self.by_tile(images))

    def by_tile(self, images: Tensor) -> Blocks:
        """Products, pixels and energies, each (n, tiles, numbers), whatever becomes of the tiles."""
        if images.shape[1] > self.shape[0]:
            images = images[:, : self.shape[0]]  # grey pictures that were decoded as three equal channels
        blocks = self._blocks(images.contiguous())
        if not self.settings.mirrored:
            return blocks
        first, second, third = (self._turned_back(block) for block in self._blocks(images.flip(3)))
        return (blocks[0] + first) / 2, (blocks[1] + second) / 2, (blocks[2] + third) / 2

    def _turned_back(self, block: Tensor) -> Tensor:
        """What a mirror image's tiles hold, (n, tiles, numbers), with each tile in its own place again."""
        return block.view(len(block), *self.tiles, -1).flip(2).reshape(block.shape)

    def _blocks(self, images: Tensor) -> Blocks:
        positions = len(self._centres(images.shape[2])) * len(self._centres(images.shape[3]))
        most = _CHUNK // (positions * self.settings.atoms)
        chunk = max(1, most) if images.device.type == "cpu" else len(images)
        pools = self._pool(images.shape[2], self.tiles[0]), self._pool(images.shape[3], self.tiles[1])
        products = torch.cat([self._products(part, pools) for part in torch.split(images, chunk)])
        return products, self._pixels(images), self._energies(images)

    def gathered(self, blocks: Blocks) -> Tensor:
        """What `pooled` gives, from what `by_tile` gives."""
        return torch.cat([self._gathered(block) for block in blocks], dim=1)

    def normalised_patches(self, images: Tensor) -> Tensor:
        """Every patch, (n, rows * columns, channels * size * size), up to a constant: over its deviation."""
        size, stride, count = self.settings.size, self.settings.stride, self.filters.shape[0]
        # Around each image's own mean, E[x²] - E[x]² loses no figures that matter, and is soon computed.
        centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
        level = functional.avg_pool2d(centred, size, stride).mean(dim=1)
        square = functional.avg_pool2d(centred.square(), size, stride).mean(dim=1)
        scale = ((square - level.square()).clamp(min=0) + self.contrast).rsqrt()
        windows = centred.unfold(2, size, stride).unfold(3, size, stride).permute(0, 2, 3, 1, 4, 5)
        return (windows * scale[:, :, :, None, None, None]).reshape(len(images), -1, count)

    def _products(self, images: Tensor, pools: tuple[Tensor, Tensor]) -> Tensor:
        """(n, tiles, numbers): positive parts beyond the threshold, then negative ones, region by region."""
        patches = self.normalised_patches(images)
        values = torch.addmm(-self.offset, patches.reshape(-1, patches.shape[2]), self.filters)
        # The mean of max(v, t) - t is that of the positive part of v - t, and costs a pass less.
        above = self._by_region(values.clamp(min=self.threshold), pools) - self.threshold
        below = -self._by_region(values.clamp_(max=-self.threshold), pools) - self.threshold
        return torch.stack([above, below], dim=2).view(len(images), self.tiles[0] * self.tiles[1], -1)

    def _by_region(self, values: Tensor, pools: tuple[Tensor, Tensor]) -> Tensor:
        """Means (n, regions, atoms) of every patch's values, tile by tile."""
        (down, across), cells, atoms = pools, self.settings.cells, values.shape[1]
        along = torch.matmul(across, values.view(-1, across.shape[1], atoms))
        both = torch.matmul(down, along.view(-1, down.shape[1], len(across) * atoms))
        split = both.view(-1, self.tiles[0], cells, self.tiles[1], cells, atoms).transpose(2, 3)
        return split.reshape(len(both), -1, atoms)

    def _pool(self, length: int, tiles: int) -> Tensor:
        """Which share of which region patches along a side are, (regions, places); regions sum to one."""
        count = tiles * self.settings.cells
        centres = torch.tensor(self._centres(length), device=self.filters.device) / length
        index = (centres * count).long().clamp(max=count - 1)
        chosen = functional.one_hot(index, count).T.to(self.filters.dtype)
        return chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1)

    def _centres(self, length: int) -> list[float]:
        """Where patches have their middles, in pixels along a side of so many."""
        size = self.settings.size
        return [first + size / 2 for first in range(0, length - size + 1, self.settings.stride)]

    def _pixels(self, images: Tensor) -> Tensor:
        """(n, tiles, numbers): means over small squares."""
        return self._by_tile(images, _PIXEL_CELLS)

    def _energies(self, images: Tensor) -> Tensor:
        """(n, tiles, numbers): logarithm of the mean size of what neighbours do not foretell, as noise is."""
        inner = images[:, :, 1:-1, 1:-1]
        sides = images[:, :, :-2, 1:-1] + images[:, :, 2:, 1:-1] + images[:, :, 1:-1, :-2]
        sides = sides + images[:, :, 1:-1, 2:]
        corners = images[:, :, :-2, :-2] + images[:, :, :-2, 2:] + images[:, :, 2:, :-2]
        corners = corners + images[:, :, 2:, 2:]
        residual = (4 * inner - 2 * sides + corners).abs() / 6
        padded = functional.pad(residual, (1, 1, 1, 1), mode="replicate")
        return torch.log(self._by_tile(padded, _ENERGY_CELLS) + self.noise)

    def _by_tile(self, images: Tensor, cells: int) -> Tensor:
        down, across = self.tiles
        means = functional.adaptive_avg_pool2d(images, (down * cells, across * cells))
        split = means.view(len(images), -1, down, cells, across, cells).permute(0, 2, 4, 1, 3, 5)
        return split.reshape(len(images), down * across, -1)

    def _gathered(self, block: Tensor) -> Tensor:
        """(n, tiles, numbers) to (n, features): tiles side by side, or in no order."""
        if not self.settings.free:
            return block.flatten(1)
        if block.shape[1] == 1:
            return block[:, 0]
        return torch.cat([block.sum(dim=1), block.amax(dim=1)], dim=1)


def patch_features(
    images: Images,
    *,
    fit_on: Images | None = None,
    settings: PatchSettings | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> NDArray[np.float32]:
    """Features (n, dim) of float images (n, channels, height, width) in their own range of values.

    The dictionary is learned from `fit_on`, or from the images themselves. The same arguments give the same
    features. RequestError as `fit_patches` says.
    """
    network = fit_patches(images if fit_on is None else fit_on, settings=settings, seed=seed, device=device)
    return run_network(network, images, device)


def fit_patches(
    images: Images,
    *,
    settings: PatchSettings | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> PatchNetwork:
    """Learn dictionary, scales and principal components from float images (n, channels, height, width).

    NoPatchesError where they are smaller than a patch or show nothing but even surfaces; RequestError where
    there are no such images, they hold NaN or infinity, or faiss is not installed.
    """
    (network,), _ = fit_together(images, [settings or PatchSettings()], seed=seed, device=device)
    return network


def fit_together(
    images: Images, wanted: Sequence[PatchSettings], *, seed: int = 0, device: str | torch.device = "cpu"
) -> tuple[list[PatchNetwork], list[Blocks]]:
    """What `fit_patches` learns, for settings that differ only in what becomes of the tiles.

    They share a dictionary, so that `by_tile` of one is that of all of them; what it gives of the images
    that components were learned from, `some_images` by the seed, is there, too, batch by batch.
    """
    settings = wanted[0]
    _check(images, settings)
    random = np.random.default_rng(seed)
    channels = 1 if images.shape[1] > 1 and bool((images == images[:, :1]).all()) else images.shape[1]
    shape = (channels, int(images.shape[2]), int(images.shape[3]))
    sample = some_images(images, random)
    dim = min(settings.components, len(sample))
    networks = [PatchNetwork(shape, each, dim).requires_grad_(False).eval() for each in wanted]
    first = networks[0]
    _learn_dictionary(first, images[:, :channels], random)
    for other in networks[1:]:
        for name in _LEARNED:
            getattr(other, name).copy_(getattr(first, name))
    for each in networks:
        each.to(device)
    with torch.no_grad():
        parts = [first.by_tile(torch.from_numpy(part).to(device)) for _, part in batches(sample)]
        for each in networks:
            _learn_components(each, torch.cat([each.gathered(part) for part in parts]))
    return networks, parts


def fit_tiles(network: PatchNetwork, parts: Sequence[Blocks]) -> PatchNetwork:
    """A network for single tiles of images, with the dictionary of one whose `by_tile` gave these parts."""
    channels, height, width = network.shape
    shape = channels, height // network.tiles[0], width // network.tiles[1]
    single = PatchNetwork(shape, network.settings, network.dim).requires_grad_(False).eval()
    single.to(network.filters.device)
    for name in _LEARNED:
        getattr(single, name).copy_(getattr(network, name))
    with torch.no_grad():
        _learn_components(single, torch.cat([single.gathered(one_by_one(part)) for part in parts]))
    return single


def one_by_one(blocks: Blocks) -> Blocks:
    """What `by_tile` gives, each (n, tiles, numbers), with every tile for itself, (n * tiles, 1, numbers)."""
    first, second, third = (block.reshape(-1, 1, block.shape[2]) for block in blocks)
    return first, second, third


def _check(images: Images, settings: PatchSettings) -> None:
    check_images(images)
    if min(images.shape[2:]) < max(settings.size, 3):
        raise NoPatchesError(
            f"images of {images.shape[2]} x {images.shape[3]} pixels are smaller than a patch of "
            f"{settings.size} x {settings.size}; use the pixels themselves"
        )


def _learn_dictionary(network: PatchNetwork, images: Images, random: np.random.Generator) -> None:
    """Whitening and atoms, folded into one filter per atom."""
    faiss = _faiss()
    size, atoms = network.settings.size, network.settings.atoms
    rows, _, height, width = images.shape
    where = [random.integers(0, each, _PATCHES) for each in (rows, height - size + 1, width - size + 1)]
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(2, 3))
    patches = windows[where[0], :, where[1], where[2]].reshape(_PATCHES, -1).astype(np.float64)
    patches -= patches.mean(axis=1, keepdims=True)
    variance = (patches**2).mean(axis=1)
    if not variance.mean() > 0:
        raise NoPatchesError("the images show nothing but even surfaces, which hold no patches to learn from")
    contrast = _CONTRAST_FLOOR * variance.mean()
    patches /= np.sqrt(variance + contrast)[:, None]
    mean = patches.mean(axis=0)
    patches -= mean
    values, directions = np.linalg.eigh(patches.T @ patches / len(patches))
    spread = np.sqrt(np.maximum(values, 0) + _WHITENING_FLOOR * values.mean())
    whitening = directions / spread @ directions.T
    white = (patches @ whitening).astype(np.float32)
    clustering = faiss.Kmeans(
        white.shape[1],
        atoms,
        niter=15,
        spherical=True,
        seed=int(random.integers(1, 2**31)),
        max_points_per_centroid=len(white),
    )
    clustering.train(white)
    centroids = np.asarray(clustering.centroids, dtype=np.float64)
    filters = whitening @ centroids.T
    filters -= filters.mean(axis=0)  # what takes the mean of a patch away
    network.filters.copy_(torch.from_numpy(filters))
    network.offset.copy_(torch.from_numpy(mean @ filters))
    products = np.abs(white[:10_000] @ centroids.T)
    network.threshold.fill_(float(np.quantile(products, 1 - 2 * _ACTIVE)))
    network.contrast.fill_(float(contrast))
    network.noise.fill_(float(1e-3 * np.sqrt(variance.mean())))


def _faiss() -> Any:
    try:
        import faiss  # noqa: PLC0415  (comes with an extra)
    except ImportError as error:
        raise RequestError(
            "patches are learned by faiss, which comes with an extra: pip install 'headwater[cpu]', "
            "or 'headwater[gpu]'"
        ) from error
    return faiss


def _learn_components(network: PatchNetwork, pooled: Tensor) -> None:
    """Scales that give each sort of number the same variance in total, and principal components."""
    mean = pooled.mean(dim=0)
    centred = pooled - mean
    scales = []
    for block in torch.split(centred, list(network.block_widths), dim=1):
        deviation = block.std(dim=0)
        scale = 1 / (deviation + 0.05 * deviation.max() + 1e-12)
        scales.append(scale / ((block * scale).square().sum(dim=1).mean().sqrt() + 1e-12))
    scale = torch.cat(scales)
    directions = principal_directions(centred * scale, network.dim)
    network.mean.copy_(mean)
    network.components.copy_(directions * scale[:, None])
