"""Features of a problem's images that are learned from these images alone, in memory.

They are kept by `view_cache.py`; those of a backbone are `features.py`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headwater.heads.ambiguity.problem import Problem
from headwater.heads.ambiguity.roles import by_role, have_roles

if TYPE_CHECKING:
    import torch

Views = dict[str, NDArray[np.float32]]
"""Kinds of features (n + m + t, dim) of labeled, unlabeled and target rows, by name."""

PIXELS = "pixels"

SOURCES = (
    "ambiguity/views.py",
    "extract/components.py",
    "extract/patch_views.py",
    "extract/patches.py",
    "heads/ambiguity/roles.py",
)
"""The files of this package that decide what views are."""

_SAMPLE = 8_000  # images that are looked at to learn from


def views_recipe(seed: int) -> dict[str, Any]:
    """What `image_views` depends on beside the images, as plain JSON: settings, and the code's hash."""
    from headwater.extract.patch_views import PHOTOGRAPHS  # noqa: PLC0415
    from headwater.extract.patches import PatchSettings  # noqa: PLC0415

    settings = [asdict(each) for each in (PatchSettings(), PHOTOGRAPHS)]
    return {"views": "patches", "settings": settings, "sample": _SAMPLE, "seed": seed, "code": _code()}


def _code() -> str:
    """Changes whenever one of the files changes that make views, as versions of this package need not."""
    told = hashlib.sha256()
    for name in SOURCES:
        file = files("headwater").joinpath(name)
        told.update(file.read_bytes() if file.is_file() else b"")
        told.update(b"\0")
    return told.hexdigest()


def image_views(
    problem: Problem,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
) -> Views:
    """Patches of the images, bound to their places and, where an image has several tiles, free of them.

    Where an image has two tiles, of two kinds in random order, there are those of either kind, too.
    Where images are too small for patches, or too even, they are principal components of pixels.
    RequestError where faiss, which patches are learned by, is not installed.
    """
    from headwater.extract.components import fit_pixels, run_network  # noqa: PLC0415
    from headwater.extract.patch_views import TILES, patch_views  # noqa: PLC0415
    from headwater.extract.patches import NoPatchesError  # noqa: PLC0415

    parts = (problem.labeled, problem.unlabeled, problem.target)
    sample = _sample(parts, seed)
    told = progress or (lambda step, done, of: None)
    try:
        views = patch_views(
            parts,
            fit_on=sample,
            seed=seed,
            device=device,
            progress=lambda done, of: told("features", done, of),
            by_themselves=have_roles,
        )
    except NoPatchesError:
        pixels = fit_pixels(sample, seed=seed, device=device)
        return {PIXELS: np.concatenate([run_network(pixels, part, device) for part in parts])}
    tiles = views.pop(TILES, None)
    return views if tiles is None else {**views, **by_role(tiles)}


def _sample(parts: tuple[NDArray[np.float32], ...], seed: int) -> NDArray[np.float32]:
    """Images drawn from all parts alike."""
    random = np.random.default_rng(seed)
    share = min(1.0, _SAMPLE / sum(map(len, parts)))
    drawn = [np.sort(random.permutation(len(part))[: max(1, round(share * len(part)))]) for part in parts]
    return np.concatenate([part[rows] for part, rows in zip(parts, drawn, strict=True)])
