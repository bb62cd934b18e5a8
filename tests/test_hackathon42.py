"""The generated sets are as published, and their features are what their names say."""

from __future__ import annotations

import io
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from benchmarks.hackathon42 import composed, embeddings
from benchmarks.hackathon42.composition import Composition
from benchmarks.hackathon42.digits import Deck, load_digits
from benchmarks.hackathon42.generated import draw_cells
from benchmarks.hackathon42.hidden import FAMILIES, hidden
from benchmarks.hackathon42.photographs import correlated
from benchmarks.hackathon42.sets import PUBLISHED, make, summed
from benchmarks.pacs import PAIRS, features_like_pacs
from headwater.errors import RequestError

TABLE = """
0 2 500 500 500 0,1
1 1x28x56 1267 3798 1267 0,1
2 1x28x56 1188 3564 1188 0,2
3 1x28x56 1206 3614 1206 0,3
4 1x28x56 1177 3528 1177 0,4
5 1x28x56 1135 3402 1134 0,5
6 1x28x28 1184 3552 1184 0,6
8 1x28x28 1178 3530 1178 0,8
12 1x28x56 889 3809 381 1,2
13 1x28x56 900 3861 387 1,3
23 99 1209 3626 1209 2,3
456 99 1718 5153 1718 4,5,6
"""


@pytest.fixture(scope="session")
def drawn_digits(tmp_path_factory):
    """Thirty rough drawings of each digit: rings for even ones, strokes for odd ones, all different."""
    random = np.random.default_rng(0)
    down, across = np.mgrid[:28, :28]
    images, labels = [], []
    for digit in range(10):
        for _ in range(30):
            y, x = random.uniform(12, 15, 2)
            radius = np.hypot(down - y, across - x)
            ring = np.abs(radius - 4 - digit / 3) < random.uniform(1, 2.5)
            stroke = (np.abs(across - x) < random.uniform(1, 2)) & (radius < 8)
            images.append((stroke if digit % 2 else ring) * random.uniform(200, 255))
            labels.append(digit)
    place = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(place, images=np.array(images, dtype=np.uint8), labels=np.array(labels))
    return place


