"""Which of an image's two tiles plays which role, found without labels, and readings that look at one role.

Where tiles stand in random order, a feature of one kind of tile hides among those of the other kind. If every
image has a tile of each kind, tiles of one image are less alike than tiles of different images, and the
direction of which this is most true tells the kinds apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy
from numpy.typing import NDArray

from headwater.heads.ambiguity.problem import Reading

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

ROLES = "tiles of one role", "tiles of the other role"
"""Names of the features of either role among the views that readings are made of."""

_LEADING = 40  # components that roles are looked for in: further ones show the seam between tiles
_FEWEST = 400  # rows: in fewer, some direction stands out by chance
_SHRINKAGE = 0.05
_GAP = 1.5  # times the second direction's ratio: less is what tiles without roles show, too
_PENALTY = 0.1  # of the mean eigenvalue
_ROUNDS = 10
_IN_PLACE = 0.9  # of images with their roles in the same places: an order that needs not be found
_LANDMARKS = 2_000
_PENALTIES = np.geomspace(1e-6, 1e-3, 7)  # per labeled row
_NOTHING = 1e-6
_CHUNK = 4_096  # rows


def by_role(tiles: Floats) -> dict[str, Floats]:
    """Features of either role by its name in `ROLES`, each (rows, dim), of tiles (rows, 2, dim).

    Nothing where no direction stands out, or where roles have their places in nearly all images already.
    `dim` features are principal components, in order.
    """
    if len(tiles) < _FEWEST:
        return {}
    tiles = tiles - tiles.mean(axis=0)  # what only tells the places apart
    leading = tiles[:, :, :_LEADING].astype(np.float64)
    leading /= leading.std(axis=(0, 1)) + 1e-12
    apart, together = leading[:, 0] - leading[:, 1], leading.sum(axis=1)
    spread = together.T @ together / len(tiles)
    spread[np.diag_indices(len(spread))] += _SHRINKAGE
    ratios, directions = scipy.linalg.eigh(apart.T @ apart / len(tiles), spread)
    if len(ratios) < 2 or ratios[-1] < _GAP * ratios[-2]:
        return {}
    first = _self_consistent(tiles[:, 0] - tiles[:, 1], apart @ directions[:, -1] > 0)
    if abs(2 * first.mean() - 1) > _IN_PLACE:
        return {}
    one = np.where(first[:, None], tiles[:, 0], tiles[:, 1])
    other = np.where(first[:, None], tiles[:, 1], tiles[:, 0])
    return dict(zip(ROLES, (one, other), strict=True))


def role_readings(
    views: Mapping[str, Floats],
    labels: Codes,
    targets: int,
    *,
    answers: Mapping[int, int] | None = None,
    seed: int = 0,
) -> list[Reading]:
    """A reading by each role's tiles among the views; what else there is in these is left alone.

    Features are (n + m + t, dim) of labeled, unlabeled and target rows, the last `targets` of which are the
    target's; `labels` (n,) are class codes, and `answers` (target row → class code) count as labels.
    """
    items = np.array(sorted(answers or {}), dtype=np.int64)
    said = np.array([(answers or {})[int(item)] for item in items], dtype=np.int64)
    codes = np.concatenate([labels, said])
    readings = []
    for name in ROLES:
        if name in views:
            mapped = _mapped(views[name], len(labels), np.random.default_rng(seed))
            known = np.concatenate([np.arange(len(labels)), len(mapped) - targets + items])
            shares, error = _foretold(mapped, known, codes)
            unlabeled, target = shares[len(labels) : -targets], shares[-targets:]
            readings.append(Reading(unlabeled, target, error, f"kernel head on {name}"))
    return readings


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


def _mapped(rows: Floats, labeled: int, random: np.random.Generator) -> Floats:
    """Features whose products are Gaussian kernels, by Nyström's method from labeled rows, the first ones."""
    # Halfway to equal variance: what tells classes apart is seldom what varies the most.
    rows = rows / np.sqrt(rows.std(axis=0) + np.float32(1e-12))
    landmarks = rows[np.sort(random.permutation(labeled)[:_LANDMARKS])]
    width = 2 * float(rows.var(axis=0, dtype=np.float64).sum()) + 1e-12
    values, vectors = np.linalg.eigh(_kernels(landmarks, landmarks, width).astype(np.float64))
    kept = values > _NOTHING * values[-1]
    mapping = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
    parts = np.array_split(rows, 1 + len(rows) // _CHUNK)
    return np.concatenate([_kernels(part, landmarks, width) @ mapping for part in parts])


def _foretold(rows: Floats, known: Codes, codes: Codes) -> tuple[Floats, float]:
    """Probabilities (rows, classes) by a ridge head of the known rows, and how often it errs on these unseen.

    It is penalised as leaving each known row out wants it.
    """
    corners = np.eye(int(codes.max()) + 1)[codes]
    centre, mean = rows[known].mean(axis=0), corners.mean(axis=0)
    x = (rows[known] - centre).astype(np.float64)
    values, vectors = np.linalg.eigh(x.T @ x)
    turned = x @ vectors
    moved = turned.T @ (corners - mean)
    least, error, head = np.inf, np.nan, np.zeros_like(moved)
    for penalty in _PENALTIES * len(x):
        inverse = 1 / (values.clip(min=0) + penalty)
        own = (turned**2 @ inverse + 1 / len(x))[:, None]
        held_out = (turned @ (inverse[:, None] * moved) + mean - own * corners) / (1 - own)
        spread = float(((held_out - corners) ** 2).mean())
        if spread < least:
            error = float((held_out.argmax(axis=1) != codes).mean())
            least, head = spread, vectors @ (inverse[:, None] * moved)
    odds = ((rows - centre) @ head.astype(np.float32) + mean) / max(least, _NOTHING)
    raised = np.exp(odds - odds.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float32), error


def _kernels(rows: Floats, landmarks: Floats, width: float) -> Floats:
    """Gaussian kernels (rows, landmarks) of squared distances over `width`."""
    distances = (rows**2).sum(axis=1)[:, None] + (landmarks**2).sum(axis=1) - 2 * rows @ landmarks.T
    return np.asarray(np.exp(-distances.clip(min=0) / np.float32(width)), dtype=np.float32)
