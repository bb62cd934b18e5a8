"""Features that are learned from a problem's images: their rows, and what they do not depend on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headwater.ambiguity.views import image_views
from headwater.errors import RequestError
from headwater.heads.ambiguity.problem import Problem


@pytest.fixture(autouse=True)
def small_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.extract.patches._PATCHES", 4_000)


@pytest.fixture
def problem(made: Callable[..., dict[str, NDArray[Any]]]) -> Problem:
    """Small images, twice as wide as high."""
    arrays = made()
    for name in ("X_labeled", "X_unlabeled", "X_val"):
        arrays[name] = arrays[name].repeat(3, axis=2).repeat(3, axis=3)
    return Problem(
        arrays["X_labeled"].astype(np.float32),
        (arrays["y_labeled"] == 8).astype(np.int64),
        arrays["X_unlabeled"].astype(np.float32),
        arrays["X_val"].astype(np.float32)[:30],
        (3, 8),
    )


def swapped(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same with left and right halves in each other's place."""
    return np.ascontiguousarray(np.roll(images, images.shape[3] // 2, axis=3))


def test_every_row_has_features_in_order_and_free_ones_ignore_the_order_of_halves(problem: Problem) -> None:
    twice = Problem(
        problem.labeled, problem.labels, problem.unlabeled, swapped(problem.labeled), problem.classes
    )
    found = image_views(twice)
    assert set(found) == {"bound", "free"}
    for view in found.values():
        assert view.shape[0] == 120
        assert view.dtype == np.float32
    moved = {name: np.linalg.norm(view[:40] - view[80:], axis=1).mean() for name, view in found.items()}
    apart = {name: np.linalg.norm(view[:40] - view[40:80], axis=1).mean() for name, view in found.items()}
    assert moved["free"] / apart["free"] < 0.7 * moved["bound"] / apart["bound"]
    again = image_views(twice)
    for name, view in found.items():
        np.testing.assert_array_equal(again[name], view)


def test_square_images_have_no_halves_to_swap_and_tiny_ones_no_patches(problem: Problem) -> None:
    def part(width: int, height: int = 6) -> Problem:
        cut = [each[:, :, :height, :width] for each in (problem.labeled, problem.unlabeled, problem.target)]
        return Problem(cut[0], problem.labels, cut[1], cut[2], problem.classes)

    assert set(image_views(part(6))) == {"bound"}
    tiny = image_views(part(5, 4))
    assert set(tiny) == {"pixels"}
    assert len(tiny["pixels"]) == 110


def test_a_missing_faiss_is_said_and_not_made_do_without(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RequestError, match="faiss"):
        image_views(problem)
