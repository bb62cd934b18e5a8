"""Which of an image's two tiles plays which role, found without labels; readings are made elsewhere.

Where tiles stand in random order, a feature of one kind of tile hides among those of the other kind. If every
image has a tile of each kind, tiles of one image are less alike than tiles of different images, and the
direction of which this is most true tells the kinds apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ROLES = "tiles of one role", "tiles of the other role"
"""Names of the features of either role among the views that readings are made of."""

_LEADING = 40  # components that roles are looked for in: further ones show the seam between tiles
_FEWEST = 400  # rows: in fewer, some direction stands out by chance
_SHRINKAGE = 0.05
_GAP = 1.5  # times the second direction's ratio: less is what tiles without roles show, too
_PENALTY = 0.1  # of the mean eigenvalue
_ROUNDS = 10
_IN_PLACE = 0.9  # of images with their roles in the same places: an order that needs not be found


def have_roles(tiles: Floats) -> bool:
    """Whether `by_role` would find roles in tiles (rows, 2, dim) of these rows."""
    return _roles(tiles - tiles.mean(axis=0)) is not None


def by_role(tiles: Floats) -> dict[str, Floats]:
    """Features of either role by its name in `ROLES`, each (rows, dim), of tiles (rows, 2, dim).

    Nothing where no direction stands out, or where roles have their places in nearly all images already.
    `dim` features are principal components, in order.
    """
    tiles = tiles - tiles.mean(axis=0)  # what only tells the places apart
    first = _roles(tiles)
    if first is None:
        return {}
    one = np.where(first[:, None], tiles[:, 0], tiles[:, 1])
    other = np.where(first[:, None], tiles[:, 1], tiles[:, 0])
    return dict(zip(ROLES, (one, other), strict=True))


def _roles(tiles: Floats) -> NDArray[np.bool_] | None:
    """Whether the first tile of each row, (rows,), plays the one role; None where there are none to find."""
    if len(tiles) < _FEWEST:
        return None
    leading = tiles[:, :, :_LEADING].astype(np.float64)
    leading /= leading.std(axis=(0, 1)) + 1e-12
    apart, together = leading[:, 0] - leading[:, 1], leading.sum(axis=1)
    total = together.T @ together / len(tiles)
    total[np.diag_indices(len(total))] += _SHRINKAGE
    ratios, directions = scipy.linalg.eigh(apart.T @ apart / len(tiles), total)
    if len(ratios) < 2 or ratios[-1] < _GAP * ratios[-2]:
        return None
    first = _self_consistent(tiles[:, 0] - tiles[:, 1], apart @ directions[:, -1] > 0)
    return None if abs(2 * first.mean() - 1) > _IN_PLACE else first


def whole(views: Mapping[str, Floats]) -> dict[str, Floats]:
    """The views that show all of a row."""
    return {name: rows for name, rows in views.items() if name not in ROLES}


def _self_consistent(apart: Floats, first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the first tile of each row is of the one role, as a ridge head of all other rows foretells."""
    product = (apart.T @ apart).astype(np.float64)
    product[np.diag_indices(len(product))] += _PENALTY * np.trace(product) / len(product)
    solved = np.linalg.solve(product, apart.T.astype(np.float64)).astype(np.float32)
    own = np.einsum("nd,dn->n", apart, solved)
    for _ in range(_ROUNDS):
        wanted = np.where(first, np.float32(1), np.float32(-1))
        first = apart @ (solved @ wanted) > own * wanted
    return first
