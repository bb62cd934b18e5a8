"""Training on augmented views: the same as on those rows themselves, while everything counts images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import RequestError
from headwater.heads.evaluation import report_on, without_group
from headwater.heads.fitting import fit
from headwater.heads.methods import plan
from headwater.heads.methods.recipes import run_recipes
from headwater.heads.tasks.task import Task
from headwater.heads.tasks.views import WithViews
from headwater.store import Plan, ShardRows, StoreWriter, annotate, open_store

VIEWS = 2


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_views_are_one_matrix(data: st.DataObject) -> None:
    rows, views = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    parts = np.arange(rows * views * 2, dtype=np.float16).reshape(views, rows, 2)
    whole, seen = parts.reshape(-1, 2), WithViews(list(parts))
    assert seen.shape == whole.shape
    assert seen.dtype == whole.dtype
    place = st.integers(0, len(whole))
    start, stop, step = data.draw(place), data.draw(place), data.draw(st.integers(1, 3))
    np.testing.assert_array_equal(seen[start:stop:step], whole[start:stop:step])
    np.testing.assert_array_equal(seen.read(min(start, stop), stop), whole[min(start, stop) : stop])
    index = data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=8))
    np.testing.assert_array_equal(seen[np.array(index, dtype=np.int64)], whole[index])


def viewed(made: dict[str, Any]) -> tuple[Task, Task, np.ndarray]:
    """A task with views, the same task by plain rows, and the views."""
    random = np.random.default_rng(5)
    features = made["features"]
    views = features + random.normal(size=(VIEWS, *features.shape)).astype(np.float32)
    task = Task.from_arrays(features, made["class"], {"place": made["place"]}, made["split"], views=views)
    train = np.flatnonzero(made["split"] == "train")
    rows = np.concatenate([np.arange(len(features)), *[train] * VIEWS])
    plain = Task.from_arrays(
        np.concatenate([features, *(view[train] for view in views)]),
        made["class"][rows],
        {"place": made["place"][rows]},
        made["split"][rows],
    )
    return task, plain, views


@pytest.mark.parametrize("method", ["ERM", "RWG", "GroupDRO"])
def test_heads_are_those_of_the_views_as_rows(method: str, world: Callable[..., dict[str, Any]]) -> None:
    task, plain, _ = viewed(world())
    (one,), (other,) = (run_recipes(each, [plan(each, method)]) for each in (task, plain))
    np.testing.assert_allclose(one.head.weight, other.head.weight, rtol=1e-3, atol=1e-4)


def test_images_are_counted_once_and_judged_without_views(world: Callable[..., dict[str, Any]]) -> None:
    made = world()
    made["place"][:20] = ""
    task, _, _ = viewed(made)
    alone = Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])
    assert (task.images, task.views) == (len(made["class"]), VIEWS)
    assert len(task.rows("train")) == (VIEWS + 1) * len(alone.rows("train"))
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(task.plain(split), alone.splits[split])
        np.testing.assert_array_equal(task.group_counts(split), alone.group_counts(split))
        np.testing.assert_array_equal(task.class_counts(split), alone.class_counts(split))
    assert without_group(task) == without_group(alone)
    (fitted,) = run_recipes(task, [plan(task, "ERM")])
    for split in ("train", "test"):
        one, other = report_on(task, [fitted.head], split)[0], report_on(alone, [fitted.head], split)[0]
        assert one.to_dict() == other.to_dict()


def parts_of(task: Task, specs: list[Any]) -> list[set[int]]:
    """The images of the rows of weight of each spec; every image comes with all of its views."""
    found = []
    for spec in specs:
        rows = spec.rows.index if spec.weights is None else spec.rows.index[spec.weights.values > 0]
        views = {
            image: {row // task.images for row in rows if row % task.images == image}
            for image in {row % task.images for row in rows}
        }
        train = set(task.plain("train").tolist())
        assert all(of == (set(range(VIEWS + 1)) if image in train else {0}) for image, of in views.items())
        found.append(set(views))
    return found


def test_parts_of_train_hold_an_image_with_all_its_views(world: Callable[..., dict[str, Any]]) -> None:
    task, _, _ = viewed(world())
    held = parts_of(task, next(plan(task, "CV-GroupDRO", {"folds": 3}).recipe))
    everything = set().union(*held)
    assert sorted(row for part in held for row in everything - part) == sorted(everything)
    (first,) = parts_of(task, next(plan(task, "AFR").recipe))
    assert 0 < len(first) < len(task.plain("train"))


def test_counts_in_methods_are_of_images(world: Callable[..., dict[str, Any]]) -> None:
    made = world()
    task, _, _ = viewed(made)
    alone = Task.from_arrays(made["features"], made["class"], {"place": made["place"]}, made["split"])
    for method, given_ in (
        ("CBLoss", {"beta": 0.9, "by": "group"}),
        ("GroupDRO", {"adjustment": 2.0}),
        ("HierRW", {"smoothing": 5.0, "temper": 0.3}),
    ):
        one, other = (next(plan(each, method, given_).recipe)[0] for each in (task, alone))
        if one.weights is not None:
            mean = other.weights.values / other.weights.values.mean()
            both = one.weights.values / one.weights.values.mean()
            np.testing.assert_allclose(both, np.tile(mean, VIEWS + 1))
        else:
            np.testing.assert_allclose(one.risk.adjustment, other.risk.adjustment)


def test_views_of_another_shape_are_refused(task: Task) -> None:
    with pytest.raises(RequestError, match=r"views must have shape \(views, 3, 2\), not \(1, 3, 1\)"):
        Task.from_arrays(np.zeros((3, 2)), list("abb"), views=np.zeros((1, 3, 1)))


def test_a_stores_views_are_trained_on(world: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    made = world()
    task, _, views = viewed(made)
    features = made["features"]
    keys = [f"{number:04}.jpg" for number in range(len(features))]
    recipe = {"backbone": "resnet50", "weights_sha256": "0" * 64}
    plan_ = Plan.for_keys(
        keys, recipe=recipe, dim=features.shape[1], dtype="float32", rows_per_shard=100, views=VIEWS
    )
    path = tmp_path / "viewed.store"
    with StoreWriter(path, plan_, keys) as writer:
        for shard in list(writer.missing):
            here = slice(*plan_.shard_range(shard))
            count = here.stop - here.start
            sizes = np.full(count, 224, dtype=np.int32)
            writer.write(
                shard,
                ShardRows(
                    features[here], views[:, here], np.zeros(count, np.uint8), [""] * count, sizes, sizes
                ),
            )
        writer.finish({})
    annotate(path, {"path": keys, **{name: made[name].tolist() for name in ("class", "place", "split")}})
    read = Task.from_store(open_store(path), "class", ["place"], views=True)
    for split in ("train", "val"):
        np.testing.assert_array_equal(
            read.features[read.rows(split).index], task.features[task.rows(split).index]
        )
        np.testing.assert_array_equal(
            read.groups[read.rows(split).index], task.groups[task.rows(split).index]
        )
    result = fit(path, groups=["place"], views=True)
    assert (result.info.views, fit(path, groups=["place"]).info.views) == (VIEWS, 0)
    (expected,) = run_recipes(task, [plan(task, "ERM")])
    np.testing.assert_allclose(result.head.weight, expected.head.weight, rtol=1e-3, atol=1e-4)
    bare = Task.from_store(open_store(path), "class", ["place"])
    assert (bare.views, len(bare.rows("train"))) == (0, len(task.plain("train")))


def test_views_that_a_store_has_not_are_refused(store_at: Callable[..., Path]) -> None:
    with pytest.raises(RequestError, match=r"has no augmented views to train on; extract .* with --views"):
        fit(store_at(), views=True)
