"""Views of patches that are encoded once are those that each way gives by itself."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.extract.patch_views import patch_views
from headwater.extract.patches import PatchSettings, patch_features


@pytest.mark.parametrize("width", [12, 24])
def test_views_are_the_features_of_each_way_alone(width: int) -> None:
    images = np.random.default_rng(0).random((40, 1, 12, width), dtype=np.float32)
    told: list[tuple[int, int]] = []
    views = patch_views(
        [images[:15], images[15:]], fit_on=images, seed=3, progress=lambda done, of: told.append((done, of))
    )
    tiles = views.pop("tiles", None)
    assert (tiles is None) == (width == 12)
    assert list(views) == (["bound", "free"] if width == 24 else ["bound"])
    for name, features in views.items():
        alone = patch_features(images, settings=PatchSettings(free=name == "free"), seed=3)
        np.testing.assert_allclose(features, alone, atol=1e-5)
    assert told[0] == (0, 40)
    assert told[-1] == (40, 40)


def test_tiles_have_features_of_their_own() -> None:
    random = np.random.default_rng(0)
    images = random.random((40, 1, 12, 24), dtype=np.float32)
    other = images.copy()
    other[:, :, :, -5:] = random.random((40, 1, 12, 5), dtype=np.float32)
    tiles, changed = (patch_views([each], fit_on=images, seed=3)["tiles"] for each in (images, other))
    assert tiles.shape[:2] == (40, 2)
    left, right = (np.abs(tiles[:, k] - changed[:, k]).mean() for k in (0, 1))
    assert left < 0.3 * right
