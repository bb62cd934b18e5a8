"""Reading a folder: every layout and kind of number comes out alike, and bad input is one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headwater.ambiguity import open_dataset
from headwater.errors import HeadwaterError, RequestError

Made = dict[str, NDArray[Any]]
X = ("X_labeled", "X_unlabeled", "X_val")


def save(folder: Path, made: Made, **changed: NDArray[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in {**made, **changed}.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_images_come_out_as_they_were_saved_without_a_copy(folder: Path, made: Callable[..., Made]) -> None:
    dataset = open_dataset(folder)
    problem = dataset.problem
    for name, array in zip(X, (problem.labeled, problem.unlabeled, problem.target), strict=True):
        np.testing.assert_array_equal(array, made()[name])
        assert array.dtype == np.float32
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        assert type(base).__name__ == "mmap"  # the file itself, not a copy of it
        array[0] = 7  # and yet a network may take it as it is: what is written stays in memory
    np.testing.assert_array_equal(np.load(folder / "X_val.npy"), made()["X_val"])
    assert problem.classes == (3, 8)
    np.testing.assert_array_equal(np.array(problem.classes)[problem.labels], made()["y_labeled"])
    assert (dataset.name, dataset.target_rows, dataset.notes) == ("halves", 40, ())
    assert dataset.items.tolist() == list(range(40))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "u1", "?", "i8", "u2"])
@pytest.mark.parametrize("layout", ["first", "last", "none", "fortran"])
def test_every_kind_of_number_and_layout_is_the_same_problem(tmp_path: Path, dtype: str, layout: str) -> None:
    random = np.random.default_rng(1)
    bright = random.integers(0, 2, (3, 10, 1, 5, 7))
    whole = np.dtype(dtype).kind in "ui"
    saved = (bright * 255 if whole else bright).astype(dtype)
    if layout == "last":
        saved = saved.transpose(0, 1, 3, 4, 2)
    elif layout == "none":
        saved = saved[:, :, 0]
    arrays = [np.asfortranarray(each) if layout == "fortran" else each for each in saved]
    labels = np.arange(10) % 2
    folder = save(tmp_path / "set", dict(zip(X, arrays, strict=True)), y_labeled=labels)
    problem = open_dataset(folder).problem
    for array, expected in zip((problem.labeled, problem.unlabeled, problem.target), bright, strict=True):
        np.testing.assert_array_equal(array, expected.astype(np.float32))
        assert array.flags.c_contiguous
        assert array.shape == (10, 1, 5, 7)


def test_colours_first_or_last_and_sums_of_images_keep_their_range(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    arrays = random.uniform(-0.1, 2.1, (3, 8, 3, 16, 32)).astype(np.float32)
    labels = np.arange(8) % 2
    first = save(tmp_path / "a", dict(zip(X, arrays, strict=True)), y_labeled=labels)
    last = save(tmp_path / "b", dict(zip(X, arrays.transpose(0, 1, 3, 4, 2), strict=True)), y_labeled=labels)
    np.testing.assert_array_equal(open_dataset(first).problem.target, arrays[2])
    np.testing.assert_array_equal(open_dataset(last).problem.target, arrays[2])
    shown = open_dataset(first).picture(5)
    assert shown is not None
    assert (shown.dtype, shown.shape) == (np.uint8, (16, 32, 3))
    flat = arrays[2][5].transpose(1, 2, 0)
    inner = (flat > 0.1) & (flat < 1.9)
    np.testing.assert_allclose(shown[inner], 255 * (flat[inner] + 0.1) / 2.2, atol=2)


def test_vectors_are_left_as_they_are_and_have_no_pictures(tmp_path: Path) -> None:
    arrays = np.random.default_rng(3).normal(size=(3, 6, 4)) * 100
    dataset = open_dataset(
        save(tmp_path / "v", dict(zip(X, arrays, strict=True)), y_labeled=np.arange(6) % 3)
    )
    np.testing.assert_array_equal(dataset.problem.target, arrays[2].astype(np.float32))
    assert dataset.picture(0) is None
    assert not dataset.problem.are_images


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_values_whose_squares_no_float_holds_are_brought_near_one(tmp_path: Path, size: float) -> None:
    arrays = np.random.default_rng(3).normal(size=(3, 6, 4))
    labels = np.arange(6) % 2
    folder = save(tmp_path / "v", dict(zip(X, arrays * size, strict=True)), y_labeled=labels)
    problem = open_dataset(folder).problem
    found = np.stack([problem.labeled, problem.unlabeled, problem.target])
    assert 0.5 <= np.abs(found).max() < 1
    np.testing.assert_allclose(found / np.abs(found).max(), arrays / np.abs(arrays).max(), rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([7, -2, 456, -2], np.int16), (-2, 7, 456)),
        (np.array([4.0, 5.0, 6.0, 4.0]), (4, 5, 6)),
        (np.array([[1], [0], [1], [0]], np.uint8), (0, 1)),
        (np.array([True, False, True, False]), (0, 1)),
        (np.array(["cat", "bird", "cat", "é"]), ("bird", "cat", "é")),
        (np.array([b"cat", b"bird", b"cat", b"ox"]), ("bird", "cat", "ox")),
    ],
)
def test_labels_are_kept_as_they_are_given(
    tmp_path: Path, labels: NDArray[Any], classes: tuple[int | str, ...]
) -> None:
    arrays = np.random.default_rng(4).normal(size=(3, 4, 2))
    problem = open_dataset(save(tmp_path / "l", dict(zip(X, arrays, strict=True)), y_labeled=labels)).problem
    assert problem.classes == classes
    assert [type(each) for each in problem.classes] == [type(each) for each in classes]
    given = [each.decode() if isinstance(each, bytes) else each for each in labels.ravel().tolist()]
    assert [problem.classes[code] for code in problem.labels.tolist()] == given


def test_the_content_tells_other_values_apart_and_nothing_else(
    tmp_path: Path, folder: Path, made: Callable[..., Made]
) -> None:
    content = open_dataset(folder).content
    same = {name: made()[name].astype("f8") if name in X else made()[name] for name in (*X, "y_labeled")}
    assert open_dataset(save(tmp_path / "elsewhere", same)).content == content
    for name in (*X, "y_labeled"):
        other = made()
        other[name] = other[name].copy()
        other[name].reshape(-1)[-1] = 3 if other[name].reshape(-1)[-1] == 8 else 8
        changed = open_dataset(save(tmp_path / name, {key: other[key] for key in (*X, "y_labeled")}))
        assert changed.content != content


def test_one_target_row_is_enough(tmp_path: Path, made: Callable[..., Made]) -> None:
    dataset = open_dataset(save(tmp_path / "one", made(), X_val=made()["X_val"][:1]))
    assert dataset.target_rows == len(dataset.problem.target) == 1


@pytest.mark.parametrize("unlabeled", ["empty", "flat", "labeled"])
def test_unlabeled_rows_that_show_nothing_are_replaced_by_the_target_and_said(
    tmp_path: Path, made: Callable[..., Made], unlabeled: str
) -> None:
    given = made()
    given["X_unlabeled"] = {
        "empty": given["X_labeled"][:0],
        "flat": np.zeros(0),
        "labeled": given["X_labeled"][::-1],
    }[unlabeled]
    dataset = open_dataset(save(tmp_path / "s", given))
    np.testing.assert_array_equal(dataset.problem.unlabeled, given["X_val"])
    (note,) = dataset.notes
    assert "only the target rows can show an ambiguity" in note


def nan_in(array: NDArray[Any], *rows: int) -> NDArray[Any]:
    found = array.copy()
    found[list(rows), ..., -1] = np.nan
    found[rows[-1], ..., 0] = np.inf
    return found


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda m: {"y_labeled": m["y_labeled"] * 0 + 5}, "the label 5 alone; there have to be two classes"),
        (lambda m: {"y_labeled": m["y_labeled"][:-1]}, "has 39 labels for 40 labeled rows"),
        (lambda m: {"y_labeled": np.eye(40)}, "shape (40, 40)"),
        (lambda m: {"y_labeled": m["y_labeled"] + 0.5}, "in row 0, and labels are whole numbers or text"),
        (lambda m: {"y_labeled": nan_in(m["y_labeled"][:, None] * 1.0, 7)[:, 0]}, "inf in row 7"),
        (
            lambda m: {"X_val": m["X_val"][..., 1:]},
            "X_val.npy has 1 x 6 x 11 and X_labeled.npy has 1 x 6 x 12",
        ),
        (lambda m: {"X_val": m["X_val"][0]}, "X_val.npy has 6 x 12 and X_labeled.npy has 1 x 6 x 12"),
        (lambda m: {"X_val": m["X_val"][:0]}, "X_val.npy has no rows, so there is nothing to predict"),
        (
            lambda m: {"X_labeled": m["X_labeled"][:0]},
            "X_labeled.npy has no rows, so there is nothing labeled",
        ),
        (
            lambda m: {"X_unlabeled": nan_in(m["X_unlabeled"], 3, 9)},
            "X_unlabeled.npy holds NaN or infinity in 2 of its 40 rows, the first of them row 3",
        ),
        (lambda m: {"X_val": np.full((5, 1, 6, 12), 1e300)}, "X_val.npy holds 1e+300, too large a number"),
        (lambda m: {"X_val": np.full((5, 1, 6, 12), 200.0)}, "the images differ in scale"),
        (lambda m: {"X_labeled": m["X_labeled"].astype(complex)}, "X_labeled.npy holds complex128"),
        (lambda m: {"X_labeled": np.float32(3)}, "X_labeled.npy has the shape ()"),
        (
            lambda m: {name: m[name].reshape(-1, 3, 8, 3) for name in X},
            "does not tell where the channels are",
        ),
        (
            lambda m: {name: m[name].reshape(-1, 9, 8, 1, 1) for name in X},
            "items are vectors (n, dim) or images",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    tmp_path: Path, made: Callable[..., Made], changed: Callable[[Made], Made], said: str
) -> None:
    with pytest.raises(RequestError) as error:
        open_dataset(save(tmp_path / "bad", made(), **changed(made())))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pointer_of_git_lfs_is_named_as_what_it_is(folder: Path) -> None:
    (folder / "X_unlabeled.npy").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", encoding="ascii"
    )
    with pytest.raises(RequestError, match=r"X_unlabeled.npy is a pointer of Git LFS .* `git lfs pull`"):
        open_dataset(folder)


def test_files_that_hold_no_array_are_refused_and_never_unpickled(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    np.save(folder / "X_val.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(RequestError, match="pickled Python objects"):
        open_dataset(folder)
    assert not (tmp_path / "sprung").exists()
    (folder / "X_val.npy").write_bytes(b"")
    with pytest.raises(RequestError, match=r"X_val.npy is empty"):
        open_dataset(folder)
    (folder / "X_val.npy").write_text("<html>not found</html>", encoding="ascii")
    with pytest.raises(RequestError, match=r"cannot be read as a NumPy file"):
        open_dataset(folder)
    with (folder / "X_val.npy").open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(RequestError, match="holds several arrays"):
        open_dataset(folder)


def test_a_file_that_may_not_be_read_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refusing(path: Path, *given: Any, **rest: Any) -> Any:
        """As the system does, to all but the machine's owner."""
        if path.name == "X_val.npy":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *given, **rest)

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(HeadwaterError, match=r"X_val.npy' may not be read; change its permissions"):
        open_dataset(folder)


def test_a_file_that_was_cut_is_refused(folder: Path) -> None:
    content = (folder / "X_val.npy").read_bytes()
    (folder / "X_val.npy").write_bytes(content[: len(content) // 2])
    with pytest.raises(RequestError, match="cannot be read as a NumPy file"):
        open_dataset(folder)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "X_val.npy").unlink()
    (folder / "y_labeled.npy").unlink()
    with pytest.raises(RequestError, match=r"no y_labeled.npy and no X_val.npy; a data set is a folder with"):
        open_dataset(folder)
    with pytest.raises(RequestError, match=r"holds data sets and is none itself; name one .*halves"):
        open_dataset(tmp_path)
    with pytest.raises(RequestError, match=r"there is no .*nowhere"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="is a file; give the folder"):
        open_dataset(folder / "X_labeled.npy")
