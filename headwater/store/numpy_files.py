"""NumPy's .npy and .npz files as plain arrays, read by every room alike; nothing is ever unpickled.

What the arrays mean is the rooms' business.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import RequestError
from headwater.store.keys import show_key

_BEGINNINGS = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06", b"\x80")  # .npy, .npz, an empty one, a pickle


def read_arrays(path: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """The one array of an .npy file, mapped read-only, or the arrays of an .npz file by name, read whole.

    RequestError when the file may not be read, is damaged, or holds Python objects or anything but arrays.
    """
    shown = show_key(str(path))
    try:
        _check_beginning(path, shown)
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            members = {name: loaded[name] for name in loaded.files}
    except PermissionError as error:
        raise RequestError(f"{shown} may not be read; check its permissions") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if any(word in str(error) for word in ("pickle", "Object arrays", "Python objects")):
            raise RequestError(
                f"{shown} holds pickled Python objects, which can run code when they are read; save it again"
                " as plain numbers or text (array.astype(...))"
            ) from error
        raise RequestError(f"{shown} cannot be read as a NumPy file ({error}); save it again") from error
    for name, array in members.items():
        if not isinstance(array, np.ndarray):  # NumPy hands on the bytes of any other file in the archive
            raise RequestError(
                f"{shown} holds {show_key(name)}, which is no array; save it again with numpy.savez"
            )
    return members


def _check_beginning(path: Path, shown: str) -> None:
    """NumPy takes any file that it does not know for a pickle, and would say so of a text."""
    with path.open("rb") as file:
        beginning = file.read(len(_BEGINNINGS[0]))
    if beginning and not beginning.startswith(_BEGINNINGS):
        raise RequestError(
            f"{shown} cannot be read as a NumPy file (it does not begin like one); save it with "
            "numpy.save or numpy.savez"
        )
