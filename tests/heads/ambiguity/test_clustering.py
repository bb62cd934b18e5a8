"""Clusters against brute force, known mixtures, and the number that was made."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

from headwater.heads.ambiguity.clustering import agreement, find_clusters, k_means, nearest


def blobs(count: int, rows: int, seed: int, apart: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Rows around the corners of a simplex, and which corner each belongs to."""
    random = np.random.default_rng(seed)
    codes = np.arange(rows) % count
    centres = apart * np.eye(count)
    return (centres[codes] + random.standard_normal((rows, count))).astype(np.float32), codes


@given(rows=st.integers(1, 30), count=st.integers(1, 6), seed=st.integers(0, 10))
@settings(max_examples=20, deadline=None)
def test_nearest_is_the_centre_of_least_distance(rows: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, 3)).astype(np.float32)
    centres = random.standard_normal((count, 3)).astype(np.float32)
    assert nearest(x, centres).tolist() == cdist(x, centres).argmin(axis=1).tolist()


def test_k_means_on_ends_of_a_line_has_their_means_for_centres() -> None:
    x = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]], dtype=np.float32)
    np.testing.assert_allclose(np.sort(k_means(x, 2, seed=3).ravel()), [1, 11])


def test_k_means_takes_all_rows_however_many_a_cluster_has() -> None:
    # 256 rows a cluster are what faiss would look at by default: the far rows would hardly be among them.
    x = np.zeros((4000, 1), dtype=np.float32)
    x[:40] = 100.0
    np.testing.assert_allclose(np.sort(k_means(x, 2, seed=0).ravel()), [0, 100], atol=1e-4)


def test_more_clusters_than_rows_are_not_made() -> None:
    assert len(k_means(np.eye(3, dtype=np.float32), 10, seed=0)) == 3


@pytest.mark.parametrize("count", [3, 8])
def test_stability_chooses_the_number_that_was_made(count: int) -> None:
    x, codes = blobs(count, 800, seed=1)
    found = find_clusters(x, counts=(2, 3, 4, 6, 8, 12, 16), seed=0)
    assert found.count == count
    assert adjusted_rand_score(codes, found.codes) > 0.99


@pytest.mark.parametrize("clusterer", ["gmm", "density"])
def test_other_clusterers_find_the_same(clusterer: str) -> None:
    x, codes = blobs(4, 400, seed=2, apart=12.0)
    found = find_clusters(x, clusterer, counts=(4,), seed=0)
    held = found.codes >= 0
    assert held.mean() > 0.9
    assert adjusted_rand_score(codes[held], found.codes[held]) > 0.98


def test_fits_agree_on_what_is_there_and_not_on_noise() -> None:
    random = np.random.default_rng(0)
    x, _ = blobs(4, 400, seed=3)
    noise = random.standard_normal((400, 4)).astype(np.float32)
    assert agreement(x, "kmeans", 4, random) > 0.95
    assert agreement(noise, "kmeans", 8, random) < 0.6


def test_too_few_rows_are_one_cluster() -> None:
    found = find_clusters(np.eye(4, dtype=np.float32))
    assert (found.count, found.codes.tolist()) == (1, [0, 0, 0, 0])


def test_the_same_seed_gives_the_same_clusters() -> None:
    x, _ = blobs(5, 300, seed=4, apart=3.0)
    assert (find_clusters(x, seed=7).codes == find_clusters(x, seed=7).codes).all()


@pytest.mark.parametrize(
    ("device", "has_gpus", "moved"), [("cuda:1", True, [1]), ("cuda:1", False, []), ("cpu", True, [])]
)
def test_rows_are_assigned_on_the_gpu_that_was_asked_for_if_faiss_can(
    monkeypatch: pytest.MonkeyPatch, device: str, has_gpus: bool, moved: list[int]
) -> None:
    rows, _ = blobs(3, 60, seed=1)
    expected = find_clusters(rows, counts=(3,)).codes
    asked: list[int] = []

    def to_gpu(resources: object, number: int, index: object) -> object:
        assert resources == "memory of a GPU"
        asked.append(number)
        return index

    # No GPU is needed to see that one would be used: every k-means trains on the index that comes back.
    if has_gpus:
        monkeypatch.setattr(faiss, "StandardGpuResources", lambda: "memory of a GPU", raising=False)
        monkeypatch.setattr(faiss, "index_cpu_to_gpu", to_gpu, raising=False)
    else:
        monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    found = find_clusters(rows, counts=(3,), device=torch.device(device))
    np.testing.assert_array_equal(found.codes, expected)
    assert sorted(set(asked)) == moved
    assert len(asked) == 5 * len(moved)  # two pairs of fits for stability, and the last
