"""NumPy's files: mapped or read whole, never unpickled, and what is damaged is refused in words."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.store import read_arrays


def saved(path: Path, **arrays: NDArray[np.generic]) -> Path:
    np.savez(path, **arrays)
    return path


def test_an_npy_file_is_mapped_and_an_npz_file_read_by_name(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "x.npy", array)
    mapped = read_arrays(tmp_path / "x.npy")
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, array)
    found = read_arrays(saved(tmp_path / "x.npz", a=array, b=np.array(["é", ""])))
    assert isinstance(found, dict)
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], array)
    assert found["b"].tolist() == ["é", ""]
    assert read_arrays(saved(tmp_path / "empty.npz")) == {}


def test_a_malicious_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)  # type: ignore[return-value]

    (tmp_path / "x.npy").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(RequestError, match="pickled Python objects"):
        read_arrays(tmp_path / "x.npy")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_objects_are_refused(tmp_path: Path, suffix: str) -> None:
    objects = np.array([None, "x"], object)
    if suffix == "npy":
        np.save(tmp_path / "x.npy", objects)
    else:
        np.savez(tmp_path / "x.npz", images=np.zeros((2, 5, 5)), labels=objects)
    with pytest.raises(RequestError, match=r"pickled Python objects, .*; save it again as plain numbers"):
        read_arrays(tmp_path / f"x.{suffix}")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_files_cut_short_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, np.zeros((50, 20, 20)))
    else:
        np.savez(path, images=np.random.default_rng(0).random((50, 20, 20)))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(RequestError, match=r"cannot be read as a NumPy file|pickled"):
        read_arrays(path)


def test_an_npz_of_other_files_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", images=np.zeros(3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(RequestError, match=r"holds 'readme\.txt', which is no array; save it again"):
        read_arrays(path)


def test_flipped_bytes_in_an_npz_are_found(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", images=np.zeros((50, 20, 20), np.uint8))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(RequestError, match="cannot be read as a NumPy file"):
        read_arrays(path)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_file_of_something_else_is_not_taken_for_a_pickle(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"x.{suffix}").write_bytes(b"just some text\n")
    with pytest.raises(RequestError, match="does not begin like one"):
        read_arrays(tmp_path / f"x.{suffix}")


def test_a_file_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal is put in place of the opening, since no permission holds for the superuser."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    np.save(tmp_path / "x.npy", np.zeros(3))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RequestError, match=r"may not be read; check its permissions"):
        read_arrays(tmp_path / "x.npy")