@pytest.fixture
def quick_embeddings(monkeypatch, tmp_path):
    monkeypatch.setattr(embeddings, "PAIRS", 200)
    monkeypatch.setattr(embeddings, "PASSES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("line", TABLE.split("\n")[1:-1])
def test_files_are_as_published(line, drawn_digits, quick_embeddings, tmp_path):
    number, shape, *sizes, classes = line.split()
    item = tuple(map(int, shape.split("x")))
    family = "border" if number in {"12", "13"} else None
    published = PUBLISHED[int(number)]
    assert published.sizes == tuple(map(int, sizes))
    scale = 1.0 if number == "0" else 0.02  # of the others it would be a gigabyte to write
    made = make(int(number), 1, digits=drawn_digits, family=family, size=scale)
    folder = made.write(tmp_path / "set")
    assert sorted(each.name for each in folder.iterdir()) == [
        "X_labeled.npy",
        "X_unlabeled.npy",
        "X_val.npy",
        "y_labeled.npy",
    ]
    for name, rows in zip(("labeled", "unlabeled", "val"), map(int, sizes), strict=True):
        stored = np.load(folder / f"X_{name}.npy", allow_pickle=False)
        assert stored.shape == (round(rows * scale), *item)
        assert stored.dtype == np.float64
        assert np.isfinite(stored).all()
    labels = np.load(folder / "y_labeled.npy")
    assert labels.dtype == np.int64
    assert sorted(set(labels.tolist())) == list(map(int, classes.split(",")))
    assert published.shape == item
    assert made.problem.labeled.dtype == np.float32
    truth = np.load(made.write_target_labels(tmp_path / "truth.npy"))
    assert truth.tolist() == [made.problem.classes[code] for code in made.target_labels]


def _flat(images):
    """Of 4 and 5, from the pixels: which half is flat, and the code of its colour."""
    halves = np.stack([images[:, 0, :, :28], images[:, 0, :, 28:]], axis=1).reshape(len(images), 2, -1)
    flat = halves.std(axis=2).argmin(axis=1)
    return flat, (halves.mean(axis=2)[np.arange(len(images)), flat] > 0.5).astype(int)


def _colour(images):
    return _flat(images)[1]


def test_labels_agree_with_both_features_and_crossed_items_with_one(drawn_digits):
    made = make(4, 3, digits=drawn_digits, size=0.2)
    assert np.array_equal(_colour(made.problem.labeled), made.problem.labels)
    assert np.array_equal(_colour(made.problem.target), made.target_cells[:, 1])
    assert np.array_equal(made.target_labels, made.target_cells[:, 0])
    assert np.array_equal(made.crossed, made.target_labels != _colour(made.problem.target))
    # The flat half is left or right by a coin.
    assert 0.4 < _flat(made.problem.target)[0].mean() < 0.6


def test_noise_levels_are_the_second_feature_of_8(drawn_digits):
    made = make(8, 0, digits=drawn_digits, size=0.2)
    edges = made.problem.labeled[:, 0, [0, 1, 26, 27]].std(axis=(1, 2))
    assert np.array_equal(edges > 0.2, made.problem.labels == 1)


def test_coordinates_are_the_features_of_0():
    meant = set()
    for seed in range(8):
        made = make(0, seed)
        labeled = made.problem.labeled > 0
        assert np.array_equal(labeled[:, 0], labeled[:, 1])
        assert np.array_equal(labeled[:, 0], made.problem.labels == 1)
        assert np.array_equal(made.problem.target[:, made.meant] > 0, made.target_labels == 1)
        meant.add(made.meant)
    assert meant == {0, 1}


@pytest.mark.parametrize(("rate", "default"), [(0.02, False), (0.3, False), (1.0, False), (0.1, True)])
def test_mix_rates_are_those_of_the_unlabeled_set(rate, default, drawn_digits):
    made = make(5, 2, digits=drawn_digits, mix_rate=None if default else rate, size=0.2)
    assert made.mix_rate == pytest.approx(rate, abs=1 / 680)
    colour = _colour(made.problem.unlabeled)
    assert np.array_equal(colour, made.unlabeled_cells[:, 1])
    assert made.crossed.mean() == pytest.approx(0.5, abs=5e-3)


def test_cells_are_equally_many():
    random = np.random.default_rng(0)
    for classes, features, share in ((2, 2, 1 / 2), (3, 2, 2 / 3), (2, 3, 3 / 4)):
        cells = draw_cells(random, 1000, None, classes, features)
        _, counts = np.unique(cells, axis=0, return_counts=True)
        assert len(counts) == classes**features
        assert np.ptp(counts) <= 2
        assert (cells != cells[:, :1]).any(axis=1).mean() == pytest.approx(share, abs=1e-3)
    assert not (np.diff(draw_cells(random, 100, 0.0, 2, 2)) != 0).any()


def test_sets_that_are_not_ambiguous(drawn_digits):
    told = make(4, 0, digits=drawn_digits, labeled_rate=0.5, size=0.2)
    assert (_colour(told.problem.labeled) == told.problem.labels).mean() == pytest.approx(0.5, abs=0.01)
    alike = make(4, 0, digits=drawn_digits, mix_rate=0.0, target_rate=0.0, size=0.2)
    assert alike.mix_rate == 0
    assert not alike.crossed.any()


def test_seeds_reproduce(drawn_digits, quick_embeddings):
    for number in (0, 3, 23):
        one, two, other = (make(number, seed, digits=drawn_digits, size=0.1) for seed in (5, 5, 6))
        for name in ("labeled", "labels", "unlabeled", "target"):
            assert np.array_equal(getattr(one.problem, name), getattr(two.problem, name))
        assert np.array_equal(one.target_labels, two.target_labels)
        assert not np.array_equal(one.problem.target, other.problem.target)


def test_sums_stay_in_their_range_without_noise(drawn_digits):
    making = _making(drawn_digits)
    cells = draw_cells(np.random.default_rng(0), 200, None)
    for last, top in ((1.0, 2.0), (0.5, 1.5)):
        images = summed(making, "all", cells, last)
        assert images.shape == (200, 28, 28)
        assert images.min() >= 0
        assert 1.2 < images.max() <= top
    order = summed(making, "all", np.array([[0, 1], [1, 0]]), 1.0)
    assert order.shape == (2, 28, 28)


def _making(place, seed=0):
    with np.load(place) as stored:
        images, labels = stored["images"], stored["labels"]
    random = np.random.default_rng(seed)
    return Composition(Deck(images, labels, {"all": 1.0}, random), random, (1, 2))


def test_no_image_is_in_two_splits_and_none_comes_twice_before_all_have_come():
    images = np.arange(60, dtype=np.uint8)[:, None, None] * np.ones((28, 28), dtype=np.uint8)
    deck = Deck(images, np.repeat([4, 7], 30), {"a": 2, "b": 1}, np.random.default_rng(0))
    seen = {}
    for split in ("a", "b"):
        taken = (255 * deck.take(split, np.full(60, 7))[:, 0, 0]).round().astype(int)
        seen[split] = set(taken.tolist())
        assert seen[split] <= set(range(30, 60))
        size = len(seen[split])
        assert set(taken[:size].tolist()) == set(taken[size : 2 * size].tolist()) == seen[split]
    assert not seen["a"] & seen["b"]
    assert len(seen["a"]) == pytest.approx(2 * len(seen["b"]), abs=2)
    assert round(255 * float(deck.constant(7)[0, 0])) not in seen["a"] | seen["b"]


def test_digits_as_torchvision_keeps_them(tmp_path):
    random = np.random.default_rng(0)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    with pytest.raises(RequestError, match="holds no MNIST as torchvision keeps it; name the folder"):
        load_digits(tmp_path)
    parts = {"train": 30, "t10k": 20}
    images = {part: random.integers(0, 256, (rows, 28, 28), dtype=np.uint8) for part, rows in parts.items()}
    labels = {part: np.arange(rows, dtype=np.uint8) % 10 for part, rows in parts.items()}
    for part, rows in parts.items():
        heading = struct.pack(">4i", 2051, rows, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(heading + images[part].tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 2049, rows) + labels[part].tobytes()
        )
    for named in (tmp_path, tmp_path / "MNIST", raw):
        found, codes = load_digits(named)
        assert np.array_equal(found, np.concatenate([images["train"], images["t10k"]]))
        assert np.array_equal(codes, np.concatenate([labels["train"], labels["t10k"]]))


def _centroid(images):
    weight = images.sum(axis=(1, 2))
    return (images.sum(axis=2) * np.arange(images.shape[1])).sum(axis=1) / weight


def _lean(images):
    down = np.arange(28) - _centroid(images)[:, None]
    weight = images.sum(axis=2)
    middle = (images * np.arange(images.shape[2])).sum(axis=2) / np.maximum(weight, 1e-9)
    spread = (weight * down**2).sum(axis=1)
    average = (weight * middle).sum(axis=1) / weight.sum(axis=1)
    return (weight * down * (middle - average[:, None])).sum(axis=1) / spread


def _period(images):
    """High where a half repeats itself after few pixels: the mean frequency of its spectrum."""
    spectrum = np.abs(np.fft.fft2(images - images.mean(axis=(1, 2), keepdims=True))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(28), np.fft.fftfreq(28)))
    return (spectrum * frequency).sum(axis=(1, 2)) / spectrum.sum(axis=(1, 2))


