"""Packing a store's folder into one single file for sharing.

Unpacking is an import like any other; reading a packed file is the reader's business.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from headwater.errors import HeadwaterError, RequestError
from headwater.store.annotations import ANNOTATE_AGAIN, ANNOTATIONS, fill_annotations
from headwater.store.features import Part
from headwater.store.files import refuse_unwritable
from headwater.store.plan import FORMAT, render_plan
from headwater.store.reader import CONTENT, Store, open_store
from headwater.store.sealed import (
    broken_seal,
    new_dataset,
    reading_sealed,
    tagged,
    text_dtype,
    writing_sealed,
)
from headwater.store.shard import create_dataset, dataset_layout, write_errors


def pack(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Write the whole store, annotations included, into one file `out`, whole or not at all.

    Every shard's checksum is checked on the way, so that damage is not sealed in. RequestError when `out`
    exists or the store is packed already; HeadwaterError when it is unfinished, damaged, or the disk refuses.
    """
    store = open_store(path)
    target = Path(out)
    if store.packed:
        raise RequestError(f"{store.path} is packed already; copy the file")
    if target.exists():
        raise RequestError(f"{target} exists already; choose another name or delete it")
    refuse_unwritable(target)
    if not target.parent.is_dir():
        raise RequestError(f"there is no folder {target.parent} to write {target.name} into; make it first")
    annotations = store.path / ANNOTATIONS
    if annotations.exists() and (problem := broken_seal(annotations, "annotations", deep=True)):
        raise HeadwaterError(f"{annotations} is damaged: {problem}; {ANNOTATE_AGAIN}")
    with writing_sealed(target, "packed") as file:
        file.attrs["format"] = np.int32(FORMAT)
        file.attrs["fingerprint"] = np.bytes_(store.fingerprint)
        file.attrs[CONTENT] = np.bytes_(store.content)
        _text(file, "plan", render_plan(store.plan))
        _text(file, "runs", b"".join(json.dumps(run).encode() + b"\n" for run in store.runs))
        columns = store.annotations
        fill_annotations(file.create_group("annotations"), store.plan, columns, columns.levels)
        _copy_rows(store, file)
    return target


def _text(file: h5py.File, name: str, content: bytes) -> None:
    dtype = text_dtype(len(content))
    new_dataset(file, name, data=np.array(content, dtype=f"S{dtype.itemsize}").astype(dtype))


def _copy_rows(store: Store, file: h5py.File) -> None:
    layout = dataset_layout(store.plan, len(store))
    written = {name: create_dataset(file, name, shape, dtype) for name, (shape, dtype) in layout.items()}
    names = [name for name in layout if name != "error"]
    for part, arrays in store.part_arrays(names):
        check_part(part)
        for name in names:
            rows: Any = (
                np.s_[:, part.start : part.stop] if name == "augmented" else np.s_[part.start : part.stop]
            )
            written[name][rows] = tagged(arrays[name], layout[name][1])
        if arrays["status"].any() and part.path is not None:
            with reading_sealed(part.path, part.kind, part.way_out) as shard:
                texts = [bytes(text).decode("utf-8", "replace") for text in shard["error"][:]]
            write_errors(written["error"], texts, part.start)


def check_part(part: Part) -> None:
    """HeadwaterError when a file of rows has a flipped bit."""
    if part.path is not None and (problem := broken_seal(part.path, part.kind, deep=True)):
        raise HeadwaterError(f"{part.path} is damaged: {problem}; {part.way_out}")
