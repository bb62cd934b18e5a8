"""The recipe of a job: all that determines a feature, as plain JSON whose hash is the store's fingerprint."""

from __future__ import annotations

from typing import Any

from headwater.extract.weights import LoadedBackbone


def recipe(loaded: LoadedBackbone, *, precision: str, decoder: str, views: int) -> dict[str, Any]:
    """What two jobs must share for their features to stand side by side.

    Storage type and views are the plan's own. Where the weights came from does not count, only their values
    do. The versions of torch and Pillow, the device and the engine (eager or compiled) are left out: they
    move features in the last bits only, and are in the run record.
    """
    entries: dict[str, Any] = {
        "backbone": loaded.backbone.name,
        "weights_sha256": loaded.weights_sha256,
        "feature": feature_text(loaded),
        "preprocessing": loaded.preprocessing.describe(),
        "decoder": decoder,
        "compute": precision,
    }
    if views:
        entries["augmentation"] = loaded.preprocessing.augmentation.describe()
    return entries


def feature_text(loaded: LoadedBackbone) -> str:
    """Where in the network features are taken, for people and for the fingerprint."""
    layer = loaded.backbone.layer
    return "output of the network" if layer is None else f"input of {layer}"


def details(loaded: LoadedBackbone) -> dict[str, Any]:
    """What later rooms want to know about the weights and no identity depends on."""
    return {
        "weights": loaded.weights,
        "feature_layer": loaded.backbone.layer,
        "classifier": dict(loaded.classifier),
        "image_size": list(loaded.preprocessing.size),
    }
