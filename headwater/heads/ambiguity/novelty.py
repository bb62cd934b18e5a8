"""How unlike the labeled rows each row is, by its neighbours; what follows from that is decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.heads.ambiguity.dealing import dealt

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

NEIGHBOURS = (5, 15, 40)
_FOLDS = 3
_POOL = 20_000
_BLOCK_VALUES = 1 << 24


@dataclass(frozen=True, eq=False)
class Scores:
    """One measure of novelty, higher for rows less like the labeled: of labeled (n,) and other rows (r,)."""

    name: str
    labeled: NDArray[np.float64]
    rest: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Folds:
    """Which fold each labeled (n,) and each other row (r,) lies in: rows are judged by the other folds'."""

    labeled: Codes
    rest: Codes

    @classmethod
    def draw(cls, labels: Codes, rest: int, seed: int) -> Folds:
        """Folds of like size, each class of labeled rows dealt out evenly."""
        random = np.random.default_rng(seed)
        return cls(dealt(labels, _FOLDS, random), random.permutation(np.arange(rest) % _FOLDS))


def neighbour_scores(
    name: str,
    labeled: Floats,
    labels: Codes,
    rest: Floats,
    folds: Folds,
    *,
    seed: int = 0,
) -> list[Scores]:
    """Logarithms of how much denser other rows lie around a row than labeled rows of any one class do.

    One measure for each number of nearest neighbours: the share of the other rows found among them, over the
    largest share of a class' labeled rows. Against the densest class, not all together, other balances of
    classes make no row novel. Neighbours are sought in folds that the row is not in, so that if a labeled
    row and another are alike in kind, their scores are alike in distribution.
    """
    classes = int(labels.max()) + 1
    out = [(np.zeros(len(labeled)), np.zeros(len(rest))) for _ in NEIGHBOURS]
    for fold in range(_FOLDS):
        ours, others = _pool(folds, fold, seed)
        pool = np.concatenate([labeled[ours], rest[others]])
        codes = np.concatenate([labels[ours], np.full(len(others), classes)])
        counts = np.maximum(np.bincount(codes, minlength=classes + 1), 1)
        for place, (rows, mine) in enumerate(((labeled, folds.labeled == fold), (rest, folds.rest == fold))):
            found = codes[nearest_rows(rows[mine], pool, min(max(NEIGHBOURS), len(pool)))]
            for scores, k in zip(out, NEIGHBOURS, strict=True):
                near = np.stack([(found[:, :k] == code).sum(axis=1) for code in range(classes + 1)], axis=1)
                shares = near / counts
                least = 0.3 / counts[:classes].max()
                scores[place][mine] = np.log(shares[:, classes] + 0.1 / counts[classes]) - np.log(
                    shares[:, :classes].max(axis=1) + least
                )
    return [Scores(f"{name}, {k} neighbours", *each) for k, each in zip(NEIGHBOURS, out, strict=True)]


def likely_classes(
    labeled: Floats,
    labels: Codes,
    rest: Floats,
    folds: Folds,
    *,
    seed: int = 0,
) -> tuple[Codes, Codes]:
    """The class of most of the 15 nearest labeled rows in other folds, of labeled and of other rows.

    Where labeled rows are many, neighbours are sought in a sample of them.
    """
    classes = int(labels.max()) + 1
    out = np.zeros(len(labeled), dtype=np.int64), np.zeros(len(rest), dtype=np.int64)
    for fold in range(_FOLDS):
        kept, _ = _pool(folds, fold, seed)
        for place, (rows, mine) in enumerate(((labeled, folds.labeled == fold), (rest, folds.rest == fold))):
            near = labels[kept][nearest_rows(rows[mine], labeled[kept], min(15, len(kept)))]
            votes = np.stack([(near == code).sum(axis=1) for code in range(classes)], axis=1)
            out[place][mine] = votes.argmax(axis=1)
    return out


def nearest_rows(rows: Floats, pool: Floats, count: int) -> Codes:
    """Places in `pool` (p, d) of the `count` rows nearest to each of `rows` (r, d), nearest first.

    An array (r, count). Searched exactly.
    """
    there = torch.from_numpy(np.ascontiguousarray(pool))
    squares = (there * there).sum(dim=1)
    out = np.empty((len(rows), count), dtype=np.int64)
    step = max(1, _BLOCK_VALUES // max(1, len(pool)))
    for start in range(0, len(rows), step):
        block = torch.from_numpy(np.ascontiguousarray(rows[start : start + step]))
        apart = torch.addmm(squares, block, there.T, alpha=-2)
        out[start : start + step] = apart.topk(count, dim=1, largest=False).indices.numpy()
    return out


def _pool(folds: Folds, fold: int, seed: int) -> tuple[Codes, Codes]:
    """Labeled and other rows of the other folds; at most `_POOL` in all."""
    ours, others = np.flatnonzero(folds.labeled != fold), np.flatnonzero(folds.rest != fold)
    if len(ours) + len(others) > _POOL:
        random = np.random.default_rng([seed, fold])
        ours, others = _fewer(ours, _POOL // 2, random), _fewer(others, _POOL // 2, random)
    return ours, others


def _fewer(rows: Codes, most: int, random: np.random.Generator) -> Codes:
    return rows if len(rows) <= most else np.sort(random.permutation(rows)[:most])