def _filled(images):
    """How much of its bounding box a figure fills."""
    ink = images > 0.5
    return np.array([one.sum() / (np.ptp(np.nonzero(one), axis=1) + 1).prod() for one in ink])


# What tells a family's second feature, from the two halves of items without noise: (measure, where to cut).
MEASURES = {
    "thickness": (lambda left, right: (left + right).sum(axis=(1, 2)) / _ridge(left + right), None),
    "slant": (lambda left, right: _lean(left) + _lean(right), 0.0),
    "position": (lambda left, right: _centroid(left) + _centroid(right), 27.0),
    "size": (lambda left, right: ((left + right) > 0.3).any(axis=2).sum(axis=1), None),
    "contrast": (lambda left, right: np.maximum(left, right).max(axis=(1, 2)), 0.75),
    "texture": (lambda left, right: -np.abs(np.diff(left[:, :4], axis=2)).mean(axis=(1, 2)), None),
    "mark": (lambda left, right: right[:, 24:, 24:].mean(axis=(1, 2)) - left[:, :4, :4].mean(axis=(1, 2)), 0),
    "gradient": (lambda left, right: left[:, :2].mean(axis=(1, 2)) - right[:, :2].mean(axis=(1, 2)), 0.0),
    "border": (lambda left, right: left[:, 0].mean(axis=1), 0.2),
    "frequency": (lambda left, right: _period(right), 0.18),
    "shape": (lambda left, right: _filled(right), 0.89),
    "neighbour": (lambda left, right: _lean(right), 0.0),
}


