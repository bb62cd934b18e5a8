"""Clusters of rows inside each class, found in few dimensions; what they are for is a method's affair."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

Kind = Literal["gmm", "kmeans"]

# Principal components are found, and mixtures fitted, on at most this many rows.
_FITTED = 10_000
# Rows on which numbers of clusters are compared by silhouettes, whose cost is quadratic.
_MEASURED = 1000
_RESTARTS = 2


def principal(x: NDArray[np.float32], components: int, seed: int) -> NDArray[np.float32]:
    """The rows (n, d) in their first principal components, (n, at most `components`)."""
    from sklearn.decomposition import PCA  # noqa: PLC0415  (slow to import)

    chosen = _sample(len(x), _FITTED, seed)
    count = min(components, len(chosen), x.shape[1])
    small = min(len(chosen), x.shape[1]) <= max(100, 2 * count)
    pca = PCA(count, svd_solver="full" if small else "randomized", iterated_power=4, random_state=seed)
    return np.asarray(pca.fit(x[chosen]).transform(x), dtype=np.float32)


def number_of_clusters(
    x: NDArray[np.float32], kind: Kind, most: int, seed: int
) -> tuple[int, NDArray[np.int64]]:
    """The number from 2 to `most` with the best mean silhouette (Rousseeuw 1987), and its clusters (n,).

    1 where there are too few rows to tell.
    """
    from sklearn.metrics import silhouette_score  # noqa: PLC0415

    best, score = 1, -np.inf
    part = x[_sample(len(x), _MEASURED, seed)]
    for count in range(2, min(most, len(part) - 1) + 1):
        codes = clusters(part, kind, count, seed)
        if 2 <= len(np.unique(codes)) < len(part):
            quality = float(silhouette_score(part, codes))
            if quality > score:
                best, score = count, quality
    return best, clusters(x, kind, best, seed) if best > 1 else np.zeros(len(x), dtype=np.int64)


def clusters(x: NDArray[np.float32], kind: Kind, count: int, seed: int) -> NDArray[np.int64]:
    """Clusters (n,) of rows (n, d): codes from 0 to `count` - 1, of which some may be empty."""
    return np.asarray(fitted(x, kind, count, seed).predict(x), dtype=np.int64)


def fitted(x: NDArray[np.float32], kind: Kind, count: int, seed: int) -> KMeans | GaussianMixture:
    """What `clusters` asks, fitted to at most 10,000 of the rows (n, d); its `predict` takes any rows."""
    from sklearn.cluster import KMeans  # noqa: PLC0415
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.mixture import GaussianMixture  # noqa: PLC0415

    count = min(count, len(x))
    chosen = _sample(len(x), _FITTED, seed)
    means = KMeans(count, n_init=_RESTARTS, random_state=seed).fit(x[chosen])
    if kind == "kmeans":
        return means
    # Started from k-means, the mixture is where restarts of its own would hardly lead it away from.
    scale = float(x.var()) or 1.0
    mixture = GaussianMixture(
        count,
        covariance_type="full",
        means_init=means.cluster_centers_,
        reg_covar=1e-3 * scale,
        max_iter=50,
        tol=1e-2,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # Clusters need no converged likelihood; silhouettes judge them as they are.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(x[chosen])
    return mixture


def _sample(rows: int, most: int, seed: int) -> NDArray[np.int64]:
    """Numbers of at most `most` of the rows, drawn without replacement, ascending."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])
