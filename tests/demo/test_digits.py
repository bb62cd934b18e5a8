"""The demo's data: every digit once, Waterbirds' proportions, the same bytes from the same seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headwater.demo import digits as digits_module
from headwater.demo.compose import SIDE, TEXTURES, compose
from headwater.demo.digits import (
    CELLS,
    CLASSES,
    WATERBIRDS,
    Digits,
    cell_sizes,
    choose,
    make_dataset,
    real_digits,
)
from headwater.errors import RequestError
from headwater.store import read_table

LABELS = np.repeat(np.arange(10), 500)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return real_digits()


@pytest.fixture
def _digits_at_hand(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them takes seconds, so it is done once."""
    monkeypatch.setattr(digits_module, "real_digits", lambda: digits)


def test_cells_have_waterbirds_proportions() -> None:
    assert cell_sizes(11788) == WATERBIRDS
    sizes = cell_sizes(3000)
    assert sum(map(sum, sizes.values())) == pytest.approx(3000, abs=6)
    for split, cells in WATERBIRDS.items():
        for mine, theirs in zip(sizes[split], cells, strict=True):
            assert abs(mine - theirs * 3000 / 11788) <= 0.5
    assert min(cell_sizes(100)["train"]) == 1


def test_every_digit_is_used_once_and_has_its_class() -> None:
    items = choose(LABELS, 4400, seed=0)
    assert len({item.mnist for item in items}) == len({item.path for item in items}) == len(items)
    assert all(LABELS[item.mnist] == item.digit for item in items)
    assert all(item.digit in CLASSES[item.label] for item in items)
    found = Counter((item.split, item.label, item.texture) for item in items)
    expected = {
        (split, *cell): n
        for split, sizes in cell_sizes(4400).items()
        for cell, n in zip(CELLS, sizes, strict=True)
    }
    assert found == expected


def test_texture_and_digit_are_independent_within_a_class() -> None:
    items = [
        item for item in choose(LABELS, 4400, seed=0) if item.split == "test" and item.label == "straight"
    ]
    for texture in TEXTURES:
        drawn = Counter(item.digit for item in items if item.texture == texture)
        # 246 digits of three kinds; five standard deviations of a fair draw.
        assert all(abs(n - len(items) / 6) < 5 * (len(items) / 2 * 2 / 9) ** 0.5 for n in drawn.values())


def test_another_seed_deals_otherwise() -> None:
    assert choose(LABELS, 500, seed=0) == choose(LABELS, 500, seed=0)
    assert choose(LABELS, 500, seed=0) != choose(LABELS, 500, seed=1)


@pytest.mark.parametrize(("total", "what"), [(99, "at least 100"), (4800, "ask for fewer")])
def test_impossible_numbers_are_refused(total: int, what: str) -> None:
    with pytest.raises(RequestError, match=what):
        choose(LABELS, total, seed=0)


def _stroke() -> np.ndarray:
    digit = np.zeros((28, 28), dtype=np.uint8)
    digit[4:24, 12:16] = 255
    return digit


@pytest.mark.parametrize("texture", sorted(TEXTURES))
def test_the_digit_stands_out_from_its_texture(texture: str) -> None:
    blank = np.zeros((28, 28), dtype=np.uint8)
    for seed in range(8):
        painted = compose(_stroke(), texture, np.random.default_rng(seed)).astype(int)
        ground = compose(blank, texture, np.random.default_rng(seed)).astype(int)
        assert painted.shape == (SIDE, SIDE, 3)
        ink = np.abs(painted - ground).max(axis=2) > 8
        # The bar is 20 by 4 of 28 in a box of 150 to 196 pixels.
        assert 0.5 * 80 / 784 * 150**2 < ink.sum() < 2 * 80 / 784 * 196**2
        assert np.abs(painted.mean(axis=2) - ground.mean(axis=2))[ink].mean() > 60


def test_the_two_textures_differ_in_direction() -> None:
    """Stripes put the gradient's energy along one axis of the structure tensor, clouds spread it."""
    strength = {}
    for name, draw in TEXTURES.items():
        found = []
        for seed in range(12):
            down, across = np.gradient(draw(np.random.default_rng(seed)))
            tensor = np.array(
                [[(down**2).sum(), (down * across).sum()], [(down * across).sum(), (across**2).sum()]]
            )
            small, large = np.linalg.eigvalsh(tensor)
            found.append((large - small) / (large + small))
        strength[name] = found
    assert min(strength["stripes"]) > max(strength["clouds"])


@pytest.mark.usefixtures("_digits_at_hand")
def test_the_folder_is_made_once_and_the_same_each_time(tmp_path: Path) -> None:
    items, there = make_dataset(tmp_path / "a", 100, workers=2)
    assert not there
    make_dataset(tmp_path / "b", 100, workers=1)
    for item in items:
        content = (tmp_path / "a/images" / item.path).read_bytes()
        assert content == (tmp_path / "b/images" / item.path).read_bytes()
    with Image.open(tmp_path / "a/images" / items[0].path) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (224, 224), "RGB")
    assert len(list((tmp_path / "a/images").rglob("*.jpg"))) == len(items)
    table = read_table(tmp_path / "a/digits.csv")
    assert list(table["path"]) == [item.path for item in items]
    assert list(table["class"]) == [item.label for item in items]
    before = (tmp_path / "a/images" / items[0].path).stat().st_mtime_ns
    assert make_dataset(tmp_path / "a", 100) == (items, True)
    assert (tmp_path / "a/images" / items[0].path).stat().st_mtime_ns == before


@pytest.mark.usefixtures("_digits_at_hand")
def test_what_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/holiday.jpg").write_bytes(b"mine")
    with pytest.raises(RequestError, match="holds something else"):
        make_dataset(tmp_path, 100)
    assert (tmp_path / "images/holiday.jpg").read_bytes() == b"mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/digits.csv").write_text("my,table\n")
    with pytest.raises(RequestError, match="holds something else"):
        make_dataset(tmp_path / "other", 100)


@pytest.mark.usefixtures("_digits_at_hand")
def test_a_stopped_demo_starts_its_images_anew(tmp_path: Path) -> None:
    items, _ = make_dataset(tmp_path / "whole", 100)
    torn = tmp_path / "torn"
    (torn / ".images.partial/curved").mkdir(parents=True)
    (torn / ".images.partial/curved/torn.jpg").write_bytes(b"")
    (torn / "digits.csv").write_bytes((tmp_path / "whole/digits.csv").read_bytes())
    assert make_dataset(torn, 100) == (items, False)
    assert len(list((torn / "images").rglob("*.jpg"))) == len(items)


def test_real_digits_are_500_of_each(digits: Digits) -> None:
    assert digits.images.shape == (5000, 28, 28)
    assert np.bincount(digits.labels).tolist() == [500] * 10
    assert digits.images.max() == 255
