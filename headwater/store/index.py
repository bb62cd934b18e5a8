"""The index: virtual datasets that join the shards into whole arrays for anyone who opens it with plain HDF5.

headwater's own reader never uses it.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from headwater.store.plan import FORMAT, Plan
from headwater.store.sealed import writing_sealed
from headwater.store.shard import dataset_layout, shard_name


def write_index(path: Path, plan: Plan) -> None:
    """Write `index.h5` whole; the shards are named relative to it, so the folder may be moved."""
    with writing_sealed(path, "index") as file:
        file.attrs["format"] = np.int32(FORMAT)
        file.attrs["fingerprint"] = np.bytes_(plan.fingerprint)
        file.attrs["keys_sha256"] = np.bytes_(plan.keys_sha256)
        for name, (shape, dtype) in dataset_layout(plan, plan.rows).items():
            layout = h5py.VirtualLayout(shape=shape, dtype=dtype)
            layout.dcpl.set_obj_track_times(False)  # or two runs of one job would differ in these bytes
            for shard in range(plan.shards):
                start, stop = plan.shard_range(shard)
                part, _ = dataset_layout(plan, stop - start)[name]
                source = h5py.VirtualSource(shard_name(shard), name, shape=part, dtype=dtype)
                if name == "augmented":
                    layout[:, start:stop] = source
                else:
                    layout[start:stop] = source
            file.create_virtual_dataset(name, layout)
