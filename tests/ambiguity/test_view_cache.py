"""Views kept as stores: made once for the same images, and made again where what is there is not theirs."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import headwater
from headwater.ambiguity import cache_bound, open_dataset
from headwater.ambiguity.dataset import Dataset
from headwater.ambiguity.features import features_of
from headwater.ambiguity.view_cache import kept_views
from headwater.ambiguity.views import SOURCES, Views
from headwater.store import open_store
from tests.ambiguity.conftest import pictures, write

CPU = torch.device("cpu")


@pytest.fixture
def dataset(folder: Path) -> Dataset:
    """120 rows."""
    return open_dataset(folder)


class Maker:
    """Makes the same views again and again, and counts how often."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.views = {name: random.normal(size=(120, dim)).astype("f4") for name, dim in (("z", 3), ("a", 5))}
        self.calls = 0

    def __call__(self) -> Views:
        self.calls += 1
        return self.views


def same(found: Views, expected: Views) -> None:
    assert list(found) == list(expected)
    for name, view in expected.items():
        np.testing.assert_array_equal(found[name], view)
        assert found[name].dtype == np.float32
        assert found[name].flags.c_contiguous
        assert found[name].flags.writeable


def test_views_are_made_once_for_the_same_images_and_seed(dataset: Dataset, tmp_path: Path) -> None:
    make, cache = Maker(), tmp_path / "cache"
    for _ in range(3):
        same(kept_views(cache, dataset, 0, make), make.views)
    assert make.calls == 1
    (place,) = cache.iterdir()
    store = open_store(place)
    assert (len(store), store.dim, store.dtype) == (120, 8, np.float32)
    assert store.keys[[0, 40, 119]].tolist() == ["labeled/0", "unlabeled/0", "target/39"]
    other = Maker(1)
    same(kept_views(cache, dataset, 1, other), other.views)
    another = open_dataset(write(tmp_path / "another", pictures(seed=3)))
    kept_views(cache, another, 0, other)
    assert other.calls == 2
    same(kept_views(cache, dataset, 0, make), make.views)
    assert make.calls == 1


@pytest.mark.parametrize("changed", SOURCES)
def test_views_of_other_code_are_made_again(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """As between two commits, which have the same version."""
    make, other = Maker(), Maker(1)
    kept_views(tmp_path / "cache", dataset, 0, make)
    package = Path(headwater.__file__).parent
    for name in SOURCES:
        copy = tmp_path / "headwater" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package / name, copy)
    monkeypatch.setattr("headwater.ambiguity.views.files", lambda name: tmp_path / name)
    same(kept_views(tmp_path / "cache", dataset, 0, other), make.views)
    with (tmp_path / "headwater" / changed).open("a") as source:
        source.write("# changed\n")
    same(kept_views(tmp_path / "cache", dataset, 0, other), other.views)
    assert (make.calls, other.calls) == (1, 1)


def test_the_code_that_views_are_told_apart_by_is_all_that_makes_them() -> None:
    package = Path(headwater.__file__).parent
    # What these say does not decide what views are.
    known, waiting = {"errors.py", "heads/ambiguity/problem.py"}, ["ambiguity/views.py"]
    while waiting:
        name = waiting.pop()
        known.add(name)
        for node in ast.walk(ast.parse((package / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headwater."):
                used = f"{node.module.partition('.')[2].replace('.', '/')}.py"
                if used not in known:
                    waiting.append(used)
    assert known == {*SOURCES, "errors.py", "heads/ambiguity/problem.py"}


def torn(place: Path) -> None:
    shard = place / "shard-00000.h5"
    shard.write_bytes(shard.read_bytes()[:-700])


def unfinished(place: Path) -> None:
    (place / "shard-00000.h5").unlink()


def foreign(place: Path) -> None:
    other = Maker(5)
    elsewhere = place.parent.parent / "elsewhere"
    kept_views(elsewhere, open_dataset(place.parent.parent / "halves"), 9, other)
    shutil.rmtree(place)
    shutil.move(next(elsewhere.iterdir()), place)


def no_plan(place: Path) -> None:
    (place / "plan.json").write_text("{")


def a_file(place: Path) -> None:
    shutil.rmtree(place)
    place.write_bytes(b"something else")


def a_folder(place: Path) -> None:
    shutil.rmtree(place)
    place.mkdir()
    (place / "notes.txt").touch()


@pytest.mark.parametrize("spoil", [torn, unfinished, foreign, no_plan, a_file, a_folder])
def test_what_is_not_theirs_or_not_whole_is_made_again(
    dataset: Dataset, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    make, cache = Maker(), tmp_path / "cache"
    kept_views(cache, dataset, 0, make)
    (place,) = cache.iterdir()
    spoil(place)
    for _ in range(2):
        same(kept_views(cache, dataset, 0, make), make.views)
    assert make.calls == 2


def test_a_cache_that_cannot_be_written_is_no_error(dataset: Dataset, tmp_path: Path) -> None:
    make = Maker()
    (tmp_path / "cache").touch()
    for _ in range(2):
        same(kept_views(tmp_path / "cache", dataset, 0, make), make.views)
    assert make.calls == 2


def test_features_of_images_are_kept_only_where_a_folder_is_given(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker()
    monkeypatch.setattr("headwater.ambiguity.features.image_views", lambda *given, **rest: make())
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setenv("HOME", str(home))
    same(features_of(dataset, None, seed=0, device=CPU), make.views)
    assert not home.exists()
    for _ in range(2):
        same(features_of(dataset, None, seed=0, device=CPU, cache=tmp_path / "kept"), make.views)
    assert make.calls == 2


def test_what_was_used_longest_ago_makes_room(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, make = tmp_path / "cache", Maker()
    kept_views(cache, dataset, 0, make)
    (first,) = cache.iterdir()
    size = sum(file.stat().st_size for file in first.rglob("*"))
    (cache / "notes.txt").write_text("not ours", encoding="ascii")
    monkeypatch.setattr(cache_bound, "BYTES", round(2.5 * size))
    for seed in (1, 2):
        for age, place in enumerate(sorted(cache.glob("*.store"), key=lambda each: each.stat().st_mtime)):
            os.utime(place, (age, age))
        kept_views(cache, dataset, 0, make)  # the first one is used all the time
        kept_views(cache, dataset, seed, make)
    assert make.calls == 3
    kept_views(cache, dataset, 0, make)
    kept_views(cache, dataset, 2, make)
    assert make.calls == 3
    assert len(list(cache.glob("*.store"))) == 2
    assert (cache / "notes.txt").exists()
    # One that is larger than the bound is kept: it is in use.
    monkeypatch.setattr(cache_bound, "BYTES", 1)
    kept_views(cache, dataset, 3, make)
    kept_views(cache, dataset, 3, make)
    assert make.calls == 4
    assert len(list(cache.glob("*.store"))) == 1
