"""Opens whatever the user calls a source of images, and says what every source offers the pipeline.

The kinds themselves live in folder.py, archives/, manifest.py, arrays.py and datasets.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from headwater.errors import RequestError
from headwater.extract import hub
from headwater.extract.archives import ArchiveSource
from headwater.extract.arrays import ArraySource, open_arrays
from headwater.extract.datasets import DatasetSource
from headwater.extract.folder import FolderSource
from headwater.extract.manifest import open_manifest
from headwater.extract.rows import Raw
from headwater.members import ARCHIVE_SUFFIXES, is_archive_name
from headwater.store import show_key

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet")
ARRAY_SUFFIXES = (".npy", ".npz")


@runtime_checkable
class Source(Protocol):
    """Rows of images in a fixed order. `load` is called from many threads at once."""

    @property
    def name(self) -> str:
        """What to call it to people."""

    @property
    def keys(self) -> Sequence[str]:
        """The rows' keys in plan order, unique; bytes that are not UTF-8 stand as surrogate escapes."""

    @property
    def annotations(self) -> Mapping[str, Sequence[Any]]:
        """Columns aligned with `keys`, None where a row has no value; {} if there are none.

        A data set object may have to be read through to tell its labels: ask after extraction, not before.
        """

    @property
    def skipped(self) -> int:
        """How many files and hidden folders were left out because their names are no image's."""

    def load(self, row: int) -> Raw:
        """Return the undecoded picture of a row; raise RowError when it cannot be had."""


def open_source(source: object, *, path_column: str | None = None) -> Source:
    """Open a folder, an archive, a manifest, an .npy or .npz file, an array, or a map-style data set.

    Args:
        source: what to open; an `hf://` address of an archive or array file is fetched first, and a Source
            is handed back as it is.
        path_column: the manifest's column of image paths, where its name does not say so itself.

    Raises:
        RequestError: there is nothing there, or it is none of these, or it holds no images.
        HeadwaterError: it cannot be fetched.
    """
    if isinstance(source, str | bytes | os.PathLike):
        if not os.fspath(source):
            raise RequestError(
                "the source is an empty name; give a folder, an archive, a manifest or an array file"
            )
        text = os.fsdecode(source)
        if text.startswith(hub.SCHEME):
            if path_column is not None:
                raise RequestError(
                    "a path column is for CSV and Parquet manifests, which are not read from the hub; leave"
                    " it out"
                )
            return _open_fetched(text)
        return _open_path(Path(text), path_column)
    if path_column is not None:
        raise RequestError(
            "a path column is for CSV and Parquet manifests; this source is a Python object, leave it out"
        )
    if isinstance(source, type):
        raise RequestError(
            f"the source is the class {source.__name__}, not a data set made from it; give an instance, such "
            f"as {source.__name__}(...)"
        )
    if isinstance(source, Source):
        return source
    if hasattr(source, "detach") and hasattr(source, "cpu"):  # a tensor
        source = source.detach().cpu().numpy()
    if isinstance(source, np.ndarray):
        return ArraySource(source, name=f"array {source.shape}")
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        return DatasetSource(source)
    raise RequestError(
        f"cannot read images from a {type(source).__name__}: give a folder, an archive, a .csv or .parquet"
        " manifest, an .npy or .npz file, or a data set object that has a length and can be indexed"
    )


def _open_fetched(address: str) -> Source:
    """Open a file of the hub, once it is here."""
    name = hub.parse(address).path
    if is_archive_name(name):
        return ArchiveSource(hub.fetch(address), name=address)
    if name.lower().endswith(ARRAY_SUFFIXES):
        return open_arrays(hub.fetch(address))
    raise RequestError(
        f"{show_key(address)} is no source of images: name an archive ({', '.join(ARCHIVE_SUFFIXES)}) or an"
        f" array file ({', '.join(ARRAY_SUFFIXES)}) on the hub, or fetch what you need and give its path"
    )


def _open_path(path: Path, path_column: str | None) -> Source:
    shown = show_key(str(path))
    try:
        is_folder = path.is_dir()
        exists = is_folder or path.exists()
    except OSError as error:
        raise RequestError(
            f"cannot look at {shown} ({error.strerror}); check the path and its permissions"
        ) from error
    if not exists:
        raise RequestError(
            f"there is no {shown}; give an existing folder of images, archive, manifest or array file"
        )
    suffix = path.suffix.lower()
    if not is_folder and suffix in MANIFEST_SUFFIXES:
        return open_manifest(path, path_column=path_column)
    if path_column is not None:
        raise RequestError(
            f"a path column is for CSV and Parquet manifests, and {shown} is none; leave it out"
        )
    if is_folder:
        return FolderSource(path)
    if suffix in ARRAY_SUFFIXES:
        return open_arrays(path)
    if is_archive_name(path.name):
        return ArchiveSource(path)
    raise RequestError(
        f"{shown} is no source of images: give a folder, a manifest ({', '.join(MANIFEST_SUFFIXES)}), an"
        f" array file ({', '.join(ARRAY_SUFFIXES)}) or an archive ({', '.join(ARCHIVE_SUFFIXES)})"
    )
