"""Images to features: sources, decoding, backbones, the pipeline and the resumable job.

The face of the room; `GPU.md` beside it says what runs on CUDA and how far that has been tried.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.extract.backbone import Backbone, PretrainedWeights
    from headwater.extract.job import ExtractReport, extract_features
    from headwater.extract.parts import Progress
    from headwater.extract.registry import (
        backbone_names,
        find_backbone,
        register_backbone,
        unregister_backbone,
    )
    from headwater.extract.sources import Source, open_source
    from headwater.extract.transform import Preprocessing

_HOMES = {
    "Backbone": "backbone",
    "ExtractReport": "job",
    "Preprocessing": "transform",
    "PretrainedWeights": "backbone",
    "Progress": "parts",
    "Source": "sources",
    "backbone_names": "registry",
    "extract_features": "job",
    "find_backbone": "registry",
    "PatchSettings": "patches",
    "fit_patches": "patches",
    "open_source": "sources",
    "patch_features": "patches",
    "pixel_features": "components",
    "register_backbone": "registry",
    "unregister_backbone": "registry",
}

__all__ = [
    "Backbone",
    "ExtractReport",
    "PatchSettings",
    "Preprocessing",
    "PretrainedWeights",
    "Progress",
    "Source",
    "backbone_names",
    "extract_features",
    "find_backbone",
    "fit_patches",
    "open_source",
    "patch_features",
    "pixel_features",
    "register_backbone",
    "unregister_backbone",
]


def __getattr__(name: str) -> Any:
    # Loaded when first used: a source can be listed and decoded without importing torch.
    if name in _HOMES:
        return getattr(importlib.import_module(f"headwater.extract.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'headwater.extract' has no attribute {name!r}")
