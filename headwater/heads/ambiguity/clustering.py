"""Clusters of rows, as many as come out again when other rows are drawn; what they are good for is not asked.

k-means runs in faiss where it is installed, on a GPU if asked to; Gaussian mixtures and clusters inside
classes are shared with `heads.methods.clusters`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.heads.methods.clusters import fitted

Clusterer = Literal["kmeans", "gmm", "density"]
Floats = NDArray[np.float32]
Codes = NDArray[np.int64]
Predict = Callable[[Floats], Codes]

COUNTS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of clusters among which stability chooses."""

# Two fits on halves that agree this much less than the best two do are still called stable.
_SLACK = 0.15
_REPEATS = 2
_FEWEST = 8  # rows of a half for each of the clusters sought in it
_MEASURED = 2000
_ITERATIONS = 25
_STARTS = 2


@dataclass(frozen=True, eq=False)
class Clusters:
    """`codes` (n,) from 0 to `count` - 1, -1 for rows in none; `stability` of each number that was tried."""

    codes: Codes
    count: int
    stability: dict[int, float]


def find_clusters(
    x: Floats,
    clusterer: Clusterer = "kmeans",
    *,
    counts: Sequence[int] = COUNTS,
    seed: int = 0,
    device: torch.device | None = None,
) -> Clusters:
    """Cluster rows (n, d) into the largest number of clusters that is about as stable as any.

    A number's stability is the adjusted Rand index (Hubert and Arabie 1985) between what two fits on
    disjoint halves say of all rows (Ben-Hur et al. 2002). For `density` the number is the least share of rows
    that makes a cluster, 1 / (4 number), and rows that no cluster holds stay out.
    `device` is k-means', as `k_means` says.
    """
    random = np.random.default_rng(seed)
    part = x[np.sort(random.permutation(len(x))[:_MEASURED])]
    tried = sorted({count for count in counts if 2 <= count <= len(part) // (2 * _FEWEST)})
    stability = {count: agreement(part, clusterer, count, random, device) for count in tried}
    if not stability:
        return Clusters(np.zeros(len(x), dtype=np.int64), 1, {})
    best = max(stability.values())
    chosen = max(count for count, found in stability.items() if found >= best - _SLACK)
    codes = _fit(x, clusterer, chosen, seed, device=device)(x)
    return Clusters(codes, int(codes.max()) + 1, stability)


def agreement(
    x: Floats,
    clusterer: Clusterer,
    count: int,
    random: np.random.Generator,
    device: torch.device | None = None,
) -> float:
    """Mean adjusted Rand index between fits on disjoint halves of rows (n, d), asked about all of them."""
    from sklearn.metrics import adjusted_rand_score  # noqa: PLC0415  (slow to import)

    found = []
    for _ in range(_REPEATS):
        order, seed = random.permutation(len(x)), int(random.integers(2**31))
        halves = (x[order[::2]], x[order[1::2]])
        said = [_fit(half, clusterer, count, seed, starts=1, device=device)(x) for half in halves]
        found.append(float(adjusted_rand_score(*said)))
    return float(np.mean(found))


def k_means(
    x: Floats,
    count: int,
    seed: int,
    *,
    starts: int = _STARTS,
    device: torch.device | None = None,
) -> Floats:
    """Centres (count, d) of rows (n, d); by faiss where it is installed, else by scikit-learn.

    Started from the best of some greedy k-means++ starts (Arthur and Vassilvitskii 2007). On a CUDA `device`
    rows are assigned to centres there, if faiss was built for GPUs, else on the CPU. That has been tested
    with a stand-in for faiss, and on no GPU.
    """
    from sklearn.cluster import KMeans, kmeans_plusplus  # noqa: PLC0415  (slow to import)

    count = min(count, len(x))
    data = np.ascontiguousarray(x, dtype=np.float32)
    begun = [kmeans_plusplus(data, count, random_state=(seed + each) % 2**31)[0] for each in range(starts)]
    start = min(begun, key=lambda centres: _left_over(data, centres))
    try:
        import faiss  # noqa: PLC0415  (comes with an extra)
    except ImportError:
        found = KMeans(count, init=start, n_init=1, max_iter=_ITERATIONS).fit(data)
        return np.asarray(found.cluster_centers_, dtype=np.float32)
    settings = faiss.ClusteringParameters()
    settings.niter, settings.seed = _ITERATIONS, seed % 2**31
    # Left alone, faiss warns of few rows, and silently drops rows beyond 256 a cluster.
    settings.min_points_per_centroid, settings.max_points_per_centroid = 1, len(data)
    clustering = faiss.Clustering(data.shape[1], count, settings)
    faiss.copy_array_to_vector(np.ascontiguousarray(start, dtype=np.float32).ravel(), clustering.centroids)
    clustering.train(data, _index(faiss, data.shape[1], device))
    return np.asarray(faiss.vector_to_array(clustering.centroids).reshape(count, -1))


def _index(faiss: Any, dim: int, device: torch.device | None) -> Any:
    """An exact index by Euclidean distances, on the device where faiss can be."""
    index = faiss.IndexFlatL2(dim)
    if device is None or device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
        return index
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)


def _left_over(x: Floats, centres: Floats) -> float:
    """The sum of squared distances to the nearest centre, less what no centres change."""
    squares = (centres.astype(np.float64) ** 2).sum(axis=1)
    return float((squares - 2 * (x @ centres.T)).min(axis=1).sum())


def nearest(x: Floats, centres: Floats) -> Codes:
    """The nearest centre of each row, (n,)."""
    squares = (centres.astype(np.float64) ** 2).sum(axis=1)
    return np.asarray((squares - 2 * (x @ centres.T)).argmin(axis=1), dtype=np.int64)


def _fit(
    x: Floats,
    clusterer: Clusterer,
    count: int,
    seed: int,
    *,
    starts: int = _STARTS,
    device: torch.device | None = None,
) -> Predict:
    if clusterer == "gmm":
        model = fitted(x, "gmm", count, seed)
        return lambda rows: np.asarray(model.predict(rows), dtype=np.int64)
    if clusterer == "density":
        return _dense(x, count)
    centres = k_means(x, count, seed, starts=starts, device=device)
    return lambda rows: nearest(rows, centres)


def _dense(x: Floats, count: int) -> Predict:
    """HDBSCAN (Campello et al. 2013); other rows belong where the nearest row that was fitted does."""
    from sklearn.cluster import HDBSCAN  # noqa: PLC0415
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415

    found = HDBSCAN(min_cluster_size=max(2, len(x) // (4 * count)), min_samples=5, copy=True).fit(x)
    codes = np.asarray(found.labels_, dtype=np.int64)
    near = NearestNeighbors(n_neighbors=1).fit(x)
    return lambda rows: codes[near.kneighbors(rows, return_distance=False)[:, 0]]