def _ridge(images):
    """The outline's length."""
    ink = images > 0.5
    inner = ink[:, 1:-1, 1:-1] & ink[:, :-2, 1:-1] & ink[:, 2:, 1:-1] & ink[:, 1:-1, :-2] & ink[:, 1:-1, 2:]
    return ink.sum(axis=(1, 2)) - inner.sum(axis=(1, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hidden_feature_is_what_its_name_says(family, drawn_digits):
    cells = draw_cells(np.random.default_rng(1), 200, None)
    items = hidden(family, _making(drawn_digits), "all", cells)
    assert items.shape == (200, 28, 56)
    assert items.min() >= 0
    assert items.max() <= 1.05
    measure, cut = MEASURES[family]
    value = np.asarray(measure(items[:, :, :28], items[:, :, 28:]), dtype=float)
    for digit in range(2):  # with either digit, so that the feature is no part of the digit
        mine = cells[:, 0] == digit
        at = np.median(value[mine]) if cut is None else cut
        assert ((value[mine] > at) == (cells[mine, 1] == 1)).mean() > 0.95


def test_families_are_drawn_by_the_seed_and_either_feature_may_be_meant(drawn_digits):
    made = [make(12, seed, digits=drawn_digits, size=0.01) for seed in range(12)]
    assert len({each.name for each in made}) > 4
    assert {each.meant for each in made} == {0, 1}
    assert make(13, 0, digits=drawn_digits, size=0.01, family="mark", meant=1).features[1] == "mark"


def test_dimmed_sums_are_meant_where_they_can_be_told(drawn_digits):
    assert {make(7, seed, digits=drawn_digits, size=0.01, variant="dimmed").meant for seed in range(5)} == {2}
    assert make(6, 0, digits=drawn_digits, size=0.01).name == "mnist_sum"


def test_photographs_side_by_side(monkeypatch, tmp_path):
    monkeypatch.delenv("CIFAR", raising=False)
    with pytest.raises(RequestError, match="name a tar of them in CIFAR"):
        make(888)
    shades = {"bird": 0, "cat": 60, "airplane": 160, "automobile": 230, "ship": 100}
    with tarfile.open(tmp_path / "photographs.tar", "w") as tar:
        for split in ("train", "test"):
            for name, shade in shades.items():
                for number in range(10):
                    file = io.BytesIO()
                    Image.new("RGB", (32, 32), (shade, shade, shade)).save(file, "JPEG")
                    member = tarfile.TarInfo(f"{split}/{name}/{number}.jpg")
                    member.size = file.tell()
                    file.seek(0)
                    tar.addfile(member, file)
    monkeypatch.setenv("CIFAR", str(tmp_path / "photographs.tar"))
    made = make(888, 0, size=0.01)
    assert made.problem.target.shape == (200, 3, 32, 64)
    assert np.load(made.write(tmp_path / "set") / "X_val.npy").dtype == np.float32
    halves = made.problem.target.reshape(200, 3, 32, 2, 32).mean(axis=(1, 2, 4)) * 255
    animal, vehicle = halves.min(axis=1), halves.max(axis=1)
    assert np.array_equal(animal > 30, made.target_cells[:, 0] == 1)
    assert np.array_equal(vehicle > 195, made.target_cells[:, 1] == 1)
    assert 0.3 < (halves.argmin(axis=1) == 0).mean() < 0.7


def test_composed_pictures_are_a_subject_on_a_texture(monkeypatch):
    random = np.random.default_rng(0)
    photographs = random.integers(0, 256, (400, 3, 32, 32), dtype=np.uint8)
    monkeypatch.setattr(composed, "load_photographs", lambda: (photographs, np.arange(400) % 4))
    seen = []

    def embed(pictures):
        seen.append(pictures)
        return pictures.mean(axis=(1, 2)).astype(np.float32)

    monkeypatch.setattr(composed, "embed", embed)
    made = make(999, 0, variant="composed", labeled_rate=0.0, size=0.05, meant=1)
    assert [len(each) for each in (made.problem.labeled, made.problem.unlabeled, made.problem.target)] == [
        30,
        40,
        30,
    ]
    assert made.crossed.mean() == 0.5
    (pictures,) = seen
    assert pictures.shape == (100, 96, 96, 3)
    # Stripes are finer than clouds: most of what they vary by has more than three periods in 32 pixels.
    textures = np.concatenate([made.problem.labels, made.unlabeled_cells[:, 1], made.target_cells[:, 1]])
    down, across = np.meshgrid(np.fft.fftfreq(32) * 32, np.fft.rfftfreq(32) * 32, indexing="ij")
    fine = np.hypot(down, across) > 3
    shares = []
    for texture in (0, 1):
        plain = composed.compose(np.zeros((20, 3, 32, 32)), np.full(20, texture), random)
        power = np.abs(np.fft.rfft2(plain[:, :32, :32, 0] - plain[:, :32, :32, 0].mean())) ** 2
        shares.append(float(np.median(power[:, fine].sum(axis=1) / power.sum(axis=(1, 2)))))
    assert shares[0] > 2 * shares[1]
    assert set(textures) == {0, 1}


def test_pictures_of_a_backbone(monkeypatch, tmp_path):
    monkeypatch.delenv("PACS", raising=False)
    with pytest.raises(RequestError, match="name an npz of them in PACS"):
        make(999)
    data = features_like_pacs()
    stored = data["features"].astype(np.float32), data["category"], data["domain"]
    task = next(iter(PAIRS))
    made = correlated(task, 0, stored)
    assert [len(made.problem.labeled), len(made.problem.unlabeled), len(made.problem.target)] == [
        160,
        200,
        200,
    ]
    rows = np.concatenate([made.problem.labeled, made.problem.unlabeled, made.problem.target])
    assert len(np.unique(rows, axis=0)) == len(rows)  # no picture twice
    where = {each.tobytes(): number for number, each in enumerate(stored[0])}
    for split, code in (
        (made.problem.labeled, made.problem.labels),
        (made.problem.target, made.target_labels),
    ):
        names = stored[1][[where[row.tobytes()] for row in split]]
        assert np.array_equal(names == PAIRS[task][0][1], code == 1)
    domains = stored[2][[where[row.tobytes()] for row in made.problem.labeled]]
    assert np.array_equal(domains == PAIRS[task][1][1], made.problem.labels == 1)
